//! Numbers that look random and are the same in every run: `SplitMix64` (Steele, Lea, Flood: *Fast
//! splittable pseudorandom number generators*, OOPSLA 2014). Not for secrets.

/// Distance between two states.
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output for a state: neighbours have nothing in common.
#[must_use]
pub const fn mixed(state: u64) -> u64 {
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A sequence; the state is its seed.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// The next 64 bits.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }

    /// Below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll().checked_rem(n).unwrap_or(0)
    }

    /// An index into something of this length; 0 when that is empty.
    pub fn index(&mut self, length: usize) -> usize {
        crate::num::usize_sat(self.below(crate::num::u64_sat(length)))
    }

    /// In `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        const BITS: u32 = 53;
        crate::num::f64_from(self.roll() >> (64 - BITS)) / crate::num::f64_from(1 << BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        // The first outputs for the seed 1234567 of the reference implementation (prng.di.unimi.it).
        let mut dice = Dice(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| dice.roll()).collect();
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn what_is_chosen_lies_in_bounds() {
        let mut dice = Dice(7);
        assert!((0..1000).all(|_| dice.below(10) < 10 && dice.index(3) < 3));
        assert!((0..1000).map(|_| dice.unit()).all(|x| (0.0..1.0).contains(&x)));
        assert_eq!((dice.below(0), dice.index(0)), (0, 0));
    }
}

//! Seeded chance, so that two runs with one seed see the same shop.

use std::sync::atomic::{AtomicU64, Ordering};

/// A `SplitMix64` sequence (Steele et al., OOPSLA 2014) that many tasks may draw from.
pub struct Dice(AtomicU64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next number.
    pub fn roll(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1);
        low.saturating_add(self.roll().checked_rem(span).unwrap_or(0))
    }

    /// True in `percent` of 100 draws.
    pub fn hits(&self, percent: u64) -> bool {
        percent > 0 && self.between(0, 99) < percent
    }

    /// A number in [0, 1).
    pub fn unit(&self) -> f64 {
        let bits = u32::try_from(self.roll() >> 32).unwrap_or(0);
        f64::from(bits) / 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_sequence_within_its_bounds() {
        let (a, b) = (Dice::new(7), Dice::new(7));
        for _ in 0..1_000 {
            let n = a.between(3, 9);
            assert_eq!(n, b.between(3, 9));
            assert!((3..=9).contains(&n));
        }
        assert!((0..100).all(|_| !a.hits(0)) && (0..100).all(|_| a.hits(100)));
        let hits = (0..10_000).filter(|_| a.hits(30)).count();
        assert!((2_700..3_300).contains(&hits), "{hits}");
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&a.unit())));
    }
}

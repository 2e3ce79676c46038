//! Damage, the same each time.

/// SplitMix64 (Steele, Lea, Flood 2014): enough randomness for choosing where to break things.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap_or(u64::MAX);
        usize::try_from(self.roll().checked_rem(n).unwrap_or(0)).unwrap_or(0)
    }
}

/// Bytes that parsers find interesting: ends of varints, lengths, separators.
const ODD: &[u8] =
    &[0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'{', b'[', b'(', b')', b':', b' ', b'\n', b'-', b'.'];

/// `input` with a few random changes, some of them taken from `other`.
#[must_use]
pub fn mutate(input: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(out.len() + 1);
        let end = (at + dice.below(16)).min(out.len());
        match dice.below(7) {
            0 => out.truncate(at),
            1 => drop(out.drain(at..end)),
            2 => out.insert(at, ODD[dice.below(ODD.len())]),
            3 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            4 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte = ODD[dice.below(ODD.len())];
                }
            }
            5 => {
                let piece = out[at..end].to_vec();
                let to = dice.below(out.len() + 1);
                out.splice(to..to, piece);
            }
            _ => {
                let from = dice.below(other.len() + 1);
                let to = (from + dice.below(64)).min(other.len());
                out.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    out
}

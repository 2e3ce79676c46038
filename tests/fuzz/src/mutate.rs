//! Damage, the same each time.

use coral_model::dice::Dice;

/// Bytes that parsers find interesting: ends of varints, lengths, separators.
const ODD: &[u8] =
    &[0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'{', b'[', b'(', b')', b':', b' ', b'\n', b'-', b'.'];

/// `input` with a few random changes, some of them taken from `other`.
#[must_use]
pub fn mutate(input: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..=dice.index(4) {
        let at = dice.index(out.len() + 1);
        let end = (at + dice.index(16)).min(out.len());
        match dice.index(7) {
            0 => out.truncate(at),
            1 => drop(out.drain(at..end)),
            2 => out.insert(at, ODD[dice.index(ODD.len())]),
            3 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= 1 << dice.index(8);
                }
            }
            4 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte = ODD[dice.index(ODD.len())];
                }
            }
            5 => {
                let piece = out[at..end].to_vec();
                let to = dice.index(out.len() + 1);
                out.splice(to..to, piece);
            }
            _ => {
                let from = dice.index(other.len() + 1);
                let to = (from + dice.index(64)).min(other.len());
                out.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    out
}

//! Buckets of requests as bytes: what questions read most of, kept so that reading costs little.
//!
//! A *cell* is what one series did in one bucket; a list of them is bytes after bytes, every number a
//! LEB128. Of each cell: its bucket (the first: buckets since the epoch, the others: buckets since the
//! cell before), how many bytes follow, and those: flags, requests, failed ones and unanswered ones
//! where there are any, the sum of durations, the slowest request and the last failed one where there
//! are such, and pairs of a histogram's bucket (as the difference to the one before) and its count. A
//! reader steps over a cell of another time, and adds a cell up without making anything of it first.
//!
//! Lists are complete in themselves: what several files know of a series is the files' lists.

use coral_model::TraceId;
use coral_model::num::{u16_sat, u64_sat, usize_sat};

const SAMPLED: u8 = 1;
const ERRORS: u8 = 2;
const NO_ANSWER: u8 = 4;
const SLOWEST: u8 = 8;
const FAILED: u8 = 16;

/// What one series did in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cell<'a> {
    /// Requests that ended.
    pub requests: u64,
    /// Of these failed.
    pub errors: u64,
    /// Of these without any answer.
    pub no_answer: u64,
    /// Sum of durations, ns.
    pub sum_ns: u64,
    /// An unknown share was left out.
    pub sampled: bool,
    /// The slowest request, and how long it took, ns.
    pub slowest: Option<(TraceId, u64)>,
    /// The last failed one.
    pub error: Option<TraceId>,
    /// Durations, see [`pairs`]; not looked at when a cell is written.
    pub pairs: &'a [u8],
}

/// The bytes are not what [`List`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packed requests are malformed at byte {0}")]
pub struct Malformed(pub usize);

/// Cells of one series as they are packed.
#[derive(Debug, Default)]
pub struct List {
    bytes: Vec<u8>,
    last: u64,
    cells: u32,
}

impl List {
    /// Adds a cell, as [`Cell::write`] writes it. Buckets are numbered from the epoch on; this is the
    /// last one's or a later one.
    pub fn push(&mut self, bucket: u64, cell: &[u8]) {
        put(&mut self.bytes, bucket.saturating_sub(self.last));
        self.last = bucket;
        put(&mut self.bytes, u64_sat(cell.len()));
        self.bytes.extend_from_slice(cell);
        self.cells = self.cells.saturating_add(1);
    }

    /// The bytes, and how many cells they hold.
    #[must_use]
    pub fn finish(self) -> (Vec<u8>, u32) {
        (self.bytes, self.cells)
    }
}

impl<'a> Cell<'a> {
    /// Appends the cell to `out`, with a histogram's occupied buckets, ascending, and their counts.
    pub fn write(&self, out: &mut Vec<u8>, pairs: impl Iterator<Item = (u16, u64)>) {
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        out.push(
            flag(self.sampled, SAMPLED)
                | flag(self.errors > 0, ERRORS)
                | flag(self.no_answer > 0, NO_ANSWER)
                | flag(self.slowest.is_some(), SLOWEST)
                | flag(self.error.is_some(), FAILED),
        );
        put(out, self.requests);
        for number in [self.errors, self.no_answer].into_iter().filter(|n| *n > 0) {
            put(out, number);
        }
        put(out, self.sum_ns);
        if let Some((id, ns)) = self.slowest {
            put(out, ns);
            out.extend_from_slice(&id.0);
        }
        if let Some(id) = self.error {
            out.extend_from_slice(&id.0);
        }
        let mut last = 0u16;
        for (index, count) in pairs {
            put(out, u64::from(index.wrapping_sub(last)));
            put(out, count);
            last = index;
        }
    }

    /// Takes a cell apart.
    ///
    /// # Errors
    /// It is cut off.
    #[inline]
    pub fn of(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { bytes, at: 0 };
        let flags = reader.byte()?;
        let mut cell = Self {
            requests: reader.number()?,
            errors: if flags & ERRORS > 0 { reader.number()? } else { 0 },
            no_answer: if flags & NO_ANSWER > 0 { reader.number()? } else { 0 },
            sum_ns: reader.number()?,
            sampled: flags & SAMPLED > 0,
            ..Self::default()
        };
        if flags & SLOWEST > 0 {
            let ns = reader.number()?;
            cell.slowest = Some((reader.id()?, ns));
        }
        if flags & FAILED > 0 {
            cell.error = Some(reader.id()?);
        }
        cell.pairs = bytes.get(reader.at..).unwrap_or_default();
        Ok(cell)
    }
}

/// Hands the cells of a list, each with the number of its bucket and as [`Cell::of`] takes it, to
/// `take`.
///
/// # Errors
/// The bytes are not such a list.
pub fn each<'a>(
    bytes: &'a [u8],
    mut take: impl FnMut(u64, &'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    let mut bucket = 0u64;
    while reader.at < bytes.len() {
        bucket = bucket.checked_add(reader.number()?).ok_or(Malformed(reader.at))?;
        let length = usize_sat(reader.number()?);
        take(bucket, reader.take(length)?)?;
    }
    Ok(())
}

/// A histogram's occupied buckets and their counts, ascending; ends where the bytes make no sense.
pub fn pairs(bytes: &[u8]) -> impl Iterator<Item = (u16, u64)> {
    let mut reader = Reader { bytes, at: 0 };
    let mut last = 0u16;
    std::iter::from_fn(move || {
        let index = last.checked_add(u16_sat(reader.number().ok()?))?;
        last = index;
        Some((index, reader.number().ok()?))
    })
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(0x80 | u8::try_from(number & 0x7f).unwrap_or_default());
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed(self.at))?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn number(&mut self) -> Result<u64, Malformed> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut number = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed(self.at))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).ok_or(Malformed(self.at))?;
        let bytes = self.bytes.get(self.at..end).ok_or(Malformed(self.at))?;
        self.at = end;
        Ok(bytes)
    }

    #[inline]
    fn id(&mut self) -> Result<TraceId, Malformed> {
        let bytes = self.take(16)?;
        bytes.try_into().map(TraceId).map_err(|_| Malformed(self.at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Made = (u64, [u64; 4], bool, Option<([u8; 16], u64)>, Option<[u8; 16]>, Vec<(u16, u64)>);

    fn cells() -> impl Strategy<Value = Vec<Made>> {
        let number = prop_oneof![0u64..3, any::<u64>()];
        let numbers = [number.clone(), number.clone(), number.clone(), number.clone()];
        let pairs = prop::collection::btree_map(0u16..2048, number.clone(), 0..6);
        let cell = (
            0u64..9,
            numbers,
            any::<bool>(),
            prop::option::of((any::<[u8; 16]>(), number)),
            prop::option::of(any::<[u8; 16]>()),
            pairs.prop_map(|pairs| pairs.into_iter().collect()),
        );
        prop::collection::vec(cell, 0..8)
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_again(made in cells(), first in 0u64..1 << 30, cut in any::<prop::sample::Index>()) {
            let mut list = List::default();
            let mut bucket = first;
            let mut want = Vec::new();
            for (step, [requests, errors, no_answer, sum_ns], sampled, slowest, error, pairs) in made {
                bucket += step;
                let (slowest, error) = (slowest.map(|(id, ns)| (TraceId(id), ns)), error.map(TraceId));
                let cell = Cell { requests, errors, no_answer, sum_ns, sampled, slowest, error, pairs: &[] };
                let mut bytes = Vec::new();
                cell.write(&mut bytes, pairs.iter().copied());
                list.push(bucket, &bytes);
                want.push((bucket, cell, pairs));
            }
            let (bytes, cells) = list.finish();
            prop_assert_eq!(cells as usize, want.len());
            let mut got = Vec::new();
            each(&bytes, |bucket, bytes| {
                let cell = Cell::of(bytes)?;
                got.push((bucket, Cell { pairs: &[], ..cell }, pairs(cell.pairs).collect::<Vec<_>>()));
                Ok(())
            }).unwrap();
            prop_assert_eq!(&got, &want);
            // Cut anywhere, it either is malformed or ends after a whole cell.
            let short = bytes.get(..cut.index(bytes.len() + 1)).unwrap();
            let mut whole = 0;
            let read = each(short, |_, _| { whole += 1; Ok(()) });
            prop_assert!(read.is_err() || whole <= want.len());
        }

        #[test]
        fn whatever_the_bytes_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            _ = each(&bytes, |_, bytes| {
                let cell = Cell::of(bytes)?;
                assert!(pairs(cell.pairs).count() <= bytes.len());
                Ok(())
            });
            _ = Cell::of(&bytes);
        }
    }
}

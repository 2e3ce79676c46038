//! Coral's latency histogram: base-2 exponential, one fixed scale, integer nanoseconds.
//!
//! Every duration Coral measures itself lands in one of 2,048 buckets; bucket `i` covers
//! `[2^(i/32), 2^((i+1)/32))` nanoseconds, so a quantile is off by at most ±1.1 %. The scale never
//! changes, therefore merging is plain addition and the merge of two histograms is, bit for bit,
//! the histogram of the union. Buckets are closed below rather than above (OpenTelemetry closes
//! them above): integers meet a boundary only at powers of two, and this way no index is negative.
//!
//! The index function needs no floating point and no division: the leading bit gives the octave,
//! the next six bits give a first guess from a 64-entry table, one comparison corrects it. It uses
//! only `core`, so the kernel side can compile the same lines.

use serde::{Deserialize, Serialize};

/// Buckets per doubling are `2^SCALE`.
pub const SCALE: u32 = 5;
/// Buckets per doubling.
pub const SUB: u64 = 1 << SCALE;
/// One more than the largest index a `u64` can map to.
pub const BUCKETS: u16 = 64 * 32;

/// `ceil(2^63 · 2^(k/32))`: where sub-bucket `k` begins in a mantissa whose leading bit is bit 63.
const EDGES: [u64; 32] = [
    0x8000000000000000,
    0x82cd8698ac2ba1d8,
    0x85aac367cc487b15,
    0x88980e8092da8528,
    0x8b95c1e3ea8bd6e7,
    0x8ea4398b45cd53c1,
    0x91c3d373ab11c337,
    0x94f4efa8fef70962,
    0x9837f0518db8a970,
    0x9b8d39b9d54e5539,
    0x9ef5326091a111ae,
    0xa27043030c496819,
    0xa5fed6a9b15138eb,
    0xa9a15ab4ea7c0ef9,
    0xad583eea42a14ac7,
    0xb123f581d2ac2590,
    0xb504f333f9de6485,
    0xb8fbaf4762fb9eea,
    0xbd08a39f580c36bf,
    0xc12c4cca66709457,
    0xc5672a115506dade,
    0xc9b9bd866e2f27a3,
    0xce248c151f8480e4,
    0xd2a81d91f12ae45b,
    0xd744fccad69d6af5,
    0xdbfbb797daf23756,
    0xe0ccdeec2a94e112,
    0xe5b906e77c8348a9,
    0xeac0c6e7dd24392f,
    0xefe4b99bdcdaf5cc,
    0xf5257d152486cc2d,
    0xfa83b2db722a033b,
];

/// For each of the 64 equal slices of the mantissa: the sub-bucket its lower end lies in.
const GUESS: [u8; 64] = guesses();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks every index")]
const fn guesses() -> [u8; 64] {
    let mut table = [0u8; 64];
    let mut slice = 0usize;
    let mut sub = 0usize;
    while slice < 64 {
        let low = (1u64 << 63) | ((slice as u64) << 57);
        while sub + 1 < 32 && EDGES[sub + 1] <= low {
            sub += 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "sub < 32")]
        {
            table[slice] = sub as u8;
        }
        slice += 1;
    }
    table
}

/// The bucket of a duration in nanoseconds; 0 counts as 1.
#[must_use]
pub const fn index(ns: u64) -> u16 {
    let ns = if ns == 0 { 1 } else { ns };
    let zeros = ns.leading_zeros();
    let mantissa = ns << zeros;
    let slice = ((mantissa >> 57) & 63) as usize;
    #[expect(clippy::indexing_slicing, reason = "slice is six bits, sub is below 32")]
    let sub = {
        let guess = GUESS[slice] as usize;
        if guess + 1 < 32 && mantissa >= EDGES[guess + 1] { guess + 1 } else { guess }
    };
    #[expect(clippy::cast_possible_truncation, reason = "63 * 32 + 31 fits")]
    {
        (63 - zeros) as u16 * 32 + sub as u16
    }
}

/// Lower end of bucket `index` in nanoseconds: the smallest integer that maps to it or above.
#[must_use]
pub fn lower(index: u16) -> u64 {
    let octave = u32::from(index / 32).min(63);
    let sub = usize::from(index % 32);
    let edge = EDGES.get(sub).copied().unwrap_or(u64::MAX);
    let shift = 63 - octave;
    let floor = edge >> shift;
    if floor << shift == edge { floor } else { floor + 1 }
}

/// What a quantile that falls into bucket `index` is reported as: the bucket's geometric middle.
#[must_use]
pub fn middle(index: u16) -> u64 {
    let exponent = (f64::from(index) + 0.5) / 32.0;
    crate::num::u64_from_f64(exponent.exp2())
}

/// A sparse histogram: occupied buckets in ascending order, and the exact sum.
///
/// ```
/// use coral_model::hist::Histogram;
/// let mut a = Histogram::default();
/// a.record(1_000_000);
/// let mut b = Histogram::default();
/// b.record(9_000_000);
/// a.merge(&b);
/// assert_eq!(a.count(), 2);
/// assert_eq!(a.sum_ns(), 10_000_000);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    buckets: Vec<(u16, u64)>,
    count: u64,
    sum_ns: u64,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, ns: u64) {
        self.add(index(ns), 1);
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// Adds `n` observations to one bucket without touching the sum (see [`Histogram::add_sum`]).
    pub fn add(&mut self, index: u16, n: u64) {
        if n == 0 {
            return;
        }
        self.count = self.count.saturating_add(n);
        match self.buckets.binary_search_by_key(&index, |&(i, _)| i) {
            Ok(at) => {
                if let Some((_, have)) = self.buckets.get_mut(at) {
                    *have = have.saturating_add(n);
                }
            }
            Err(at) => self.buckets.insert(at, (index, n)),
        }
    }

    /// Adds to the sum of durations, in nanoseconds.
    pub fn add_sum(&mut self, ns: u64) {
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// Adds every observation of `other`.
    pub fn merge(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
            self.count = other.count;
            self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
            return;
        }
        let mut merged = Vec::with_capacity(self.buckets.len() + other.buckets.len());
        let mut left = self.buckets.iter().copied().peekable();
        let mut right = other.buckets.iter().copied().peekable();
        loop {
            match (left.peek().copied(), right.peek().copied()) {
                (Some(l), Some(r)) if l.0 == r.0 => {
                    merged.push((l.0, l.1.saturating_add(r.1)));
                    left.next();
                    right.next();
                }
                (Some(l), Some(r)) if l.0 < r.0 => {
                    merged.push(l);
                    left.next();
                }
                (_, Some(r)) => {
                    merged.push(r);
                    right.next();
                }
                (Some(l), None) => {
                    merged.push(l);
                    left.next();
                }
                (None, None) => break,
            }
        }
        self.buckets = merged;
        self.count = self.count.saturating_add(other.count);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// Occupied buckets, ascending.
    #[must_use]
    pub fn buckets(&self) -> &[(u16, u64)] {
        &self.buckets
    }

    /// Observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of all durations in nanoseconds, exact.
    #[must_use]
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// Mean in nanoseconds; `None` without observations.
    #[must_use]
    pub fn mean_ns(&self) -> Option<u64> {
        self.sum_ns.checked_div(self.count)
    }

    /// The `q`-quantile (0..=1) in nanoseconds, nearest rank; `None` without observations.
    #[must_use]
    pub fn quantile_ns(&self, q: f64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let rank = crate::num::u64_from_f64((q * crate::num::f64_from(self.count)).ceil());
        let rank = rank.clamp(1, self.count);
        let mut seen = 0u64;
        for &(index, n) in &self.buckets {
            seen = seen.saturating_add(n);
            if seen >= rank {
                return Some(middle(index));
            }
        }
        None
    }

    /// Observations in buckets that lie wholly at or above `ns`.
    #[must_use]
    pub fn count_from(&self, ns: u64) -> u64 {
        let first = index(ns);
        self.buckets.iter().filter(|&&(i, _)| i >= first).map(|&(_, n)| n).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn powers_of_two_open_their_octave() {
        for e in 0..64u32 {
            assert_eq!(u32::from(index(1u64 << e)), e * 32);
        }
        assert_eq!(index(0), 0);
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn edges_agree_with_floating_point() {
        for (k, &edge) in EDGES.iter().enumerate() {
            let want = 2f64.powf(63.0 + k as f64 / 32.0);
            assert!((edge as f64 - want).abs() / want < 1e-15, "edge {k}");
        }
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket(ns in 1u64..) {
            let i = index(ns);
            prop_assert!(lower(i) <= ns);
            if i + 1 < BUCKETS {
                prop_assert!(ns < lower(i + 1) || lower(i) == lower(i + 1));
            }
        }

        #[test]
        fn the_index_never_falls(a in 1u64.., b in 1u64..) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(index(low) <= index(high));
        }

        #[test]
        fn merged_is_the_histogram_of_the_union(a in prop::collection::vec(1u64..1 << 40, 0..80), b in prop::collection::vec(1u64..1 << 40, 0..80)) {
            let of = |values: &[u64]| { let mut h = Histogram::default(); values.iter().for_each(|&v| h.record(v)); h };
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let union: Vec<u64> = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(merged, of(&union));
        }

        #[test]
        fn quantiles_stay_within_the_stated_error(mut values in prop::collection::vec(64u64..1 << 40, 1..200), q in 0.0f64..1.0) {
            let mut h = Histogram::default();
            values.iter().for_each(|&v| h.record(v));
            values.sort_unstable();
            let rank = crate::num::u64_from_f64((q * values.len() as f64).ceil()) as usize;
            let rank = rank.clamp(1, values.len());
            let exact = values[rank - 1] as f64;
            let got = h.quantile_ns(q).unwrap() as f64;
            prop_assert!((got - exact).abs() / exact <= 0.0110, "{got} for {exact}");
        }
    }
}

//! Adding up many sparse histograms quickly.
//!
//! An answer adds tens of thousands of short bucket lists into a few hundred groups. A
//! [`Tally`] keeps the occupied stretch of the 2,048 buckets as a plain array, so adding is one
//! indexed addition per bucket; the result is the same [`Histogram`], bit for bit.

use coral_model::Histogram;
use coral_model::num::{f64_from, u64_from_f64};

use crate::store::packed;

/// Occupied buckets, borrowed in either form they are kept in.
#[derive(Debug, Clone, Copy)]
pub enum Buckets<'a> {
    /// As the store's two list columns.
    Columns(&'a [u16], &'a [u64]),
    /// As [`Histogram::buckets`].
    Pairs(&'a [(u16, u64)]),
    /// As [`packed::pairs`].
    Packed(&'a [u8]),
}

impl Buckets<'_> {
    /// Hands every bucket and its count to `f`, ascending.
    pub fn each(self, mut f: impl FnMut(u16, u64)) {
        match self {
            Self::Columns(index, count) => {
                index.iter().zip(count).for_each(|(&i, &n)| f(i, n));
            }
            Self::Pairs(pairs) => pairs.iter().for_each(|&(i, n)| f(i, n)),
            Self::Packed(bytes) => packed::pairs(bytes).for_each(|(i, n)| f(i, n)),
        }
    }
}

/// A histogram being added up.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    first: u16,
    counts: Vec<u64>,
    sum_ns: u64,
}

impl Tally {
    /// Adds `n` observations to every bucket listed.
    pub fn add(&mut self, buckets: Buckets<'_>, sum_ns: u64) {
        self.sum_ns = self.sum_ns.saturating_add(sum_ns);
        buckets.each(|i, n| {
            let known = i.checked_sub(self.first).map(usize::from);
            match known.and_then(|at| self.counts.get_mut(at)) {
                Some(slot) => *slot = slot.saturating_add(n),
                None => self.begin(i, n),
            }
        });
    }

    /// Adds to a bucket that there was none of.
    #[cold]
    fn begin(&mut self, i: u16, n: u64) {
        self.reach(i, i);
        if let Some(slot) = self.counts.get_mut(usize::from(i - self.first)) {
            *slot = n;
        }
    }

    /// Adds everything of another.
    pub fn merge(&mut self, other: &Self) {
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        if other.counts.is_empty() {
            return;
        }
        let last = other.first.saturating_add(coral_model::num::u16_sat(other.counts.len() - 1));
        self.reach(other.first, last);
        let start = usize::from(other.first - self.first);
        for (slot, &n) in self.counts.iter_mut().skip(start).zip(&other.counts) {
            *slot = slot.saturating_add(n);
        }
    }

    /// Makes room for buckets `low..=high`.
    fn reach(&mut self, low: u16, high: u16) {
        if self.counts.is_empty() {
            self.first = low;
        } else if low < self.first {
            let more = usize::from(self.first - low);
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.first = low;
        }
        let need = usize::from(high - self.first) + 1;
        if self.counts.len() < need {
            self.counts.resize(need, 0);
        }
    }

    /// Observations in buckets that lie wholly at or above `ns`.
    pub fn count_from(&self, ns: u64) -> u64 {
        let first = coral_model::hist::index(ns);
        let buckets = (self.first..).zip(&self.counts);
        buckets.filter(|(i, _)| *i >= first).map(|(_, &n)| n).sum()
    }

    /// As [`Histogram::quantile_ns`], without making the histogram.
    pub fn quantile_ns(&self, q: f64) -> Option<u64> {
        let total: u64 = self.counts.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = u64_from_f64((q * f64_from(total)).ceil()).clamp(1, total);
        let mut seen = 0u64;
        (self.first..).zip(&self.counts).find_map(|(i, &n)| {
            seen = seen.saturating_add(n);
            (seen >= rank).then(|| coral_model::hist::middle(i))
        })
    }

    /// As a histogram.
    pub fn histogram(&self) -> Histogram {
        let mut histogram = Histogram::default();
        for (i, &n) in (self.first..).zip(&self.counts) {
            histogram.add(i, n);
        }
        histogram.add_sum(self.sum_ns);
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tally_is_the_merged_histogram(parts in prop::collection::vec(prop::collection::vec(1u64..1 << 42, 0..30), 0..12)) {
            let mut merged = Histogram::default();
            let (mut tally, mut halves) = (Tally::default(), [Tally::default(), Tally::default()]);
            for (n, part) in parts.iter().enumerate() {
                let mut h = Histogram::default();
                part.iter().for_each(|&v| h.record(v));
                let (index, count): (Vec<u16>, Vec<u64>) = h.buckets().iter().copied().unzip();
                tally.add(Buckets::Columns(&index, &count), h.sum_ns());
                halves[n % 2].add(Buckets::Pairs(h.buckets()), h.sum_ns());
                merged.merge(&h);
            }
            let [mut left, right] = halves;
            left.merge(&right);
            prop_assert_eq!(&tally.histogram(), &merged);
            for q in [0.0, 0.5, 0.99, 1.0] {
                prop_assert_eq!(tally.quantile_ns(q), merged.quantile_ns(q));
            }
            prop_assert_eq!(left.histogram(), merged);
        }
    }
}

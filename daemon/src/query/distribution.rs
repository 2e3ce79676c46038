//! Applications' own histograms: OTLP's explicit and exponential buckets, as they were sent.
//!
//! Coral does not convert them into its own form: their buckets are the application's choice.
//! Subtracting an earlier cumulative point gives what happened between; adding gives what happened
//! over several points or series.

use std::collections::BTreeMap;

use coral_model::num::f64_from;
use serde::Deserialize;

/// Bucket counts of one point.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Shape {
    /// None were sent.
    #[default]
    None,
    /// Upper bounds and one more count than bounds.
    Explicit(Vec<f64>, Vec<u64>),
    /// Base-2 exponential.
    Exponential(Exponential),
}

/// Exponential buckets: index `i` covers `(base^i, base^(i+1)]` with `base = 2^(2^-scale)`
/// (OpenTelemetry metrics data model, "ExponentialHistogram").
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Exponential {
    scale: i32,
    zero: u64,
    positive: BTreeMap<i64, u64>,
    negative: BTreeMap<i64, u64>,
}

/// A distribution: how many, how much, and where.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Distribution {
    /// Observations.
    pub count: u64,
    /// Their sum, where it was sent.
    pub sum: Option<f64>,
    /// Where they lie.
    pub shape: Shape,
}

#[derive(Debug, Deserialize, Default)]
struct Side {
    #[serde(default)]
    offset: i64,
    #[serde(default)]
    counts: Vec<u64>,
}

/// The `extra` column of a metric point.
#[derive(Debug, Deserialize, Default)]
pub struct Extra {
    #[serde(default)]
    scale: Option<i32>,
    #[serde(default)]
    zero_count: u64,
    #[serde(default)]
    positive: Side,
    #[serde(default)]
    negative: Side,
    /// Quantiles of a summary, by quantile as text.
    #[serde(default)]
    pub quantiles: BTreeMap<String, Option<f64>>,
}

impl Extra {
    /// From the column's JSON.
    pub fn read(json: Option<&str>) -> Self {
        json.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Exponential buckets, where these are some.
    pub fn exponential(&self) -> Option<Exponential> {
        let side = |s: &Side| {
            let buckets = (s.offset..).zip(&s.counts).filter(|(_, n)| **n > 0);
            buckets.map(|(i, n)| (i, *n)).collect()
        };
        Some(Exponential {
            scale: self.scale?,
            zero: self.zero_count,
            positive: side(&self.positive),
            negative: side(&self.negative),
        })
    }
}

impl Exponential {
    /// At a coarser scale: every step down joins two buckets.
    fn at(&self, scale: i32) -> Self {
        let shift = u32::try_from(self.scale.saturating_sub(scale)).unwrap_or(0).min(63);
        let side = |buckets: &BTreeMap<i64, u64>| {
            let mut out: BTreeMap<i64, u64> = BTreeMap::new();
            for (i, n) in buckets {
                *out.entry(i >> shift).or_default() += n;
            }
            out
        };
        Self {
            scale: self.scale.min(scale),
            zero: self.zero,
            positive: side(&self.positive),
            negative: side(&self.negative),
        }
    }

    fn bound(&self, index: i64) -> f64 {
        // Indices are some thousands at most, far inside what f64 holds exactly.
        let sign = if index < 0 { -1.0 } else { 1.0 };
        let width = (-f64::from(self.scale)).exp2();
        (sign * width * f64_from(index.unsigned_abs())).exp2()
    }
}

fn subtract(now: &BTreeMap<i64, u64>, before: &BTreeMap<i64, u64>) -> Option<BTreeMap<i64, u64>> {
    let mut out = now.clone();
    for (i, n) in before {
        match out.get_mut(i) {
            Some(have) => *have = have.checked_sub(*n)?,
            None if *n > 0 => return None,
            None => {}
        }
    }
    Some(out)
}

impl Distribution {
    /// What was observed since an earlier point of the same series; `None` when the later one has
    /// begun anew.
    pub fn since(&self, before: &Self) -> Option<Self> {
        let count = self.count.checked_sub(before.count)?;
        let shape = match (&self.shape, &before.shape) {
            (Shape::Explicit(bounds, now), Shape::Explicit(other, then)) if bounds == other => {
                let counts = now.iter().zip(then).map(|(n, t)| n.checked_sub(*t));
                Shape::Explicit(bounds.clone(), counts.collect::<Option<_>>()?)
            }
            (Shape::Exponential(now), Shape::Exponential(then)) => {
                let scale = now.scale.min(then.scale);
                let (now, then) = (now.at(scale), then.at(scale));
                Shape::Exponential(Exponential {
                    scale,
                    zero: now.zero.checked_sub(then.zero)?,
                    positive: subtract(&now.positive, &then.positive)?,
                    negative: subtract(&now.negative, &then.negative)?,
                })
            }
            (Shape::None, Shape::None) => Shape::None,
            _ => return None,
        };
        let sum = self.sum.zip(before.sum).map(|(n, t)| n - t);
        Some(Self { count, sum, shape })
    }

    /// Adds another; distributions of different shape keep their counts but lose their buckets.
    pub fn add(&mut self, other: &Self) {
        self.shape = match (std::mem::take(&mut self.shape), &other.shape) {
            (Shape::None, shape) if self.count == 0 => shape.clone(),
            (Shape::Explicit(bounds, mut counts), Shape::Explicit(more, add))
                if bounds == *more =>
            {
                counts.iter_mut().zip(add).for_each(|(n, m)| *n = n.saturating_add(*m));
                Shape::Explicit(bounds, counts)
            }
            (Shape::Exponential(a), Shape::Exponential(b)) => {
                let scale = a.scale.min(b.scale);
                let (mut a, b) = (a.at(scale), b.at(scale));
                a.zero = a.zero.saturating_add(b.zero);
                b.positive.iter().for_each(|(i, n)| *a.positive.entry(*i).or_default() += n);
                b.negative.iter().for_each(|(i, n)| *a.negative.entry(*i).or_default() += n);
                Shape::Exponential(a)
            }
            (shape, _) if other.count == 0 => shape,
            _ => Shape::None,
        };
        self.sum =
            if self.count == 0 { other.sum } else { self.sum.zip(other.sum).map(|(a, b)| a + b) };
        self.count = self.count.saturating_add(other.count);
    }

    /// Mean, where the sum is known.
    pub fn mean(&self) -> Option<f64> {
        self.sum.filter(|_| self.count > 0).map(|s| s / f64_from(self.count))
    }

    /// Buckets as `(lower, upper, observations)`, ascending.
    fn buckets(&self) -> Vec<(f64, f64, u64)> {
        match &self.shape {
            Shape::None => Vec::new(),
            Shape::Explicit(bounds, counts) => {
                // Below the first bound lies 0 for what is never negative; above the last there is
                // no number, so the last bound is the best that can be said.
                let first = bounds.first().copied().unwrap_or(0.0);
                let last = bounds.last().copied().unwrap_or(0.0);
                let lower = std::iter::once(first.min(0.0)).chain(bounds.iter().copied());
                let upper = bounds.iter().copied().chain(std::iter::once(last));
                lower.zip(upper).zip(counts).map(|((l, u), n)| (l, u, *n)).collect()
            }
            Shape::Exponential(e) => {
                let negative =
                    e.negative.iter().rev().map(|(i, n)| (-e.bound(i + 1), -e.bound(*i), *n));
                let positive = e.positive.iter().map(|(i, n)| (e.bound(*i), e.bound(i + 1), *n));
                negative.chain([(0.0, 0.0, e.zero)]).chain(positive).collect()
            }
        }
    }

    /// A quantile, linear inside its bucket; `None` without buckets or observations.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let buckets = self.buckets();
        let total: u64 = buckets.iter().map(|b| b.2).sum();
        if total == 0 {
            return None;
        }
        let rank = (q * f64_from(total)).max(f64::MIN_POSITIVE);
        let mut below = 0.0;
        for (lower, upper, n) in buckets.into_iter().filter(|b| b.2 > 0) {
            let n = f64_from(n);
            if below + n >= rank {
                return Some(lower + (upper - lower) * (rank - below) / n);
            }
            below += n;
        }
        None
    }

    /// `p50`, `p90`, `p99`, where they can be told.
    pub fn quantiles(&self) -> BTreeMap<String, f64> {
        let named = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];
        named
            .into_iter()
            .filter_map(|(name, q)| Some((name.to_owned(), self.quantile(q)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explicit(counts: &[u64]) -> Distribution {
        let shape = Shape::Explicit(vec![10.0, 20.0, 50.0], counts.to_vec());
        Distribution { count: counts.iter().sum(), sum: Some(1.0), shape }
    }

    #[test]
    fn quantiles_of_explicit_buckets_are_linear_inside_them() {
        let d = explicit(&[10, 10, 0, 0]);
        assert_eq!(d.quantile(0.5), Some(10.0));
        assert_eq!(d.quantile(0.75), Some(15.0));
        // Beyond the last bound nothing is known but the bound.
        assert_eq!(explicit(&[0, 0, 0, 5]).quantile(0.99), Some(50.0));
        assert_eq!(explicit(&[0, 0, 0, 0]).quantile(0.5), None);
    }

    #[test]
    fn a_point_that_has_less_began_anew() {
        let (first, second) = (explicit(&[1, 2, 3, 0]), explicit(&[1, 5, 3, 1]));
        assert_eq!(second.since(&first).unwrap().shape, explicit(&[0, 3, 0, 1]).shape);
        assert_eq!(first.since(&second), None);
        assert_eq!(explicit(&[9, 0, 9, 9]).since(&first), None);
    }

    fn exponential(json: &str, count: u64) -> Distribution {
        let shape = Shape::Exponential(Extra::read(Some(json)).exponential().unwrap());
        Distribution { count, sum: None, shape }
    }

    #[test]
    fn exponential_buckets_of_different_scale_meet_at_the_coarser() {
        let fine = exponential(
            r#"{"scale":1,"zero_count":1,"positive":{"offset":-2,"counts":[1,1,1,1]}}"#,
            5,
        );
        let coarse =
            exponential(r#"{"scale":0,"zero_count":0,"positive":{"offset":-1,"counts":[1,1]}}"#, 2);
        let less = fine.since(&coarse).unwrap();
        let Shape::Exponential(e) = &less.shape else { panic!() };
        assert_eq!((e.scale, e.zero), (0, 1));
        assert_eq!(e.positive, BTreeMap::from([(-1, 1), (0, 1)]));
        // Scale 0: base 2; bucket 0 is (1, 2].
        assert_eq!(less.quantile(1.0), Some(2.0));
        assert_eq!(less.quantile(0.1), Some(0.0));
        let mut both = fine.clone();
        both.add(&coarse);
        assert_eq!(both.count, 7);
        assert_eq!(both.since(&fine).unwrap().since(&coarse).unwrap().quantile(0.5), None);
    }
}

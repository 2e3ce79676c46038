//! Before and now, side by side, and whether chance explains the difference.
//!
//! | number | test | needs |
//! |---|---|---|
//! | errors | share of failed requests: two proportions ([`chance`]) | 30 requests on either side, 5 failed |
//! | p50, p99 | the quantile test (Mood 1950; Conover, *Practical Nonparametric Statistics*, 3rd ed., 3.5 and 5.3): both sides are put together, and their shares beyond the quantile of the whole are compared as two proportions | 30 requests on either side for p50, 100 for p99 |
//! | rate | none: requests come in bursts, of which every test for counts says that they are no chance | |
//!
//! Buckets of both histograms are the same, so the requests beyond a bucket's end are known exactly. A
//! probability is multiplied by the number of tests in the answer (Bonferroni). A mark also needs a
//! difference somebody would act on: 0.1 points of errors, or a tenth of the quantile, since of a
//! million requests everything differs. The tests take requests for independent of each other; those
//! of one burst are not, which makes probabilities look smaller than they are.

use coral_model::Histogram;
use coral_model::num::{f64_from, u64_from_f64};
use coral_model::view::{Baseline, Quantity, Shift};

use super::group::Sum;
use super::rules::P99_REQUESTS;
use crate::chance::chance;

/// Requests on either side for a share or median to be tested.
const REQUESTS: u64 = 30;
/// Failed requests, of both sides, for their share to be tested.
const FAILED: u64 = 5;
/// Probability of chance, over all tests of an answer.
const CHANCE: f64 = 0.01;
/// Difference of shares of failed requests that is worth a mark.
const POINTS: f64 = 0.001;
/// Difference of a quantile that is worth a mark, as a share of it.
const TENTH: f64 = 0.1;

/// One side: what was counted, and over how many seconds.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// Requests.
    pub requests: u64,
    /// Of these failed.
    pub errors: u64,
    /// Their durations.
    pub histogram: Histogram,
    /// Seconds observed.
    pub seconds: f64,
}

impl Side {
    /// Of requests added up.
    pub fn of(sum: &Sum, seconds: f64) -> Self {
        Self {
            requests: sum.requests,
            errors: sum.errors,
            histogram: sum.tally.histogram(),
            seconds,
        }
    }

    fn rate(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| f64_from(self.requests) / self.seconds)
    }

    fn error_ratio(&self) -> Option<f64> {
        (self.requests > 0).then(|| f64_from(self.errors) / f64_from(self.requests))
    }
}

/// The numbers of both sides; probabilities are those of one test alone until [`settle`]d.
pub fn shifts(before: &Side, now: &Side) -> Vec<Shift> {
    let quantile = |what, q, least| {
        let of = |side: &Side| side.histogram.quantile_ns(q).map(f64_from);
        let enough = before.histogram.count().min(now.histogram.count()) >= least;
        let p = enough.then(|| beyond(&before.histogram, &now.histogram, q));
        shift(what, of(before), of(now), p)
    };
    let failed = before.errors.saturating_add(now.errors) >= FAILED;
    let errors = (failed && before.requests.min(now.requests) >= REQUESTS)
        .then(|| chance([now.errors, before.errors], [now.requests, before.requests]));
    vec![
        shift(Quantity::Rate, before.rate(), now.rate(), None),
        shift(Quantity::Errors, before.error_ratio(), now.error_ratio(), errors),
        quantile(Quantity::P50, 0.50, REQUESTS),
        quantile(Quantity::P99, 0.99, P99_REQUESTS),
    ]
}

fn shift(what: Quantity, before: Option<f64>, now: Option<f64>, p_value: Option<f64>) -> Shift {
    let delta = now.zip(before).map(|(now, before)| now - before);
    Shift { what, before, now, delta, p_value, significant: false }
}

/// Probability of as different shares beyond the quantile `q` of both together.
///
/// The quantile's own bucket counts once to this side and once to that, since it may hold most of a
/// side; that makes two tests.
fn beyond(before: &Histogram, now: &Histogram, q: f64) -> f64 {
    let mut both = before.clone();
    both.merge(now);
    let rank = u64_from_f64((q * f64_from(both.count())).ceil()).clamp(1, both.count().max(1));
    let mut seen = 0u64;
    let at = both.buckets().iter().find(|(_, n)| {
        seen = seen.saturating_add(*n);
        seen >= rank
    });
    let Some((edge, _)) = at else { return 1.0 };
    let test = |counts: fn(u16, u16) -> bool| {
        let above = |h: &Histogram| -> u64 {
            h.buckets().iter().filter(|(i, _)| counts(*i, *edge)).map(|(_, n)| n).sum()
        };
        chance([above(now), above(before)], [now.count(), before.count()])
    };
    (2.0 * test(|i, edge| i > edge).min(test(|i, edge| i >= edge))).min(1.0)
}

/// Makes the probabilities of an answer those of all its tests together, and marks what is neither
/// chance nor too small to matter.
pub fn settle<'a>(baselines: impl Iterator<Item = &'a mut Baseline>) {
    let mut all: Vec<&mut Shift> = baselines.flat_map(|b| b.shifts.iter_mut()).collect();
    let tests = all.iter().filter(|s| s.p_value.is_some()).count();
    let tests = f64_from(coral_model::num::u64_sat(tests));
    for shift in &mut all {
        let (Some(p), Some(before), Some(delta)) = (shift.p_value, shift.before, shift.delta)
        else {
            continue;
        };
        let p = (p * tests).min(1.0);
        let worth = match shift.what {
            Quantity::Errors => delta.abs() >= POINTS,
            Quantity::P50 | Quantity::P99 => delta.abs() >= TENTH * before,
            Quantity::Rate => false,
        };
        shift.p_value = Some(p);
        shift.significant = worth && p < CHANCE;
    }
}

#[cfg(test)]
mod tests {
    use coral_model::time::{MILLI, Time, Window};
    use proptest::prelude::*;

    use super::*;

    fn side(requests: u64, errors: u64, duration: impl Fn(u64) -> u64) -> Side {
        let mut histogram = Histogram::default();
        (0..requests).for_each(|n| histogram.record(duration(n)));
        Side { requests, errors, histogram, seconds: 60.0 }
    }

    fn marks(before: &Side, now: &Side) -> Vec<Quantity> {
        let window = Window::new(Time(0), Time(1));
        let mut baseline = Baseline {
            window,
            red: None,
            p99_ratio: None,
            rate_ratio: None,
            versions: None,
            shifts: shifts(before, now),
        };
        settle(std::iter::once(&mut baseline));
        baseline.shifts.iter().filter(|s| s.significant).map(|s| s.what).collect()
    }

    #[test]
    fn what_is_no_chance_is_marked() {
        let calm = side(1_000, 2, |n| 10 * MILLI + n * 10_000);
        assert_eq!(marks(&calm, &side(1_000, 80, |n| 10 * MILLI + n * 10_000)), [Quantity::Errors]);
        let slow = side(1_000, 2, |n| 30 * MILLI + n * 10_000);
        assert_eq!(marks(&calm, &slow), [Quantity::P50, Quantity::P99]);
        // Only one in twenty is slow.
        let tail =
            side(1_000, 2, |n| if n % 20 == 0 { 500 * MILLI } else { 10 * MILLI + n * 10_000 });
        assert_eq!(marks(&calm, &tail), [Quantity::P99]);
        // Twice as many requests are the callers' doing.
        assert_eq!(marks(&calm, &side(2_000, 4, |n| 10 * MILLI + n * 5_000)), []);
    }

    #[test]
    fn tiny_counts_and_tiny_differences_are_not_marked() {
        // All of five failed; ten slow ones; a difference of 2 % of a million.
        assert_eq!(marks(&side(5, 0, |_| MILLI), &side(5, 5, |_| 900 * MILLI)), []);
        assert_eq!(marks(&side(29, 0, |_| MILLI), &side(29, 29, |_| 900 * MILLI)), []);
        let (a, b) = (side(200_000, 0, |n| 1_000_000 + n), side(200_000, 0, |n| 1_030_000 + n));
        let shift = &shifts(&a, &b)[2];
        assert!(shift.p_value.unwrap() < 1e-9 && shift.delta.unwrap() > 0.0);
        assert_eq!(marks(&a, &b), []);
        // One slow request more of a hundred.
        let one = side(100, 0, |n| if n == 0 { 900 * MILLI } else { MILLI });
        assert_eq!(marks(&side(100, 0, |_| MILLI), &one), []);
    }

    proptest! {
        #[test]
        fn the_same_on_both_sides_is_never_marked(
            durations in prop::collection::vec(1u64..1 << 40, 1..400),
            errors in 0u64..100,
        ) {
            let n = durations.len() as u64;
            let one = side(n, errors.min(n), |at| durations[at as usize]);
            prop_assert_eq!(marks(&one, &one), []);
        }

        /// Counting by hand what the histograms count in buckets.
        #[test]
        fn shares_beyond_the_common_quantile_are_exact(
            a in prop::collection::vec(1u64..1 << 30, 30..200),
            b in prop::collection::vec(1u64..1 << 30, 30..200),
        ) {
            let of = |v: &[u64]| side(v.len() as u64, 0, |at| v[at as usize]).histogram;
            let mut all: Vec<u16> =
                a.iter().chain(&b).map(|ns| coral_model::hist::index(*ns)).collect();
            all.sort_unstable();
            let edge = all[all.len().div_ceil(2) - 1];
            let above = |v: &[u64], least: u16| {
                v.iter().filter(|ns| coral_model::hist::index(**ns) >= least).count() as u64
            };
            let by_hand = |least| {
                let counts = [above(&b, least), above(&a, least)];
                chance(counts, [b.len() as u64, a.len() as u64])
            };
            let want = (2.0 * by_hand(edge).min(by_hand(edge + 1))).min(1.0);
            prop_assert_eq!(beyond(&of(&a), &of(&b), 0.5), want);
        }
    }
}

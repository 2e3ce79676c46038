//! Which counted values tell the sides apart.
//!
//! A value's score is its share among the selected less its share among the others. It counts when
//!
//! - at least [`SUPPORT`] spans of one side have it, and its shares lie [`APART`] apart: a difference
//!   nobody would act on is none, however many spans prove it;
//! - chance would make such a difference with a probability below [`CHANCE`], after multiplying by
//!   the number of values tested (Bonferroni): of a thousand values, ten differ at "p < 0.01" without
//!   any cause. The probability is that of the two-proportion z test with pooled variance and
//!   continuity correction (Fleiss, *Statistical Methods for Rates and Proportions*, 3rd ed., 3.2), and
//!   of Fisher's exact test where fewer than five spans would be expected in a cell.
//!
//! Values that the selected have less often are the other side of the same coin, and shown only
//! where no value of the same attribute is more frequent among them.

use coral_model::num::f64_from;
use coral_model::view::{DiffRow, Origin};
use hashbrown::HashSet;

use super::tally::{Count, Tally, Values};

/// Spans a side needs before anything is said.
pub const LEAST: u64 = 10;
/// Spans with a value, on the side where it is frequent.
const SUPPORT: u64 = 5;
/// Least difference of the shares.
const APART: f64 = 0.05;
/// Probability of chance, over all tests together.
pub const CHANCE: f64 = 0.01;
/// Unique attributes that are named.
const UNIQUE: usize = 20;

/// What is left, best first.
#[derive(Debug, Default)]
pub struct Ranked {
    /// Rows.
    pub rows: Vec<DiffRow>,
    /// Values tested.
    pub tested: u64,
    /// Attributes whose values are nearly all different.
    pub unique: Vec<String>,
}

/// Ranks what was counted over `looked` selected and other spans.
pub fn rank(tally: Tally, looked: [u64; 2]) -> Ranked {
    let mut ranked = Ranked::default();
    let mut counted = Vec::new();
    for (origin, name, values) in tally.finish() {
        match values {
            Values::Unique if ranked.unique.len() < UNIQUE => {
                ranked.unique.push(label(origin, &name));
            }
            Values::Unique => {}
            Values::Counted(values) => {
                // An attribute that is the same everywhere is no test.
                let tests = values.iter().filter(|(_, c)| c.sides != looked);
                let tests: Vec<_> = tests.map(|(v, c)| (v.clone(), *c)).collect();
                ranked.tested += coral_model::num::u64_sat(tests.len());
                counted.push((origin, label(origin, &name), tests));
            }
        }
    }
    if looked.iter().any(|&n| n < LEAST) {
        return ranked;
    }
    let mut rows: Vec<(DiffRow, Count)> = Vec::new();
    for (origin, attribute, values) in counted {
        let found = values.into_iter().filter_map(|(value, count)| {
            let row = judge(origin, &attribute, value, count, looked, ranked.tested)?;
            Some((row, count))
        });
        let found: Vec<_> = found.collect();
        let more = found.iter().any(|(row, _)| row.score > 0.0);
        rows.extend(found.into_iter().filter(|(row, _)| row.score > 0.0 || !more));
    }
    // Stable: among equals, columns come before attributes.
    rows.sort_by(|a, b| b.0.score.abs().total_cmp(&a.0.score.abs()));
    ranked.rows = fold(rows);
    ranked
}

/// As a filter names it.
fn label(origin: Origin, name: &str) -> String {
    use coral_model::filter::Key;
    match origin {
        Origin::Span | Origin::Event => name.to_owned(),
        Origin::Attribute => Key::Attribute(name.to_owned()).to_string(),
        Origin::Resource => Key::Resource(name.to_owned()).to_string(),
    }
}

fn judge(
    origin: Origin,
    attribute: &str,
    value: Option<String>,
    count: Count,
    looked: [u64; 2],
    tested: u64,
) -> Option<DiffRow> {
    let ([x, y], [n, m]) = (count.sides, looked);
    let (selected_share, baseline_share) = (f64_from(x) / f64_from(n), f64_from(y) / f64_from(m));
    let score = selected_share - baseline_share;
    let support = if score > 0.0 { x } else { y };
    if support < SUPPORT || score.abs() < APART {
        return None;
    }
    let p_value = (chance([x, y], looked) * f64_from(tested)).min(1.0);
    (p_value < CHANCE).then(|| DiffRow {
        attribute: attribute.to_owned(),
        origin,
        value,
        selected: x,
        selected_share,
        baseline: y,
        baseline_share,
        score,
        p_value,
        same_as: Vec::new(),
    })
}

/// Values of the same spans are one finding: the first stands for all.
fn fold(rows: Vec<(DiffRow, Count)>) -> Vec<DiffRow> {
    let mut out: Vec<(DiffRow, Count)> = Vec::new();
    let mut seen: HashSet<String> = HashSet::new();
    for (row, count) in rows {
        match out.iter_mut().find(|(_, c)| *c == count) {
            Some((first, _)) => {
                let text = match &row.value {
                    Some(value) => format!("{}={value}", row.attribute),
                    None => format!("not:has:{}", row.attribute),
                };
                if seen.insert(text.clone()) {
                    first.same_as.push(text);
                }
            }
            None => out.push((row, count)),
        }
    }
    out.into_iter().map(|(row, _)| row).collect()
}

/// Probability that two samples of one population differ as much: `x` of `n` against `y` of `m`.
pub fn chance([x, y]: [u64; 2], [n, m]: [u64; 2]) -> f64 {
    if n == 0 || m == 0 {
        return 1.0;
    }
    let (a, b, big_n, big_m) = (f64_from(x), f64_from(y), f64_from(n), f64_from(m));
    let pooled = (a + b) / (big_n + big_m);
    let smallest = pooled.min(1.0 - pooled) * big_n.min(big_m);
    if smallest < 5.0 {
        return fisher([x, y], [n, m]);
    }
    let spread = (pooled * (1.0 - pooled) * (1.0 / big_n + 1.0 / big_m)).sqrt();
    let correction = 0.5 * (1.0 / big_n + 1.0 / big_m);
    let z = ((a / big_n - b / big_m).abs() - correction).max(0.0) / spread;
    erfc(z / std::f64::consts::SQRT_2)
}

/// Fisher's exact test, two-sided: all tables at most as likely as the one at hand.
fn fisher([x, y]: [u64; 2], [n, m]: [u64; 2]) -> f64 {
    let k = x + y;
    let total = ln_choose(n + m, k);
    let table = |i: u64| (ln_choose(n, i) + ln_choose(m, k - i) - total).exp();
    let here = table(x) * (1.0 + 1e-7);
    let (first, last) = (k.saturating_sub(m), k.min(n));
    // Where many tables are possible, those beyond this many on either side weigh nothing.
    let (first, last) = (first.max(x.saturating_sub(2_000)), last.min(x + 2_000));
    (first..=last).map(table).filter(|p| *p <= here).sum::<f64>().min(1.0)
}

fn ln_choose(n: u64, k: u64) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n.saturating_sub(k))
}

/// Stirling's series; exact to 1e-10 from 10 on, summed below.
fn ln_factorial(n: u64) -> f64 {
    if n < 10 {
        return (2..=n).map(|i| f64_from(i).ln()).sum();
    }
    let x = f64_from(n);
    x * x.ln() - x + 0.5 * (std::f64::consts::TAU * x).ln() + 1.0 / (12.0 * x)
        - 1.0 / (360.0 * x.powi(3))
        + 1.0 / (1260.0 * x.powi(5))
}

/// The complementary error function for x ≥ 0, to 1.2e-7 of its value (Press et al., *Numerical
/// Recipes in C*, 2nd ed., 6.2).
fn erfc(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.5 * x);
    const TERMS: [f64; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let series = TERMS.iter().fold(0.0, |sum, term| sum * t + term);
    t * (-x * x + series).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_what_the_books_say() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 0.002 * b.max(1e-9) + 1e-9, "{a} {b}");
        // scipy.stats.fisher_exact([[8, 2], [1, 5]]) and [[3, 1], [1, 3]].
        near(fisher([8, 1], [10, 6]), 0.034_965);
        near(fisher([3, 1], [4, 4]), 0.485_714);
        near(erfc(1.0), 0.157_299_2);
        near(erfc(3.0), 2.209_05e-5);
        // z = 1.96 is five in a hundred.
        near(erfc(1.959_964 / std::f64::consts::SQRT_2), 0.05);
        assert_eq!(chance([0, 0], [10, 0]), 1.0);
        assert!(chance([50, 5], [100, 1000]) < 1e-20);
        assert!(chance([5, 50], [100, 1000]) > 0.9);
    }

    fn tally(selected: &[(&str, u64)], others: &[(&str, u64)]) -> (Tally, [u64; 2]) {
        let mut tally = Tally::default();
        let mut looked = [0, 0];
        for (side, all) in [selected, others].into_iter().enumerate() {
            for (value, n) in all {
                for _ in 0..*n {
                    looked[side] += 1;
                    tally.span(side).add(Origin::Span, "version", value);
                }
            }
        }
        (tally, looked)
    }

    #[test]
    fn a_clear_difference_is_a_row_and_chance_is_not() {
        let (t, looked) = tally(&[("v41", 10), ("v42", 90)], &[("v41", 900), ("v42", 100)]);
        let ranked = rank(t, looked);
        let row = &ranked.rows[0];
        assert_eq!((row.value.as_deref(), row.selected, row.baseline), (Some("v42"), 90, 100));
        assert!((row.score - 0.8).abs() < 1e-9 && row.p_value < 1e-9);
        // Its counterpart, v41, is not said twice.
        assert_eq!(ranked.rows.len(), 1);
        for (a, b) in [((52, 48), (480, 520)), ((3, 0), (0, 1000)), ((9, 0), (0, 9))] {
            let (t, looked) = tally(&[("v41", a.0), ("v42", a.1)], &[("v41", b.0), ("v42", b.1)]);
            assert!(rank(t, looked).rows.is_empty(), "{a:?} {b:?}");
        }
    }

    #[test]
    fn values_of_the_same_spans_are_one_finding() {
        let mut tally = Tally::default();
        for n in 0..200u64 {
            let bad = n % 2 == 0;
            let mut span = tally.span(usize::from(!bad));
            span.add(Origin::Span, "version", if bad { "v42" } else { "v41" });
            span.add(Origin::Resource, "image", if bad { "shop:42" } else { "shop:41" });
        }
        let ranked = rank(tally, [100, 100]);
        assert_eq!(ranked.rows.len(), 1);
        assert_eq!(ranked.rows[0].attribute, "version");
        assert_eq!(ranked.rows[0].same_as, ["res.image=shop:42"]);
    }
}

//! Which counted values tell the sides apart.
//!
//! A value's score is its share among the selected less its share among the others. It counts when
//!
//! - at least [`SUPPORT`] spans of one side have it, and its shares lie [`APART`] apart: a difference
//!   nobody would act on is none, however many spans prove it;
//! - chance would make such a difference with a probability below [`CHANCE`], after multiplying by
//!   the number of values tested (Bonferroni): of a thousand values, ten differ at "p < 0.01" without
//!   any cause ([`crate::chance::chance`]).
//!
//! Values that the selected have less often are the other side of the same coin, and shown only
//! where no value of the same attribute is more frequent among them.

use coral_model::num::f64_from;
use coral_model::view::{DiffRow, Origin};
use hashbrown::HashSet;

use super::tally::{Count, Tally, Values};
use crate::chance::chance;

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
    // Among equals, what causes comes before what it ran on; columns come before attributes.
    rows.sort_by(|a, b| {
        let by_score = b.0.score.abs().total_cmp(&a.0.score.abs());
        by_score.then_with(|| explains(&a.0).cmp(&explains(&b.0)))
    });
    ranked.rows = fold(rows);
    ranked
}

/// How much a value explains, by its attribute: of the same spans a build says more than the
/// instances, hosts and zones it runs on. The sort is stable, so all else stays by name.
fn explains(row: &DiffRow) -> usize {
    const LAST: [&str; 4] = ["zone", "namespace", "host", "instance"];
    match row.attribute.as_str() {
        _ if row.origin != Origin::Span => 10,
        "version" => 0,
        name => 1 + LAST.iter().position(|last| *last == name).map_or(0, |at| at + 2),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_version_stands_for_its_instances() {
        let mut tally = Tally::default();
        for n in 0..200u64 {
            let bad = n % 2 == 0;
            let mut span = tally.span(usize::from(!bad));
            span.add(Origin::Span, "host", if bad { "web-2" } else { "web-1" });
            span.add(Origin::Span, "instance", if bad { "i2" } else { "i1" });
            span.add(Origin::Span, "version", if bad { "v42" } else { "v41" });
        }
        let ranked = rank(tally, [100, 100]);
        assert_eq!((ranked.rows.len(), ranked.rows[0].attribute.as_str()), (1, "version"));
        assert_eq!(ranked.rows[0].same_as, ["host=web-2", "instance=i2"]);
    }
}

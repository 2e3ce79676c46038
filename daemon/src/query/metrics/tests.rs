//! Measures of groups, against what a person would add up by hand.

use std::collections::BTreeMap;

use coral_model::question::Measure;
use coral_model::time::SECOND;
use coral_model::view::{LabelRow, MetricRow};
use proptest::prelude::*;

use super::super::fixture::{Fixture, ago, last, question, rows};
use super::*;

/// A point to be stored.
struct Stored<'a> {
    at: u64,
    start: u64,
    metric: &'a str,
    kind: &'a str,
    temporality: Option<&'a str>,
    resource: u64,
    labels: &'a [(&'a str, &'a str)],
    value: Option<f64>,
    /// count, sum, bounds, counts, extra.
    more: &'a str,
}

const NONE: &str = "NULL, NULL, NULL, NULL, NULL";

fn store(fixture: &Fixture, points: &[Stored<'_>]) {
    let table = Fixture::table(Signal::Metrics);
    let values: Vec<String> = points
        .iter()
        .map(|p| {
            let side = |f: fn(&(&str, &str)) -> String| {
                p.labels.iter().map(f).collect::<Vec<_>>().join(",")
            };
            format!(
                "({}, {}, 0, '{}', '{}', 's', 'd', {}, 'shop', {}, map([{}]::VARCHAR[], [{}]::VARCHAR[]), {}, {})",
                ago(p.at).0,
                ago(p.start).0,
                p.metric,
                p.kind,
                p.temporality.map_or("NULL".to_owned(), |t| format!("'{t}'")),
                p.resource,
                side(|l| format!("'{}'", l.0)),
                side(|l| format!("'{}'", l.1)),
                p.value.map_or("NULL".to_owned(), |v| v.to_string()),
                p.more,
            )
        })
        .collect();
    if !values.is_empty() {
        fixture.run(&format!(
            "INSERT INTO {table} (time_ns, start_ns, received_ns, metric, kind, unit, description, temporality, \
             service, resource, attributes, value, count, sum, bounds, counts, extra) VALUES {}",
            values.join(",")
        ));
    }
}

fn counter<'a>(at: u64, labels: &'a [(&'a str, &'a str)], value: f64) -> Stored<'a> {
    Stored {
        at,
        start: 5_000,
        metric: "hits",
        kind: "counter",
        temporality: Some("cumulative"),
        resource: 1,
        labels,
        value: Some(value),
        more: NONE,
    }
}

fn shop() -> Fixture {
    let fixture = Fixture::default();
    fixture.resource(1, "shop", ["i1", "web-1", "v41"], ago(9_000));
    fixture.resource(2, "shop", ["i2", "web-2", "v42"], ago(9_000));
    fixture
}

fn ask(fixture: &Fixture, metric: &str, measure: Measure, by: &[&str]) -> Vec<MetricRow> {
    rows!(answer(fixture, metric, measure, by).unwrap(), Metric)
}

fn answer(
    fixture: &Fixture,
    metric: &str,
    measure: Measure,
    by: &[&str],
) -> Result<super::super::Answer, QueryError> {
    let mut q = question(View::Metrics, last(60), "");
    q.subject = Some(metric.to_owned());
    q.measure = Some(measure);
    q.labels = by.iter().map(|l| (*l).to_owned()).collect();
    fixture.ask(&q)
}

fn label<'a>(row: &'a MetricRow, name: &str) -> &'a str {
    row.attributes.get(name).map_or("", String::as_str)
}

#[test]
fn counters_of_a_group_are_added_up_after_their_increases() {
    let fixture = shop();
    let (cart, pay) = ([("route", "/cart")], [("route", "/pay")]);
    let cart2 = [("route", "/cart"), ("code", "500")];
    store(
        &fixture,
        &[
            counter(70, &cart, 100.0),
            counter(10, &cart, 160.0),
            counter(70, &cart2, 900.0),
            // It began anew: what it has now came since.
            Stored { start: 40, ..counter(10, &cart2, 30.0) },
            counter(70, &pay, 5.0),
            counter(10, &pay, 5.0),
        ],
    );
    let rows = ask(&fixture, "hits", Measure::Rate, &["route"]);
    let of = |name: &str| rows.iter().find(|r| label(r, "route") == name).unwrap();
    // 60 in a minute, and 30 in the half of it.
    assert_eq!((of("/cart").value, of("/cart").series), (Some(90.0 / 60.0), 2));
    assert_eq!((of("/pay").value, of("/cart").unit.as_str()), (Some(0.0), "s/s"));
    let all = ask(&fixture, "hits", Measure::Sum, &[]);
    assert_eq!((all.len(), all[0].value, all[0].series), (1, Some(90.0), 3));
    assert_eq!(ask(&fixture, "hits", Measure::Sum, &["instance"])[0].attributes["instance"], "i1");
    let error = answer(&fixture, "hits", Measure::Quantile(0.9), &[]).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("no distribution"), "{error}");
}

#[test]
fn series_beyond_the_bound_keep_their_own_increases() {
    let fixture = shop();
    let marks = [[("__other__", "00000000000000aa")], [("__other__", "00000000000000bb")]];
    let mut points = Vec::new();
    for (n, labels) in marks.iter().enumerate() {
        let base = 1_000.0 * (n + 1) as f64;
        points.push(counter(70, labels, base));
        points.push(counter(40, labels, base + 3.0));
        points.push(counter(10, labels, base + 6.0));
    }
    store(&fixture, &points);
    let all = ask(&fixture, "hits", Measure::Sum, &[]);
    assert_eq!((all[0].value, all[0].series, all[0].note.as_deref()), (Some(12.0), 2, None));
    assert_eq!(label(&ask(&fixture, "hits", Measure::Sum, &["route"])[0], "route"), "__other__");
    // Without a measure they are one, and its rate is right.
    let mut q = question(View::Metrics, last(60), "");
    q.subject = Some("hits".to_owned());
    q.step = Some(60 * SECOND);
    let rows = rows!(fixture.ask(&q).unwrap(), Metric);
    assert_eq!((rows.len(), rows[0].series, rows[0].value), (1, 2, Some(12.0 / 60.0)));
    assert_eq!(label(&rows[0], "__other__"), "true");
    // As an earlier build stored them they cannot be told apart, and nothing is made up.
    let fixture = shop();
    let one = [("__other__", "true")];
    store(
        &fixture,
        &[
            counter(70, &one, 1_000.0),
            counter(70, &one, 2_000.0),
            counter(10, &one, 1_006.0),
            counter(10, &one, 2_006.0),
        ],
    );
    let rows = ask(&fixture, "hits", Measure::Rate, &[]);
    assert_eq!(rows[0].value, None);
    assert!(rows[0].note.as_ref().unwrap().contains("earlier build"), "{:?}", rows[0].note);
}

#[test]
fn distributions_are_merged_before_their_quantile_is_taken() {
    let fixture = shop();
    let point = |at, resource, labels, counts: &'static str| Stored {
        kind: "histogram",
        metric: "took",
        resource,
        value: None,
        more: counts,
        ..counter(at, labels, 0.0)
    };
    let cart = [("route", "/cart")];
    store(
        &fixture,
        &[
            point(70, 1, &cart, "10, 50.0, [10.0, 20.0], [10, 0, 0], NULL"),
            point(10, 1, &cart, "30, 350.0, [10.0, 20.0], [20, 10, 0], NULL"),
            point(70, 2, &cart, "0, 0.0, [10.0, 20.0], [0, 0, 0], NULL"),
            point(10, 2, &cart, "20, 300.0, [10.0, 20.0], [0, 20, 0], NULL"),
        ],
    );
    let p50 = Measure::Quantile(0.5);
    let rows = ask(&fixture, "took", p50, &["route"]);
    // 10 below 10, 30 between 10 and 20: the 20th of 40 lies a third into the second.
    assert_eq!((rows[0].value, rows[0].count), (Some(10.0 + 10.0 / 3.0), Some(40)));
    assert_eq!((rows[0].quantiles["p50"], rows[0].sum), (10.0 + 10.0 / 3.0, Some(600.0)));
    assert_eq!(ask(&fixture, "took", Measure::Mean, &[])[0].value, Some(15.0));
    assert_eq!(ask(&fixture, "took", Measure::Rate, &[])[0].value, Some(40.0 / 60.0));
    let by_host = ask(&fixture, "took", p50, &["host"]);
    assert_eq!((by_host.len(), label(&by_host[1], "host")), (2, "web-2"));
    // Exponential ones of different scale meet at the coarser.
    let exponential = |resource, extra| Stored {
        kind: "exponential_histogram",
        metric: "exp",
        temporality: Some("delta"),
        resource,
        value: None,
        more: extra,
        ..counter(10, &[], 0.0)
    };
    store(
        &fixture,
        &[
            exponential(
                1,
                "2, 3.0, NULL, NULL, '{\"scale\":1,\"positive\":{\"offset\":0,\"counts\":[1,1]}}'",
            ),
            exponential(
                2,
                "2, 6.0, NULL, NULL, '{\"scale\":0,\"positive\":{\"offset\":1,\"counts\":[2]}}'",
            ),
        ],
    );
    let rows = ask(&fixture, "exp", Measure::Quantile(1.0), &[]);
    assert_eq!((rows[0].value, rows[0].count), (Some(4.0), Some(4)));
    // Other buckets cannot be merged, and that is said.
    store(
        &fixture,
        &[
            point(70, 2, &[("route", "/odd")], "0, 0.0, [5.0], [0, 0], NULL"),
            point(10, 2, &[("route", "/odd")], "8, 16.0, [5.0], [8, 0], NULL"),
        ],
    );
    let rows = ask(&fixture, "took", p50, &[]);
    assert_eq!((rows[0].value, rows[0].count), (None, Some(48)));
    assert!(rows[0].note.as_ref().unwrap().contains("different buckets"), "{:?}", rows[0].note);
}

#[test]
fn summaries_and_levels_say_what_they_can() {
    let fixture = shop();
    let summary = |resource| Stored {
        kind: "summary",
        metric: "sum",
        temporality: None,
        resource,
        value: None,
        more: "4, 8.0, NULL, NULL, '{\"quantiles\":{\"0.5\":2.0,\"0.99\":3.5}}'",
        ..counter(10, &[], 0.0)
    };
    let gauge = |at, resource, value| Stored {
        kind: "gauge",
        metric: "level",
        temporality: None,
        resource,
        value: Some(value),
        ..counter(at, &[], 0.0)
    };
    store(
        &fixture,
        &[summary(1), summary(2), gauge(40, 1, 1.0), gauge(10, 1, 3.0), gauge(10, 2, 10.0)],
    );
    let p99 = Measure::Quantile(0.99);
    let one = ask(&fixture, "sum", p99, &["instance"]);
    assert_eq!(one.iter().map(|r| r.value).collect::<Vec<_>>(), [Some(3.5), Some(3.5)]);
    let both = &ask(&fixture, "sum", p99, &[])[0];
    assert!(both.value.is_none() && both.note.as_ref().unwrap().contains("cannot be combined"));
    let other = &ask(&fixture, "sum", Measure::Quantile(0.75), &["instance"])[0];
    assert!(other.note.as_ref().unwrap().contains("but p50 p99"), "{:?}", other.note);
    let level = |measure| ask(&fixture, "level", measure, &[])[0].value;
    assert_eq!(level(Measure::Sum), Some(13.0));
    assert_eq!(level(Measure::Mean), Some(6.0));
    assert_eq!((level(Measure::Min), level(Measure::Max)), (Some(1.0), Some(10.0)));
    assert!(answer(&fixture, "level", Measure::Rate, &[]).unwrap_err().is_usage());
}

#[test]
fn labels_are_listed_with_their_values() {
    let fixture = shop();
    let labels: Vec<[(&str, String); 2]> = (0..150)
        .map(|n| [("route", format!("/r{}", n % 3)), ("user", format!("u{n:03}"))])
        .collect();
    let labels: Vec<Vec<(&str, &str)>> =
        labels.iter().map(|all| all.iter().map(|(k, v)| (*k, v.as_str())).collect()).collect();
    let points: Vec<Stored<'_>> = labels.iter().map(|l| counter(10, l, 1.0)).collect();
    store(&fixture, &points);
    let rows: Vec<LabelRow> = rows!(answer(&fixture, "hits", Measure::Labels, &[]).unwrap(), Label);
    let told: Vec<(&str, u64, u64, usize)> =
        rows.iter().map(|r| (r.label.as_str(), r.series, r.values, r.top.len())).collect();
    assert_eq!(
        told,
        [
            ("host", 150, 1, 1),
            ("instance", 150, 1, 1),
            ("route", 150, 3, 3),
            ("service", 150, 1, 1),
            ("user", 150, 150, 100),
        ]
    );
    assert_eq!((rows[2].top[0].value.as_str(), rows[2].top[0].series), ("/r0", 50));
    // The top of a grouping, and the rest as one.
    let mut q = question(View::Metrics, last(60), "");
    q.subject = Some("hits".to_owned());
    q.measure = Some(Measure::Sum);
    q.labels = vec!["user".into()];
    q.top = Some(2);
    let rows = rows!(fixture.ask(&q).unwrap(), Metric);
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().any(|r| label(r, "user") == "__other__" && r.series == 148));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Against a counter that is watched second by second: what it rose by inside the window.
    #[test]
    fn sums_and_rates_are_what_was_counted(
        series in prop::collection::vec(
            (0usize..3, prop::collection::vec((2u64..20, 0u64..50, prop::bool::weighted(0.1)), 1..8)),
            1..6,
        ),
    ) {
        let fixture = shop();
        let routes = ["/a", "/b", "/c"];
        let names: Vec<String> = (0..series.len()).map(|n| n.to_string()).collect();
        let labels: Vec<[(&str, &str); 2]> = series
            .iter()
            .zip(&names)
            .map(|((route, _), name)| [("route", routes[*route]), ("n", name.as_str())])
            .collect();
        let mut points = Vec::new();
        let mut want: BTreeMap<&str, u64> = BTreeMap::new();
        for ((route, steps), labels) in series.iter().zip(&labels) {
            // The first point lies before the window: a level to measure from.
            let (mut at, mut value, mut start) = (70u64, 1_000u64, 5_000u64);
            points.push(counter(at, labels, value as f64));
            at = 60;
            for (gap, rise, anew) in steps {
                if at <= *gap {
                    break;
                }
                at -= gap;
                if *anew {
                    (value, start) = (0, at + 1);
                }
                value += rise;
                *want.entry(routes[*route]).or_default() += rise;
                points.push(Stored { start, ..counter(at, labels, value as f64) });
            }
        }
        store(&fixture, &points);
        let rows = ask(&fixture, "hits", Measure::Sum, &["route"]);
        let got: BTreeMap<&str, u64> =
            rows.iter().map(|r| (label(r, "route"), r.value.unwrap() as u64)).collect();
        prop_assert_eq!(got, want.clone());
        let rates = ask(&fixture, "hits", Measure::Rate, &["route"]);
        for row in &rates {
            // Never more seconds than the window and the gap before it.
            let total = want[label(row, "route")] as f64;
            prop_assert!(row.value.unwrap() >= total / 70.0 - 1e-9, "{row:?}");
        }
    }
}

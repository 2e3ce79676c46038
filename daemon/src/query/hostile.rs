//! Filters against the store: they mean what the model says they mean, whatever text is in them.

use std::collections::BTreeMap;

use coral_model::filter::{
    Expr, FieldValue, Fields, Key, Level, Pattern, Range, Scalar, Term, Test, Value, parse,
};
use coral_model::question::View;
use coral_model::time::{MILLI, SECOND, Time};
use coral_model::view::LogRow;
use duckdb::params;
use proptest::prelude::*;

use super::fixture::{Fixture, RedRow, Span, ago, last, question, rows};
use super::source::StoreOnly;
use super::{complete, logs, tail};
use crate::store::Reading;
use crate::store::schema::Signal;

/// Texts that break what pastes them.
const NASTY: [&str; 12] = [
    "plain",
    "O'Brien",
    "'; DROP TABLE spans; --",
    "back\\slash\\",
    "nul\0inside",
    "\"quoted\"",
    "日本 \u{202e}evil",
    "%_*?",
    "500",
    "nan",
    " 42.5 ",
    "",
];
/// Names of attributes that do the same.
const KEYS: [&str; 4] = ["user.id", "it's", "a'] OR true --", "x\\y"];

#[derive(Debug, Clone)]
struct Log {
    at: Time,
    severity: u8,
    body: String,
    resource: u64,
    attributes: Vec<(String, String)>,
    trace: u64,
}

struct Pencil<'a>(&'a Log);

impl Fields for Pencil<'_> {
    fn get(&self, key: &Key) -> Option<FieldValue<'_>> {
        let log = self.0;
        let own =
            |name: &str| log.attributes.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
        let host = format!("h{}", log.resource);
        Some(match key {
            Key::Service => FieldValue::from(NASTY[log.resource as usize]),
            Key::Level => FieldValue::Severity(log.severity),
            Key::Error => FieldValue::Bool(log.severity >= 17),
            Key::Body => FieldValue::from(log.body.as_str()),
            Key::Host => FieldValue::from(host),
            Key::Trace => {
                FieldValue::from((log.trace != 0).then(|| format!("{:032x}", log.trace))?)
            }
            Key::Attribute(name) => {
                FieldValue::from(own(name).or_else(|| match name.as_str() {
                    "host.name" => Some(host),
                    "k8s.pod.name" => Some(format!("pod-{}", log.resource)),
                    _ => None,
                })?)
            }
            Key::Resource(name) if name == "k8s.pod.name" => {
                FieldValue::from(format!("pod-{}", log.resource))
            }
            _ => return None,
        })
    }

    fn texts(&self, visit: &mut dyn FnMut(&str)) {
        visit(&self.0.body);
        self.0.attributes.iter().for_each(|(_, v)| visit(v));
    }
}

fn nasty() -> impl Strategy<Value = String> {
    prop::sample::select(NASTY.to_vec()).prop_map(str::to_owned)
}

fn any_log() -> impl Strategy<Value = Log> {
    let attributes =
        prop::collection::btree_map(prop::sample::select(KEYS.to_vec()), nasty(), 0..3);
    (0u64..600, 0u8..25, nasty(), 1u64..4, attributes, 0u64..3).prop_map(
        |(at, severity, body, resource, attributes, trace)| Log {
            at: ago(600 - at),
            severity,
            body,
            resource,
            attributes: attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            trace,
        },
    )
}

fn any_term() -> impl Strategy<Value = Expr> {
    let text_key = prop_oneof![
        Just(Key::Service),
        Just(Key::Body),
        Just(Key::Host),
        Just(Key::Trace),
        Just(Key::Resource("k8s.pod.name".to_owned())),
        prop::sample::select(KEYS.to_vec()).prop_map(|k| Key::Attribute(k.to_owned())),
    ];
    let values = prop::collection::vec(nasty().prop_map(Value::Text), 1..3).prop_map(Test::Any);
    let number = (-100f64..1000.0).prop_map(|x| {
        Test::Range(Range {
            from: std::ops::Bound::Included(Scalar::Number(x)),
            to: if x > 300.0 {
                std::ops::Bound::Unbounded
            } else {
                std::ops::Bound::Excluded(Scalar::Number(x + 200.0))
            },
        })
    });
    let pattern = prop::sample::select(vec!["^p", "[0-9]+", "'", "\\\\", "B.*n$", "日"])
        .prop_map(|p| Test::Matches(Pattern::new(p).unwrap()));
    let text = (text_key, prop_oneof![values, number, pattern, Just(Test::Has)])
        .prop_map(|(key, test)| Expr::Term(Term { key, test }));
    let level = prop::sample::select(Level::ALL.to_vec()).prop_flat_map(|l| {
        prop_oneof![
            Just(Test::Any(vec![Value::Level(l)])),
            Just(Test::Range(Range {
                from: std::ops::Bound::Included(Scalar::Level(l)),
                to: std::ops::Bound::Unbounded
            })),
            Just(Test::Range(Range {
                from: std::ops::Bound::Unbounded,
                to: std::ops::Bound::Excluded(Scalar::Level(l))
            })),
            Just(Test::Range(Range {
                from: std::ops::Bound::Excluded(Scalar::Level(l)),
                to: std::ops::Bound::Included(Scalar::Level(Level::Fatal))
            })),
        ]
    });
    prop_oneof![
        4 => text,
        1 => level.prop_map(|test| Expr::Term(Term { key: Key::Level, test })),
        1 => any::<bool>().prop_map(|b| Expr::Term(Term { key: Key::Error, test: Test::Any(vec![Value::Bool(b)]) })),
        2 => prop_oneof![nasty(), Just("BRIEN".to_owned()), Just("drop".to_owned())].prop_map(Expr::Text),
    ]
}

fn any_filter() -> impl Strategy<Value = Expr> {
    any_term().prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Expr::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Expr::Or),
            inner.prop_map(|e| Expr::Not(Box::new(e))),
        ]
    })
}

fn store(logs: &[Log]) -> Fixture {
    let fixture = Fixture::default();
    for id in 1..4u64 {
        fixture.resource(id, NASTY[id as usize], ["i", &format!("h{id}"), "v1"], ago(1000));
    }
    let table = Fixture::table(Signal::Logs);
    for (n, log) in logs.iter().enumerate() {
        let marks = vec!["?"; log.attributes.len()].join(",");
        let sql = format!(
            "INSERT INTO {table} VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, map([{marks}]::VARCHAR[], [{marks}]::VARCHAR[]))"
        );
        let mut statement = fixture.conn.prepare(&sql).unwrap();
        let mut values: Vec<duckdb::types::Value> = vec![
            log.at.as_i64().into(),
            (n as i64 + 1).into(),
            NASTY[log.resource as usize].to_owned().into(),
            log.severity.into(),
            log.body.clone().into(),
            log.trace.into(),
            (n as u64).into(),
            log.resource.into(),
        ];
        values.extend(log.attributes.iter().map(|(k, _)| k.clone().into()));
        values.extend(log.attributes.iter().map(|(_, v)| v.clone().into()));
        statement.execute(duckdb::params_from_iter(values)).unwrap();
    }
    fixture
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_store_filters_as_the_model_does(logs in prop::collection::vec(any_log(), 1..12), filters in prop::collection::vec(any_filter(), 12)) {
        let fixture = store(&logs);
        for filter in filters {
            let mut plan = super::plan::Plan::new(&question(View::Logs, last(600), ""), fixture.now).unwrap();
            plan.filter = filter.clone();
            let mut want: Vec<Time> = logs.iter().filter(|l| filter.matches(&Pencil(l))).map(|l| l.at).collect();
            want.sort_unstable();
            let found = logs::answer(&Reading::of_views(&fixture.conn), &plan).unwrap();
            let got: Vec<Time> = rows!(found, Log).iter().map(|l: &LogRow| l.time).collect();
            prop_assert_eq!(got, want, "{:?}", filter);
        }
    }
}

#[test]
fn hostile_text_is_data_wherever_it_stands() {
    let mut fixture = Fixture::default();
    fixture.agent("h");
    fixture.resource(1, "shop", ["i", "h", "v"], ago(500));
    fixture.red(&[RedRow::new(ago(50), 1, "shop", &[5])]);
    fixture.spans(&[Span::new(7, 1, 0, ago(30), MILLI)]);
    for text in NASTY.iter().filter(|t| !t.is_empty()) {
        let filter = |key: &str| {
            // The language's own quoting; what it cannot carry it refuses.
            let term = Term {
                key: Key::from_name(key),
                test: Test::Any(vec![Value::Text((*text).to_owned())]),
            };
            Expr::Term(term).to_string()
        };
        for (view, key) in [
            (View::Red, "service"),
            (View::Services, "service"),
            (View::Digest, "host"),
            (View::Traces, "operation"),
            (View::Traces, "it's"),
            (View::Logs, "body"),
            (View::Events, "service"),
            (View::Metrics, "metric"),
            (View::Topology, "name"),
            (View::Hosts, "host"),
            (View::Inflight, "service"),
            (View::Agents, "host"),
        ] {
            let q = question(view, last(900), &filter(key));
            if parse(&q.filter).is_ok() {
                fixture.ask(&q).unwrap();
            }
        }
        let mut q = question(View::Metrics, last(900), "");
        q.subject = Some((*text).to_owned());
        fixture.ask(&q).unwrap();
        q.view = View::Trace;
        assert!(fixture.ask(&q).unwrap_err().is_usage());
        let inputs = fixture.inputs(&StoreOnly);
        for key in ["", "service", "user.id", text] {
            complete::complete(&inputs, key, text, 10).unwrap();
        }
    }
    // Nothing was dropped, nothing was added.
    let spans: u64 =
        fixture.conn.query_row("SELECT count(*) FROM spans", params![], |r| r.get(0)).unwrap();
    assert_eq!(spans, 1);
    let inputs = fixture.inputs(&StoreOnly);
    assert_eq!(complete::complete(&inputs, "service", "sh", 10).unwrap(), ["shop"]);
    assert_eq!(complete::complete(&inputs, "", "ser", 10).unwrap(), ["service"]);
}

#[test]
fn a_tail_misses_no_late_row_and_cuts_no_commit() {
    let fixture = Fixture::default();
    let table = Fixture::table(Signal::Logs);
    let row = |at: Time, received: u64, body: &str| {
        fixture.run(&format!(
            "INSERT INTO {table} VALUES ({}, {received}, 'shop', 9, '{body}', 0, 0, 0, 1, map([]::VARCHAR[], []::VARCHAR[]))",
            at.0
        ));
    };
    row(ago(10), 100, "a");
    row(ago(9), 101, "b");
    row(ago(8), 101, "c");
    // Written long ago, received last.
    row(ago(7200), 102, "late");
    let mut q = question(View::Logs, last(60), "");
    q.limit = 2;
    let inputs = fixture.inputs(&StoreOnly);
    let mut after = Time(0);
    let mut seen: Vec<Vec<String>> = Vec::new();
    loop {
        let (rows, next) = tail::tail(&inputs, &q, after).unwrap();
        if rows.is_empty() {
            assert_eq!(next, after);
            break;
        }
        let found = super::answer::Found { rows, ..Default::default() };
        seen.push(rows!(found, Log).into_iter().map(|l| l.body).collect());
        after = next;
    }
    assert_eq!(seen, [vec!["a", "b", "c"], vec!["late"]]);
    q.filter = "body=late".to_owned();
    assert_eq!(tail::tail(&inputs, &q, Time(0)).unwrap().0.len(), 1);
    q.view = View::Red;
    q.filter.clear();
    assert!(tail::tail(&inputs, &q, Time(0)).is_err());
    fixture.spans(&[Span::new(7, 1, 0, ago(30), MILLI), Span::new(7, 2, 1, ago(30), MILLI)]);
    q.view = View::Traces;
    let (rows, next) = tail::tail(&inputs, &q, Time(0)).unwrap();
    assert_eq!((rows.len(), next), (1, ago(30)));
}

#[test]
fn traces_are_ranked_and_summed_up_whole() {
    let fixture = Fixture::default();
    fixture.resource(1, "gateway", ["i", "h", "v"], ago(500));
    let mut failed = Span::new(2, 3, 2, ago(49), 10 * MILLI).of("pay", "charge");
    failed.error = true;
    let mut root = Span::new(1, 1, 0, ago(100), 500 * MILLI).of("gateway", "GET /");
    root.code = Some("200".to_owned());
    fixture.spans(&[
        root,
        Span::new(1, 2, 1, ago(100), 400 * MILLI).of("cart", "get"),
        Span::new(2, 2, 1, ago(50), 100 * MILLI).of("checkout", "buy"),
        failed,
        Span::new(3, 1, 0, ago(10), 50 * MILLI).of("gateway", "GET /"),
    ]);
    let ask = |filter: &str, order| {
        let mut q = question(View::Traces, last(900), filter);
        q.order = order;
        rows!(fixture.ask(&q).unwrap(), Trace)
    };
    use coral_model::question::TraceOrder::{Error, Recent, Slow};
    let ids = |rows: &[coral_model::view::TraceRow]| {
        rows.iter().map(|r| r.trace_id.0[15]).collect::<Vec<_>>()
    };
    assert_eq!(ids(&ask("", Recent)), [3, 2, 1]);
    assert_eq!(ids(&ask("", Slow)), [2, 1, 3]);
    assert_eq!(ids(&ask("", Error)), [2, 1, 3]);
    assert_eq!(ids(&ask("service=cart", Recent)), [1]);
    assert_eq!(ids(&ask("duration=450ms..", Recent)), [1]);
    assert_eq!(ids(&ask("error=true", Recent)), [2]);
    assert_eq!(ids(&ask("host=h operation='GET /'", Slow)), [1, 3]);
    let rows = ask("", Slow);
    let orphaned = &rows[0];
    assert_eq!((orphaned.complete, orphaned.spans, orphaned.errors), (false, 2, 1));
    assert_eq!(orphaned.duration_ns, SECOND + 10 * MILLI);
    assert_eq!(orphaned.services, ["checkout", "pay"]);
    let whole = &rows[1];
    assert_eq!(
        (whole.service.as_str(), whole.status.as_deref(), whole.complete),
        ("gateway", Some("200"), true)
    );
    // One trace by a prefix of its id; two that share it are named.
    let mut q = question(View::Trace, last(1), "");
    q.subject = Some(format!("{:032x}", 1));
    let spans = rows!(fixture.ask(&q).unwrap(), Span);
    assert_eq!(
        spans.iter().map(|s| (s.depth, s.operation.as_str())).collect::<Vec<_>>(),
        [(0, "GET /"), (1, "get")]
    );
    assert_eq!(spans[0].self_ns, 100 * MILLI);
    assert_eq!(spans[0].resource.get("host.name").map(String::as_str), Some("h"));
    q.subject = Some("00000000".to_owned());
    assert!(fixture.ask(&q).unwrap_err().to_string().contains("more than one trace"));
    q.subject = Some("abcdef01".to_owned());
    assert!(fixture.ask(&q).unwrap().rows.is_empty());
}

#[test]
fn metrics_are_what_happened_between_points() {
    let fixture = Fixture::default();
    fixture.resource(1, "shop", ["i1", "h", "v"], ago(500));
    let table = Fixture::table(Signal::Metrics);
    let point = |at: u64,
                 start: u64,
                 metric: &str,
                 kind: &str,
                 temporality: &str,
                 value: &str,
                 more: &str| {
        fixture.run(&format!(
            "INSERT INTO {table} (time_ns, start_ns, received_ns, metric, kind, unit, description, temporality, \
             service, resource, attributes, value, count, sum, bounds, counts, extra) VALUES \
             ({}, {}, 0, '{metric}', '{kind}', '1', 'd', {temporality}, 'shop', 1, map(['a'], ['b']), {value}, {more})",
            ago(at).0, ago(start).0
        ));
    };
    let none = "NULL, NULL, NULL, NULL, NULL";
    // A counter that restarts between 40 s and 30 s ago.
    for (at, start, value) in
        [(60, 400, 100), (50, 400, 150), (40, 400, 160), (30, 35, 20), (20, 35, 40)]
    {
        point(at, start, "requests", "counter", "'cumulative'", &value.to_string(), none);
    }
    for (at, value) in [(50, 3), (40, 5), (30, 10)] {
        point(at, at + 10, "deltas", "counter", "'delta'", &value.to_string(), none);
        point(at, 0, "temp", "gauge", "NULL", &value.to_string(), none);
    }
    for (at, counts) in [(50, [5, 0, 0]), (40, [5, 10, 0]), (30, [0, 1, 0])] {
        let n: i32 = counts.iter().sum();
        point(
            at,
            400,
            "latency",
            "histogram",
            "'cumulative'",
            "NULL",
            &format!("{n}, {n}, [10.0, 20.0], {counts:?}, NULL"),
        );
    }
    point(
        30,
        400,
        "summary",
        "summary",
        "NULL",
        "NULL",
        "4, 8.0, NULL, NULL, '{\"quantiles\":{\"0.5\":2.0,\"0.99\":3.5}}'",
    );
    point(
        30,
        400,
        "exp",
        "exponential_histogram",
        "'delta'",
        "NULL",
        "3, 6.0, NULL, NULL, '{\"scale\":0,\"zero_count\":1,\"positive\":{\"offset\":0,\"counts\":[1,1]}}'",
    );
    let ask = |metric: Option<&str>, step: Option<u64>| {
        let mut q = question(View::Metrics, last(55), "");
        q.subject = metric.map(str::to_owned);
        q.step = step.map(|s| s * SECOND);
        rows!(fixture.ask(&q).unwrap(), Metric)
    };
    let list = ask(None, None);
    assert_eq!(
        list.iter().map(|m| m.metric.as_str()).collect::<Vec<_>>(),
        ["deltas", "exp", "latency", "requests", "summary", "temp"]
    );
    assert!(list.iter().all(|m| m.series == 1 && m.service.as_deref() == Some("shop")));
    let values = |rows: &[coral_model::view::MetricRow]| {
        rows.iter().map(|r| r.value.unwrap()).collect::<Vec<_>>()
    };
    // Raw points as they were sent.
    assert_eq!(values(&ask(Some("requests"), None)), [150.0, 160.0, 20.0, 40.0]);
    // 50/10 s, 10/10 s, 20 in the 5 s since the restart, 20/10 s.
    let rates = ask(Some("requests"), Some(5));
    assert_eq!(values(&rates), [5.0, 1.0, 4.0, 2.0]);
    assert_eq!((rates[0].unit.as_str(), rates[0].time), ("1/s", Some(ago(50))));
    assert_eq!(values(&ask(Some("requests"), Some(60))), [100.0 / 35.0]);
    assert_eq!(values(&ask(Some("deltas"), Some(60))), [18.0 / 30.0]);
    assert_eq!(values(&ask(Some("temp"), Some(60))), [6.0]);
    let latency = ask(Some("latency"), Some(5));
    assert_eq!(latency.iter().map(|r| r.count).collect::<Vec<_>>(), [None, Some(10), Some(1)]);
    assert_eq!(latency[1].quantiles.get("p50"), Some(&15.0));
    let summary = &ask(Some("summary"), None)[0];
    assert_eq!(
        summary.quantiles,
        BTreeMap::from([("p50".to_owned(), 2.0), ("p99".to_owned(), 3.5)])
    );
    assert_eq!((summary.count, summary.value), (Some(4), Some(2.0)));
    let exp = &ask(Some("exp"), None)[0];
    assert_eq!(exp.quantiles.get("p99").map(|x| x.round()), Some(4.0));
    let mut q = question(View::Metrics, last(55), "a=nothing");
    q.subject = Some("temp".to_owned());
    assert!(fixture.ask(&q).unwrap().rows.is_empty());
}

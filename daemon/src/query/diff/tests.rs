//! Shops in which one thing is wrong, and some in which nothing is.

use coral_model::dice::{STEP, mixed};
use coral_model::question::View;
use coral_model::time::MILLI;
use coral_model::view::{DiffRow, DiffSides};

use super::super::fixture::{Fixture, Span, ago, last, question};
use super::*;

/// Numbers that look random and are the same in every run.
fn noise(n: u64) -> u64 {
    mixed(n.wrapping_mul(STEP))
}

/// 4,000 requests to payments from three instances; `worse` says what is wrong with one.
fn shop(worse: impl Fn(u64, &mut Span)) -> Fixture {
    let fixture = Fixture::default();
    for (id, at) in
        [(1, ["p-1", "web-1", "v41"]), (2, ["p-2", "web-2", "v42"]), (3, ["p-3", "web-3", "v41"])]
    {
        fixture.resource(id, "payments", at, ago(800));
    }
    let spans: Vec<Span> = (0..4000u64)
        .map(|n| {
            let mut span = Span::new(u128::from(n) + 1, n + 1, 0, ago(700 - n / 10), 10 * MILLI);
            span = span.of(
                "payments",
                if noise(n * 16).is_multiple_of(2) { "POST /charge" } else { "GET /balance" },
            );
            span.resource = 1 + noise(n * 16 + 1) % 3;
            span.duration_ns = 8 * MILLI + noise(n * 16 + 2) % (4 * MILLI);
            let tenant = format!("t{}", noise(n * 16 + 3) % 40);
            span.attributes = vec![
                ("request.id".to_owned(), format!("{:x}", noise(n * 16 + 4))),
                ("size".to_owned(), (noise(n * 16 + 5) % 5000).to_string()),
                ("tenant".to_owned(), tenant),
            ];
            worse(n, &mut span);
            span
        })
        .collect();
    fixture.spans(&spans);
    fixture
}

fn diff(fixture: &Fixture, filter: &str) -> (DiffSides, Vec<DiffRow>) {
    let answer = fixture.ask(&question(View::Diff, last(900), filter)).unwrap();
    let mut rows = answer.rows.into_iter();
    let Some(Row::DiffSides(head)) = rows.next() else { panic!("no head") };
    let rows: Vec<DiffRow> = rows
        .map(|r| match r {
            Row::Diff(row) => *row,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answer.end.rows, rows.len() as u64);
    (*head, rows)
}

fn first(rows: &[DiffRow]) -> (&str, Option<&str>) {
    rows.first().map_or(("nothing", None), |r| (r.attribute.as_str(), r.value.as_deref()))
}

#[test]
fn a_slow_version_is_found_with_its_counts() {
    let fixture = shop(|_, span| {
        if span.resource == 2 {
            span.duration_ns *= 50;
        }
    });
    let (head, rows) = diff(&fixture, "service=payments duration=100ms..");
    assert_eq!(first(&rows), ("version", Some("v42")));
    // The host, the instance and the pod part the spans in the same way.
    assert_eq!(rows[0].same_as, ["host=web-2", "instance=p-2", "res.k8s.pod.name=pod-2"]);
    assert_eq!((rows[0].selected, rows[0].baseline), (head.selected.spans, 0));
    assert!((rows[0].score - 1.0).abs() < 1e-9);
    assert_eq!(head.selected.spans + head.baseline.spans, 4000);
    assert_eq!(head.nothing, None);
    assert!(head.unique.contains(&"request.id".to_owned()), "{:?}", head.unique);
    assert_eq!(rows.len(), 1, "{rows:?}");
}

#[test]
fn a_version_on_several_hosts_is_told_from_the_hosts() {
    let fixture = shop(|n, span| {
        // v42 also runs on web-1 and web-3 now: instances 4 and 5.
        if noise(n * 16 + 9).is_multiple_of(3) {
            span.resource = 4 + span.resource % 2;
        }
        span.error = span.resource >= 4 && !noise(n * 16 + 8).is_multiple_of(5);
    });
    fixture.resource(4, "payments", ["p-4", "web-1", "v43"], ago(100));
    fixture.resource(5, "payments", ["p-5", "web-3", "v43"], ago(100));
    let (head, rows) = diff(&fixture, "service=payments error=true");
    assert_eq!(first(&rows), ("version", Some("v43")), "{rows:?}");
    assert_eq!(head.slow_ns, None);
    assert!(rows[0].p_value < 1e-6 && rows[0].selected_share > 0.99);
}

#[test]
fn one_tenant_of_forty_is_found_among_the_failed() {
    let fixture = shop(|n, span| {
        let tenant = span.attributes[2].1 == "t7";
        span.error = if tenant {
            !noise(n * 16 + 8).is_multiple_of(4)
        } else {
            noise(n * 16 + 8).is_multiple_of(100)
        };
    });
    let (_, rows) = diff(&fixture, "service=payments error=true");
    assert_eq!(first(&rows), ("tenant", Some("t7")), "{rows:?}");
    assert_eq!(rows.len(), 1);
}

#[test]
fn a_range_of_numbers_is_found() {
    let fixture = shop(|_, span| {
        if span.attributes[1].1.parse::<u64>().unwrap() >= 4096 {
            span.duration_ns += 500 * MILLI;
        }
    });
    // Without a word on what is slow: what lies above the 95th percentile, or failed.
    let (head, rows) = diff(&fixture, "service=payments");
    assert!(head.slow_ns.is_some_and(|ns| ns > 100 * MILLI), "{head:?}");
    assert_eq!(first(&rows), ("size", Some("4096..8192")), "{rows:?}");
    assert!(head.selected.what.contains("failed or took longer than"));
}

#[test]
fn where_nothing_is_wrong_nothing_is_found() {
    let fixture = shop(|n, span| span.error = noise(n * 16 + 8).is_multiple_of(20));
    for filter in
        ["service=payments", "service=payments error=true", "service=payments duration=11ms.."]
    {
        let (head, rows) = diff(&fixture, filter);
        assert!(rows.is_empty(), "{filter}: {rows:?}");
        assert!(head.nothing.unwrap().starts_with("nothing distinguishes"), "{filter}");
        assert!(head.tested > 40);
    }
}

#[test]
fn few_spans_say_nothing() {
    let fixture = shop(|n, span| span.error = n < 5);
    let (head, rows) = diff(&fixture, "service=payments error=true");
    assert!(rows.is_empty());
    assert!(head.nothing.unwrap().starts_with("only 5 spans"));
    let (head, _) = diff(&fixture, "service=nobody");
    assert_eq!((head.selected.spans, head.baseline.spans), (0, 0));
    assert!(head.nothing.unwrap().starts_with("only 0 spans"));
}

#[test]
fn both_sides_can_be_said() {
    let fixture = shop(|_, span| {
        if span.attributes[2].1 == "t3" && span.operation == "POST /charge" {
            span.error = true;
        }
    });
    let mut ask = question(View::Diff, last(900), "service=payments");
    ask.of = Some("tenant=t3".into());
    ask.against = Some("operation=\"GET /balance\"".into());
    let answer = fixture.ask(&ask).unwrap();
    let Some(Row::DiffSides(head)) = answer.rows.first() else { panic!() };
    assert!(head.selected.what.contains("tenant=t3"), "{head:?}");
    assert!(head.baseline.what.contains("GET /balance"));
    let found = answer.rows.iter().skip(1).any(|r| match r {
        Row::Diff(d) => d.attribute == "operation" && d.value.as_deref() == Some("POST /charge"),
        _ => false,
    });
    assert!(found);
    ask.of = Some("duration=fast".into());
    assert!(fixture.ask(&ask).unwrap_err().is_usage());
}

#[test]
fn the_type_of_an_exception_is_found() {
    let fixture = shop(|n, span| span.error = noise(n * 16 + 8).is_multiple_of(10));
    let table = Fixture::table(crate::store::schema::Signal::Spans);
    fixture.run(&format!(
        "UPDATE {table} SET events = '[{{\"time\":\"2026-11-22T14:00:00Z\",\"name\":\"exception\",\
         \"attributes\":{{\"exception.type\":\"PoolTimeout\"}}}}]' WHERE error"
    ));
    let (_, rows) = diff(&fixture, "service=payments error=true");
    let mut said: Vec<String> = rows
        .iter()
        .map(|r| format!("{}={}", r.attribute, r.value.clone().unwrap_or_default()))
        .collect();
    said.extend(rows.iter().flat_map(|r| r.same_as.clone()));
    assert!(said.contains(&"exception.type=PoolTimeout".to_owned()), "{said:?}");
    assert_eq!(rows[0].origin, Origin::Event);
}

#[test]
fn times_and_builds_are_sides_too() {
    // Another tenant in the last 350 s; v42 asks for another operation.
    let fixture = shop(|n, span| {
        if span.start >= ago(350) {
            span.attributes.push(("campaign".to_owned(), "spring".to_owned()));
        }
        if span.resource == 2 && n % 2 == 0 {
            span.attributes.push(("cache".to_owned(), "miss".to_owned()));
        }
    });
    let ask = |q: &coral_model::Question| {
        let answer = fixture.ask(q).unwrap();
        let rows: Vec<DiffRow> = answer
            .rows
            .iter()
            .filter_map(|r| if let Row::Diff(row) = r { Some((**row).clone()) } else { None })
            .collect();
        let Some(Row::DiffSides(head)) = answer.rows.first() else { panic!("no head") };
        ((**head).clone(), rows)
    };
    let mut q = question(View::Diff, last(350), "service=payments");
    q.compare = Some(q.window.previous());
    let (head, rows) = ask(&q);
    assert_eq!(first(&rows), ("campaign", Some("spring")));
    assert_eq!((rows[0].selected_share, rows[0].baseline_share), (1.0, 0.0));
    assert!(head.selected.what.starts_with("requests of ") && head.slow_ns.is_none());
    let mut q = question(View::Diff, last(900), "service=payments");
    q.builds = Some(Builds { from: Some("v41".into()), to: Some("v42".into()) });
    let (head, rows) = ask(&q);
    assert_eq!(head.selected.what, "requests of payments v42");
    assert_eq!(head.baseline.what, "requests of payments v41");
    assert!(rows.iter().any(|r| r.attribute == "cache" && r.value.as_deref() == Some("miss")));
    q.builds = Some(Builds { from: Some("v1".into()), to: Some("v42".into()) });
    let none = fixture.ask(&q).unwrap();
    assert!(none.rows.is_empty() && none.end.blind[0].contains("both v1 and v42"));
}

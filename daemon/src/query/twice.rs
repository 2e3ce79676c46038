//! The topology of calls that spans and the kernel both tell of: each is drawn once, by the better name.

use coral_model::question::View;
use coral_model::view::{Evidence, NodeKind, Row};

use super::fixture::{EdgeRow, Fixture, ago, last, question};

type Drawn = (String, String, u64, Evidence);

fn row(from: &str, to: &str, requests: u64, evidence: Evidence) -> Drawn {
    (from.to_owned(), to.to_owned(), requests, evidence)
}

/// Every edge of the last quarter of an hour, by name.
fn drawn(fixture: &Fixture) -> Vec<Drawn> {
    let answer = fixture.ask(&question(View::Topology, last(900), "")).unwrap();
    let edges = answer.rows.into_iter().filter_map(|row| match row {
        Row::Edge(e) => Some((e.from, e.to, e.red.requests, e.red.evidence)),
        _ => None,
    });
    let mut edges: Vec<_> = edges.collect();
    edges.sort_unstable();
    edges
}

#[test]
fn an_edge_that_spans_and_the_kernel_tell_of_is_drawn_once() {
    let fixture = Fixture::default();
    let seen = |from: &str, to: &str| EdgeRow {
        evidence: Evidence::Ebpf,
        ..EdgeRow::new(ago(60), from, to, &[5; 10])
    };
    let outside = |edge: EdgeRow| EdgeRow { from: ("external".into(), NodeKind::External), ..edge };
    fixture.edges(&[
        EdgeRow::new(ago(60), "cart", "pay", &[5; 9]),
        outside(EdgeRow::new(ago(60), "", "cart", &[5; 4])),
        seen("cart", "pay"),
        seen("pay", "nginx"),
        outside(seen("", "cart")),
        outside(seen("", "nginx")),
    ]);
    let expected = [
        row("cart", "pay", 9, Evidence::Otlp),
        row("external", "cart", 4, Evidence::Otlp),
        row("external", "nginx", 10, Evidence::Ebpf),
        row("pay", "nginx", 10, Evidence::Ebpf),
    ];
    assert_eq!(drawn(&fixture), expected);
}

#[test]
fn callers_from_outside_that_the_kernel_knows_are_drawn_by_name() {
    let fixture = Fixture::default();
    let outside = |to: &str, n: usize| EdgeRow {
        from: ("external".into(), NodeKind::External),
        ..EdgeRow::new(ago(60), "", to, &vec![5; n])
    };
    let seen = |from: &str, to: &str, n: usize| EdgeRow {
        evidence: Evidence::Ebpf,
        ..EdgeRow::new(ago(60), from, to, &vec![5; n])
    };
    // All but the last few of the calls of cart; of pay, a probe alone.
    fixture.edges(&[
        outside("cart", 100),
        outside("pay", 100),
        seen("cron", "cart", 95),
        seen("probe", "pay", 2),
    ]);
    let expected = [
        row("cron", "cart", 95, Evidence::Ebpf),
        row("external", "pay", 100, Evidence::Otlp),
        row("probe", "pay", 2, Evidence::Ebpf),
    ];
    assert_eq!(drawn(&fixture), expected);
}

#[test]
fn a_database_that_spans_and_the_kernel_name_differently_is_drawn_once() {
    let fixture = Fixture::default();
    let redis = |from: &str, to: &str, kind, evidence| EdgeRow {
        to: (to.into(), kind),
        protocol: "redis",
        evidence,
        ..EdgeRow::new(ago(60), from, "", &[5; 4])
    };
    // Of cart's calls spans tell; of those of old, which has no SDK, the kernel alone.
    fixture.edges(&[
        redis("cart", "redis/0", NodeKind::Database, Evidence::Otlp),
        redis("cart", "redis@10.0.0.7:6379", NodeKind::Database, Evidence::Ebpf),
        redis("cart", "redis-server", NodeKind::Service, Evidence::Ebpf),
        redis("old", "redis-server", NodeKind::Service, Evidence::Ebpf),
        EdgeRow { evidence: Evidence::Ebpf, ..EdgeRow::new(ago(60), "cart", "nginx", &[5; 3]) },
    ]);
    let expected = [
        row("cart", "nginx", 3, Evidence::Ebpf),
        row("cart", "redis/0", 4, Evidence::Otlp),
        row("old", "redis-server", 4, Evidence::Ebpf),
    ];
    assert_eq!(drawn(&fixture), expected);
}

//! The topology of calls that spans and the kernel both tell of: each is drawn once, by the better name,
//! and has its connections.

use coral_model::connections::Tally;
use coral_model::question::View;
use coral_model::time::SECOND;
use coral_model::view::{EdgeEnds, Evidence, NodeKind, Row};

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

/// Connections that were opened, all of them open for a minute and in use for half of it.
fn tally(opened: u64) -> Tally {
    let open_ns = opened * 60 * SECOND;
    Tally {
        opened,
        open_ns,
        busy_ns: open_ns / 2,
        rtt_sum_ns: 300,
        rtt_count: 3,
        ..Tally::default()
    }
}

/// The same as an edge of its own.
fn connections(from: &str, to: &str, protocol: &'static str, opened: u64) -> EdgeRow {
    let mut tally = tally(opened);
    if protocol == "tcp" {
        tally.busy_ns = 0;
    }
    EdgeRow { protocol, ..EdgeRow::connections(ago(60), from, to, tally) }
}

/// Every edge by callee and protocol, with how many requests and connections it has.
fn carried(fixture: &Fixture) -> Vec<String> {
    let answer = fixture.ask(&question(View::Topology, last(900), "")).unwrap();
    let edges = answer.rows.into_iter().filter_map(|row| match row {
        Row::Edge(e) => Some(e),
        _ => None,
    });
    let told = edges.map(|e| {
        let opened = e.connections.map_or("none".to_owned(), |c| c.opened.to_string());
        let (protocol, seen) = (e.protocol.unwrap_or_default(), e.red.evidence);
        format!("{} ▸ {} {protocol} {} {seen} {}: {opened}", e.from, e.to, e.red.requests, e.ends)
    });
    let mut told: Vec<String> = told.collect();
    told.sort_unstable();
    told
}

#[test]
fn connections_change_nothing_else_of_their_edge() {
    let fixture = Fixture::default();
    let seen = EdgeRow { evidence: Evidence::Ebpf, ..EdgeRow::new(ago(60), "old", "pay", &[5; 3]) };
    fixture.edges(&[
        connections("cart", "pay", "http", 2),
        EdgeRow::new(ago(60), "cart", "pay", &[5; 9]),
        connections("old", "pay", "http", 3),
        connections("old", "pay", "http", 1),
        seen,
        connections("old", "10.0.0.9:9000", "tcp", 4),
    ]);
    let expected = [
        "cart ▸ pay http 9 otlp both ends: 2",
        "old ▸ 10.0.0.9:9000 tcp 0 ebpf one end: 4",
        "old ▸ pay http 3 ebpf both ends: 4",
    ];
    assert_eq!(carried(&fixture), expected);
}

#[test]
fn connections_of_an_edge_that_spans_tell_of_better_are_told_there() {
    let fixture = Fixture::default();
    let seen = |row: EdgeRow, opened: u64| EdgeRow {
        evidence: Evidence::Ebpf,
        connections: tally(opened),
        ..row
    };
    let call = |from: &str, to: &str, protocol| EdgeRow {
        protocol,
        ..EdgeRow::new(ago(60), from, to, &[5; 4])
    };
    let database = |row: EdgeRow| EdgeRow { to: (row.to.0.clone(), NodeKind::Database), ..row };
    fixture.edges(&[
        // The same protocol; another one, of which spans tell alone; two others.
        call("a", "pay", "http"),
        call("a", "pay", "grpc"),
        seen(call("a", "pay", "http"), 1),
        call("b", "pay", "grpc"),
        seen(call("b", "pay", "http"), 2),
        connections("b", "pay", "tcp", 10),
        call("c", "pay", "grpc"),
        call("c", "pay", "rpc"),
        seen(call("c", "pay", "http"), 3),
        // A database by its address, and one of two.
        database(call("d", "redis/0", "redis")),
        seen(database(call("d", "redis@10.0.0.7:6379", "redis")), 4),
        database(call("e", "redis/0", "redis")),
        database(call("e", "redis/1", "redis")),
        seen(database(call("e", "redis@10.0.0.7:6379", "redis")), 5),
    ]);
    let expected = [
        "a ▸ pay grpc 4 otlp both ends: none",
        "a ▸ pay http 4 otlp both ends: 1",
        "b ▸ pay grpc 4 otlp both ends: 12",
        "c ▸ pay grpc 4 otlp both ends: none",
        "c ▸ pay http 0 ebpf one end: 3",
        "c ▸ pay rpc 4 otlp both ends: none",
        "d ▸ redis/0 redis 4 otlp both ends: 4",
        "e ▸ redis/0 redis 4 otlp both ends: none",
        "e ▸ redis/1 redis 4 otlp both ends: none",
        "e ▸ redis@10.0.0.7:6379 redis 0 ebpf one end: 5",
    ];
    assert_eq!(carried(&fixture), expected);
}

#[test]
fn a_connection_on_which_nothing_passed_is_one_of_those_on_which_something_did() {
    let fixture = Fixture::default();
    let seen = |to: &str, protocol| EdgeRow {
        evidence: Evidence::Ebpf,
        protocol,
        ends: EdgeEnds::One,
        ..EdgeRow::new(ago(60), "cart", to, &[5; 4])
    };
    fixture.edges(&[
        seen("one", "redis"),
        connections("cart", "one", "redis", 2),
        connections("cart", "one", "tcp", 3),
        seen("two", "redis"),
        seen("two", "http"),
        connections("cart", "two", "tcp", 1),
    ]);
    let expected = [
        "cart ▸ one redis 4 ebpf one end: 5",
        "cart ▸ two http 4 ebpf one end: none",
        "cart ▸ two redis 4 ebpf one end: none",
        "cart ▸ two tcp 0 ebpf one end: 1",
    ];
    assert_eq!(carried(&fixture), expected);
}

#[test]
fn an_idle_connection_is_no_caller() {
    let fixture = Fixture::default();
    let outside = EdgeRow {
        from: ("external".into(), NodeKind::External),
        ..EdgeRow::new(ago(60), "", "cart", &[5; 4])
    };
    fixture.edges(&[outside, connections("probe", "cart", "tcp", 9)]);
    let expected =
        ["external ▸ cart http 4 otlp both ends: none", "probe ▸ cart tcp 0 ebpf one end: 9"];
    assert_eq!(carried(&fixture), expected);
}

#[test]
fn connections_are_told_with_how_many_were_open_and_in_use() {
    let fixture = Fixture::default();
    let pool =
        EdgeRow { evidence: Evidence::Ebpf, ..EdgeRow::new(ago(60), "cart", "pay", &[5; 3]) };
    let refused = Tally { failed: 14, refused: 14, ..Tally::default() };
    fixture.edges(&[
        EdgeRow { connections: tally(2), ..pool },
        connections("cart", "secret", "tcp", 2),
        EdgeRow {
            protocol: "tcp",
            to: ("10.0.0.5:6379".into(), NodeKind::External),
            ..EdgeRow::connections(ago(60), "cart", "", refused)
        },
    ]);
    let answer = fixture.ask(&question(View::Topology, last(900), "")).unwrap();
    let edge = |to: &str| {
        let of = |row: &Row| match row {
            Row::Edge(e) if e.to == to => Some((e.level, e.connections.unwrap())),
            _ => None,
        };
        answer.rows.iter().find_map(of).unwrap()
    };
    let (level, pay) = edge("pay");
    assert_eq!((level, pay.opened, pay.rtt_ns, pay.busy_share), (0, 2, Some(100), Some(0.5)));
    assert!(pay.open > 1.0 && pay.open < 3.0, "{pay:?}");
    let (_, secret) = edge("secret");
    assert_eq!(secret.busy_share, None, "nobody reads what passes there");
    let (level, redis) = edge("10.0.0.5:6379");
    assert_eq!((level, redis.failed, redis.refused, redis.rtt_ns), (2, 14, 14, None));
    let outside = answer.rows.iter().find_map(|row| match row {
        Row::Node(node) if node.name == "10.0.0.5:6379" => {
            Some((node.kind, node.level, node.system.clone()))
        }
        _ => None,
    });
    assert_eq!(outside, Some((NodeKind::External, 2, None)));
}

//! Who calls whom.

use coral_model::time::{MILLI, Window};
use coral_model::view::*;

use super::Scenario;
use super::shop::{HOSTILE, red, shapes};

pub(super) fn topology(scenario: Scenario, window: Window) -> Vec<Row> {
    let mut rows = Vec::new();
    for s in shapes(scenario) {
        rows.push(Row::Node(Box::new(NodeRow {
            name: s.name.into(),
            kind: NodeKind::Service,
            system: None,
            state: State::Active,
            last_seen: Some(window.to),
            red: Some(red(s.rate, s.errors, s.p99_ms, 900.0)),
            level: s.level,
            hop: None,
        })));
    }
    if rows.is_empty() {
        return rows;
    }
    for (name, kind, system) in [
        ("postgres", NodeKind::Database, "postgresql"),
        ("orders", NodeKind::Queue, "kafka"),
        ("redis", NodeKind::Database, "redis"),
    ] {
        rows.push(Row::Node(Box::new(NodeRow {
            name: if scenario == Scenario::Hostile {
                format!("{name}{HOSTILE}")
            } else {
                name.into()
            },
            kind,
            system: Some(system.into()),
            state: State::Active,
            last_seen: Some(window.to),
            red: None,
            level: 0,
            hop: None,
        })));
    }
    let kind = |name: &str| match name {
        "postgres" | "redis" => NodeKind::Database,
        "orders" => NodeKind::Queue,
        _ => NodeKind::Service,
    };
    let bad = scenario != Scenario::Calm;
    for (from, to, protocol, rate, p99, level) in [
        ("gateway", "checkout", "http", 118.0, 2_350, 2),
        ("gateway", "catalog", "http", 260.0, 14, 0),
        ("checkout", "payments", "http", 40.2, 2_331, 2),
        ("checkout", "catalog", "grpc", 118.0, 12, 0),
        ("catalog", "cache", "http", 1_240.0, 2, 0),
        ("cache", "redis", "redis", 1_240.0, 1, 0),
        ("payments", "postgres", "postgresql", 80.0, 31, 0),
        ("checkout", "orders", "kafka", 39.0, 3, 0),
        ("orders", "shipping", "kafka", 38.0, 84, 0),
    ] {
        let level = if bad { level } else { 0 };
        let one = kind(to) == NodeKind::Database;
        rows.push(Row::Edge(Box::new(EdgeRow {
            from: from.into(),
            from_kind: kind(from),
            to: to.into(),
            to_kind: kind(to),
            protocol: Some(protocol.into()),
            ends: if one { EdgeEnds::One } else { EdgeEnds::Both },
            red: red(rate, if level == 2 { 0.07 } else { 0.0 }, p99, 900.0),
            callee_p99_ns: (!one).then_some(p99 * MILLI * 98 / 100),
            connections: None,
            baseline: None,
            level,
            hop: None,
        })));
    }
    rows
}

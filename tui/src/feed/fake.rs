//! A colony that is not there: the shop in a known state, for pictures, tests and benches.
//!
//! Everything follows from the scenario and the window asked for, so the same question always has
//! the same answer.

use std::collections::BTreeMap;

use coral_model::id::{SpanId, TraceId};
use coral_model::num::{f64_from, u64_from_f64};
use coral_model::question::{Dimension, Mode, Question, View};
use coral_model::time::{MILLI, SECOND, Time, Window};
use coral_model::view::*;
use tokio::sync::mpsc;

use super::{Feed, Greeting, Pending, Progress};

/// What the shop goes through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// Payments' pool is exhausted after a deploy.
    Incident,
    /// All is as it was.
    Calm,
    /// Nobody has sent anything.
    Empty,
    /// Somebody may have, but nothing that could see it is there.
    Blind,
    /// Names and bodies made to break a terminal.
    Hostile,
    /// Many services, for size.
    Large,
}

/// A feed of a scenario.
pub struct Fake {
    /// What the shop goes through.
    pub scenario: Scenario,
    /// Log records per second of the tail; 0 is a quiet tail.
    pub logs_per_second: u64,
}

/// 2026-11-22 14:02:31 UTC: the present of every picture.
pub const NOW: Time = Time(1_795_356_151 * SECOND);

/// An end record without blemish.
#[must_use]
pub fn end() -> End {
    End {
        rows: 0,
        truncated: false,
        dropped: 0,
        agents_asked: 1,
        agents_answered: 1,
        from: NOW.minus(900 * SECOND),
        to: NOW,
        compare: None,
        resolution_s: Some(10),
        stored_to: None,
        newest: Some(NOW),
        blind: Vec::new(),
    }
}

const HOSTILE: &str = "\x1b[31mred\x1b]0;pwned\x07 \u{202e}txet\u{202c} <b>&amp;</b>\r\n日本語🙂";

struct Shape {
    name: &'static str,
    rate: f64,
    errors: f64,
    p99_ms: u64,
    ratio: f64,
    inflight: u64,
    oldest_ms: u64,
    place: Option<&'static str>,
    level: u8,
    version: &'static str,
    instances: u32,
}

const INCIDENT: &[Shape] = &[
    Shape {
        name: "payments",
        rate: 40.2,
        errors: 0.091,
        p99_ms: 2310,
        ratio: 18.0,
        inflight: 214,
        oldest_ms: 31_000,
        place: Some("all hosts, v42"),
        level: 2,
        version: "v42",
        instances: 3,
    },
    Shape {
        name: "checkout",
        rate: 118.0,
        errors: 0.062,
        p99_ms: 2350,
        ratio: 17.0,
        inflight: 230,
        oldest_ms: 31_000,
        place: Some("all"),
        level: 2,
        version: "v17",
        instances: 2,
    },
    Shape {
        name: "gateway",
        rate: 412.6,
        errors: 0.018,
        p99_ms: 2400,
        ratio: 6.2,
        inflight: 241,
        oldest_ms: 31_200,
        place: Some("/checkout"),
        level: 1,
        version: "v108",
        instances: 2,
    },
    Shape {
        name: "catalog",
        rate: 260.4,
        errors: 0.0,
        p99_ms: 14,
        ratio: 1.02,
        inflight: 3,
        oldest_ms: 12,
        place: None,
        level: 0,
        version: "v55",
        instances: 2,
    },
    Shape {
        name: "cache",
        rate: 1_240.0,
        errors: 0.0,
        p99_ms: 2,
        ratio: 0.98,
        inflight: 1,
        oldest_ms: 1,
        place: None,
        level: 0,
        version: "v9",
        instances: 1,
    },
    Shape {
        name: "shipping",
        rate: 0.4,
        errors: 0.0,
        p99_ms: 84,
        ratio: 1.1,
        inflight: 0,
        oldest_ms: 0,
        place: None,
        level: 0,
        version: "v23",
        instances: 1,
    },
];

fn shapes(scenario: Scenario) -> Vec<Shape> {
    let calm = |s: &Shape| Shape {
        errors: 0.0,
        p99_ms: u64_from_f64(f64_from(s.p99_ms) / s.ratio.max(1.0)).max(1),
        ratio: 1.0,
        inflight: s.inflight.min(4),
        oldest_ms: s.oldest_ms.min(20),
        place: None,
        level: 0,
        ..*s
    };
    match scenario {
        Scenario::Incident | Scenario::Hostile | Scenario::Large => {
            INCIDENT.iter().map(|s| Shape { ..*s }).collect()
        }
        Scenario::Calm => INCIDENT.iter().map(calm).collect(),
        Scenario::Empty | Scenario::Blind => Vec::new(),
    }
}

fn red(rate: f64, errors: f64, p99_ms: u64, seconds: f64) -> Red {
    let requests = u64_from_f64(rate * seconds);
    Red {
        requests,
        rate,
        errors: u64_from_f64(f64_from(requests) * errors),
        error_ratio: (requests > 0).then_some(errors),
        no_answer: 0,
        mean_ns: Some(p99_ms * MILLI / 4),
        p50_ns: Some(p99_ms * MILLI / 6),
        p90_ns: Some(p99_ms * MILLI / 2),
        p99_ns: Some(p99_ms * MILLI),
        evidence: Evidence::Otlp,
        sampled: false,
    }
}

/// A wobble in 0.85..1.15 that only depends on its arguments.
fn wobble(a: u64, b: u64) -> f64 {
    let x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    0.85 + f64_from((x >> 40) % 1000) / 1000.0 * 0.3
}

/// How bad it is at a moment, 0..=1: the trouble begins five minutes before the window's end.
fn trouble(at: Time, window: Window) -> f64 {
    let onset = onset(window);
    if at < onset { 0.0 } else { (f64_from(at.since(onset)) / 20e9).min(1.0) }
}

fn onset(window: Window) -> Time {
    window.to.minus(266 * SECOND).align(SECOND)
}

fn service_rows(scenario: Scenario, window: Window) -> Vec<ServiceRow> {
    let mut rows: Vec<ServiceRow> = shapes(scenario)
        .iter()
        .enumerate()
        .map(|(n, s)| {
            let seconds = window.seconds();
            ServiceRow {
                service: s.name.into(),
                namespace: Some("shop".into()),
                state: State::Active,
                last_seen: Some(window.to),
                red: Some(red(s.rate, s.errors, s.p99_ms, seconds)),
                baseline: Some(Baseline {
                    window: window.previous(),
                    red: Some(red(
                        s.rate,
                        0.0,
                        u64_from_f64(f64_from(s.p99_ms) / s.ratio),
                        seconds,
                    )),
                    p99_ratio: Some(s.ratio),
                    rate_ratio: Some(1.0),
                }),
                inflight: Some(s.inflight),
                oldest_ns: (s.oldest_ms > 0).then_some(s.oldest_ms * MILLI),
                inflight_exact: false,
                instances: s.instances,
                versions: vec![s.version.into()],
                hosts: vec!["web-1".into(), "web-2".into()],
                place: s.place.map(Into::into),
                level: s.level,
                spark: (0..30)
                    .map(|i| Some(s.rate * wobble(u64::try_from(n).unwrap_or(0), i)))
                    .collect(),
            }
        })
        .collect();
    if scenario == Scenario::Incident || scenario == Scenario::Hostile {
        let bare = |name: &str, state| ServiceRow {
            service: name.into(),
            namespace: None,
            state,
            last_seen: Some(window.to.minus(34 * SECOND)),
            red: None,
            baseline: None,
            inflight: None,
            oldest_ns: None,
            inflight_exact: false,
            instances: 1,
            versions: vec!["v3".into()],
            hosts: Vec::new(),
            place: None,
            level: 0,
            spark: vec![None; 30],
        };
        rows.push(bare("mailer", State::NoTraffic));
        rows.push(ServiceRow {
            red: Some(red(0.2, 0.0, 40, 60.0)),
            ..bare("reports", State::Stale)
        });
        rows.push(bare("legacy-billing", State::NotObserved));
    }
    if scenario == Scenario::Hostile {
        for row in rows.iter_mut().take(2) {
            row.service = format!("{}{HOSTILE}", row.service);
            row.place = Some(HOSTILE.repeat(9));
        }
    }
    if scenario == Scenario::Large {
        let more: Vec<ServiceRow> = (0..1_000)
            .flat_map(|n| {
                rows.first().map(|row| ServiceRow {
                    service: format!("service-{n:04}"),
                    level: 0,
                    place: None,
                    ..row.clone()
                })
            })
            .collect();
        rows.extend(more);
    }
    rows
}

fn event(at: Time, kind: EventKind, service: &str, text: &str) -> EventRow {
    EventRow {
        time: at,
        kind,
        service: (!service.is_empty()).then(|| service.to_owned()),
        host: None,
        text: text.into(),
        source: "spans".into(),
        attributes: BTreeMap::new(),
    }
}

fn events(scenario: Scenario, window: Window) -> Vec<EventRow> {
    let at = onset(window);
    match scenario {
        Scenario::Empty | Scenario::Blind => Vec::new(),
        Scenario::Calm => vec![
            event(
                at.minus(340 * SECOND),
                EventKind::Deploy,
                "catalog",
                "v54 → v55, 2 of 2 instances",
            ),
            event(
                at.minus(520 * SECOND),
                EventKind::ServiceAppeared,
                "shipping",
                "seen for the first time",
            ),
            event(
                at.minus(600 * SECOND),
                EventKind::AgentConnected,
                "",
                "agent on web-1 connected",
            ),
        ],
        _ => {
            let mut rows = vec![
                event(
                    at.plus(41 * SECOND),
                    EventKind::Restart,
                    "payments",
                    "instance payments-2 was replaced",
                ),
                event(at.plus(9 * SECOND), EventKind::ErrorBurst, "checkout", "errors 0 → 6.2 %"),
                event(
                    at.plus(4 * SECOND),
                    EventKind::ErrorBurst,
                    "payments",
                    "new log \"pool exhausted\" ×1,204",
                ),
                event(
                    at.minus(3 * SECOND),
                    EventKind::Deploy,
                    "payments",
                    "v41 → v42, 3 of 3 instances",
                ),
                event(at.minus(400 * SECOND), EventKind::Note, "", "load test begins"),
            ];
            if scenario == Scenario::Hostile {
                for row in &mut rows {
                    row.text = format!("{} {HOSTILE}", row.text);
                }
            }
            rows
        }
    }
}

fn digest(scenario: Scenario, window: Window) -> DigestRow {
    let calm = scenario == Scenario::Calm;
    let none = matches!(scenario, Scenario::Empty | Scenario::Blind);
    let at = onset(window);
    let line = |label: &str, text: &str| Line { label: label.into(), text: text.into() };
    let services = service_rows(scenario, window);
    DigestRow {
        health: if none {
            Health::NoData
        } else if calm {
            Health::Calm
        } else {
            Health::Failing
        },
        onset: (!none && !calm).then_some(at),
        suspect: (!none && !calm).then(|| "payments".into()),
        why: if none || calm {
            Vec::new()
        } else {
            vec![
                line(
                    "WHY",
                    &format!(
                        "payments: p99 ×18 and 9.1 % errors since {}",
                        at.format(&jiff::tz::TimeZone::UTC, "%H:%M:%S")
                    ),
                ),
                line("changed", "deploy payments v41 → v42, 3 s before"),
                line("ruled out", "hosts, catalog, cache"),
                line("not seen", "inside postgres; gateway's host"),
            ]
        },
        path: if none || calm {
            Vec::new()
        } else {
            [("gateway", 1), ("checkout", 2), ("payments", 2), ("postgres", 0)]
                .iter()
                .map(|(name, level)| PathStep { name: (*name).into(), level: *level })
                .collect()
        },
        affected: if none || calm { 0 } else { 3 },
        services_known: coral_model::num::u32_sat(services.len()),
        movers: if none {
            Vec::new()
        } else if calm {
            vec![
                Mover {
                    service: "catalog".into(),
                    measure: Change::Rate,
                    now: 260.4,
                    before: Some(212.0),
                    ratio: Some(1.23),
                    since: Some(at),
                    score: 1.2,
                },
                Mover {
                    service: "shipping".into(),
                    measure: Change::P99,
                    now: 84e6,
                    before: Some(71e6),
                    ratio: Some(1.18),
                    since: Some(at.plus(60 * SECOND)),
                    score: 1.1,
                },
            ]
        } else {
            vec![Mover {
                service: "payments".into(),
                measure: Change::P99,
                now: 2_310e6,
                before: Some(128e6),
                ratio: Some(18.0),
                since: Some(at),
                score: 9.0,
            }]
        },
        changes: events(scenario, window),
        compared_with: if calm || none {
            window.previous()
        } else {
            Window::before(at, at.since(window.from))
        },
        services,
    }
}

fn series(scenario: Scenario, question: &Question) -> Vec<Row> {
    let step = question.step.unwrap_or(10 * SECOND);
    let window = question.window.align(step);
    let n = window.length() / step.max(1);
    let mut rows = Vec::new();
    for (k, s) in shapes(scenario).iter().enumerate() {
        for i in 0..n {
            let start = window.from.plus(i * step);
            // A gap: for half a minute nobody watched.
            if (20..23).contains(&i) {
                continue;
            }
            let bad = if s.level > 0 { trouble(start, window) } else { 0.0 };
            let w = wobble(u64::try_from(k).unwrap_or(0), start.0 / step.max(1));
            let calm_p99 = f64_from(s.p99_ms) / s.ratio.max(1.0);
            let p99 = (calm_p99 + (f64_from(s.p99_ms) - calm_p99) * bad) * w;
            rows.push(Row::Red(Box::new(RedRow {
                service: Some(s.name.into()),
                operation: None,
                by: BTreeMap::new(),
                start: Some(start),
                state: State::Active,
                red: red(s.rate * w, s.errors * bad * w, u64_from_f64(p99), f64_from(step) / 1e9),
                baseline: None,
                slowest_trace: None,
                slowest_ns: None,
                error_trace: None,
                provisional: i + 1 == n,
            })));
        }
    }
    rows
}

fn operations(scenario: Scenario, question: &Question) -> Vec<Row> {
    let dimension = question.by.first().copied().unwrap_or(Dimension::Operation);
    let names: &[&str] = match dimension {
        Dimension::Instance => &["payments-0", "payments-1", "payments-2"],
        Dimension::Host => &["web-1", "web-2"],
        Dimension::Version => &["v41", "v42"],
        Dimension::Zone => &["eu-central-1a"],
        _ => &["POST /charge", "POST /refund", "GET /health"],
    };
    if matches!(scenario, Scenario::Empty | Scenario::Blind) {
        return Vec::new();
    }
    names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let bad = i == 0 && scenario != Scenario::Calm;
            let p99 = if bad { 2310 } else { 12 };
            let mut by = BTreeMap::new();
            if dimension != Dimension::Operation {
                by.insert(dimension.word().to_owned(), Some((*name).to_owned()));
            }
            Row::Red(Box::new(RedRow {
                service: Some("payments".into()),
                operation: (dimension == Dimension::Operation).then(|| (*name).to_owned()),
                by,
                start: None,
                state: State::Active,
                red: red(
                    if i == 2 { 0.05 } else { 18.0 },
                    if bad { 0.12 } else { 0.0 },
                    p99,
                    900.0,
                ),
                baseline: None,
                slowest_trace: Some(trace_id(1)),
                slowest_ns: Some(p99 * 2 * MILLI),
                error_trace: None,
                provisional: false,
            }))
        })
        .collect()
}

fn trace_id(n: u8) -> TraceId {
    TraceId([
        0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, n,
    ])
}

fn traces(scenario: Scenario, window: Window) -> Vec<Row> {
    if matches!(scenario, Scenario::Empty | Scenario::Blind) {
        return Vec::new();
    }
    (0..40_u8)
        .map(|n| {
            let failed = n % 3 == 0 && scenario != Scenario::Calm;
            let slow = if failed { 2_300 } else { 40 + u64::from(n) * 3 };
            Row::Trace(Box::new(TraceRow {
                trace_id: trace_id(n),
                start: window.to.minus(u64::from(n) * 3 * SECOND + 4 * SECOND),
                duration_ns: slow * MILLI,
                service: "gateway".into(),
                operation: if n % 2 == 0 { "POST /checkout" } else { "GET /products/{id}" }.into(),
                complete: n != 1,
                spans: 9 + u64::from(n % 4),
                errors: if failed { 3 } else { 0 },
                services: ["gateway", "checkout", "payments"].map(Into::into).to_vec(),
                status: Some(if failed { "503" } else { "200" }.into()),
            }))
        })
        .collect()
}

/// Service, operation, kind, depth; start, duration and own time in milliseconds; failed.
type PlannedSpan = (&'static str, &'static str, SpanKind, u32, u64, u64, u64, bool);

fn spans(scenario: Scenario, window: Window) -> Vec<Row> {
    if matches!(scenario, Scenario::Empty | Scenario::Blind) {
        return Vec::new();
    }
    let bad = scenario != Scenario::Calm;
    let t0 = window.to.minus(30 * SECOND);
    let plan: &[PlannedSpan] = &[
        ("gateway", "POST /checkout", SpanKind::Server, 0, 0, 2398, 3, true),
        ("gateway", "POST", SpanKind::Client, 1, 2, 2394, 2, true),
        ("checkout", "POST /orders", SpanKind::Server, 2, 3, 2392, 21, true),
        ("checkout", "shop.Catalog/Price", SpanKind::Client, 3, 5, 14, 1, false),
        ("catalog", "shop.Catalog/Price", SpanKind::Server, 4, 6, 12, 4, false),
        ("catalog", "GET price:42", SpanKind::Client, 5, 7, 2, 2, false),
        ("checkout", "POST", SpanKind::Client, 3, 22, 2350, 2, true),
        ("payments", "POST /charge", SpanKind::Server, 4, 23, 2348, 2310, true),
        ("payments", "acquire connection", SpanKind::Internal, 5, 24, 2310, 2310, true),
        ("payments", "INSERT payments", SpanKind::Client, 5, 2335, 31, 31, false),
        ("shipping", "orders process", SpanKind::Consumer, 2, 2390, 84, 84, false),
    ];
    plan.iter()
        .enumerate()
        .map(|(i, (service, operation, kind, depth, start, long, own, failed))| {
            let id = SpanId([0, 0, 0, 0, 0, 0, 1, u8::try_from(i).unwrap_or(0)]);
            Row::Span(Box::new(SpanRow {
                trace_id: trace_id(0),
                span_id: id,
                parent_id: None,
                orphan: *service == "shipping",
                depth: *depth,
                service: (*service).into(),
                instance: Some(format!("{service}-1")),
                operation: if scenario == Scenario::Hostile {
                    format!("{operation} {HOSTILE}")
                } else {
                    (*operation).into()
                },
                kind: *kind,
                start: t0.plus(start * MILLI),
                duration_ns: long * MILLI,
                self_ns: own * MILLI,
                status: if *failed && bad { SpanStatus::Error } else { SpanStatus::Unset },
                message: (*failed && bad).then(|| "pool exhausted: 2 of 2 connections busy".into()),
                attributes: [
                    ("http.request.method", "POST"),
                    ("http.response.status_code", "503"),
                    ("http.route", "/charge"),
                    ("server.address", "payments.shop.local"),
                ]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
                resource: [("service.version", "v42"), ("host.name", "web-1")]
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .into(),
                events: if *own > 2000 {
                    vec![SpanEvent {
                        time: t0.plus((start + 2000) * MILLI),
                        name: "exception".into(),
                        attributes: [(
                            "exception.message".to_owned(),
                            "timed out waiting for a connection".to_owned(),
                        )]
                        .into(),
                    }]
                } else {
                    Vec::new()
                },
                links: Vec::new(),
            }))
        })
        .collect()
}

const BODIES: [(&str, u8, &str); 8] = [
    ("gateway", 9, "POST /checkout 200 43ms"),
    ("payments", 17, "pool exhausted: 2 of 2 connections busy, waited 2000ms"),
    ("checkout", 13, "retrying payments: attempt 2 of 3"),
    ("catalog", 9, "GET /products/42 200 3ms cache=hit"),
    ("cache", 5, "evicted 12 keys in 0.4ms"),
    ("checkout", 17, "order 81231 failed: payments answered 503"),
    ("shipping", 9, "label printed for order 81230"),
    ("gateway", 13, "upstream checkout slow: 2.35s"),
];

/// A log record.
#[must_use]
pub fn log_row(n: u64) -> LogRow {
    log_at(n, NOW, Scenario::Incident)
}

fn log_at(n: u64, at: Time, scenario: Scenario) -> LogRow {
    let i = usize::try_from(n % 8).unwrap_or(0);
    let (service, severity, body) = BODIES.get(i).copied().unwrap_or(("gateway", 9, ""));
    let calm = scenario == Scenario::Calm && severity >= 13;
    LogRow {
        time: at,
        service: service.into(),
        instance: Some(format!("{service}-1")),
        host: Some("web-1".into()),
        severity: if calm { 9 } else { severity },
        level: if severity >= 17 {
            "error"
        } else if severity >= 13 {
            "warn"
        } else {
            "info"
        }
        .into(),
        body: match scenario {
            Scenario::Hostile => format!("{body} {HOSTILE} {}", "x".repeat(3_000)),
            _ if calm => "ok".into(),
            _ => body.into(),
        },
        trace_id: (n.is_multiple_of(2)).then(|| trace_id(u8::try_from(n % 40).unwrap_or(0))),
        span_id: None,
        attributes: [("thread.name".to_owned(), "worker-3".to_owned())].into(),
    }
}

fn logs(scenario: Scenario, window: Window) -> Vec<Row> {
    if matches!(scenario, Scenario::Empty | Scenario::Blind) {
        return Vec::new();
    }
    (0..200)
        .map(|n| Row::Log(Box::new(log_at(n, window.to.minus((200 - n) * 713 * MILLI), scenario))))
        .collect()
}

fn topology(scenario: Scenario, window: Window) -> Vec<Row> {
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
            baseline: None,
            level,
        })));
    }
    rows
}

fn hosts(scenario: Scenario, window: Window) -> Vec<Row> {
    if scenario == Scenario::Blind {
        return Vec::new();
    }
    ["web-1", "web-2"]
        .iter()
        .enumerate()
        .map(|(i, host)| {
            let busy = i == 0;
            Row::Host(Box::new(HostRow {
                host: (*host).into(),
                time: window.to.minus(if busy { 0 } else { 34 * SECOND }),
                state: if busy { State::Active } else { State::Stale },
                cpu: Some(Cpu {
                    cores: 4,
                    busy: if busy { 0.86 } else { 0.12 },
                    steal: 0.01,
                    iowait: 0.02,
                    run_queue: 5,
                    load1: 3.4,
                }),
                memory: Some(Memory {
                    total_bytes: 16 << 30,
                    available_bytes: 9 << 30,
                    swap_total_bytes: 0,
                    swap_used_bytes: 0,
                    oom_kills: Some(0),
                }),
                pressure: [("cpu", 0.12), ("memory", 0.0), ("io", 0.01)]
                    .map(|(k, some)| (k.to_owned(), Pressure { some, full: None }))
                    .into(),
                disks: vec![Disk {
                    device: "vda".into(),
                    read_bytes_s: 120e3,
                    write_bytes_s: 4.2e6,
                    busy: 0.07,
                    await_ns: Some(420_000),
                }],
                filesystems: vec![Filesystem {
                    mount: "/".into(),
                    total_bytes: 200 << 30,
                    available_bytes: 22 << 30,
                    inodes: 13_000_000,
                    inodes_free: 11_900_000,
                }],
                network: busy.then_some(Network {
                    rx_bytes_s: 3.1e6,
                    tx_bytes_s: 5.2e6,
                    drops_s: 0.0,
                    retransmits_s: 1.4,
                    listen_overflows_s: 0.0,
                    conntrack: Some((1_204, 262_144)),
                    ephemeral_ports: Some((312, 28_232)),
                }),
                fds: Some((4_200, 1_048_576)),
                clock_synced: busy.then_some(true),
                cgroup: BTreeMap::new(),
                processes: ["gateway", "payments", "checkout"]
                    .iter()
                    .enumerate()
                    .map(|(n, s)| ProcessRow {
                        service: (*s).into(),
                        instance: None,
                        pid: 4_200 + u32::try_from(n).unwrap_or(0),
                        cpu: (n != 2).then_some(0.31),
                        rss_bytes: Some(83 << 20),
                        fds: Some((64, 1_048_576)),
                        threads: Some(9),
                        blind: (n == 2).then(|| "another user's process".into()),
                    })
                    .collect(),
                blind: if busy {
                    Vec::new()
                } else {
                    vec!["network: /proc/net is not readable in this container".into()]
                },
            }))
        })
        .collect()
}

fn agent(scenario: Scenario, now: Time) -> AgentRow {
    let sense = |name: &str, state, why: &str, remedy: Option<&str>| Sense {
        name: name.into(),
        state,
        why: why.into(),
        remedy: remedy.map(Into::into),
    };
    AgentRow {
        agent: "9f86d081884c7d659a2feaa0c55ad015".into(),
        host: "web-1".into(),
        scope: "host".into(),
        state: State::Active,
        since: now.minus(3_600 * SECOND),
        last_seen: now,
        pid: 4_117,
        build: "coral-agent 0.1.0".into(),
        senses: vec![
            sense("otlp/grpc", SenseState::On, "127.0.0.1:4317", None),
            sense("otlp/http", SenseState::On, "127.0.0.1:4318", None),
            sense("host", SenseState::On, "cpu, memory, pressure, disks, network", None),
            sense(
                "process",
                SenseState::Partial,
                "3 of 5 services: the others belong to another user",
                Some("run the agent as root, or in their user"),
            ),
            sense("ebpf", SenseState::Off, "not in this build", None),
        ],
        spool_bytes: 3 << 20,
        spool_capacity_bytes: 512 << 20,
        lag_ns: 40 * MILLI,
        clock_offset_ns: Some(-120_000),
        rss_bytes: Some(31 << 20),
        cpu: Some(0.013),
        counters: [
            ("spans_received", 1_204_331),
            ("logs_received", 88_210),
            ("spans_refused", 0),
            ("dropped_metrics", if scenario == Scenario::Hostile { 42 } else { 0 }),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into(),
    }
}

fn inflight(scenario: Scenario, window: Window) -> Vec<Row> {
    shapes(scenario)
        .iter()
        .filter(|s| s.inflight > 0)
        .map(|s| {
            Row::Inflight(Box::new(InflightRow {
                service: s.name.into(),
                operation: Some("POST /charge".into()),
                inflight: s.inflight,
                oldest_ns: Some(s.oldest_ms * MILLI),
                oldest_trace: Some(trace_id(3)),
                exact: s.level == 0,
                at: window.to,
            }))
        })
        .collect()
}

/// The answer of a scenario to a question, its end record last.
#[must_use]
pub fn answer(scenario: Scenario, question: &Question) -> Vec<Row> {
    let window = question.window;
    let mut rows = match question.view {
        View::Digest => vec![Row::Digest(Box::new(digest(scenario, window)))],
        View::Services => {
            service_rows(scenario, window).into_iter().map(|s| Row::Service(Box::new(s))).collect()
        }
        View::Red if question.step.is_some() => series(scenario, question),
        View::Red => operations(scenario, question),
        View::Traces => traces(scenario, window),
        View::Trace => spans(scenario, window),
        View::Logs => logs(scenario, window),
        View::Events => {
            events(scenario, window).into_iter().map(|e| Row::Event(Box::new(e))).collect()
        }
        View::Topology => topology(scenario, window),
        View::Hosts => hosts(scenario, window),
        View::Inflight => inflight(scenario, window),
        View::Agents if scenario == Scenario::Blind => Vec::new(),
        View::Agents => vec![Row::Agent(Box::new(agent(scenario, window.to)))],
        View::Metrics => Vec::new(),
    };
    let blind = if scenario == Scenario::Blind {
        vec!["no agent is connected: nothing can be seen; `coral up` starts one here".to_owned()]
    } else {
        Vec::new()
    };
    let end = End {
        rows: coral_model::num::u64_sat(rows.len()),
        from: window.from,
        to: window.to,
        newest: (!matches!(scenario, Scenario::Empty | Scenario::Blind)).then_some(window.to),
        blind,
        ..end()
    };
    rows.push(Row::End(Box::new(end)));
    rows
}

/// The colony about itself in a scenario.
#[must_use]
pub fn status(scenario: Scenario, now: Time) -> StatusRow {
    StatusRow {
        colony: "shop-7f3a".into(),
        build: "coral-daemon 0.1.0".into(),
        pid: 4_100,
        since: now.minus(3_600 * SECOND),
        stays: false,
        socket: "/run/user/1000/coral/shop-7f3a.sock".into(),
        data_dir: "/home/ada/.local/share/coral/shop-7f3a".into(),
        data_bytes: 120 << 20,
        data_capacity_bytes: 2 << 30,
        log_file: "/home/ada/.local/state/coral/shop-7f3a.log".into(),
        services: 9,
        agents: if scenario == Scenario::Blind { Vec::new() } else { vec![agent(scenario, now)] },
        counters: BTreeMap::new(),
        blind: match scenario {
            Scenario::Blind => vec![
                "no agent is connected: nothing can be seen; `coral up` starts one here".into(),
            ],
            Scenario::Empty | Scenario::Calm => vec!["processes: eBPF is not in this build".into()],
            _ => Vec::new(),
        },
    }
}

impl Feed for Fake {
    fn connect(&self, _progress: Progress) -> Pending<Greeting> {
        Box::pin(async { Ok(Greeting { colony: "shop-7f3a".into() }) })
    }

    fn ask(&self, question: Question, rows: mpsc::Sender<Vec<Row>>) -> Pending<()> {
        let (scenario, per_second) = (self.scenario, self.logs_per_second);
        Box::pin(async move {
            let mut n = 0;
            let length = question.window.length();
            loop {
                let now = Time::now();
                let mut question = question.clone();
                match question.mode {
                    Mode::Once => {
                        let _ = rows.send(answer(scenario, &question)).await;
                        return Ok(());
                    }
                    Mode::Watch => {
                        question.window = Window::before(now, length);
                        if rows.send(answer(scenario, &question)).await.is_err() {
                            return Ok(());
                        }
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    }
                    Mode::Tail => {
                        let batch: Vec<Row> = (0..per_second / 50)
                            .map(|i| Row::Log(Box::new(log_at(n + i, now, scenario))))
                            .collect();
                        n += per_second / 50;
                        if !batch.is_empty() && rows.send(batch).await.is_err() {
                            return Ok(());
                        }
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                }
            }
        })
    }

    fn status(&self) -> Pending<StatusRow> {
        let scenario = self.scenario;
        Box::pin(async move { Ok(status(scenario, Time::now())) })
    }

    fn complete(&self, key: String, prefix: String) -> Pending<Vec<String>> {
        Box::pin(async move {
            let all: &[&str] = match key.as_str() {
                "service" => &["payments", "checkout", "gateway", "catalog", "cache", "shipping"],
                _ => &[],
            };
            Ok(all.iter().filter(|v| v.starts_with(&prefix)).map(|v| (*v).to_owned()).collect())
        })
    }

    fn note(&self, _text: String, _service: Option<String>, _at: Time) -> Pending<()> {
        Box::pin(async { Ok(()) })
    }
}

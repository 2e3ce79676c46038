//! Requests: RED over time and by operation, traces and their spans.

use std::collections::BTreeMap;

use coral_model::id::{SpanId, TraceId};
use coral_model::num::{f64_from, u64_from_f64};
use coral_model::question::{Dimension, Question};
use coral_model::time::{MILLI, SECOND, Window};
use coral_model::view::*;

use super::Scenario;
use super::shop::{HOSTILE, red, shapes, trouble, wobble};

pub(super) fn series(scenario: Scenario, question: &Question) -> Vec<Row> {
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

pub(super) fn operations(scenario: Scenario, question: &Question) -> Vec<Row> {
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

pub(super) fn trace_id(n: u8) -> TraceId {
    TraceId([
        0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, n,
    ])
}

pub(super) fn traces(scenario: Scenario, window: Window) -> Vec<Row> {
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
                score: None,
                unusual: Vec::new(),
                sampled_every: None,
            }))
        })
        .collect()
}

/// Service, operation, kind, depth; start, duration and own time in milliseconds; failed.
pub(super) type PlannedSpan = (&'static str, &'static str, SpanKind, u32, u64, u64, u64, bool);

pub(super) fn spans(scenario: Scenario, window: Window) -> Vec<Row> {
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
                critical_ns: own * MILLI,
                shift_ns: 0,
                gaps: Vec::new(),
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

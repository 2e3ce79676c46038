//! What the shop logs.

use coral_model::time::{MILLI, Time, Window};
use coral_model::view::*;

use super::requests::trace_id;
use super::shop::HOSTILE;
use super::{NOW, Scenario};

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

pub(super) fn log_at(n: u64, at: Time, scenario: Scenario) -> LogRow {
    let i = usize::try_from(n % 8).unwrap_or(0);
    let (service, severity, body) = BODIES.get(i).copied().unwrap_or(("gateway", 9, ""));
    let calm = scenario == Scenario::Calm && severity >= 13;
    LogRow {
        id: coral_model::RecordId { at, mark: coral_model::num::u32_sat(n) },
        offset: None,
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

pub(super) fn logs(scenario: Scenario, window: Window) -> Vec<Row> {
    if matches!(scenario, Scenario::Empty | Scenario::Blind) {
        return Vec::new();
    }
    (0..200)
        .map(|n| Row::Log(Box::new(log_at(n, window.to.minus((200 - n) * 713 * MILLI), scenario))))
        .collect()
}

/// What one instance wrote around the middle of the window.
pub(super) fn beside(scenario: Scenario, window: Window) -> Vec<Row> {
    if matches!(scenario, Scenario::Empty | Scenario::Blind) {
        return Vec::new();
    }
    (0..41_u64)
        .map(|n| {
            let mut log =
                log_at(1 + 8 * (n % 3), window.to.minus((90 - n) * 913 * MILLI), scenario);
            log.offset = Some(i64::try_from(n).unwrap_or(0) - 30);
            if n % 3 != 0 {
                log.body = log.body.replace("waited 2000ms", "waited 40ms");
                log.severity = 9;
            }
            Row::Log(Box::new(log))
        })
        .collect()
}

pub(super) fn patterns(scenario: Scenario, window: Window) -> Vec<Row> {
    if matches!(scenario, Scenario::Empty | Scenario::Blind) {
        return Vec::new();
    }
    let hostile = scenario == Scenario::Hostile;
    let all = [
        ("pool exhausted: <num> of <num> connections busy, waited <num>ms", 1_204, "error", 1),
        ("POST /checkout <num> <num>ms", 18_211, "info", 1),
        ("order <num> failed: payments answered <num>", 981, "error", 1),
        ("retrying payments: attempt <num> of <num>", 2_377, "warn", 3),
        ("<uuid>", 12, "", 1),
    ];
    (0_u64..)
        .zip(all)
        .map(|(n, (pattern, count, level, services))| {
            let pattern = if hostile { format!("{pattern} {HOSTILE}") } else { pattern.to_owned() };
            Row::Pattern(Box::new(PatternRow {
                example: pattern.replace("<num>", "2"),
                pattern,
                count,
                before: None,
                share: 0.1,
                sampled_every: if hostile { 20 } else { 1 },
                level: level.to_owned(),
                services: ["payments", "gateway", "checkout"]
                    .into_iter()
                    .take(services)
                    .map(str::to_owned)
                    .collect(),
                first_seen: window.to.minus((300 - n * 40) * 1_000 * MILLI),
                last_seen: window.to.minus(n * 1_700 * MILLI),
                trace_id: (n == 0).then(|| trace_id(0)),
            }))
        })
        .collect()
}

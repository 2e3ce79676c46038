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

//! The trace of every picture: a path, a gap, a clock that was off, a link, what was logged.

use coral_model::id::SpanId;
use coral_model::time::{MILLI, Window};
use coral_model::view::*;

use super::Scenario;
use super::logs::log_at;
use super::requests::{spans, trace_id};

/// Spans that decided how long it took, and milliseconds of their own on that path.
const PATH: [(usize, u64); 5] = [(2, 19), (7, 7), (8, 2_310), (9, 31), (0, 3)];

pub(super) fn trace(scenario: Scenario, window: Window) -> Vec<Row> {
    let mut rows = spans(scenario, window);
    let mut all: Vec<&mut SpanRow> = rows
        .iter_mut()
        .filter_map(|row| match row {
            Row::Span(span) => Some(&mut **span),
            _ => None,
        })
        .collect();
    let Some(start) = all.iter().map(|span| span.start).min() else { return rows };
    let mut critical = Vec::new();
    for (i, span) in all.iter_mut().enumerate() {
        let own = PATH.iter().find(|(at, _)| *at == i).map_or(0, |(_, ms)| ms * MILLI);
        span.critical_ns = own;
        if own > 0 {
            critical.push(CriticalSpan {
                span_id: span.span_id,
                service: span.service.clone(),
                operation: span.operation.clone(),
                critical_ns: own,
                share: coral_model::num::f64_from(own) / 2.474e9,
            });
        }
        if span.service == "payments" {
            span.shift_ns = -12_400_000;
        }
        if span.service == "shipping" {
            let span_id = SpanId([9; 8]);
            span.links = vec![SpanLink { trace_id: trace_id(7), span_id }];
        }
        if i == 2 {
            let gap = Gap { start: start.plus(19 * MILLI), duration_ns: 3 * MILLI };
            let long = Gap { start: start.plus(2_372 * MILLI), duration_ns: 20 * MILLI };
            span.gaps = vec![gap, long];
        }
        if i == 7 {
            span.gaps = vec![Gap { start: start.plus(1_100 * MILLI), duration_ns: 900 * MILLI }];
        }
    }
    critical.sort_by_key(|span| std::cmp::Reverse(span.critical_ns));
    let (count, errors) = (all.len(), all.iter().filter(|s| s.status == SpanStatus::Error).count());
    let head = TraceHead {
        trace_id: trace_id(0),
        start,
        duration_ns: 2_474 * MILLI,
        spans: coral_model::num::u64_sat(count),
        errors: coral_model::num::u64_sat(errors),
        orphans: 1,
        services: ["gateway", "checkout", "catalog", "payments", "shipping"].map(Into::into).into(),
        critical,
        clocks: vec![ClockShift {
            host: "web-2".into(),
            shift_ns: -12_400_000,
            within_ns: 600_000,
            calls: 3,
            spans: 3,
            contradictory: false,
        }],
        logs: 3,
    };
    rows.insert(0, Row::TraceHead(Box::new(head)));
    for (n, ms, span) in [(1, 2_034, Some(8)), (2, 2_380, Some(2)), (6, 2_470, None)] {
        let mut log = log_at(n, start.plus(ms * MILLI), scenario);
        log.trace_id = Some(trace_id(0));
        log.span_id = span.map(|i| SpanId([0, 0, 0, 0, 0, 0, 1, i]));
        rows.push(Row::Log(Box::new(log)));
    }
    rows
}

//! In which order the rows of a segment lie, and the index of traces, as SQL.

use super::schema::{Signal, Slice};
use super::segment::Form;

/// The column that says when.
#[must_use]
pub const fn time_column(signal: Signal) -> &'static str {
    match signal {
        Signal::Resources => "first_ns",
        Signal::Spans => "start_ns",
        Signal::Logs | Signal::Metrics | Signal::Events => "time_ns",
        Signal::Red | Signal::Edges => "bucket_ns",
        Signal::HalfEdges => "end_ns",
        Signal::Inflight | Signal::Hosts => "at_ns",
    }
}

/// In which order a segment's rows lie: what is asked for together lies together, and min-max
/// statistics of row groups skip the rest.
#[must_use]
pub fn order(signal: Signal, form: Form) -> &'static str {
    match (signal, form) {
        (_, Form::Traces) => "key, first_ns",
        (_, Form::Words) => "first_ns",
        (_, Form::SeriesMinute) => "first_ns // 3600000000000, service, operation",
        (_, Form::SeriesHour) => "service, operation, resource",
        (Signal::Spans, _) => "start_ns // 60000000000, service, start_ns",
        (Signal::Logs, _) => "time_ns // 60000000000, service, time_ns",
        // Points are asked for by name, over longer times.
        (Signal::Metrics, _) => "time_ns // 600000000000, metric, service, time_ns",
        (Signal::Red, _) => "bucket_ns // 60000000000, service, bucket_ns",
        (Signal::Edges, _) => "bucket_ns // 60000000000, from_name, bucket_ns",
        (Signal::Inflight, _) => "at_ns // 60000000000, service, at_ns",
        (Signal::Hosts, _) => "at_ns",
        _ => "1",
    }
}

/// The rows of a slice as they were received, or their traces; without their order.
#[must_use]
pub fn select(signal: Signal, form: Form, slice: Slice) -> String {
    let table = slice.table(signal);
    match form {
        Form::Traces => traces(&table),
        _ => format!("SELECT * FROM {table}"),
    }
}

/// The key of a trace in the index: the first 32 bits of its id; of ids of 64 bits, which are padded
/// with zeros, of those.
pub const TRACE_KEY: &str =
    "(CASE WHEN trace_hi = 0 THEN trace_lo >> 32 ELSE trace_hi >> 32 END)::UINTEGER";

fn traces(table: &str) -> String {
    format!(
        "SELECT {TRACE_KEY} AS key, min(start_ns) AS first_ns, max(start_ns) AS last_ns, \
         max(received_ns) AS received_ns FROM {table} GROUP BY 1"
    )
}

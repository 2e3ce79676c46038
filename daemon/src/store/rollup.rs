//! How a slice becomes the rows of its segments, as SQL.
//!
//! Buckets of a minute and of an hour are made of the slice's own rows and nothing else: several
//! slices may tell of one bucket (late data), readers sum. Histograms are merged exactly: counts of
//! the same index are added, which is the histogram of the union.

use super::schema::{Signal, Slice};
use super::segment::Form;

/// Names of the columns that are summed, of those that tell series apart, and of the pairs of lists
/// that are histograms.
struct Shape {
    sums: &'static [&'static str],
    keys: &'static [&'static str],
    histograms: &'static [(&'static str, &'static str)],
}

const RED: Shape = Shape {
    sums: &["requests", "errors", "no_answer", "sum_ns"],
    keys: &["resource", "service", "operation", "kind", "code", "protocol", "sampled"],
    histograms: &[("hist_index", "hist_count")],
};

const EDGES: Shape = Shape {
    sums: &["requests", "errors", "no_answer", "sum_ns", "callee_sum_ns"],
    keys: &["from_name", "from_kind", "to_name", "to_kind", "protocol", "ends", "sampled"],
    histograms: &[("hist_index", "hist_count"), ("callee_hist_index", "callee_hist_count")],
};

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

/// One share of a table's series (of `shares` about equal ones) in buckets of a form's length.
#[must_use]
pub fn buckets(signal: Signal, form: Form, table: &str, share: u64, shares: u64) -> String {
    let shape = if signal == Signal::Edges { &EDGES } else { &RED };
    let width = form.bucket();
    let keys = shape.keys.join(", ");
    // A sum beyond 64 bits would fail the whole slice.
    let sums: String = shape
        .sums
        .iter()
        .map(|sum| format!(", least(sum({sum}), 18446744073709551615)::UBIGINT AS {sum}"))
        .collect();
    let lists: String = shape
        .histograms
        .iter()
        .map(|(i, n)| format!(", flatten(list({i})) AS {i}, flatten(list({n})) AS {n}"))
        .collect();
    let slowest = match signal {
        Signal::Red => {
            ", max({'ns': slow_ns, 'hi': slow_hi, 'lo': slow_lo}) FILTER (slow_ns IS NOT NULL) AS slowest, \
             max({'hi': error_hi, 'lo': error_lo}) FILTER (error_hi IS NOT NULL) AS failed"
        }
        _ => "",
    };
    let merged: String = shape
        .histograms
        .iter()
        .map(|(i, n)| {
            format!(
                ", {i}_merged AS (SELECT id, list(i ORDER BY i) AS {i}, list(n ORDER BY i) AS {n} FROM \
                 (SELECT id, i, least(sum(n), 18446744073709551615)::UBIGINT AS n FROM \
                 (SELECT id, unnest({i}) AS i, unnest({n}) AS n FROM grouped) GROUP BY id, i) GROUP BY id)"
            )
        })
        .collect();
    let joined: String = shape
        .histograms
        .iter()
        .map(|(i, _)| format!(" LEFT JOIN {i}_merged ON {i}_merged.id = grouped.id"))
        .collect();
    let columns: Vec<String> =
        signal.column_names().iter().map(|name| column(shape, name)).collect();
    format!(
        "WITH grouped AS MATERIALIZED (SELECT row_number() OVER () AS id, * FROM (\
         SELECT bucket_ns // {width} * {width} AS bucket, max(received_ns) AS received_ns, {keys}\
         {sums}{lists}{slowest} FROM {table} WHERE hash({keys}) % {shares} = {share} \
         GROUP BY bucket, {keys})){merged} \
         SELECT {} FROM grouped{joined}",
        columns.join(", ")
    )
}

fn column(shape: &Shape, name: &str) -> String {
    let list = |which: fn(&(&'static str, &'static str)) -> &'static str| {
        shape.histograms.iter().find(|pair| which(pair) == name)
    };
    if let Some((i, _)) = list(|pair| pair.0) {
        return format!("coalesce({i}_merged.{name}, []) AS {name}");
    }
    if let Some((i, _)) = list(|pair| pair.1) {
        return format!("coalesce({i}_merged.{name}, []) AS {name}");
    }
    match name {
        "bucket_ns" => "grouped.bucket AS bucket_ns".to_owned(),
        "slow_ns" | "slow_hi" | "slow_lo" => {
            let field = name.strip_prefix("slow_").unwrap_or(name);
            format!("grouped.slowest.{field} AS {name}")
        }
        "error_hi" | "error_lo" => {
            let field = name.strip_prefix("error_").unwrap_or(name);
            format!("grouped.failed.{field} AS {name}")
        }
        name => format!("grouped.{name}"),
    }
}

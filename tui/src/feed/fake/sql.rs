//! Answers to statements.

use coral_model::view::{Row, SqlColumn, SqlColumns, SqlRow};
use serde_json::json;

use super::Scenario;
use super::requests::trace_id;
use super::shop::{HOSTILE, shapes};

/// The statement of every picture.
pub const STATEMENT: &str = "-- who waits, and for how long
SELECT service, count(*) AS requests,
       quantile_cont(duration_ns, 0.99) / 1e6 AS p99_ms,
       trace_hex(max(trace_hi), max(trace_lo)) AS trace
FROM spans
WHERE start_ns >= window_from() AND operation <> 'GET /health'
GROUP BY ALL ORDER BY 3 DESC LIMIT 20";

fn columns(names: &[(&str, &str)]) -> Row {
    let columns = names
        .iter()
        .map(|(name, kind)| SqlColumn { name: (*name).to_owned(), kind: (*kind).to_owned() });
    Row::SqlColumns(Box::new(SqlColumns { columns: columns.collect() }))
}

fn row(values: Vec<(&str, serde_json::Value)>) -> Row {
    let values = values.into_iter().map(|(name, value)| (name.to_owned(), value));
    Row::Sql(Box::new(SqlRow { values: values.collect() }))
}

pub(super) fn answer(scenario: Scenario, statement: &str) -> Vec<Row> {
    if statement == crate::app::columns_question() {
        let names = ["service", "start_ns", "duration_ns", "operation", "error"];
        let mut rows = vec![columns(&[("view", "VARCHAR"), ("name", "VARCHAR")])];
        let pair = |name: &str| row(vec![("view", json!("spans")), ("name", json!(name))]);
        rows.extend(names.into_iter().map(pair));
        return rows;
    }
    let text = |name: &str| match scenario {
        Scenario::Hostile => format!("{name} {HOSTILE}"),
        _ => name.to_owned(),
    };
    let requests = text("requests");
    let mut rows = vec![columns(&[
        ("service", "VARCHAR"),
        (&requests, "BIGINT"),
        ("p99_ms", "DOUBLE"),
        ("trace", "VARCHAR"),
    ])];
    for (n, shape) in (0_u8..).zip(shapes(scenario)) {
        let p99 = if n == 3 { serde_json::Value::Null } else { json!(shape.p99_ms) };
        rows.push(row(vec![
            ("service", json!(text(shape.name))),
            (&requests, json!(coral_model::num::u64_from_f64(shape.rate * 900.0))),
            ("p99_ms", p99),
            ("trace", json!(trace_id(n).to_string())),
        ]));
    }
    rows
}

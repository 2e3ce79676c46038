//! `sql`: one SELECT of a person's own over the public views.
//!
//! Read-only by construction, in layers that do not rely on each other: DuckDB's own parser must
//! see exactly one SELECT; [`check`] walks all of its tree and lets through only the public views,
//! the statement's own CTEs and functions on a reviewed list ([`functions`]); it then runs in the READ
//! ONLY transaction every reading has, which is always rolled back, on an instance without external access whose settings
//! are locked, within DuckDB's memory limit, the time every question has, and a cap of rows and bytes.
//! What a view is made of is the store's business: the tree that is checked is what the person wrote.

mod caret;
mod check;
mod functions;
mod value;

use coral_model::time::Window;
use coral_model::view::{Row, SqlColumn, SqlColumns, SqlRow};
use duckdb::Connection;
use duckdb::arrow::array::{Array, StructArray};

use super::QueryError;
use super::answer::Found;
use super::plan::Plan;

/// Longest statement, in bytes.
const MAX_TEXT: usize = 64 << 10;
/// Bytes of values an answer may have; more is cut, and said so.
const MAX_BYTES: usize = 64 << 20;

/// Answers the question.
pub fn answer(conn: &Connection, plan: &Plan) -> Result<Found, QueryError> {
    let text = plan.question.subject.as_deref().unwrap_or_default();
    let text = text.trim().trim_end_matches(';').trim_end();
    if text.is_empty() {
        return Err(QueryError::Question(format!(
            "which statement? One SELECT over the views {}, like: SELECT service, count(*) FROM spans GROUP BY ALL",
            check::VIEWS.join(" ")
        )));
    }
    if text.len() > MAX_TEXT {
        return Err(QueryError::Question(format!(
            "the statement has {} bytes; at most {MAX_TEXT} are read",
            text.len()
        )));
    }
    check::check(conn, text)?;
    let failed = |error: duckdb::Error| refused(&error);
    conn.execute_batch(&macros(plan.window)).map_err(failed)?;
    run(conn, text, plan.limit())
}

/// What a statement may call beyond DuckDB's own functions. Temporary: they end with the reading.
fn macros(window: Window) -> String {
    format!(
        "CREATE OR REPLACE TEMP MACRO time_of(ns) AS make_timestamp_ns(ns::BIGINT)::TIMESTAMP AT TIME ZONE 'UTC';\
         CREATE OR REPLACE TEMP MACRO trace_hex(hi, lo) AS format('{{:016x}}{{:016x}}', hi, lo);\
         CREATE OR REPLACE TEMP MACRO span_hex(id) AS format('{{:016x}}', nullif(id, 0));\
         CREATE OR REPLACE TEMP MACRO window_from() AS {}::BIGINT;\
         CREATE OR REPLACE TEMP MACRO window_to() AS {}::BIGINT;",
        window.from.as_i64(),
        window.to.as_i64()
    )
}

fn run(conn: &Connection, text: &str, limit: usize) -> Result<Found, QueryError> {
    let failed = |error: duckdb::Error| refused(&error);
    let mut statement = conn.prepare(text).map_err(failed)?;
    // First: another statement on this connection would end the stream.
    let kinds = types(conn, text)?;
    // Streamed, so that a cap on rows is a cap on work. The iterator this returns would panic where
    // a later chunk fails; stepping by hand gives the error.
    drop(statement.stream_arrow([]).map_err(failed)?);
    let schema = statement.schema();
    let names = distinct(schema.fields().iter().map(|f| f.name().as_str()));
    let columns = names.iter().enumerate().map(|(at, name)| SqlColumn {
        name: name.clone(),
        kind: kinds.get(at).cloned().unwrap_or_default(),
    });
    let mut rows = vec![Row::SqlColumns(Box::new(SqlColumns { columns: columns.collect() }))];
    let (mut bytes, mut truncated) = (0, false);
    'all: while let Some(chunk) = statement.step().map_err(failed)? {
        for row in 0..chunk.len() {
            if rows.len() > limit || bytes > MAX_BYTES {
                truncated = true;
                break 'all;
            }
            rows.push(Row::Sql(Box::new(one(&names, &chunk, row, &mut bytes))));
        }
    }
    Ok(Found { rows, truncated, ..Found::default() })
}

fn one(names: &[String], chunk: &StructArray, row: usize, bytes: &mut usize) -> SqlRow {
    let values = names.iter().zip(chunk.columns()).map(|(name, column)| {
        let value = value::json(column.as_ref(), row, 0);
        *bytes += name.len() + value::weight(&value);
        (name.clone(), value)
    });
    SqlRow { values: values.collect() }
}

/// Names that tell columns apart: the second `n` is `n_2`.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for name in names {
        let mut free = name.to_owned();
        let mut n = 2;
        while out.contains(&free) {
            free = format!("{name}_{n}");
            n += 1;
        }
        out.push(free);
    }
    out
}

/// DuckDB's names of the columns' types.
fn types(conn: &Connection, text: &str) -> Result<Vec<String>, QueryError> {
    let mut statement = conn
        .prepare(&format!("DESCRIBE SELECT * FROM (\n{text}\n)"))
        .map_err(|error| refused(&error))?;
    let found = statement.query_map([], |row| row.get::<_, String>(1));
    let found = found.map_err(|error| refused(&error))?;
    Ok(found.filter_map(Result::ok).collect())
}

/// A failure of the statement, in DuckDB's words: it shows the place itself.
fn refused(error: &duckdb::Error) -> QueryError {
    let text = error.to_string();
    if let Some(bound) = QueryError::bound(&text) {
        return bound;
    }
    if text.contains("INTERRUPT") {
        return QueryError::Store("the statement was interrupted".to_owned());
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let clean: Vec<String> =
        lines.map(|line| coral_model::text::clean(line).trim_end().to_owned()).collect();
    QueryError::Question(clean.join("\n"))
}

#[cfg(test)]
mod tests;

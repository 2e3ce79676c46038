//! `logs`: the newest records that pass the filter, oldest of them first.

use coral_model::filter::{Key, Level};
use coral_model::num::i64_sat;
use coral_model::question::View;
use coral_model::time::Time;
use coral_model::view::{LogRow, Row};

use super::QueryError;
use super::answer::Found;
use super::fetch::{self, Sql};
use super::plan::Plan;
use super::sql::{Field, Layout};
use crate::store::Reading;
use crate::store::schema::Signal;

/// How the filter sees log records.
pub const LAYOUT: Layout =
    Layout { view: View::Logs, column, texts: &["t.body"], attributes: true, resource: true };

fn column(key: &Key) -> Option<Field> {
    Some(match key {
        Key::Service => Field::Text("t.service"),
        Key::Level => Field::Severity("t.severity"),
        Key::Error => Field::Bool("(t.severity >= 17)"),
        Key::Body => Field::Text("t.body"),
        Key::Trace => Field::Text(
            "(CASE WHEN t.trace_hi <> 0 OR t.trace_lo <> 0 \
             THEN format('{:016x}{:016x}', t.trace_hi, t.trace_lo) END)",
        ),
        Key::Span => {
            Field::Text("(CASE WHEN t.span_id <> 0 THEN format('{:016x}', t.span_id) END)")
        }
        Key::Host => Field::Text("r.host"),
        Key::Instance => Field::Text("r.instance"),
        Key::Version => Field::Text("r.version"),
        Key::Zone => Field::Text("r.zone"),
        Key::Namespace => Field::Text("r.namespace"),
        _ => return None,
    })
}

/// The start of every statement, over the records of a relation.
fn select(conn: &Reading<'_>, logs: &str) -> Sql {
    Sql::new(format!(
        "SELECT t.time_ns, t.service, r.instance, r.host, t.severity, t.body, \
         t.trace_hi, t.trace_lo, t.span_id, t.attributes, t.received_ns \
         FROM {logs} t LEFT JOIN {} r ON r.id = t.resource WHERE true",
        conn.resources()
    ))
}

/// Answers the question.
pub fn answer(conn: &Reading<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let limit = plan.limit();
    let sql = select(conn, &conn.relation(Signal::Logs, plan.window.from, plan.window.to))
        .within("t.time_ns", plan.window.from, plan.window.to)
        .then(" AND ")
        .part(LAYOUT.condition(&plan.filter)?)
        .then(" ORDER BY t.time_ns DESC LIMIT ")
        .bind(i64_sat(limit + 1));
    let mut rows = fetch_rows(conn, &sql)?;
    let truncated = rows.len() > limit;
    rows.truncate(limit);
    rows.reverse();
    let newest = rows.last().map(|(_, row)| row.time);
    let rows = rows.into_iter().map(|(_, row)| Row::Log(Box::new(row))).collect();
    Ok(Found { rows, truncated, newest, ..Found::default() })
}

/// Records committed in `(after, upto]`.
pub fn committed(
    conn: &Reading<'_>,
    plan: &Plan,
    after: Time,
    upto: Time,
) -> Result<Vec<Row>, QueryError> {
    let sql = select(conn, &conn.since(Signal::Logs, after))
        .committed(after, upto)
        .then(" AND ")
        .part(LAYOUT.condition(&plan.filter)?)
        .then(" ORDER BY t.received_ns, t.time_ns LIMIT ")
        .bind(i64_sat(super::plan::MAX_ROWS));
    let rows = fetch_rows(conn, &sql)?;
    Ok(rows.into_iter().map(|(_, row)| Row::Log(Box::new(row))).collect())
}

fn fetch_rows(conn: &Reading<'_>, sql: &Sql) -> Result<Vec<(Time, LogRow)>, QueryError> {
    let mut rows = Vec::new();
    fetch::run(conn, sql, |batch| {
        let (at, service) = (batch.i64s(0)?, batch.texts(1)?);
        let (instance, host) = (batch.texts(2)?, batch.texts(3)?);
        let (severity, body) = (batch.u8s(4)?, batch.texts(5)?);
        let (high, low, span) = (batch.u64s(6)?, batch.u64s(7)?, batch.u64s(8)?);
        let (attributes, received) = (batch.maps(9)?, batch.i64s(10)?);
        for row in 0..batch.len() {
            let severity = fetch::byte(severity, row);
            rows.push((
                fetch::time(received, row),
                LogRow {
                    time: fetch::time(at, row),
                    service: fetch::owned(service, row).unwrap_or_default(),
                    instance: fetch::owned(instance, row),
                    host: fetch::owned(host, row),
                    severity,
                    level: Level::of_severity(severity).map_or("", Level::word).to_owned(),
                    body: fetch::owned(body, row).unwrap_or_default(),
                    trace_id: fetch::trace_id(high, low, row),
                    span_id: fetch::span_id(span, row),
                    attributes: fetch::map(attributes, row),
                },
            ));
        }
        Ok(())
    })?;
    Ok(rows)
}

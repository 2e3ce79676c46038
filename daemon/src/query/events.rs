//! `events`: what happened, newest last.

use coral_model::filter::Key;
use coral_model::num::i64_sat;
use coral_model::question::View;
use coral_model::time::{Time, Window};
use coral_model::view::{EventKind, EventRow, Row};

use super::QueryError;
use super::answer::Found;
use super::fetch::{self, Sql};
use super::plan::Plan;
use super::sql::{Field, Layout};
use crate::store::Reading;
use crate::store::schema::Signal;

/// How the filter sees events.
pub const LAYOUT: Layout = Layout {
    view: View::Events,
    column,
    texts: &["t.text", "t.service", "t.host", "t.kind"],
    attributes: true,
    resource: false,
};

fn column(key: &Key) -> Option<Field> {
    Some(match key {
        Key::Service => Field::Text("t.service"),
        Key::Host => Field::Text("t.host"),
        Key::Kind => Field::Text("t.kind"),
        Key::Body => Field::Text("t.text"),
        // Detectors write these as plain attributes.
        Key::Instance => Field::Text("t.attributes['instance']"),
        Key::Version => Field::Text("coalesce(t.attributes['version'], t.attributes['to'])"),
        _ => return None,
    })
}

/// The start of every statement, over the events of a relation.
fn select(events: &str) -> Sql {
    Sql::new(format!(
        "SELECT t.time_ns, t.kind, t.service, t.host, t.text, t.source, t.attributes \
         FROM {events} t WHERE true"
    ))
}

/// Answers the question.
pub fn answer(conn: &Reading<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let limit = plan.limit();
    let sql = select(&conn.relation(Signal::Events, plan.window.from, plan.window.to))
        .within("t.time_ns", plan.window.from, plan.window.to)
        .then(" AND ")
        .part(LAYOUT.condition(&plan.filter)?)
        .then(" ORDER BY t.time_ns DESC LIMIT ")
        .bind(i64_sat(limit + 1));
    let mut rows = fetch_rows(conn, &sql)?;
    let truncated = rows.len() > limit;
    rows.truncate(limit);
    rows.reverse();
    let newest = rows.last().map(|row| row.time);
    let rows = rows.into_iter().map(|row| Row::Event(Box::new(row))).collect();
    Ok(Found { rows, truncated, newest, ..Found::default() })
}

/// The newest events of a window, oldest of them first.
pub fn of_window(
    conn: &Reading<'_>,
    window: Window,
    limit: usize,
) -> Result<Vec<EventRow>, QueryError> {
    let sql = select(&conn.relation(Signal::Events, window.from, window.to))
        .within("t.time_ns", window.from, window.to)
        .then(" ORDER BY t.time_ns DESC LIMIT ")
        .bind(i64_sat(limit));
    let mut rows = fetch_rows(conn, &sql)?;
    rows.reverse();
    Ok(rows)
}

/// Events committed in `(after, upto]`.
pub fn committed(
    conn: &Reading<'_>,
    plan: &Plan,
    after: Time,
    upto: Time,
) -> Result<Vec<Row>, QueryError> {
    let sql = select(&conn.since(Signal::Events, after))
        .committed(after, upto)
        .then(" AND ")
        .part(LAYOUT.condition(&plan.filter)?)
        .then(" ORDER BY t.received_ns, t.time_ns LIMIT ")
        .bind(i64_sat(super::plan::MAX_ROWS));
    Ok(fetch_rows(conn, &sql)?.into_iter().map(|row| Row::Event(Box::new(row))).collect())
}

fn fetch_rows(conn: &Reading<'_>, sql: &Sql) -> Result<Vec<EventRow>, QueryError> {
    let mut rows = Vec::new();
    fetch::run(conn, sql, |batch| {
        let (at, kind) = (batch.i64s(0)?, batch.texts(1)?);
        let (service, host) = (batch.texts(2)?, batch.texts(3)?);
        let (text, source, attributes) = (batch.texts(4)?, batch.texts(5)?, batch.maps(6)?);
        for row in 0..batch.len() {
            let word = fetch::text(kind, row).unwrap_or_default();
            rows.push(EventRow {
                time: fetch::time(at, row),
                // A kind that only a newer build knows is still something that happened.
                kind: word.parse().unwrap_or(EventKind::Note),
                service: fetch::owned(service, row),
                host: fetch::owned(host, row),
                text: fetch::owned(text, row).unwrap_or_default(),
                source: fetch::owned(source, row).unwrap_or_default(),
                attributes: fetch::map(attributes, row),
            });
        }
        Ok(())
    })?;
    Ok(rows)
}

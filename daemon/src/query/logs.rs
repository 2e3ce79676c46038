//! `logs`: the newest records that pass the filter, oldest of them first; or those beside one.

use coral_model::filter::{Expr, Key, Level};
use coral_model::num::{i64_sat, usize_sat};
use coral_model::question::{Around, View};
use coral_model::time::{SECOND, Time};
use coral_model::view::{LogRow, Row};
use coral_model::{RecordId, TraceId};

use super::QueryError;
use super::answer::Found;
use super::fetch::{self, Sql};
use super::homes;
use super::plan::Plan;
use super::sql::{Field, Layout};
use crate::store::Reading;
use crate::store::schema::Signal;

/// Records of a trace are looked for this far outside its spans.
const BESIDE: u64 = 60 * SECOND;

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

/// Texts in lower case that every record which passes has somewhere.
pub fn needles(filter: &Expr) -> Vec<String> {
    match filter {
        Expr::Text(text) => vec![text.to_lowercase()],
        Expr::And(all) => all.iter().flat_map(needles).collect(),
        Expr::Or(_) | Expr::Not(_) | Expr::Term(_) => Vec::new(),
    }
}

/// The start of every statement, over the records of a relation; with their resources where the
/// filter asks for them.
fn select(conn: &Reading<'_>, logs: &str, filter: &Expr) -> Sql {
    let join = if LAYOUT.asks_resource(filter) { homes::join(conn) } else { String::new() };
    Sql::new(format!(
        "SELECT t.time_ns, t.service, t.severity, t.body, t.trace_hi, t.trace_lo, t.span_id, \
         t.attributes, t.received_ns, t.resource FROM {logs} t{join} WHERE true"
    ))
}

/// Answers the question.
pub fn answer(conn: &Reading<'_>, plan: &Plan) -> Result<Found, QueryError> {
    if let Some(around) = plan.question.around {
        return context(conn, plan, around);
    }
    let limit = plan.limit();
    let logs = conn.logs_with(plan.window.from, plan.window.to, &needles(&plan.filter))?;
    let sql = select(conn, &logs, &plan.filter)
        .within("t.time_ns", plan.window.from, plan.window.to)
        .then(" AND ")
        .part(LAYOUT.condition(&plan.filter)?)
        .then(" ORDER BY t.time_ns DESC LIMIT ")
        .bind(i64_sat(limit + 1));
    let mut rows = fetch_rows(conn, &sql)?;
    let truncated = rows.len() > limit;
    rows.truncate(limit);
    rows.reverse();
    let newest = rows.last().map(|stored| stored.row.time);
    let rows = rows.into_iter().map(|stored| Row::Log(Box::new(stored.row))).collect();
    Ok(Found { rows, truncated, newest, ..Found::default() })
}

/// Records committed in `(after, upto]`.
pub fn committed(
    conn: &Reading<'_>,
    plan: &Plan,
    after: Time,
    upto: Time,
) -> Result<Vec<Row>, QueryError> {
    let sql = select(conn, &conn.since(Signal::Logs, after), &plan.filter)
        .committed(after, upto)
        .then(" AND ")
        .part(LAYOUT.condition(&plan.filter)?)
        .then(" ORDER BY t.received_ns, t.time_ns LIMIT ")
        .bind(i64_sat(super::plan::MAX_ROWS));
    let rows = fetch_rows(conn, &sql)?;
    Ok(rows.into_iter().map(|stored| Row::Log(Box::new(stored.row))).collect())
}

/// Records that name a trace whose spans lie between two moments, the first `limit`, oldest first.
pub fn of_trace(
    conn: &Reading<'_>,
    id: TraceId,
    from: Time,
    to: Time,
    limit: usize,
) -> Result<Vec<LogRow>, QueryError> {
    let (hi, lo) = fetch::halves(id);
    let (from, to) = (from.minus(BESIDE), to.plus(BESIDE));
    let sql = select(conn, &conn.relation(Signal::Logs, from, to), &Expr::everything())
        .within("t.time_ns", from, to)
        .then(" AND t.trace_hi = ")
        .bind(hi)
        .then(" AND t.trace_lo = ")
        .bind(lo)
        .then(" ORDER BY t.time_ns, t.received_ns, t.body LIMIT ")
        .bind(i64_sat(limit));
    Ok(fetch_rows(conn, &sql)?.into_iter().map(|stored| stored.row).collect())
}

/// Records beside one, of the same instance: so many before it and after it.
///
/// The filter says which record is meant where a moment alone does not; its neighbours are shown
/// whatever they are.
pub fn context(conn: &Reading<'_>, plan: &Plan, around: Around) -> Result<Found, QueryError> {
    let window = plan.window;
    let logs = conn.relation(Signal::Logs, window.from, window.to);
    let within = || select(conn, &logs, &plan.filter).within("t.time_ns", window.from, window.to);
    let found = match around.mark {
        Some(_) => within().then(" AND t.time_ns = ").time(around.at),
        None => within()
            .then(" AND ")
            .part(LAYOUT.condition(&plan.filter)?)
            .then(" ORDER BY abs(t.time_ns - ")
            .time(around.at)
            .then("), t.time_ns, t.body LIMIT 1"),
    };
    let meant = |stored: &Stored| around.mark.is_none_or(|mark| stored.row.id.mark == mark);
    let Some(record) = fetch_rows(conn, &found)?.into_iter().find(meant) else {
        return Err(QueryError::Nothing(match around.mark {
            Some(mark) => format!(
                "there is no log record {}: it was not kept, or lies outside {} – {}",
                RecordId { at: around.at, mark },
                window.from,
                window.to
            ),
            None => format!("no log record between {} and {} passes", window.from, window.to),
        }));
    };
    let lines = usize_sat(around.lines).min(plan.limit());
    let side = |before: bool| {
        let (test, order) = if before { (" < (", "DESC") } else { (" > (", "ASC") };
        // Records of one moment have an order of their own, the same every time.
        let sql = within()
            .then(" AND t.resource = ")
            .bind(record.from)
            .then(" AND (t.time_ns, t.received_ns, t.body)")
            .then(test)
            .time(record.row.time)
            .then(", ")
            .time(record.received)
            .then(", ")
            .bind(record.row.body.clone())
            .then(&format!(
                ") ORDER BY t.time_ns {order}, t.received_ns {order}, t.body {order} LIMIT "
            ))
            .bind(i64_sat(lines));
        fetch_rows(conn, &sql)
    };
    let (mut rows, after) = (side(true)?, side(false)?);
    rows.reverse();
    let before = i64_sat(rows.len());
    rows.push(record);
    rows.extend(after);
    let newest = rows.last().map(|stored| stored.row.time);
    let numbered = rows
        .into_iter()
        .zip(-before..)
        .map(|(stored, offset)| Row::Log(Box::new(LogRow { offset: Some(offset), ..stored.row })));
    Ok(Found { rows: numbered.collect(), newest, ..Found::default() })
}

/// A record as stored.
struct Stored {
    received: Time,
    /// Its resource.
    from: u64,
    row: LogRow,
}

fn fetch_rows(conn: &Reading<'_>, sql: &Sql) -> Result<Vec<Stored>, QueryError> {
    let mut rows = Vec::new();
    fetch::run(conn, sql, |batch| {
        let (at, service) = (batch.i64s(0)?, batch.texts(1)?);
        let (severity, body) = (batch.u8s(2)?, batch.texts(3)?);
        let (high, low, span) = (batch.u64s(4)?, batch.u64s(5)?, batch.u64s(6)?);
        let (attributes, received, resource) = (batch.maps(7)?, batch.i64s(8)?, batch.u64s(9)?);
        for row in 0..batch.len() {
            let severity = fetch::byte(severity, row);
            let (time, from) = (fetch::time(at, row), fetch::uint(resource, row));
            let (service, body) = (fetch::text(service, row), fetch::text(body, row));
            let (service, body) = (service.unwrap_or_default(), body.unwrap_or_default());
            rows.push(Stored {
                received: fetch::time(received, row),
                from,
                row: LogRow {
                    id: RecordId::of(time, service, body),
                    offset: None,
                    time,
                    service: service.to_owned(),
                    instance: None,
                    host: None,
                    severity,
                    level: Level::of_severity(severity).map_or("", Level::word).to_owned(),
                    body: body.to_owned(),
                    trace_id: fetch::trace_id(high, low, row),
                    span_id: fetch::span_id(span, row),
                    attributes: fetch::map(attributes, row),
                },
            });
        }
        Ok(())
    })?;
    let homes = homes::of(conn, rows.iter().map(|stored| stored.from), false)?;
    for stored in &mut rows {
        if let Some(home) = homes.get(&stored.from) {
            stored.row.instance.clone_from(&home.instance);
            stored.row.host.clone_from(&home.host);
        }
    }
    Ok(rows)
}

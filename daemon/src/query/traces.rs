//! `traces`: traces with at least one span that passes the filter, ranked.
//!
//! Two statements: the first ranks, the second sums up only the traces that made it into the
//! answer. A trace is summed up whole, also those of its spans that the filter would not let
//! through or that lie a little outside the window.

use coral_model::TraceId;
use coral_model::filter::Key;
use coral_model::num::{i64_sat, u64_sat};
use coral_model::question::{TraceOrder, View};
use coral_model::time::{SECOND, Time};
use coral_model::view::{Row, TraceRow};

use super::QueryError;
use super::answer::Found;
use super::fetch::{self, Sql};
use super::plan::Plan;
use super::sql::{Field, Layout};
use crate::store::Reading;
use crate::store::schema::Signal;

/// Spans of a trace are looked for this far outside the window.
const AROUND: u64 = 3600 * SECOND;
/// How many spans are looked at, per trace wanted, before all of the window's are.
const SPANS_PER_TRACE: usize = 64;

/// How the filter sees spans.
pub const LAYOUT: Layout = Layout {
    view: View::Traces,
    column,
    texts: &["t.operation", "t.name", "t.service", "t.message"],
    attributes: true,
    resource: true,
};

fn column(key: &Key) -> Option<Field> {
    Some(match key {
        Key::Service => Field::Text("t.service"),
        Key::Operation => Field::Text("t.operation"),
        Key::Name => Field::Text("coalesce(t.name, t.operation)"),
        Key::Route => Field::Text("t.http_route"),
        Key::Status => Field::Text("t.code"),
        Key::Error => Field::Bool("t.error"),
        Key::Duration => Field::Duration("t.duration_ns"),
        Key::Kind => Field::Text(
            "(CASE t.kind WHEN 2 THEN 'server' WHEN 3 THEN 'client' WHEN 4 THEN 'producer' \
             WHEN 5 THEN 'consumer' ELSE 'internal' END)",
        ),
        Key::Trace => Field::Text("format('{:016x}{:016x}', t.trace_hi, t.trace_lo)"),
        Key::Span => Field::Text("format('{:016x}', t.span_id)"),
        Key::Body => Field::Text("t.message"),
        Key::Host => Field::Text("r.host"),
        Key::Instance => Field::Text("r.instance"),
        Key::Version => Field::Text("r.version"),
        Key::Zone => Field::Text("r.zone"),
        Key::Namespace => Field::Text("r.namespace"),
        _ => return None,
    })
}

/// Spans of a relation with their resources.
fn described(conn: &Reading<'_>, spans: &str) -> String {
    format!("FROM {spans} t LEFT JOIN {} r ON r.id = t.resource WHERE true", conn.resources())
}

/// Answers the question.
pub fn answer(conn: &Reading<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let limit = plan.limit();
    let want = limit + 1;
    let condition = LAYOUT.condition(&plan.filter)?;
    let (from, to) = (plan.window.from, plan.window.to);
    let matching = || {
        Sql::new(described(conn, &conn.relation(Signal::Spans, from, to)))
            .within("t.start_ns", from, to)
            .then(" AND ")
            .part(condition.clone())
    };
    let mut ids = Vec::new();
    if plan.question.order == TraceOrder::Recent {
        // The newest spans name the newest traces: seldom need all of the window be grouped.
        let few = want.saturating_mul(SPANS_PER_TRACE);
        let newest =
            Sql::new("SELECT trace_hi, trace_lo FROM (SELECT t.trace_hi, t.trace_lo, t.start_ns ")
                .part(matching())
                .then(" ORDER BY t.start_ns DESC LIMIT ")
                .bind(i64_sat(few))
                .then(") GROUP BY ALL ORDER BY max(start_ns) DESC LIMIT ")
                .bind(i64_sat(want));
        ids = fetch_ids(conn, &newest)?;
    }
    if ids.len() < want {
        let rank = match plan.question.order {
            TraceOrder::Recent => "max(s.start_ns) DESC",
            TraceOrder::Slow => "max(s.start_ns + s.duration_ns) - min(s.start_ns) DESC",
            TraceOrder::Error => {
                "bool_or(s.error) DESC, max(s.start_ns + s.duration_ns) - min(s.start_ns) DESC"
            }
        };
        let ranked = Sql::new(
            "WITH m AS MATERIALIZED (SELECT DISTINCT t.trace_hi, t.trace_lo ",
        )
        .part(matching())
        .then(&format!(
            ") SELECT s.trace_hi, s.trace_lo FROM {} s SEMI JOIN m USING (trace_hi, trace_lo) WHERE true",
            conn.relation(Signal::Spans, from.minus(AROUND), to.plus(AROUND))
        ))
        .within("s.start_ns", from.minus(AROUND), to.plus(AROUND))
        .then(&format!(" GROUP BY ALL ORDER BY {rank}, s.trace_hi, s.trace_lo LIMIT "))
        .bind(i64_sat(want));
        ids = fetch_ids(conn, &ranked)?;
    }
    let truncated = ids.len() > limit;
    ids.truncate(limit);
    let mut rows = summaries(conn, &ids, from, to)?;
    let newest = rows.iter().map(|r| r.start.plus(r.duration_ns)).max();
    sort(&mut rows, plan.question.order);
    let rows = rows.into_iter().map(|r| Row::Trace(Box::new(r))).collect();
    Ok(Found { rows, truncated, newest, ..Found::default() })
}

fn sort(rows: &mut [TraceRow], order: TraceOrder) {
    rows.sort_by(|a, b| {
        let by = match order {
            TraceOrder::Recent => b.start.cmp(&a.start),
            TraceOrder::Slow => b.duration_ns.cmp(&a.duration_ns),
            TraceOrder::Error => {
                ((b.errors > 0), b.duration_ns).cmp(&((a.errors > 0), a.duration_ns))
            }
        };
        by.then(a.trace_id.cmp(&b.trace_id))
    });
}

/// Traces of which a matching span was committed in `(after, upto]`.
pub fn committed(
    conn: &Reading<'_>,
    plan: &Plan,
    after: Time,
    upto: Time,
) -> Result<Vec<Row>, QueryError> {
    let sql = Sql::new("SELECT t.trace_hi, t.trace_lo ")
        .then(&described(conn, &conn.since(Signal::Spans, after)))
        .committed(after, upto)
        .then(" AND ")
        .part(LAYOUT.condition(&plan.filter)?)
        .then(" GROUP BY ALL LIMIT ")
        .bind(i64_sat(super::plan::MAX_ROWS));
    let ids = fetch_ids(conn, &sql)?;
    let mut rows = summaries(conn, &ids, after.minus(AROUND), upto)?;
    rows.sort_by_key(|r| (r.start, r.trace_id));
    Ok(rows.into_iter().map(|r| Row::Trace(Box::new(r))).collect())
}

fn fetch_ids(conn: &Reading<'_>, sql: &Sql) -> Result<Vec<(u64, u64)>, QueryError> {
    let mut ids = Vec::new();
    fetch::run(conn, sql, |batch| {
        let (high, low) = (batch.u64s(0)?, batch.u64s(1)?);
        ids.extend((0..batch.len()).map(|row| (fetch::uint(high, row), fetch::uint(low, row))));
        Ok(())
    })?;
    Ok(ids)
}

/// One row per trace.
fn summaries(
    conn: &Reading<'_>,
    ids: &[(u64, u64)],
    from: Time,
    to: Time,
) -> Result<Vec<TraceRow>, QueryError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    // Numbers of our own making may stand in the text; a thousand bound pairs are slower to plan.
    let list: Vec<String> =
        ids.iter().map(|(hi, lo)| format!("({hi}::UBIGINT,{lo}::UBIGINT)")).collect();
    let (from, to) = (from.minus(AROUND), to.plus(AROUND));
    let sql = Sql::new(format!(
        "SELECT s.trace_hi, s.trace_lo, min(s.start_ns), \
         max(s.start_ns + s.duration_ns) - min(s.start_ns), count(*)::UBIGINT, \
         (count(*) FILTER (s.error))::UBIGINT, bool_or(s.parent_id = 0), \
         coalesce(arg_min(s.service, s.start_ns) FILTER (s.parent_id = 0), arg_min(s.service, s.start_ns)), \
         coalesce(arg_min(s.operation, s.start_ns) FILTER (s.parent_id = 0), arg_min(s.operation, s.start_ns)), \
         arg_min(s.code, s.start_ns) FILTER (s.parent_id = 0), \
         list_sort(list(DISTINCT s.service)) \
         FROM {} s SEMI JOIN (VALUES {}) m(trace_hi, trace_lo) USING (trace_hi, trace_lo) WHERE true",
        conn.relation(Signal::Spans, from, to),
        list.join(",")
    ))
    .within("s.start_ns", from, to)
    .then(" GROUP BY s.trace_hi, s.trace_lo");
    let mut rows = Vec::with_capacity(ids.len());
    fetch::run(conn, &sql, |batch| {
        let (high, low) = (batch.u64s(0)?, batch.u64s(1)?);
        let (start, duration) = (batch.i64s(2)?, batch.i64s(3)?);
        let (spans, errors, complete) = (batch.u64s(4)?, batch.u64s(5)?, batch.bools(6)?);
        let (service, operation, status) = (batch.texts(7)?, batch.texts(8)?, batch.texts(9)?);
        let services = batch.lists(10)?;
        for row in 0..batch.len() {
            rows.push(TraceRow {
                trace_id: fetch::trace_id(high, low, row).unwrap_or(TraceId([0; 16])),
                start: fetch::time(start, row),
                duration_ns: u64_sat(duration.value(row)),
                service: fetch::owned(service, row).unwrap_or_default(),
                operation: fetch::owned(operation, row).unwrap_or_default(),
                complete: fetch::flag(complete, row),
                spans: fetch::uint(spans, row),
                errors: fetch::uint(errors, row),
                services: fetch::texts_of(services, row),
                status: fetch::owned(status, row),
            });
        }
        Ok(())
    })?;
    Ok(rows)
}

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
use hashbrown::{HashMap, HashSet};

use super::answer::Found;
use super::fetch::{self, Sql};
use super::plan::Plan;
use super::sql::{Field, Layout};
use super::unusual::{Fact, Sample, Unusual};
use super::{QueryError, homes};
use crate::store::Reading;
use crate::store::schema::Signal;

/// Spans of a trace are looked for this far outside the window.
const AROUND: u64 = 3600 * SECOND;
/// Spans this far outside the window still belong to traces of it that are measured.
const EDGE: u64 = 60 * SECOND;
/// A trace whose last span ended less than this ago may still grow.
const SETTLED: u64 = 10 * SECOND;
/// Spans that are measured; of more, those of an even sample of traces.
const MAX_MEASURED: u64 = 200_000;
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
    format!("FROM {spans} t{} WHERE true", homes::join(conn))
}

/// Answers the question.
pub fn answer(conn: &Reading<'_>, plan: &Plan) -> Result<Found, QueryError> {
    if plan.question.order == TraceOrder::Unusual {
        return unusual(conn, plan);
    }
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
            TraceOrder::Slow | TraceOrder::Unusual => {
                "max(s.start_ns + s.duration_ns) - min(s.start_ns) DESC"
            }
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

/// Traces that differ from the others of the window, those with a span that passes the filter; the
/// others are all measured against, whatever the filter says of them.
fn unusual(conn: &Reading<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let (from, to) = (plan.window.from.minus(EDGE), plan.window.to.plus(EDGE));
    let spans = Sql::new(described(conn, &conn.relation(Signal::Spans, from, to))).within(
        "t.start_ns",
        from,
        to,
    );
    let mut all = 0;
    fetch::run(conn, &Sql::new("SELECT count(*)::UBIGINT ").part(spans.clone()), |batch| {
        all = fetch::uint(batch.u64s(0)?, 0);
        Ok(())
    })?;
    // Traces are looked at whole or not at all.
    let every = all.div_ceil(MAX_MEASURED).max(1);
    let passes = Sql::new("(true").within("t.start_ns", plan.window.from, plan.window.to);
    let mut sql = Sql::new(
        "SELECT t.trace_hi, t.trace_lo, t.span_id, t.parent_id, t.service, t.operation, t.kind, \
         t.duration_ns, t.start_ns, ",
    )
    .part(passes)
    .then(" AND ")
    .part(LAYOUT.condition(&plan.filter)?)
    .then(") ")
    .part(spans);
    if every > 1 {
        sql = sql.then(" AND hash(t.trace_hi, t.trace_lo) % ").bind(every).then(" = 0");
    }
    let sql = sql.then(" ORDER BY t.start_ns, t.trace_hi, t.trace_lo, t.span_id");
    let mut sample = Sample::default();
    let mut ids: Vec<(u64, u64)> = Vec::new();
    let mut numbers: HashMap<(u64, u64), usize> = HashMap::new();
    let mut passed: HashSet<usize> = HashSet::new();
    fetch::run(conn, &sql, |batch| {
        let (high, low) = (batch.u64s(0)?, batch.u64s(1)?);
        let (span, parent) = (batch.u64s(2)?, batch.u64s(3)?);
        let (service, operation) = (batch.texts(4)?, batch.texts(5)?);
        let (kind, took) = (batch.u8s(6)?, batch.i64s(7)?);
        let (start, passes) = (batch.i64s(8)?, batch.bools(9)?);
        for row in 0..batch.len() {
            let id = (fetch::uint(high, row), fetch::uint(low, row));
            let trace = *numbers.entry(id).or_insert_with(|| {
                ids.push(id);
                ids.len() - 1
            });
            if fetch::flag(passes, row) {
                passed.insert(trace);
            }
            let duration_ns = u64_sat(took.value(row));
            let end = fetch::time(start, row).plus(duration_ns);
            if end.plus(SETTLED) > plan.now || fetch::time(start, row) < from.plus(EDGE / 2) {
                sample.grows(trace);
            }
            sample.add(&Fact {
                trace,
                span: fetch::uint(span, row),
                parent: fetch::uint(parent, row),
                service: fetch::text(service, row).unwrap_or_default(),
                operation: fetch::text(operation, row).unwrap_or_default(),
                kind: fetch::byte(kind, row),
                duration_ns,
            });
        }
        Ok(())
    })?;
    let limit = plan.limit();
    let mut found: Vec<Unusual> =
        sample.judge().into_iter().filter(|u| passed.contains(&u.trace)).collect();
    let truncated = found.len() > limit;
    found.truncate(limit);
    let wanted: Vec<(u64, u64)> = found.iter().filter_map(|u| ids.get(u.trace).copied()).collect();
    let mut rows = summaries(conn, &wanted, plan.window.from, plan.window.to)?;
    let newest = rows.iter().map(|r| r.start.plus(r.duration_ns)).max();
    for row in &mut rows {
        let number = numbers.get(&fetch::halves(row.trace_id));
        if let Some(one) = found.iter().find(|u| Some(&u.trace) == number) {
            row.score = Some(one.score);
            row.unusual.clone_from(&one.why);
            row.sampled_every = Some(every);
        }
    }
    rows.sort_by(|a, b| {
        let score = |r: &TraceRow| r.score.unwrap_or(0.0);
        score(b)
            .total_cmp(&score(a))
            .then((b.duration_ns, a.trace_id).cmp(&(a.duration_ns, b.trace_id)))
    });
    let rows = rows.into_iter().map(|r| Row::Trace(Box::new(r))).collect();
    Ok(Found { rows, truncated, newest, ..Found::default() })
}

fn sort(rows: &mut [TraceRow], order: TraceOrder) {
    rows.sort_by(|a, b| {
        let by = match order {
            TraceOrder::Recent => b.start.cmp(&a.start),
            TraceOrder::Slow | TraceOrder::Unusual => b.duration_ns.cmp(&a.duration_ns),
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
                score: None,
                unusual: Vec::new(),
                sampled_every: None,
            });
        }
        Ok(())
    })?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use coral_model::time::MILLI;

    use super::super::fixture::{Fixture, Span, ago, last, question, rows};
    use super::*;

    #[test]
    fn unusual_traces_say_why() {
        let mut fixture = Fixture::default();
        fixture.agent("h");
        let mut spans = Vec::new();
        for n in 1..=200u64 {
            let (trace, at) = (u128::from(n), ago(800 - n));
            let took = if n == 42 { 800 * MILLI } else { 20 * MILLI + n * 20_000 };
            spans.push(Span::new(trace, 1, 0, at, took + MILLI).of("gateway", "POST /buy"));
            if n != 150 {
                spans.push(Span::new(trace, 2, 1, at, took).of("payments", "POST /charge"));
            }
        }
        fixture.spans(&spans);
        let ask = |filter: &str| {
            let mut q = question(View::Traces, last(900), filter);
            q.order = TraceOrder::Unusual;
            rows!(fixture.ask(&q).unwrap(), Trace)
        };
        let found = ask("");
        let ids: Vec<u8> = found.iter().map(|r| r.trace_id.0[15]).collect();
        assert_eq!(ids, [42, 150], "{found:?}");
        assert!(found[0].unusual[0].starts_with("payments POST /charge took 800ms"), "{found:?}");
        assert!(found[1].unusual[0].contains("does not call payments POST /charge"), "{found:?}");
        assert!(found.iter().all(|r| r.score > Some(7.0) && r.sampled_every == Some(1)));
        // The filter chooses among them; all are measured against.
        let ids = |filter: &str| ask(filter).iter().map(|r| r.trace_id.0[15]).collect::<Vec<_>>();
        assert_eq!(ids("service=payments"), [42]);
        assert_eq!(ids("duration=100ms.."), [42]);
        assert_eq!(ids("service=nobody"), [] as [u8; 0]);
    }
}

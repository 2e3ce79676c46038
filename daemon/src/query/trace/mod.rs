//! `trace`: every span of one trace, in the order a waterfall draws them, then its log records.
//!
//! [`tree`] says which span stands below which, [`clocks`] puts hosts' clocks right where calls show
//! that they are wrong, [`path`] finds where the time went. The filter chooses which spans are shown;
//! all are looked at.

mod clocks;
mod path;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;

use coral_model::filter::Expr;
use coral_model::num::{f64_from, i64_sat, u64_sat};
use coral_model::view::{
    ClockShift, CriticalSpan, Row, SpanEvent, SpanKind, SpanLink, SpanRow, SpanStatus, TraceHead,
};
use coral_model::{SpanId, TraceId};
use hashbrown::HashSet;

use super::QueryError;
use super::answer::Found;
use super::fetch::{self, Sql};
use super::plan::Plan;
use super::traces::LAYOUT;
use super::{homes, logs};
use crate::store::Reading;

/// Spans of one trace that are looked at.
const MAX_SPANS: usize = 200_000;
/// Log records of one trace that are handed out.
const MAX_LOGS: usize = 1_000;
/// Spans of the critical path that the head names.
const CRITICAL: usize = 10;
/// Fewest digits of an id that are looked up.
const MIN_DIGITS: usize = 8;

/// A span as stored: what places it in the tree, and the row it becomes.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Where it ran.
    pub resource: u64,
    /// Whose clock it was timed by: its host's; its instance's, where that is not known.
    pub clock: String,
    /// The filter lets it through.
    pub keep: bool,
    /// The row; what depends on other spans is still to be found.
    pub row: SpanRow,
}

/// Answers the question.
pub fn answer(conn: &Reading<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let subject = plan.question.subject.as_deref().unwrap_or_default();
    let Some(id) = find(conn, subject)? else { return Ok(Found::default()) };
    let spans = spans_of(conn, id, &plan.filter)?;
    let newest = spans.iter().map(|s| s.row.start.plus(s.row.duration_ns)).max();
    let Some((mut head, mut spans)) = waterfall(id, spans) else { return Ok(Found::default()) };
    let (limit, found) = (plan.limit(), spans.len());
    spans.truncate(limit);
    let records = logs::of_trace(conn, id, head.start, newest.unwrap_or(head.start), MAX_LOGS)?;
    let shown: HashSet<SpanId> = spans.iter().map(|s| s.span_id).collect();
    let all = plan.filter.is_everything();
    let about = |span: Option<SpanId>| all || span.is_some_and(|id| shown.contains(&id));
    let records: Vec<_> = records.into_iter().filter(|log| about(log.span_id)).collect();
    head.logs = u64_sat(records.len());
    let truncated = found > limit || limit - spans.len() < records.len();
    let mut rows = vec![Row::TraceHead(Box::new(head))];
    let room = limit - spans.len();
    rows.extend(spans.into_iter().map(|r| Row::Span(Box::new(r))));
    rows.extend(records.into_iter().take(room).map(|r| Row::Log(Box::new(r))));
    Ok(Found { rows, truncated, newest, ..Found::default() })
}

/// The trace as a whole, and its spans that are shown, in the order a waterfall draws them: depth
/// first, children by start. `None` without any span.
pub fn waterfall(id: TraceId, spans: Vec<Stored>) -> Option<(TraceHead, Vec<SpanRow>)> {
    let mut spans = tree::joined(tree::without_repeats(spans));
    let mut tree = tree::grow(&spans);
    let clocks = clocks::correct(&mut spans, &tree);
    if !clocks.is_empty() {
        // Corrected clocks may change who came first.
        spans.sort_by_key(|s| (s.row.start, s.row.span_id));
        tree = tree::grow(&spans);
    }
    let root = root(&spans, &tree);
    path::measure(&mut spans, &tree, root);
    for (at, depth) in &tree.placed {
        if let Some(span) = spans.get_mut(*at) {
            span.row.depth = *depth;
            span.row.orphan = span.row.parent_id.is_some() && *depth == 0;
        }
    }
    let head = head(id, &spans, root, clocks)?;
    let mut spans: Vec<Option<Stored>> = spans.into_iter().map(Some).collect();
    let shown = tree.placed.iter().filter_map(|(at, _)| {
        let stored = spans.get_mut(*at)?.take()?;
        stored.keep.then_some(stored.row)
    });
    Some((head, shown.collect()))
}

/// Whose duration the critical path explains: the first root, or where none has arrived, the
/// longest of what stands at the top.
fn root(spans: &[Stored], tree: &tree::Tree) -> Option<usize> {
    let tops = || tree.placed.iter().filter(|(_, depth)| *depth == 0).map(|(at, _)| *at);
    let whole = |at: &usize| spans.get(*at).is_some_and(|s| s.row.parent_id.is_none());
    let length = |at: &usize| spans.get(*at).map_or(0, |s| s.row.duration_ns);
    tops().find(whole).or_else(|| tops().max_by_key(length))
}

fn head(
    id: TraceId,
    spans: &[Stored],
    root: Option<usize>,
    clocks: Vec<ClockShift>,
) -> Option<TraceHead> {
    let start = spans.iter().map(|s| s.row.start).min()?;
    let end = spans.iter().map(|s| s.row.start.plus(s.row.duration_ns)).max()?;
    let count = |test: fn(&SpanRow) -> bool| u64_sat(spans.iter().filter(|s| test(&s.row)).count());
    let mut services: Vec<String> = spans.iter().map(|s| s.row.service.clone()).collect();
    services.sort_unstable();
    services.dedup();
    let whole = root.and_then(|at| spans.get(at)).map_or(0, |s| s.row.duration_ns).max(1);
    let mut critical: Vec<CriticalSpan> = spans
        .iter()
        .map(|s| &s.row)
        .filter(|row| row.critical_ns > 0)
        .map(|row| CriticalSpan {
            span_id: row.span_id,
            service: row.service.clone(),
            operation: row.operation.clone(),
            critical_ns: row.critical_ns,
            share: f64_from(row.critical_ns) / f64_from(whole),
        })
        .collect();
    critical.sort_by(|a, b| (b.critical_ns, a.span_id).cmp(&(a.critical_ns, b.span_id)));
    critical.truncate(CRITICAL);
    Some(TraceHead {
        trace_id: id,
        start,
        duration_ns: end.since(start),
        spans: u64_sat(spans.len()),
        errors: count(|row| row.status == SpanStatus::Error),
        orphans: count(|row| row.orphan),
        services,
        critical,
        clocks,
        logs: 0,
    })
}

/// The trace whose id is, or begins with, the hex digits of `subject`.
fn find(conn: &Reading<'_>, subject: &str) -> Result<Option<TraceId>, QueryError> {
    let digits = subject.trim().to_ascii_lowercase();
    let hex = digits.len() <= 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !hex || digits.len() < MIN_DIGITS {
        return Err(QueryError::Question(format!(
            "`{}` is not a trace id: 32 hex digits, or at least the first {MIN_DIGITS}",
            coral_model::text::fit(subject, 40)
        )));
    }
    let number = u128::from_str_radix(&digits, 16).unwrap_or_default();
    let missing = u32::try_from(4 * (32 - digits.len())).unwrap_or_default();
    let first = number.checked_shl(missing).unwrap_or_default();
    let last = first | 1u128.checked_shl(missing).map_or(u128::MAX, |n| n - 1);
    if missing == 0 {
        return Ok(Some(TraceId(number.to_be_bytes())));
    }
    let ends = |n: u128| (u64_sat(n >> 64), u64_sat(n & u128::from(u64::MAX)));
    let ((hi, lo), (last_hi, last_lo)) = (ends(first), ends(last));
    // When the high half is not given whole, the low half may be anything.
    let spans = conn.traces((hi, lo), (last_hi, last_lo))?;
    let sql =
        Sql::new(format!("SELECT DISTINCT trace_hi, trace_lo FROM {spans} WHERE trace_hi >= "))
            .bind(hi)
            .then(" AND trace_hi <= ")
            .bind(last_hi)
            .then(" AND trace_lo >= ")
            .bind(lo)
            .then(" AND trace_lo <= ")
            .bind(last_lo)
            .then(" ORDER BY ALL LIMIT 5");
    let mut found = Vec::new();
    fetch::run(conn, &sql, |batch| {
        let (high, low) = (batch.u64s(0)?, batch.u64s(1)?);
        found.extend((0..batch.len()).filter_map(|row| fetch::trace_id(high, low, row)));
        Ok(())
    })?;
    if found.len() > 1 {
        let names: Vec<String> = found.iter().map(ToString::to_string).collect();
        return Err(QueryError::Question(format!(
            "more than one trace begins with `{digits}`: {}",
            names.join(" ")
        )));
    }
    Ok(found.pop())
}

fn spans_of(conn: &Reading<'_>, id: TraceId, filter: &Expr) -> Result<Vec<Stored>, QueryError> {
    let (hi, lo) = fetch::halves(id);
    let sql = Sql::new(
        "SELECT t.span_id, t.parent_id, t.service, coalesce(t.name, t.operation), t.kind, \
         t.start_ns, t.duration_ns, t.status, t.message, t.attributes, t.events, t.links, \
         t.resource, ",
    )
    .part(LAYOUT.condition(filter)?)
    .then(&format!(
        " FROM {} t{} WHERE t.trace_hi = ",
        conn.traces((hi, lo), (hi, lo))?,
        if LAYOUT.asks_resource(filter) { homes::join(conn) } else { String::new() }
    ))
    .bind(hi)
    .then(" AND t.trace_lo = ")
    .bind(lo)
    .then(" ORDER BY t.start_ns, t.span_id LIMIT ")
    .bind(i64_sat(MAX_SPANS));
    let mut spans = Vec::new();
    fetch::run(conn, &sql, |batch| {
        let (span, parent) = (batch.u64s(0)?, batch.u64s(1)?);
        let (service, operation) = (batch.texts(2)?, batch.texts(3)?);
        let (kind, start, duration) = (batch.u8s(4)?, batch.i64s(5)?, batch.i64s(6)?);
        let (status, message, attributes) = (batch.u8s(7)?, batch.texts(8)?, batch.maps(9)?);
        let (events, links) = (batch.texts(10)?, batch.texts(11)?);
        let (resource, keep) = (batch.u64s(12)?, batch.bools(13)?);
        for row in 0..batch.len() {
            let event_json = fetch::text(events, row).unwrap_or_default();
            let link_json = fetch::text(links, row).unwrap_or_default();
            spans.push(Stored {
                resource: fetch::uint(resource, row),
                clock: String::new(),
                keep: fetch::flag(keep, row),
                row: SpanRow {
                    trace_id: id,
                    span_id: fetch::span_id(span, row).unwrap_or_default(),
                    parent_id: fetch::span_id(parent, row),
                    orphan: false,
                    depth: 0,
                    service: fetch::owned(service, row).unwrap_or_default(),
                    instance: None,
                    operation: fetch::owned(operation, row).unwrap_or_default(),
                    kind: SpanKind::from_otlp(u64::from(fetch::byte(kind, row))),
                    start: fetch::time(start, row),
                    duration_ns: u64_sat(duration.value(row)),
                    self_ns: 0,
                    critical_ns: 0,
                    shift_ns: 0,
                    gaps: Vec::new(),
                    status: SpanStatus::from_otlp(u64::from(fetch::byte(status, row))),
                    message: fetch::owned(message, row),
                    attributes: fetch::map(attributes, row),
                    resource: BTreeMap::new(),
                    events: serde_json::from_str::<Vec<SpanEvent>>(event_json).unwrap_or_default(),
                    links: serde_json::from_str::<Vec<SpanLink>>(link_json).unwrap_or_default(),
                },
            });
        }
        Ok(())
    })?;
    let homes = homes::of(conn, spans.iter().map(|span: &Stored| span.resource), true)?;
    for span in &mut spans {
        let home = homes.get(&span.resource).cloned().unwrap_or_default();
        span.clock = clock(home.host.as_deref(), home.instance.as_deref(), span.resource);
        (span.row.instance, span.row.resource) = (home.instance, home.attributes);
    }
    Ok(spans)
}

/// Whose clock timed a span.
fn clock(host: Option<&str>, instance: Option<&str>, resource: u64) -> String {
    let named = host.or(instance).filter(|name| !name.is_empty());
    named.map_or_else(|| format!("resource {resource:016x}"), str::to_owned)
}

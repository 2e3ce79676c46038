//! `trace`: every span of one trace, in the order a waterfall draws them.
//!
//! Span ids come from many programs and clocks, so the tree is built defensively: a span whose
//! parent has not arrived begins a tree of its own (`orphan`), a cycle is cut at its earliest span, a
//! span exported twice counts once, and nothing recurses, however deep the chain.

use coral_model::filter::Expr;
use coral_model::num::{i64_sat, u64_sat};
use coral_model::time::Time;
use coral_model::view::{Row, SpanEvent, SpanKind, SpanLink, SpanRow, SpanStatus};
use coral_model::{SpanId, TraceId};
use duckdb::Connection;
use hashbrown::{HashMap, HashSet};

use super::QueryError;
use super::answer::Found;
use super::fetch::{self, Sql};
use super::plan::Plan;
use super::traces::LAYOUT;

/// Spans of one trace that are looked at.
const MAX_SPANS: usize = 200_000;
/// Fewest digits of an id that are looked up.
const MIN_DIGITS: usize = 8;

/// A span as stored: what places it in the tree, and the row it becomes.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Where it ran.
    pub resource: u64,
    /// The filter lets it through.
    pub keep: bool,
    /// The row; depth, orphan and self time are still to be found.
    pub row: SpanRow,
}

/// Answers the question.
pub fn answer(conn: &Connection, plan: &Plan) -> Result<Found, QueryError> {
    let subject = plan.question.subject.as_deref().unwrap_or_default();
    let Some(id) = find(conn, subject)? else { return Ok(Found::default()) };
    let spans = spans_of(conn, id, &plan.filter)?;
    let newest = spans.iter().map(|s| s.row.start.plus(s.row.duration_ns)).max();
    let mut rows = order(spans);
    let truncated = rows.len() > plan.limit();
    rows.truncate(plan.limit());
    let rows = rows.into_iter().map(|r| Row::Span(Box::new(r))).collect();
    Ok(Found { rows, truncated, newest, ..Found::default() })
}

/// The trace whose id is, or begins with, the hex digits of `subject`.
fn find(conn: &Connection, subject: &str) -> Result<Option<TraceId>, QueryError> {
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
    let ends = |n: u128| (u64_sat(n >> 64), u64_sat(n & u128::from(u64::MAX)));
    let ((hi, lo), (last_hi, last_lo)) = (ends(first), ends(last));
    // When the high half is not given whole, the low half may be anything.
    let sql = Sql::new("SELECT DISTINCT trace_hi, trace_lo FROM spans WHERE trace_hi >= ")
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

fn spans_of(conn: &Connection, id: TraceId, filter: &Expr) -> Result<Vec<Stored>, QueryError> {
    let (hi, lo) = fetch::halves(id);
    let sql = Sql::new(
        "SELECT t.span_id, t.parent_id, t.service, r.instance, t.operation, t.kind, t.start_ns, \
         t.duration_ns, t.status, t.message, t.attributes, r.attributes, t.events, t.links, \
         t.resource, ",
    )
    .part(LAYOUT.condition(filter)?)
    .then(" FROM spans t LEFT JOIN resources r ON r.id = t.resource WHERE t.trace_hi = ")
    .bind(hi)
    .then(" AND t.trace_lo = ")
    .bind(lo)
    .then(" ORDER BY t.start_ns, t.span_id LIMIT ")
    .bind(i64_sat(MAX_SPANS));
    let mut spans = Vec::new();
    fetch::run(conn, &sql, |batch| {
        let (span, parent) = (batch.u64s(0)?, batch.u64s(1)?);
        let (service, instance) = (batch.texts(2)?, batch.texts(3)?);
        let (operation, kind) = (batch.texts(4)?, batch.u8s(5)?);
        let (start, duration) = (batch.i64s(6)?, batch.i64s(7)?);
        let (status, message) = (batch.u8s(8)?, batch.texts(9)?);
        let (attributes, resource) = (batch.maps(10)?, batch.maps(11)?);
        let (events, links) = (batch.texts(12)?, batch.texts(13)?);
        let (resource_id, keep) = (batch.u64s(14)?, batch.bools(15)?);
        for row in 0..batch.len() {
            let event_json = fetch::text(events, row).unwrap_or_default();
            let link_json = fetch::text(links, row).unwrap_or_default();
            spans.push(Stored {
                resource: fetch::uint(resource_id, row),
                keep: fetch::flag(keep, row),
                row: SpanRow {
                    trace_id: id,
                    span_id: fetch::span_id(span, row).unwrap_or_default(),
                    parent_id: fetch::span_id(parent, row),
                    orphan: false,
                    depth: 0,
                    service: fetch::owned(service, row).unwrap_or_default(),
                    instance: fetch::owned(instance, row),
                    operation: fetch::owned(operation, row).unwrap_or_default(),
                    kind: SpanKind::from_otlp(u64::from(fetch::byte(kind, row))),
                    start: fetch::time(start, row),
                    duration_ns: u64_sat(duration.value(row)),
                    self_ns: 0,
                    status: SpanStatus::from_otlp(u64::from(fetch::byte(status, row))),
                    message: fetch::owned(message, row),
                    attributes: fetch::map(attributes, row),
                    resource: fetch::map(resource, row),
                    events: serde_json::from_str::<Vec<SpanEvent>>(event_json).unwrap_or_default(),
                    links: serde_json::from_str::<Vec<SpanLink>>(link_json).unwrap_or_default(),
                },
            });
        }
        Ok(())
    })?;
    Ok(spans)
}

/// Spans (by start) as a waterfall draws them: depth first, children by start.
pub fn order(spans: Vec<Stored>) -> Vec<SpanRow> {
    let spans = without_repeats(spans);
    let parents = parents(&spans);
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    for (child, parent) in parents.iter().enumerate() {
        if let Some(list) = parent.and_then(|p| children.get_mut(p)) {
            list.push(child);
        }
    }
    // Roots and orphans first; what no root reaches is a cycle, entered at its earliest span.
    let mut visited = vec![false; spans.len()];
    let mut placed: Vec<(usize, u32)> = Vec::with_capacity(spans.len());
    let rootless = parents.iter().enumerate().filter(|(_, p)| p.is_none()).map(|(i, _)| i);
    for root in rootless.chain(0..spans.len()) {
        let mut stack = vec![(root, 0u32)];
        while let Some((at, depth)) = stack.pop() {
            match visited.get_mut(at) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            placed.push((at, depth));
            let below = children.get(at).into_iter().flatten().rev();
            stack.extend(below.map(|&child| (child, depth.saturating_add(1))));
        }
    }
    let covered: Vec<u64> = (0..spans.len())
        .map(|at| {
            let below = children.get(at).map_or(&[][..], Vec::as_slice);
            covered(&spans, at, below)
        })
        .collect();
    let mut rows: Vec<Option<Stored>> = spans.into_iter().map(Some).collect();
    placed
        .into_iter()
        .filter_map(|(at, depth)| {
            let mut stored = rows.get_mut(at)?.take()?;
            if !stored.keep {
                return None;
            }
            let inside = covered.get(at).copied().unwrap_or_default();
            stored.row.depth = depth;
            stored.row.orphan = stored.row.parent_id.is_some() && depth == 0;
            stored.row.self_ns = stored.row.duration_ns.saturating_sub(inside);
            Some(stored.row)
        })
        .collect()
}

/// A span that was exported twice is one span.
fn without_repeats(spans: Vec<Stored>) -> Vec<Stored> {
    let mut seen = HashSet::new();
    spans
        .into_iter()
        .filter(|s| seen.insert((s.row.span_id, s.row.start, s.row.duration_ns, s.resource, s.row.kind)))
        .collect()
}

/// The place of each span's parent. Where two spans share an id (both ends of a call, in older
/// tracers), the one of the child's own service is its parent.
fn parents(spans: &[Stored]) -> Vec<Option<usize>> {
    let mut by_id: HashMap<SpanId, Vec<usize>> = HashMap::with_capacity(spans.len());
    for (at, span) in spans.iter().enumerate() {
        by_id.entry(span.row.span_id).or_default().push(at);
    }
    let find = |(at, span): (usize, &Stored)| {
        let candidates = by_id.get(&span.row.parent_id?)?;
        let others = || candidates.iter().copied().filter(|&c| c != at);
        let near = others()
            .find(|&c| spans.get(c).is_some_and(|p| p.row.service == span.row.service));
        near.or_else(|| others().next())
    };
    spans.iter().enumerate().map(find).collect()
}

/// How much of a span's time its children cover.
///
/// A child measured by another clock may seem to begin before its parent or end after it; where it
/// would fit, it is moved to the middle of its parent, as the network's two ways are equal at best
/// guess; else only what lies inside counts.
fn covered(spans: &[Stored], at: usize, children: &[usize]) -> u64 {
    let Some(parent) = spans.get(at) else { return 0 };
    let (from, to) = (parent.row.start, parent.row.start.plus(parent.row.duration_ns));
    let mut inside: Vec<(Time, Time)> = children
        .iter()
        .filter_map(|&child| {
            let child = spans.get(child)?;
            let (mut start, mut end) = (child.row.start, child.row.start.plus(child.row.duration_ns));
            let other_clock = child.resource != parent.resource
                && child.row.kind == SpanKind::Server
                && child.row.duration_ns <= parent.row.duration_ns;
            if other_clock && (start < from || end > to) {
                let way = (parent.row.duration_ns - child.row.duration_ns) / 2;
                (start, end) = (from.plus(way), from.plus(way).plus(child.row.duration_ns));
            }
            let (start, end) = (start.max(from), end.min(to));
            (start < end).then_some((start, end))
        })
        .collect();
    inside.sort_unstable();
    let (mut total, mut reached) = (0u64, from);
    for (start, end) in inside {
        total = total.saturating_add(end.since(start.max(reached)));
        reached = reached.max(end);
    }
    total
}

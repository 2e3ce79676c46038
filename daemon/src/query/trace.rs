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
use hashbrown::{HashMap, HashSet};

use super::QueryError;
use super::answer::Found;
use super::fetch::{self, Sql};
use super::plan::Plan;
use super::traces::LAYOUT;
use crate::store::Reading;

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
pub fn answer(conn: &Reading<'_>, plan: &Plan) -> Result<Found, QueryError> {
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
        "SELECT t.span_id, t.parent_id, t.service, r.instance, coalesce(t.name, t.operation), t.kind, t.start_ns, \
         t.duration_ns, t.status, t.message, t.attributes, r.attributes, t.events, t.links, \
         t.resource, ",
    )
    .part(LAYOUT.condition(filter)?)
    .then(&format!(
        " FROM {} t LEFT JOIN {} r ON r.id = t.resource WHERE t.trace_hi = ",
        conn.traces((hi, lo), (hi, lo))?,
        conn.resources()
    ))
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
        .filter(|s| {
            seen.insert((s.row.span_id, s.row.start, s.row.duration_ns, s.resource, s.row.kind))
        })
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
        let near =
            others().find(|&c| spans.get(c).is_some_and(|p| p.row.service == span.row.service));
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
            let (mut start, mut end) =
                (child.row.start, child.row.start.plus(child.row.duration_ns));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn span(id: u64, parent: u64, start: u64, duration: u64) -> Stored {
        Stored {
            resource: 1,
            keep: true,
            row: SpanRow {
                trace_id: TraceId([1; 16]),
                span_id: SpanId(id.to_be_bytes()),
                parent_id: (parent != 0).then(|| SpanId(parent.to_be_bytes())),
                orphan: false,
                depth: 0,
                service: "shop".to_owned(),
                instance: None,
                operation: id.to_string(),
                kind: SpanKind::Server,
                start: Time(1_000_000 + start),
                duration_ns: duration,
                self_ns: 0,
                status: SpanStatus::Unset,
                message: None,
                attributes: BTreeMap::new(),
                resource: BTreeMap::new(),
                events: Vec::new(),
                links: Vec::new(),
            },
        }
    }

    /// `operation@depth`, an orphan marked `?`.
    fn shape(spans: Vec<Stored>) -> String {
        let rows = order(spans);
        let text = rows
            .iter()
            .map(|r| format!("{}@{}{}", r.operation, r.depth, if r.orphan { "?" } else { "" }));
        text.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn depth_first_children_by_start() {
        let spans =
            vec![span(1, 0, 0, 100), span(2, 1, 10, 5), span(4, 2, 11, 2), span(3, 1, 20, 5)];
        assert_eq!(shape(spans), "1@0 2@1 4@2 3@1");
    }

    #[test]
    fn orphans_cycles_and_repeats_are_placed_once() {
        assert_eq!(shape(vec![span(2, 9, 0, 5), span(3, 2, 1, 2)]), "2@0? 3@1");
        assert_eq!(
            shape(vec![span(1, 3, 0, 5), span(2, 1, 1, 5), span(3, 2, 2, 5)]),
            "1@0? 2@1 3@2"
        );
        assert_eq!(shape(vec![span(7, 7, 0, 5)]), "7@0?");
        assert_eq!(shape(vec![span(1, 0, 0, 5), span(1, 0, 0, 5), span(2, 1, 1, 2)]), "1@0 2@1");
        assert_eq!(shape(Vec::new()), "");
        // A root and a cycle beside it.
        assert_eq!(
            shape(vec![span(5, 6, 0, 1), span(6, 5, 1, 1), span(1, 0, 9, 1)]),
            "1@0 5@0? 6@1"
        );
    }

    #[test]
    fn both_ends_of_a_call_may_share_an_id() {
        let mut server = span(2, 1, 12, 6);
        server.row.service = "pay".to_owned();
        let mut below = span(3, 2, 13, 2);
        below.row.service = "pay".to_owned();
        let rows = order(vec![span(1, 0, 0, 100), span(2, 1, 10, 10), server, below]);
        let below = rows.iter().position(|r| r.operation == "3").unwrap();
        assert_eq!((rows[below].depth, rows[below - 1].service.as_str()), (2, "pay"));
    }

    #[test]
    fn a_chain_of_ten_thousand_needs_no_stack() {
        let spans = (1..=10_000).map(|n| span(n, n - 1, n, 20_000 - n)).collect();
        let rows = order(spans);
        assert_eq!((rows.len(), rows[9_999].depth), (10_000, 9_999));
        assert_eq!(rows[0].self_ns, 1);
    }

    #[test]
    fn self_time_counts_what_no_child_covers() {
        let own = |spans: Vec<Stored>| order(spans)[0].self_ns;
        // Overlapping children cover once; what sticks out does not count.
        assert_eq!(own(vec![span(1, 0, 0, 100), span(2, 1, 10, 30), span(3, 1, 20, 30)]), 60);
        assert_eq!(own(vec![span(1, 0, 0, 100), span(2, 1, 90, 500)]), 90);
        // A child that began after the end covers nothing.
        assert_eq!(own(vec![span(1, 0, 0, 100), span(2, 1, 150, 500)]), 100);
        // Another host's clock is ahead: the child fits and is moved inside.
        let mut skewed = span(2, 1, 5_000, 40);
        skewed.resource = 2;
        assert_eq!(own(vec![span(1, 0, 0, 100), skewed]), 60);
    }

    proptest! {
        #[test]
        fn every_span_appears_once_whatever_the_parents(edges in prop::collection::vec((1u64..20, 0u64..25, 0u64..50, 0u64..50), 0..40)) {
            let spans: Vec<Stored> = edges.iter().enumerate().map(|(n, &(id, parent, start, d))| {
                let mut s = span(id, parent, start, d);
                s.resource = n as u64;
                s
            }).collect();
            let rows = order(spans.clone());
            prop_assert_eq!(rows.len(), spans.len());
            for row in rows {
                prop_assert!(row.self_ns <= row.duration_ns);
            }
        }
    }
}

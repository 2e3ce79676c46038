//! A trace: what it is as a whole, its waterfall, and what happened in its spans.

use coral_model::text::{count, duration as dur};
use coral_model::view::{SpanRow, SpanStatus, TraceHead, TraceRow};

use super::Reader;
use super::cell::{self, Cell, Look};
use super::table::{Block, number, text, whole};

/// Spans of the critical path that are named.
const CRITICAL: usize = 5;
/// Columns of the waterfall's bars.
const BAR: u64 = 24;
/// Lines about what happened in spans.
const NOTES: usize = 200;

/// Why traces are unusual, a line each: a reason that is cut off is none.
#[must_use]
pub fn unusual(rows: &[&TraceRow], reader: &Reader) -> Block {
    let lines = rows.iter().filter_map(|row| {
        let score = row.score.filter(|_| !row.unusual.is_empty())?;
        let id: String = row.trace_id.to_string().chars().take(8).collect();
        let of = match row.sampled_every {
            Some(n) if n > 1 => format!(" (one trace in {n} was looked at)"),
            _ => String::new(),
        };
        let (at, why) = (reader.time(row.start), row.unusual.join("; "));
        Some(Cell::from(format!("{at} {id}… {score:.1} bits: {why}{of}")))
    });
    Block::lines(lines.collect())
}

/// What the trace is as a whole: how long, where its time went, whose clocks were corrected.
#[must_use]
pub fn head(row: &TraceHead, reader: &Reader) -> Block {
    let plural =
        |n: u64, what: &str| format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" });
    let mut first = format!(
        "trace {} · {} {} · {} · {} in {}",
        row.trace_id,
        reader.fine_time(row.start),
        reader.zone(row.start),
        dur(row.duration_ns),
        plural(row.spans, "span"),
        plural(coral_model::num::u64_sat(row.services.len()), "service"),
    );
    if row.errors > 0 {
        first.push_str(&format!(" · {} failed", count(row.errors)));
    }
    if row.orphans > 0 {
        first
            .push_str(&format!(" · of {} the parent has not arrived", plural(row.orphans, "span")));
    }
    let mut lines = vec![Cell::from(first).look(Look::Bold)];
    let path: Vec<String> = row
        .critical
        .iter()
        .take(CRITICAL)
        .map(|c| {
            let share = cell::percent(c.share);
            format!("{} {} {} ({share})", c.service, c.operation, dur(c.critical_ns))
        })
        .collect();
    if !path.is_empty() {
        lines.push(Cell::from(format!("time went to: {}", path.join(" · "))));
    }
    for clock in &row.clocks {
        let way = if clock.shift_ns < 0 { "ahead" } else { "behind" };
        let off = dur(clock.shift_ns.unsigned_abs());
        let calls = plural(clock.calls, "call");
        let line = match (clock.contradictory, clock.shift_ns) {
            (false, _) => format!(
                "clock of {} was {off} {way}: {} corrected, ±{} by {calls}",
                clock.host,
                plural(clock.spans, "span"),
                dur(clock.within_ns)
            ),
            (true, 0) => format!(
                "clock of {}: its {calls} contradict each other, nothing was corrected",
                clock.host
            ),
            (true, _) => format!(
                "clock of {} was about {off} {way}: its {calls} contradict each other",
                clock.host
            ),
        };
        lines.push(Cell::from(line).look(Look::Warn));
    }
    Block::lines(lines)
}

/// A line per span, indented by depth, with a bar over the trace's time: `█` on the critical path.
#[must_use]
pub fn waterfall(head: Option<&TraceHead>, rows: &[&SpanRow]) -> Block {
    let mut block = Block::new(vec![
        number("AT"),
        number("TOOK"),
        number("SELF"),
        number("CRITICAL"),
        text("SERVICE", 10),
        text("SPAN", 16),
        whole("KIND").extra(),
        whole("WHEN").extra(),
        text("STATUS", 6),
    ]);
    let first = rows.iter().map(|r| r.start).min().unwrap_or_default();
    let first = head.map_or(first, |h| h.start);
    let end = rows.iter().map(|r| r.start.plus(r.duration_ns)).max().unwrap_or_default();
    let length = head.map_or(end.since(first), |h| h.duration_ns).max(1);
    for row in rows {
        let indent = "  ".repeat(usize::try_from(row.depth.min(40)).unwrap_or(0));
        let orphan = if row.orphan { "⚬ " } else { "" };
        let status = match (row.status, &row.message) {
            (SpanStatus::Error, Some(message)) => {
                Cell::text(&format!("error: {message}")).look(Look::Bad)
            }
            (SpanStatus::Error, None) => Cell::text("error").look(Look::Bad),
            (_, _) => Cell::default(),
        };
        let at = row.start.since(first);
        block.rows.push(vec![
            Cell::from(if at == 0 { "0".to_owned() } else { format!("+{}", dur(at)) }),
            Cell::text(&dur(row.duration_ns)),
            Cell::text(&dur(row.self_ns)),
            match row.critical_ns {
                0 => Cell::none(),
                ns => Cell::text(&dur(ns)),
            },
            Cell::text(&row.service),
            Cell::from(format!("{indent}{orphan}{}", row.operation)),
            Cell::text(row.kind.word()),
            Cell::from(bar(at, row.duration_ns, length, row.critical_ns > 0)),
            status,
        ]);
    }
    block.without_empty(&["CRITICAL", "STATUS"])
}

fn bar(at: u64, duration: u64, length: u64, critical: bool) -> String {
    let scaled = |ns: u64| u128::from(ns) * u128::from(BAR) / u128::from(length);
    let column = |n: u128| usize::try_from(n.min(u128::from(BAR))).unwrap_or(0);
    let from = column(scaled(at)).min(column(u128::from(BAR) - 1));
    let to = column(scaled(at.saturating_add(duration))).max(from + 1);
    let mark = if critical { "█" } else { "▒" };
    format!("{}{}", " ".repeat(from), mark.repeat(to - from))
}

/// Events, links and long gaps, in the order of the spans they belong to.
#[must_use]
pub fn notes(heads: &[&TraceHead], rows: &[&SpanRow]) -> Block {
    let Some(head) = heads.first() else { return Block::default() };
    let mut lines = Vec::new();
    for row in rows {
        let name = format!("{} {}", row.service, row.operation);
        let at = |t: coral_model::Time| format!("+{}", dur(t.since(head.start)));
        for event in &row.events {
            let particulars: Vec<String> =
                event.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let line =
                format!("{} {name}: {} {}", at(event.time), event.name, particulars.join(" "));
            lines.push(Cell::from(coral_model::text::fit(line.trim_end(), 300)));
        }
        for link in &row.links {
            lines.push(Cell::from(format!(
                "{name}: linked to span {} of trace {}",
                link.span_id, link.trace_id
            )));
        }
        // Gaps that a person would see in the picture.
        for gap in row.gaps.iter().filter(|g| g.duration_ns.saturating_mul(10) >= head.duration_ns)
        {
            let line = format!(
                "{} {name}: {} in which nothing below it ran",
                at(gap.start),
                dur(gap.duration_ns)
            );
            lines.push(Cell::from(line).look(Look::Dim));
        }
    }
    let more = lines.len().saturating_sub(NOTES);
    lines.truncate(NOTES);
    if more > 0 {
        lines.push(Cell::from(format!("{more} more: --json has them all")).look(Look::Dim));
    }
    Block::lines(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_inside_their_columns() {
        assert_eq!(bar(0, 100, 100, true), "█".repeat(24));
        assert_eq!(bar(50, 0, 100, false), format!("{}▒", " ".repeat(12)));
        assert_eq!(bar(100, 50, 100, false), format!("{}▒", " ".repeat(23)));
        assert_eq!(bar(u64::MAX, u64::MAX, 1, false).chars().count(), 24);
    }
}

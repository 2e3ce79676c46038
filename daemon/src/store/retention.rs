//! How long what is kept, and what goes first when the disk's share is used up.

use coral_model::config::Retention;
use coral_model::time::Time;

use super::schema::{Signal, Slice};
use super::segment::{Form, Segment};
use super::tables::Tables;

/// Bulky pieces of a signal that are kept as long as there are small ones to drop.
const BULK_KEPT: usize = 2;

/// How long a signal's rows of a form are kept, ns.
#[must_use]
pub const fn keeps(retention: &Retention, signal: Signal, form: Form) -> u64 {
    match (signal, form) {
        (Signal::Spans, _) => retention.spans,
        (Signal::Logs, _) => retention.logs,
        (Signal::Metrics, _) => retention.metrics,
        (Signal::Red | Signal::Edges, Form::Rows | Form::Traces | Form::Words) => retention.red_10s,
        (Signal::Red | Signal::Edges, Form::Minute | Form::SeriesMinute) => retention.red_1m,
        (Signal::Red | Signal::Edges, Form::Hour | Form::SeriesHour) => retention.red_1h,
        (Signal::Events, _) => retention.events,
        (Signal::Inflight, _) => retention.inflight,
        (Signal::Hosts, _) => retention.hosts,
        // Not sealed: half-edges go when the join is done with them, resources roll on.
        (Signal::HalfEdges | Signal::Resources, _) => u64::MAX,
    }
}

/// How long a resource is remembered after it was last heard of: as long as anything it explains.
#[must_use]
pub fn longest(retention: &Retention) -> u64 {
    let explained = [Signal::Spans, Signal::Logs, Signal::Metrics, Signal::Red, Signal::Inflight];
    let forms = explained.iter().flat_map(|s| Form::of(*s).iter().map(|f| (*s, *f)));
    forms.map(|(signal, form)| keeps(retention, signal, form)).max().unwrap_or(u64::MAX)
}

/// Segments that are older at `now` than they are kept.
#[must_use]
pub fn outlived(retention: &Retention, tables: &Tables, now: Time) -> Vec<Segment> {
    let old = |s: &&Segment| now.since(s.received.1) > keeps(retention, s.signal, s.form);
    tables.segments().iter().filter(old).cloned().collect()
}

/// What goes together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expendable {
    /// Tables.
    Slices(Vec<(Signal, Slice)>),
    /// Files.
    Segments(Vec<Segment>),
}

/// What a piece is worth: lower goes first.
fn rank(signal: Signal, form: Form) -> u8 {
    match (signal, form) {
        (Signal::Spans | Signal::Logs | Signal::Metrics | Signal::HalfEdges, _) => 0,
        (Signal::Inflight | Signal::Hosts, _) => 1,
        (Signal::Red | Signal::Edges, Form::Rows | Form::Traces | Form::Words) => 1,
        (Signal::Red | Signal::Edges, Form::Minute | Form::SeriesMinute) => 2,
        (Signal::Red | Signal::Edges, Form::Hour | Form::SeriesHour) => 3,
        (Signal::Events | Signal::Resources, _) => 4,
    }
}

/// What goes first: the oldest bulky piece while there are more than a few; then the oldest of the
/// finer buckets, of the coarser, and events; then all bulky pieces but the current; at last tables
/// of the small signals that could not be sealed. Never a current slice, never resources.
#[must_use]
pub fn expendable(tables: &Tables) -> Option<Expendable> {
    let bulky = |keep| oldest_bulky(tables, keep);
    bulky(BULK_KEPT)
        .or_else(|| (1..=4).find_map(|wanted| oldest_segments(tables, wanted)))
        .or_else(|| bulky(1))
        .or_else(|| {
            let small =
                |(signal, _): &(Signal, Slice)| !signal.bulky() && *signal != Signal::Resources;
            let oldest = tables.ended().filter(small).min_by_key(|(_, slice)| *slice)?;
            Some(Expendable::Slices(vec![oldest]))
        })
}

fn oldest_segments(tables: &Tables, wanted: u8) -> Option<Expendable> {
    let of = || tables.segments().iter().filter(|s| rank(s.signal, s.form) == wanted);
    let first = of().map(|s| s.first).min()?;
    Some(Expendable::Segments(of().filter(|s| s.first == first).cloned().collect()))
}

fn oldest_bulky(tables: &Tables, keep: usize) -> Option<Expendable> {
    let sealed = |signal: Signal| tables.segments().iter().filter(move |s| s.signal == signal);
    let many = |signal: &Signal| {
        let pieces = sealed(*signal).filter(|s| s.form == Form::Rows).count();
        pieces + tables.of(*signal).len() > keep
    };
    let signals: Vec<Signal> = Signal::ALL.into_iter().filter(|s| s.bulky()).filter(many).collect();
    let slices = || tables.ended().filter(|(signal, _)| signals.contains(signal));
    let segments = || signals.iter().flat_map(|signal| sealed(*signal));
    let (slice, segment) = (slices().map(|s| s.1).min(), segments().map(|s| s.first).min());
    match (slice, segment) {
        (None, None) => None,
        (Some(slice), segment) if segment.is_none_or(|segment| slice <= segment) => {
            Some(Expendable::Slices(slices().filter(|s| s.1 == slice).collect()))
        }
        (_, segment) => {
            let of = segments().filter(|s| Some(s.first) == segment);
            Some(Expendable::Segments(of.cloned().collect()))
        }
    }
}

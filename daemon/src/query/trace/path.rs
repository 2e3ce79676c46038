//! Where a trace's time went: own time, gaps, and the path that decided how long it took.

use coral_model::num::u64_sat;
use coral_model::time::Time;
use coral_model::view::Gap;

use super::Stored;
use super::tree::Tree;

/// Gaps of one span that are told.
const GAPS: usize = 20;
/// A gap is told from this share of its span on.
const WORTH: u64 = 100;

fn bounds(span: &Stored) -> (Time, Time) {
    (span.row.start, span.row.start.plus(span.row.duration_ns))
}

/// The parts of a span's time that its children ran in, by start; overlapping ones are one.
fn covered(spans: &[Stored], tree: &Tree, at: usize) -> Vec<(Time, Time)> {
    let Some((from, to)) = spans.get(at).map(bounds) else { return Vec::new() };
    let below = tree.below.get(at).map_or(&[][..], Vec::as_slice);
    let mut inside: Vec<(Time, Time)> = below
        .iter()
        .filter_map(|&child| {
            let (start, end) = bounds(spans.get(child)?);
            let (start, end) = (start.max(from), end.min(to));
            (start < end).then_some((start, end))
        })
        .collect();
    inside.sort_unstable();
    let mut joined: Vec<(Time, Time)> = Vec::new();
    for (start, end) in inside {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}

/// Own time and gaps of every span, and the critical path of the tree below `root`.
pub fn measure(spans: &mut [Stored], tree: &Tree, root: Option<usize>) {
    let found: Vec<(u64, Vec<Gap>)> = (0..spans.len())
        .map(|at| {
            let covered = covered(spans, tree, at);
            let inside: u64 = covered.iter().map(|(from, to)| to.since(*from)).sum();
            let duration = spans.get(at).map_or(0, |s| s.row.duration_ns);
            (duration.saturating_sub(inside), gaps(&covered, duration))
        })
        .collect();
    let critical = critical(spans, tree, root);
    for ((span, (own, gaps)), critical) in spans.iter_mut().zip(found).zip(critical) {
        span.row.self_ns = own;
        span.row.gaps = gaps;
        span.row.critical_ns = critical;
    }
}

/// What lies between covered stretches: the longest, in order of time.
fn gaps(covered: &[(Time, Time)], duration: u64) -> Vec<Gap> {
    let between = covered.iter().zip(covered.iter().skip(1));
    let mut gaps: Vec<Gap> = between
        .map(|((_, end), (start, _))| Gap { start: *end, duration_ns: start.since(*end) })
        .filter(|gap| gap.duration_ns.saturating_mul(WORTH) >= duration)
        .collect();
    gaps.sort_by_key(|gap| std::cmp::Reverse(gap.duration_ns));
    gaps.truncate(GAPS);
    gaps.sort_by_key(|gap| gap.start);
    gaps
}

/// Each span's own part of the critical path, in ns; together they are the root's duration.
///
/// Walked backwards from the root's end: what ended last is what was waited for. At any moment the
/// path is in the child that ended last before it; where none did, in the span itself.
fn critical(spans: &[Stored], tree: &Tree, root: Option<usize>) -> Vec<u64> {
    let mut own = vec![0u64; spans.len()];
    let Some((root, span)) = root.and_then(|at| Some((at, spans.get(at)?))) else { return own };
    let (from, to) = bounds(span);
    let mut open = vec![(root, from, to)];
    while let Some((at, from, to)) = open.pop() {
        let below = tree.below.get(at).map_or(&[][..], Vec::as_slice);
        let mut children: Vec<(Time, Time, usize)> = below
            .iter()
            .filter_map(|&child| {
                let (start, end) = bounds(spans.get(child)?);
                let (start, end) = (start.max(from), end.min(to));
                (start < end).then_some((end, start, child))
            })
            .collect();
        // By end, the latest first; of equals the longest.
        children.sort_unstable_by(|a, b| (b.0, a.1, a.2).cmp(&(a.0, b.1, b.2)));
        let (mut reached, mut mine) = (to, 0u64);
        for (end, start, child) in children {
            if end > reached {
                continue;
            }
            mine = mine.saturating_add(reached.since(end));
            open.push((child, start, end));
            reached = start;
        }
        mine = mine.saturating_add(reached.since(from));
        if let Some(slot) = own.get_mut(at) {
            *slot = u64_sat(mine);
        }
    }
    own
}

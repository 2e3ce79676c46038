//! Hosts whose clocks disagree, put right as far as the calls between them say.
//!
//! A call that waits for its answer contains the request it makes: the callee's span lies inside the
//! caller's. Where it does not, one of the two clocks is wrong, and every call between two hosts bounds
//! by how much: the callee must be moved by at least what brings its start behind the caller's, and
//! at most by what brings its end before the caller's. The bounds of all calls between two hosts
//! together hold the correction. Where they allow none, there is none; else it is their middle, as
//! the ways there and back are equal at best guess (as NTP has it, RFC 5905, section 8). Clocks are
//! corrected towards the root's. Spans of one host are never moved against each other.

use std::collections::BTreeMap;

use coral_model::num::{i64_sat, u64_sat};
use coral_model::view::{ClockShift, SpanKind};
use hashbrown::HashMap;

use super::Stored;
use super::tree::Tree;

/// What the calls between two hosts say of how far the second is to be moved against the first.
#[derive(Debug, Default)]
struct Bounds(Vec<(i128, i128)>);

/// A correction, and how well it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    shift: i128,
    within: i128,
    contradictory: bool,
}

impl Bounds {
    fn settle(&self) -> Found {
        let low = self.0.iter().map(|b| b.0).max().unwrap_or(0);
        let high = self.0.iter().map(|b| b.1).min().unwrap_or(0);
        if low <= high {
            let shift = if low <= 0 && high >= 0 { 0 } else { low + (high - low) / 2 };
            return Found { shift, within: (high - low) / 2, contradictory: false };
        }
        let fine = self.0.iter().filter(|(low, high)| *low <= 0 && *high >= 0).count();
        if fine * 2 >= self.0.len() {
            return Found { shift: 0, within: 0, contradictory: true };
        }
        let mut middles: Vec<i128> = self.0.iter().map(|(l, h)| l + (h - l) / 2).collect();
        middles.sort_unstable();
        let shift = middles.get(middles.len() / 2).copied().unwrap_or(0);
        Found { shift, within: 0, contradictory: true }
    }

    fn reversed(&self) -> Self {
        Self(self.0.iter().map(|(low, high)| (-high, -low)).collect())
    }
}

/// Moves spans of hosts whose clocks are wrong, and says which and by how much, the furthest first.
pub fn correct(spans: &mut [Stored], tree: &Tree) -> Vec<ClockShift> {
    let mut names: Vec<String> = Vec::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let hosts: Vec<usize> = spans
        .iter()
        .map(|span| {
            *numbers.entry(span.clock.clone()).or_insert_with(|| {
                names.push(span.clock.clone());
                names.len() - 1
            })
        })
        .collect();
    if names.len() < 2 {
        return Vec::new();
    }
    let between = bounds(spans, tree, &hosts);
    let root = tree.placed.first().and_then(|(at, _)| hosts.get(*at)).copied().unwrap_or(0);
    // Outwards from the root's host, along the calls; of several ways the shortest.
    let mut found: BTreeMap<usize, (Found, u64)> = BTreeMap::new();
    let still = Found { shift: 0, within: 0, contradictory: false };
    found.insert(root, (still, 0));
    let mut open = std::collections::VecDeque::from([root]);
    while let Some(host) = open.pop_front() {
        let Some(&(own, _)) = found.get(&host) else { continue };
        for (&(a, b), bounds) in between.iter().filter(|((a, b), _)| *a == host || *b == host) {
            let other = if a == host { b } else { a };
            if found.contains_key(&other) {
                continue;
            }
            let step = if a == host { bounds.settle() } else { bounds.reversed().settle() };
            let shift = own.shift + step.shift;
            let within = own.within.max(step.within);
            let calls = u64_sat(bounds.0.len());
            found.insert(other, (Found { shift, within, ..step }, calls));
            open.push_back(other);
        }
    }
    let mut counts = vec![0u64; names.len()];
    for (span, host) in spans.iter_mut().zip(&hosts) {
        if let Some(n) = counts.get_mut(*host) {
            *n += 1;
        }
        let shift = found.get(host).map_or(0, |(f, _)| i64_sat(f.shift));
        if shift != 0 {
            let moved = |t: coral_model::Time| match shift {
                ahead if ahead > 0 => t.plus(ahead.unsigned_abs()),
                back => t.minus(back.unsigned_abs()),
            };
            span.row.start = moved(span.row.start);
            span.row.events.iter_mut().for_each(|e| e.time = moved(e.time));
            span.row.shift_ns = shift;
        }
    }
    let mut clocks: Vec<ClockShift> = found
        .into_iter()
        .filter(|(_, (f, _))| f.shift != 0 || f.contradictory)
        .map(|(host, (f, calls))| ClockShift {
            host: names.get(host).cloned().unwrap_or_default(),
            shift_ns: i64_sat(f.shift),
            within_ns: u64_sat(f.within),
            calls,
            spans: counts.get(host).copied().unwrap_or_default(),
            contradictory: f.contradictory,
        })
        .collect();
    clocks.sort_by(|a, b| {
        (b.shift_ns.unsigned_abs(), &a.host).cmp(&(a.shift_ns.unsigned_abs(), &b.host))
    });
    clocks
}

/// Of every two hosts that call each other (the lower number first) what the calls say.
fn bounds(spans: &[Stored], tree: &Tree, hosts: &[usize]) -> BTreeMap<(usize, usize), Bounds> {
    let mut between: BTreeMap<(usize, usize), Bounds> = BTreeMap::new();
    for (at, above) in tree.above.iter().enumerate() {
        let Some(above) = *above else { continue };
        let (Some(callee), Some(caller)) = (spans.get(at), spans.get(above)) else { continue };
        let (Some(&to), Some(&from)) = (hosts.get(at), hosts.get(above)) else { continue };
        // A consumer need not run while its producer does; a callee that took longer than its caller
        // waited was given up on.
        let waits = callee.row.kind == SpanKind::Server && caller.row.kind != SpanKind::Producer;
        if to == from || !waits || callee.row.duration_ns > caller.row.duration_ns {
            continue;
        }
        let start = |s: &Stored| i128::from(s.row.start.0);
        let end = |s: &Stored| start(s) + i128::from(s.row.duration_ns);
        let (low, high) = (start(caller) - start(callee), end(caller) - end(callee));
        let (key, bound) =
            if from < to { ((from, to), (low, high)) } else { ((to, from), (-high, -low)) };
        between.entry(key).or_default().0.push(bound);
    }
    between
}

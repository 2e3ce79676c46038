//! What is unusual about a trace, measured against the others of its time.
//!
//! In: whole traces, span by span. Out: those that are unusual, with a score and the reasons in words.
//! Two things make a trace unusual:
//!
//! - a *duration* far from its operation's own distribution: beyond [`FAR`] times the spread of its
//!   logarithms (the median absolute deviation, Rousseeuw and Croux 1993) from their median, at least
//!   twice or half of it, while at most [`RARE`] of the operation's spans are [`NEARLY`] as far out. The
//!   last keeps out what has two humps, like hits and misses of a cache. Of a slow span and the slow spans
//!   around it only the innermost is told;
//! - a rare *shape*: the set of calls between operations in it. Its surprise, log2 of one over its share
//!   among traces that begin with the same operation, must be [`BITS`] more than the median trace's, so
//!   that where every trace is different none is unusual for it.
//!
//! A score is in bits: rare as one in two to its power. Nothing is judged by few others ([`SPANS`],
//! [`TRACES`]).

use std::collections::BTreeSet;

use coral_model::num::{f64_from, u32_sat, u64_from_f64, u64_sat, usize_sat};
use coral_model::text::{count, duration};
use hashbrown::HashMap;

/// Spans of an operation before any of them can be far from the others.
const SPANS: usize = 50;
/// Traces that begin alike before any of them can have a rare shape.
const TRACES: usize = 30;
/// Spreads from the median.
const FAR: f64 = 6.0;
/// Least spread of logarithms: operations that always take the same would else be judged by noise.
const SPREAD: f64 = 0.05;
/// Share of spans that are [`NEARLY`] as far out.
const RARE: f64 = 0.01;
/// As far as this, as a share.
const NEARLY: f64 = 0.75;
/// And farther by at least this, in ns: nobody looks for a fraction of a millisecond.
const BY: u64 = 1_000_000;
/// Bits of surprise beyond what is usual.
const BITS: f64 = 3.0;
/// Share of traces of a shape that is not rare any more.
const SHAPE: f64 = 0.05;
/// A call that so few have is named, and one that all but so few have is missed.
const FEW: f64 = 0.05;
/// Reasons told of one trace.
const REASONS: usize = 4;

/// A span, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Fact<'a> {
    /// Which trace, by a number.
    pub trace: usize,
    /// Its id.
    pub span: u64,
    /// Its parent's; 0 is none.
    pub parent: u64,
    /// `service.name`.
    pub service: &'a str,
    /// Operation.
    pub operation: &'a str,
    /// OTLP span kind.
    pub kind: u8,
    /// How long it took, ns.
    pub duration_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    trace: u32,
    span: u64,
    parent: u64,
    operation: u32,
    duration_ns: u64,
}

/// Traces that are compared with each other.
#[derive(Debug, Default)]
pub struct Sample {
    names: Vec<String>,
    numbers: HashMap<(String, u8), u32>,
    spans: Vec<Span>,
    traces: usize,
    /// Traces that may still grow: their shape says nothing yet.
    growing: BTreeSet<usize>,
}

/// An unusual trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Unusual {
    /// Which, by its number.
    pub trace: usize,
    /// Bits.
    pub score: f64,
    /// Why, worst first.
    pub why: Vec<String>,
}

/// A reason, and how much it weighs.
type Reason = (f64, String);

impl Sample {
    /// Adds a span.
    pub fn add(&mut self, fact: &Fact<'_>) {
        let name = format!("{} {}", fact.service, fact.operation);
        let operation = *self.numbers.entry((name, fact.kind)).or_insert_with_key(|(name, _)| {
            self.names.push(name.clone());
            u32_sat(self.names.len() - 1)
        });
        self.traces = self.traces.max(fact.trace + 1);
        self.spans.push(Span {
            trace: u32_sat(fact.trace),
            span: fact.span,
            parent: fact.parent,
            operation,
            duration_ns: fact.duration_ns,
        });
    }

    /// A trace of which more may arrive.
    pub fn grows(&mut self, trace: usize) {
        self.growing.insert(trace);
    }

    fn name(&self, operation: u32) -> &str {
        self.names.get(usize_sat(operation)).map_or("", String::as_str)
    }

    /// The unusual ones, most unusual first.
    pub fn judge(&self) -> Vec<Unusual> {
        let mut reasons: Vec<Vec<Reason>> = vec![Vec::new(); self.traces];
        self.durations(&mut reasons);
        self.shapes(&mut reasons);
        let mut found: Vec<Unusual> = reasons
            .into_iter()
            .enumerate()
            .filter(|(_, reasons)| !reasons.is_empty())
            .map(|(trace, mut reasons)| {
                reasons.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
                let score = reasons.first().map_or(0.0, |r| r.0);
                let why = reasons.into_iter().take(REASONS).map(|r| r.1).collect();
                Unusual { trace, score, why }
            })
            .collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.trace.cmp(&b.trace)));
        found
    }

    /// Spans far from their operation's own distribution.
    fn durations(&self, reasons: &mut [Vec<Reason>]) {
        let mut by_operation: Vec<Vec<f64>> = vec![Vec::new(); self.names.len()];
        for span in &self.spans {
            if let Some(all) = by_operation.get_mut(usize_sat(span.operation)) {
                all.push(logarithm(span.duration_ns));
            }
        }
        let usual: Vec<Option<Usual>> = by_operation.into_iter().map(Usual::of).collect();
        let far: Vec<Option<Reason>> = self
            .spans
            .iter()
            .map(|span| {
                let usual = usual.get(usize_sat(span.operation))?.as_ref()?;
                usual.judge(span.duration_ns, self.name(span.operation))
            })
            .collect();
        // A span that waited for one below it is as slow, for no reason of its own.
        let explained: BTreeSet<(u32, u64)> = self
            .spans
            .iter()
            .zip(&far)
            .filter(|(_, reason)| reason.is_some())
            .map(|(span, _)| (span.trace, span.parent))
            .collect();
        for (span, reason) in self.spans.iter().zip(far) {
            let Some(reason) = reason else { continue };
            if let Some(list) = reasons.get_mut(usize_sat(span.trace))
                && !explained.contains(&(span.trace, span.span))
                && !list.iter().any(|(_, text)| *text == reason.1)
            {
                list.push(reason);
            }
        }
    }

    /// Traces of a rare shape.
    fn shapes(&self, reasons: &mut [Vec<Reason>]) {
        let mut operations: HashMap<(u32, u64), u32> = HashMap::with_capacity(self.spans.len());
        for span in &self.spans {
            operations.insert((span.trace, span.span), span.operation);
        }
        let mut roots: Vec<Option<u32>> = vec![None; self.traces];
        let mut calls: Vec<BTreeSet<(u32, u32)>> = vec![BTreeSet::new(); self.traces];
        for span in &self.spans {
            let trace = usize_sat(span.trace);
            if span.parent == 0 {
                if let Some(root) = roots.get_mut(trace) {
                    *root = root.or(Some(span.operation));
                }
            } else if let (Some(above), Some(calls)) =
                (operations.get(&(span.trace, span.parent)), calls.get_mut(trace))
            {
                calls.insert((*above, span.operation));
            }
        }
        let mut alike: HashMap<u32, Vec<usize>> = HashMap::new();
        for (trace, root) in roots.iter().enumerate() {
            if let Some(root) = root.filter(|_| !self.growing.contains(&trace)) {
                alike.entry(root).or_default().push(trace);
            }
        }
        for (root, traces) in alike.into_iter().filter(|(_, traces)| traces.len() >= TRACES) {
            self.rare(root, &traces, &calls, reasons);
        }
    }

    /// Rare shapes among traces that begin with the same operation.
    fn rare(
        &self,
        root: u32,
        traces: &[usize],
        calls: &[BTreeSet<(u32, u32)>],
        reasons: &mut [Vec<Reason>],
    ) {
        let mut shapes: HashMap<&BTreeSet<(u32, u32)>, u64> = HashMap::new();
        let mut edges: HashMap<(u32, u32), u64> = HashMap::new();
        for shape in traces.iter().filter_map(|&t| calls.get(t)) {
            *shapes.entry(shape).or_default() += 1;
            shape.iter().for_each(|edge| *edges.entry(*edge).or_default() += 1);
        }
        let n = u64_sat(traces.len());
        let bits = |have: u64| (f64_from(n) / f64_from(have.max(1))).log2();
        let mut usual: Vec<f64> = traces
            .iter()
            .filter_map(|&t| shapes.get(calls.get(t)?).map(|have| bits(*have)))
            .collect();
        let Some(usual) = median(&mut usual) else { return };
        for &trace in traces {
            let Some(shape) = calls.get(trace) else { continue };
            let have = shapes.get(shape).copied().unwrap_or(1);
            let surprise = bits(have) - usual;
            if surprise < BITS || f64_from(have) > SHAPE * f64_from(n) {
                continue;
            }
            let root = self.name(root);
            let few = |have: u64| f64_from(have) <= FEW * f64_from(n);
            let mut called: Vec<String> = shape
                .iter()
                .filter_map(|edge| Some((edge, *edges.get(edge)?)))
                .filter(|(_, have)| few(*have))
                .map(|((from, to), have)| {
                    let (from, to) = (self.name(*from), self.name(*to));
                    format!("{from} calls {to}, as {} of {} do", count(have), count(n))
                })
                .collect();
            called.sort_unstable();
            let missed = edges
                .iter()
                .filter(|(edge, have)| few(n - **have) && !shape.contains(*edge))
                .map(|((from, to), have)| {
                    let (from, to) = (self.name(*from), self.name(*to));
                    format!("{from} does not call {to}, as {} of {} do", count(*have), count(n))
                });
            let mut said: Vec<String> = missed.collect();
            said.sort_unstable();
            said.splice(0..0, called);
            let what = format!("shape of {} of {} traces of {root}", count(have), count(n));
            said.truncate(2);
            let text = if said.is_empty() { what } else { format!("{what}: {}", said.join("; ")) };
            if let Some(list) = reasons.get_mut(trace) {
                list.push((surprise, text));
            }
        }
    }
}

/// What spans of an operation take.
struct Usual {
    /// Logarithms, ascending.
    all: Vec<f64>,
    median: f64,
    spread: f64,
}

fn logarithm(ns: u64) -> f64 {
    f64_from(ns.max(1)).ln()
}

/// Sorts.
fn median(all: &mut [f64]) -> Option<f64> {
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}

impl Usual {
    fn of(mut all: Vec<f64>) -> Option<Self> {
        if all.len() < SPANS {
            return None;
        }
        let middle = median(&mut all)?;
        let mut off: Vec<f64> = all.iter().map(|x| (x - middle).abs()).collect();
        // 1.4826 makes it the standard deviation where the logarithms are normal.
        let spread = (1.4826 * median(&mut off)?).max(SPREAD);
        Some(Self { all, median: middle, spread })
    }

    fn judge(&self, ns: u64, name: &str) -> Option<Reason> {
        let x = logarithm(ns);
        let off = x - self.median;
        let usual = u64_from_f64(self.median.exp());
        if off.abs() < FAR * self.spread
            || off.abs() < std::f64::consts::LN_2
            || usual.abs_diff(ns) < BY
        {
            return None;
        }
        let n = self.all.len();
        // As far out, on the same side.
        let out = if off > 0.0 {
            n - self.all.partition_point(|y| *y < x)
        } else {
            self.all.partition_point(|y| *y <= x)
        };
        // Nearly as far out, which is what a second hump would be.
        let edge = self.median + NEARLY * off;
        let near = if off > 0.0 {
            n - self.all.partition_point(|y| *y < edge)
        } else {
            self.all.partition_point(|y| *y <= edge)
        };
        let (out, near, n) = (u64_sat(out.max(1)), u64_sat(near.max(1)), u64_sat(n));
        if f64_from(near) > RARE * f64_from(n) && near > 1 {
            return None;
        }
        let times = off.abs().exp();
        let times = if times >= 10.0 { format!("{times:.0}") } else { format!("{times:.1}") };
        let than = match out - 1 {
            0 => format!("than all {} others", count(n - 1)),
            more => format!("than all but {} of {} others", count(more), count(n - 1)),
        };
        let text = if off > 0.0 {
            format!(
                "{name} took {}: {times} times its median of {}, longer {than}",
                duration(ns),
                duration(usual)
            )
        } else {
            format!(
                "{name} took {}: its median of {} is {times} times that, shorter {than}",
                duration(ns),
                duration(usual)
            )
        };
        Some(((f64_from(n) / f64_from(near)).log2(), text))
    }
}

#[cfg(test)]
mod tests {
    use coral_model::time::MILLI;
    use proptest::prelude::*;

    use super::*;

    fn noise(n: u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    /// Trace `n`: a root, and below it a payment that `took`, unless `None`.
    fn trace(sample: &mut Sample, n: usize, took: Option<u64>) {
        let root = took.unwrap_or(0) + 2 * MILLI + noise(n as u64) % MILLI;
        let fact = |span, parent, operation, duration_ns| Fact {
            trace: n,
            span,
            parent,
            service: "shop",
            operation,
            kind: 2,
            duration_ns,
        };
        sample.add(&fact(1, 0, "buy", root));
        if let Some(took) = took {
            sample.add(&fact(2, 1, "pay", took));
        }
    }

    fn usual(n: usize) -> Option<u64> {
        Some(20 * MILLI + noise(n as u64 + 7) % (10 * MILLI))
    }

    #[test]
    fn a_span_far_out_is_told_with_the_innermost_reason() {
        let mut sample = Sample::default();
        (0..400).for_each(|n| {
            trace(&mut sample, n, if n == 77 { Some(900 * MILLI) } else { usual(n) });
        });
        let found = sample.judge();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].trace, 77);
        // The root was as slow, for no reason of its own.
        assert_eq!(found[0].why.len(), 1);
        assert!(found[0].why[0].starts_with("shop pay took 900ms: "), "{:?}", found[0].why);
        assert!(found[0].why[0].ends_with("longer than all 399 others"), "{:?}", found[0].why);
        assert!((found[0].score - 400f64.log2()).abs() < 1e-9);
    }

    #[test]
    fn two_humps_are_usual() {
        let mut sample = Sample::default();
        // One in ten misses the cache.
        (0..400).for_each(|n| {
            trace(&mut sample, n, if n % 10 == 0 { Some(900 * MILLI) } else { usual(n) });
        });
        assert_eq!(sample.judge(), []);
    }

    #[test]
    fn a_rare_shape_is_told_with_what_is_missing_or_more() {
        let mut sample = Sample::default();
        (0..200).for_each(|n| trace(&mut sample, n, if n == 3 { None } else { usual(n) }));
        let fact = Fact {
            trace: 5,
            span: 9,
            parent: 2,
            service: "mail",
            operation: "send",
            kind: 3,
            duration_ns: 1,
        };
        sample.add(&fact);
        let found = sample.judge();
        let why: Vec<(usize, &str)> =
            found.iter().map(|u| (u.trace, u.why.last().unwrap().as_str())).collect();
        assert_eq!(
            why,
            [
                (
                    3,
                    "shape of 1 of 200 traces of shop buy: shop buy does not call shop pay, as 199 of 200 do"
                ),
                (
                    5,
                    "shape of 1 of 200 traces of shop buy: shop pay calls mail send, as 1 of 200 do"
                ),
            ]
        );
        // What may still grow is not judged by what has not arrived.
        sample.grows(3);
        sample.grows(5);
        let grown = sample.judge();
        assert!(grown.iter().all(|u| !u.why.iter().any(|why| why.contains("shape"))), "{grown:?}");
    }

    #[test]
    fn where_every_trace_is_different_none_is_rare() {
        let mut sample = Sample::default();
        for n in 0..100usize {
            trace(&mut sample, n, usual(n));
            let operation = format!("tenant {n}");
            let fact = Fact {
                trace: n,
                span: 9,
                parent: 1,
                service: "shop",
                operation: &operation,
                kind: 1,
                duration_ns: MILLI,
            };
            sample.add(&fact);
        }
        assert_eq!(sample.judge(), []);
    }

    proptest! {
        #[test]
        fn few_or_equal_traces_are_never_unusual(
            durations in prop::collection::vec(1u64..1 << 40, 1..20),
            times in 1usize..40,
        ) {
            let mut few = Sample::default();
            for (n, took) in durations.iter().enumerate() {
                trace(&mut few, n, Some(*took));
            }
            prop_assert_eq!(few.judge(), []);
            let mut equal = Sample::default();
            for n in 0..times {
                trace(&mut equal, n, Some(durations[0]));
            }
            prop_assert_eq!(equal.judge(), []);
        }

        /// The order in which spans arrive does not matter.
        #[test]
        fn the_verdict_does_not_depend_on_the_order(seed in any::<u64>()) {
            let mut facts: Vec<(usize, Option<u64>)> = (0..120)
                .map(|n| (n, if n % 61 == 5 { Some(700 * MILLI) } else if n == 9 { None } else { usual(n) }))
                .collect();
            let judged = |facts: &[(usize, Option<u64>)]| {
                let mut sample = Sample::default();
                facts.iter().for_each(|(n, took)| trace(&mut sample, *n, *took));
                sample.judge()
            };
            let want = judged(&facts);
            facts.sort_by_key(|(n, _)| noise(seed ^ *n as u64));
            prop_assert_eq!(judged(&facts), want);
        }
    }
}

//! Edge deltas as `topology` and `digest` read them.
//!
//! Like [`super::cells`], for who calls whom: an edge is its two nodes and protocol, a cell one
//! delta of it. The same two nodes seen from both ends and from one are one edge; it says `both
//! ends` when any of its requests was seen from both.

use coral_model::num::{f64_from, u32_sat};
use coral_model::time::{Time, Window};
use coral_model::view::{EdgeEnds, Evidence, NodeKind};
use hashbrown::{HashMap, HashSet};

use super::QueryError;
use super::dense::{Buckets, Tally};
use super::fetch::{self, Sql};
use super::symbols::{Symbol, Symbols};
use crate::store::Reading;
use crate::store::schema::Signal;

/// Share of the calls from outside that the kernel must have seen for their callers to be known: ends
/// of a window cut off some.
const MOST: f64 = 0.9;

/// An edge delta, borrowed from wherever it lies.
#[derive(Debug, Clone, Copy)]
pub struct EdgeDelta<'a> {
    /// Start of its bucket.
    pub bucket: Time,
    /// Caller.
    pub from: (&'a str, NodeKind),
    /// Callee.
    pub to: (&'a str, NodeKind),
    /// Protocol; empty is unknown.
    pub protocol: &'a str,
    /// Ends that were seen.
    pub ends: EdgeEnds,
    /// Requests that ended.
    pub requests: u64,
    /// Of these failed.
    pub errors: u64,
    /// Of these without an answer.
    pub no_answer: u64,
    /// Sum of durations.
    pub sum_ns: u64,
    /// Durations as the caller saw them.
    pub durations: Buckets<'a>,
    /// Durations as the callee measured them.
    pub callee: Buckets<'a>,
    /// An unknown share was left out.
    pub sampled: bool,
    /// What saw them.
    pub evidence: Evidence,
}

/// A node: its name and what it is.
pub type Node = (Symbol, NodeKind);

/// An edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Edge {
    /// Caller.
    pub from: Node,
    /// Callee.
    pub to: Node,
    /// Protocol.
    pub protocol: Symbol,
}

/// Requests along an edge, added up.
#[derive(Debug, Clone)]
pub struct EdgeSum {
    /// Ends that were seen, at best.
    pub ends: EdgeEnds,
    /// Requests that ended.
    pub requests: u64,
    /// Of these failed.
    pub errors: u64,
    /// Of these without an answer.
    pub no_answer: u64,
    /// Failed requests of which the callee said nothing.
    pub lone_errors: u64,
    /// Durations as the caller saw them.
    pub durations: Tally,
    /// Durations as the callee measured them.
    pub callee: Tally,
    /// An unknown share was left out.
    pub sampled: bool,
    /// What saw them.
    pub evidence: Evidence,
    /// First and last bucket.
    pub span: (Time, Time),
}

impl EdgeSum {
    /// The same edge without a request.
    pub fn silent(&self) -> Self {
        Self {
            ends: self.ends,
            requests: 0,
            errors: 0,
            no_answer: 0,
            lone_errors: 0,
            durations: Tally::default(),
            callee: Tally::default(),
            sampled: false,
            evidence: self.evidence,
            span: self.span,
        }
    }
}

#[derive(Debug)]
struct EdgeCell {
    edge: u32,
    bucket: Time,
    ends: EdgeEnds,
    requests: u64,
    errors: u64,
    no_answer: u64,
    sum_ns: u64,
    durations: (usize, usize),
    callee: (usize, usize),
    sampled: bool,
    evidence: Evidence,
}

/// The table.
#[derive(Debug, Default)]
pub struct Edges {
    /// Words.
    pub symbols: Symbols,
    /// Edges, each once.
    pub edges: Vec<Edge>,
    by_key: HashMap<Edge, u32>,
    cells: Vec<EdgeCell>,
    buckets: Vec<(u16, u64)>,
}

impl Edges {
    /// Adds a delta.
    pub fn push(&mut self, delta: &EdgeDelta<'_>) {
        let edge = Edge {
            from: (self.symbols.of(delta.from.0), delta.from.1),
            to: (self.symbols.of(delta.to.0), delta.to.1),
            protocol: self.symbols.of(delta.protocol),
        };
        let at = *self.by_key.entry(edge).or_insert_with(|| {
            self.edges.push(edge);
            u32_sat(self.edges.len() - 1)
        });
        let durations = self.keep(delta.durations);
        let callee = self.keep(delta.callee);
        self.cells.push(EdgeCell {
            edge: at,
            bucket: delta.bucket,
            ends: delta.ends,
            requests: delta.requests,
            errors: delta.errors,
            no_answer: delta.no_answer,
            sum_ns: delta.sum_ns,
            durations,
            callee,
            sampled: delta.sampled,
            evidence: delta.evidence,
        });
    }

    fn keep(&mut self, buckets: Buckets<'_>) -> (usize, usize) {
        let start = self.buckets.len();
        buckets.each(|i, n| self.buckets.push((i, n)));
        (start, self.buckets.len())
    }

    fn kept(&self, (start, end): (usize, usize)) -> Buckets<'_> {
        Buckets::Pairs(self.buckets.get(start..end).unwrap_or_default())
    }

    /// Sums per edge over the buckets of a window, by number of the edge.
    pub fn sums(&self, window: Window) -> HashMap<usize, EdgeSum> {
        let mut sums: HashMap<usize, EdgeSum> = HashMap::new();
        for cell in self.cells.iter().filter(|c| window.contains(c.bucket)) {
            let sum =
                sums.entry(coral_model::num::usize_sat(cell.edge)).or_insert_with(|| EdgeSum {
                    ends: EdgeEnds::One,
                    requests: 0,
                    errors: 0,
                    no_answer: 0,
                    lone_errors: 0,
                    durations: Tally::default(),
                    callee: Tally::default(),
                    sampled: false,
                    evidence: cell.evidence,
                    span: (cell.bucket, cell.bucket),
                });
            match cell.ends {
                EdgeEnds::Both => sum.ends = EdgeEnds::Both,
                EdgeEnds::One => sum.lone_errors = sum.lone_errors.saturating_add(cell.errors),
            }
            sum.requests = sum.requests.saturating_add(cell.requests);
            sum.errors = sum.errors.saturating_add(cell.errors);
            sum.no_answer = sum.no_answer.saturating_add(cell.no_answer);
            sum.durations.add(self.kept(cell.durations), cell.sum_ns);
            sum.callee.add(self.kept(cell.callee), 0);
            sum.sampled |= cell.sampled;
            sum.evidence = sum.evidence.with(cell.evidence);
            sum.span = (sum.span.0.min(cell.bucket), sum.span.1.max(cell.bucket));
        }
        sums
    }

    /// Of an edge that spans tell of, what the kernel saw is left out; and so is somebody unknown
    /// calling a service, where spans tell who calls it. Where spans know of a caller only that it is
    /// outside, and the kernel saw which services made about as many calls, these are those calls. A
    /// database goes by another name in spans than its address, or than the service that serves it: of
    /// who calls one with a protocol, what spans tell of that protocol's databases counts.
    pub fn settle_evidence(&mut self) {
        if self.cells.iter().all(|cell| cell.evidence != Evidence::Ebpf) {
            return;
        }
        let ends = |cell: &EdgeCell| {
            self.edges.get(coral_model::num::usize_sat(cell.edge)).map(|e| (e.from, e.to))
        };
        let otlp = || self.cells.iter().filter(|c| c.evidence == Evidence::Otlp && c.requests > 0);
        let told: HashSet<(Node, Node)> = otlp().filter_map(ends).collect();
        let edge = |cell: &EdgeCell| self.edges.get(coral_model::num::usize_sat(cell.edge));
        let named = |e: &&Edge| e.to.1 == NodeKind::Database && e.protocol != 0;
        let to_databases = otlp().filter_map(edge).filter(named);
        let databases: HashSet<(Node, Symbol)> =
            to_databases.map(|e| (e.from, e.protocol)).collect();
        let called: HashSet<Node> = told.iter().map(|(_, to)| *to).collect();
        let twice = |edge: &Edge| {
            told.contains(&(edge.from, edge.to))
                || databases.contains(&(edge.from, edge.protocol))
                || edge.from.1 == NodeKind::External && called.contains(&edge.to)
        };
        let twice: Vec<bool> = self.edges.iter().map(twice).collect();
        self.cells.retain(|cell| {
            let twice = twice.get(coral_model::num::usize_sat(cell.edge)).copied();
            cell.evidence != Evidence::Ebpf || !twice.unwrap_or(false)
        });
        let callers = |evidence: Evidence, kind: NodeKind| {
            let mut calls: HashMap<Node, u64> = HashMap::new();
            for cell in self.cells.iter().filter(|cell| cell.evidence == evidence) {
                let edge = self.edges.get(coral_model::num::usize_sat(cell.edge));
                if let Some(edge) = edge.filter(|edge| edge.from.1 == kind) {
                    *calls.entry(edge.to).or_default() += cell.requests;
                }
            }
            calls
        };
        let outside = callers(Evidence::Otlp, NodeKind::External);
        let seen = callers(Evidence::Ebpf, NodeKind::Service);
        let known: HashSet<Node> = outside
            .into_iter()
            .filter(|(to, n)| {
                seen.get(to).is_some_and(|seen| f64_from(*seen) >= MOST * f64_from(*n))
            })
            .map(|(to, _)| to)
            .collect();
        if !known.is_empty() {
            let edges = &self.edges;
            self.cells.retain(|cell| {
                let edge = edges.get(coral_model::num::usize_sat(cell.edge));
                let outside =
                    edge.is_some_and(|e| e.from.1 == NodeKind::External && known.contains(&e.to));
                !outside || cell.evidence != Evidence::Otlp
            });
        }
    }

    /// The last bucket any edge has.
    pub fn newest(&self) -> Option<Time> {
        self.cells.iter().map(|c| c.bucket).max()
    }

    /// Forgets deltas of buckets before a moment.
    pub fn forget_before(&mut self, at: Time) {
        self.cells.retain(|cell| cell.bucket >= at);
    }

    /// Reads deltas of buckets in `[from, to)` from the store, as coarse as `resolution` ns where
    /// there are such.
    pub fn read_store(
        &mut self,
        conn: &Reading<'_>,
        from: Time,
        to: Time,
        resolution: u64,
    ) -> Result<(), QueryError> {
        if from >= to {
            return Ok(());
        }
        let sql = Sql::new(format!(
            "SELECT bucket_ns, from_name, from_kind, to_name, to_kind, protocol, ends, requests, \
             errors, no_answer, sum_ns, hist_index, hist_count, callee_hist_index, \
             callee_hist_count, sampled, evidence FROM {} WHERE true",
            conn.buckets(Signal::Edges, from, to, resolution)
        ))
        .within("bucket_ns", from, to);
        let kind =
            |text: Option<&str>| text.and_then(|t| t.parse().ok()).unwrap_or(NodeKind::External);
        fetch::run(conn, &sql, |batch| {
            let bucket = batch.i64s(0)?;
            let (from_name, from_kind) = (batch.texts(1)?, batch.texts(2)?);
            let (to_name, to_kind) = (batch.texts(3)?, batch.texts(4)?);
            let (protocol, ends) = (batch.texts(5)?, batch.u8s(6)?);
            let (requests, errors) = (batch.u64s(7)?, batch.u64s(8)?);
            let (no_answer, sum_ns) = (batch.u64s(9)?, batch.u64s(10)?);
            let (index, count) = (batch.lists(11)?, batch.lists(12)?);
            let (callee_index, callee_count) = (batch.lists(13)?, batch.lists(14)?);
            let (sampled, evidence) = (batch.bools(15)?, batch.texts(16)?);
            for row in 0..batch.len() {
                self.push(&EdgeDelta {
                    bucket: fetch::time(bucket, row),
                    from: (
                        fetch::text(from_name, row).unwrap_or_default(),
                        kind(fetch::text(from_kind, row)),
                    ),
                    to: (
                        fetch::text(to_name, row).unwrap_or_default(),
                        kind(fetch::text(to_kind, row)),
                    ),
                    protocol: fetch::text(protocol, row).unwrap_or_default(),
                    ends: if fetch::byte(ends, row) >= 2 { EdgeEnds::Both } else { EdgeEnds::One },
                    requests: fetch::uint(requests, row),
                    errors: fetch::uint(errors, row),
                    no_answer: fetch::uint(no_answer, row),
                    sum_ns: fetch::uint(sum_ns, row),
                    durations: fetch::buckets(index, count, row),
                    callee: fetch::buckets(callee_index, callee_count, row),
                    sampled: fetch::flag(sampled, row),
                    evidence: fetch::evidence(evidence, row),
                });
            }
            Ok(())
        })
    }
}

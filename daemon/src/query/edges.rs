//! Edge deltas as `topology` and `digest` read them.
//!
//! Like [`super::cells`], for who calls whom: an edge is its two nodes and protocol, a cell one
//! delta of it. The same two nodes seen from both ends and from one are one edge; it says `both
//! ends` when any of its requests was seen from both. Connections are added to the edge whose requests
//! they carry, and change nothing else of it.

use std::hash::Hash;

use coral_model::connections::{self, UNREAD};
use coral_model::num::{f64_from, u32_sat, usize_sat};
use coral_model::time::{Time, Window};
use coral_model::view::{EdgeEnds, Evidence, NodeKind};
use hashbrown::{HashMap, HashSet};

use super::QueryError;
use super::dense::{Buckets, Tally};
use super::fetch::{self, Sql};
use super::symbols::{Symbol, Symbols};
use crate::store::Reading;
use crate::store::columns::tallies::Tallies;
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
    /// Connections that the caller opened.
    pub connections: connections::Tally,
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
    /// Connections that the caller opened.
    pub connections: connections::Tally,
    /// For how long those were open whose protocol is read, in ns, all together.
    pub read_ns: u64,
    /// First and last bucket.
    pub span: (Time, Time),
}

impl EdgeSum {
    /// An edge without a request, seen in a bucket.
    fn new(evidence: Evidence, bucket: Time) -> Self {
        Self {
            ends: EdgeEnds::One,
            requests: 0,
            errors: 0,
            no_answer: 0,
            lone_errors: 0,
            durations: Tally::default(),
            callee: Tally::default(),
            sampled: false,
            evidence,
            connections: connections::Tally::default(),
            read_ns: 0,
            span: (bucket, bucket),
        }
    }

    /// The same edge without a request or connection.
    pub fn silent(&self) -> Self {
        Self { ends: self.ends, span: self.span, ..Self::new(self.evidence, self.span.0) }
    }

    /// Widens what it was seen in.
    fn seen(&mut self, bucket: Time) {
        self.span = (self.span.0.min(bucket), self.span.1.max(bucket));
    }
}

/// Connections of a cell.
#[derive(Debug)]
struct Opened {
    tally: connections::Tally,
    /// Whether the protocol on them is read.
    read: bool,
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
    /// Most cells have none.
    connections: Option<Box<Opened>>,
}

impl EdgeCell {
    /// Whether it tells of connections and of no request.
    fn only_connections(&self) -> bool {
        self.connections.is_some() && self.requests == 0 && self.callee.0 == self.callee.1
    }

    /// Without its requests; `None` where nothing is left.
    fn without_requests(self) -> Option<Self> {
        let connections = Some(self.connections?);
        Some(Self {
            ends: EdgeEnds::One,
            requests: 0,
            errors: 0,
            no_answer: 0,
            sum_ns: 0,
            durations: (0, 0),
            callee: (0, 0),
            sampled: false,
            connections,
            ..self
        })
    }
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
        let connections = (!delta.connections.is_empty()).then(|| {
            let read = !delta.protocol.is_empty() && delta.protocol != UNREAD;
            Box::new(Opened { tally: delta.connections, read })
        });
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
            connections,
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
        let inside = || self.cells.iter().filter(move |c| window.contains(c.bucket));
        // Requests first: what saw them is what an edge with requests rests on.
        for cell in inside().filter(|c| !c.only_connections()) {
            let sum = sums
                .entry(usize_sat(cell.edge))
                .or_insert_with(|| EdgeSum::new(cell.evidence, cell.bucket));
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
            sum.seen(cell.bucket);
        }
        for cell in inside() {
            let Some(opened) = &cell.connections else { continue };
            let sum = sums
                .entry(usize_sat(cell.edge))
                .or_insert_with(|| EdgeSum::new(cell.evidence, cell.bucket));
            sum.connections.add(&opened.tally);
            if opened.read {
                sum.read_ns = sum.read_ns.saturating_add(opened.tally.open_ns);
            }
            sum.seen(cell.bucket);
        }
        sums
    }

    /// Of an edge that spans tell of, what the kernel saw is left out; and so is somebody unknown
    /// calling a service, where spans tell who calls it. Where spans know of a caller only that it is
    /// outside, and the kernel saw which services made about as many calls, these are those calls. A
    /// database goes by another name in spans than its address, or than the service that serves it: of
    /// who calls one with a protocol, what spans tell of that protocol's databases counts.
    ///
    /// Connections stay: spans know nothing of them. Those of an edge that is left out are those of the
    /// one that spans tell of instead.
    pub fn settle_evidence(&mut self) {
        if self.cells.iter().all(|cell| cell.evidence != Evidence::Ebpf) {
            return;
        }
        self.leave_out_what_spans_tell();
        self.settle_unread();
        self.leave_out_known_callers();
    }

    fn leave_out_what_spans_tell(&mut self) {
        let mut told: HashMap<Edge, u32> = HashMap::new();
        let mut between: HashMap<(Node, Node), Option<u32>> = HashMap::new();
        let mut databases: HashMap<(Node, Symbol), Option<u32>> = HashMap::new();
        let mut called: HashSet<Node> = HashSet::new();
        let otlp = self.cells.iter().filter(|c| c.evidence == Evidence::Otlp && c.requests > 0);
        for number in otlp.map(|cell| cell.edge) {
            let Some(edge) = self.edges.get(usize_sat(number)) else { continue };
            if told.insert(*edge, number).is_some() {
                continue;
            }
            only(&mut between, (edge.from, edge.to), number);
            called.insert(edge.to);
            if edge.to.1 == NodeKind::Database && edge.protocol != 0 {
                only(&mut databases, (edge.from, edge.protocol), number);
            }
        }
        let twice = |edge: &Edge| {
            between.contains_key(&(edge.from, edge.to))
                || databases.contains_key(&(edge.from, edge.protocol))
                || edge.from.1 == NodeKind::External && called.contains(&edge.to)
        };
        let home = |edge: &Edge| {
            let same = told.get(edge).copied();
            let alone = || between.get(&(edge.from, edge.to)).copied().flatten();
            let database = || databases.get(&(edge.from, edge.protocol)).copied().flatten();
            same.or_else(alone).or_else(database)
        };
        let homes: Vec<Option<u32>> = self.edges.iter().map(home).collect();
        let twice: Vec<bool> = self.edges.iter().map(twice).collect();
        let settled = std::mem::take(&mut self.cells).into_iter().filter_map(|cell| {
            let number = usize_sat(cell.edge);
            if cell.evidence != Evidence::Ebpf || !twice.get(number).copied().unwrap_or(false) {
                return Some(cell);
            }
            let edge = homes.get(number).copied().flatten().unwrap_or(cell.edge);
            cell.without_requests().map(|cell| EdgeCell { edge, ..cell })
        });
        self.cells = settled.collect();
    }

    /// A connection on which nothing has passed yet is one of those on which something has, where
    /// there is one protocol between the two.
    fn settle_unread(&mut self) {
        let Some(unread) = self.symbols.known(UNREAD) else { return };
        let mut read: HashMap<(Node, Node), Option<u32>> = HashMap::new();
        for number in self.cells.iter().map(|cell| cell.edge) {
            let edge = self.edges.get(usize_sat(number));
            if let Some(edge) = edge.filter(|e| e.protocol != unread && e.protocol != 0) {
                only(&mut read, (edge.from, edge.to), number);
            }
        }
        for cell in self.cells.iter_mut().filter(|cell| cell.only_connections()) {
            let edge = self.edges.get(usize_sat(cell.edge)).filter(|e| e.protocol == unread);
            let home = edge.and_then(|e| read.get(&(e.from, e.to)).copied().flatten());
            cell.edge = home.unwrap_or(cell.edge);
        }
    }

    fn leave_out_known_callers(&mut self) {
        let callers = |evidence: Evidence, kind: NodeKind| {
            let mut calls: HashMap<Node, u64> = HashMap::new();
            let of = |cell: &&EdgeCell| cell.evidence == evidence && !cell.only_connections();
            for cell in self.cells.iter().filter(of) {
                let edge = self.edges.get(usize_sat(cell.edge));
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
                let edge = edges.get(usize_sat(cell.edge));
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
             callee_hist_count, sampled, evidence, conn_opened, conn_failed, conn_refused, \
             conn_reset, retransmits, sent_bytes, received_bytes, rtt_sum_ns, rtt_count, \
             conn_open_ns, conn_busy_ns FROM {} WHERE true",
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
            let connections = Tallies::of(17, |at| batch.u64s(at))?;
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
                    connections: connections.at(row),
                });
            }
            Ok(())
        })
    }
}

/// Notes that an edge is there by some key; of several none is the only one.
fn only<K: Hash + Eq>(edges: &mut HashMap<K, Option<u32>>, key: K, edge: u32) {
    let had = edges.entry(key).or_insert(Some(edge));
    if *had != Some(edge) {
        *had = None;
    }
}

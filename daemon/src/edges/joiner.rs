//! The join itself; [`super`] has the rules.

use std::collections::VecDeque;
use std::sync::Arc;

use coral_model::connections::Tally;
use coral_model::hist::Histogram;
use coral_model::time::{BUCKET, SECOND, Time};
use coral_model::view::{EdgeEnds, Evidence, NodeKind, SpanKind};
use hashbrown::HashMap;

use super::alias::{Aliases, Meaning};
use crate::store::additive::Buckets;
use crate::store::{ConnectionDelta, EdgeDelta, HalfEdge, HalfSeries, Node};

/// Name of callers that nobody sees.
const OUTSIDE: &str = "external";
/// Name of peers that their callers do not name.
const NAMELESS: &str = "unknown";

/// Bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long an end waits for the other, in ns.
    pub window: u64,
    /// How long a failed request to a name nobody ever answered for waits, in ns: past the pause
    /// between two exports of an SDK, and short enough for somebody who looks for a wrong name. One
    /// that the kernel saw, failed or not, waits as long.
    /// Connections to a name that nobody explained yet wait as long.
    pub soon: u64,
    /// Ends remembered; beyond it the oldest stops waiting early, counted.
    pub ends: usize,
    /// Peer names learnt.
    pub names: usize,
    /// Rows of connections that wait for their peer's name to be explained; beyond it the oldest
    /// stops waiting early, counted.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: 60 * SECOND,
            soon: 10 * SECOND,
            ends: 400_000,
            names: 20_000,
            connections: 20_000,
        }
    }
}

/// What became of an end when it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It waits for its other end.
    Waiting,
    /// It met its other end.
    Met,
    /// It was counted without its other end, which may still come.
    Counted,
}

impl Fate {
    /// As stored.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Waiting => 0,
            Self::Met => 1,
            Self::Counted => 2,
        }
    }

    /// From what was stored.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Waiting),
            1 => Some(Self::Met),
            2 => Some(Self::Counted),
            _ => None,
        }
    }
}

/// An end that a restart must know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Rises by one with every kept end.
    pub n: u64,
    /// The end.
    pub half: HalfEdge,
    /// What became of it when it arrived.
    pub fate: Fate,
}

#[derive(Debug)]
struct End {
    n: u64,
    half: HalfEdge,
    fate: Fate,
}

/// Ends with one key. A caller stays for its window even when met; callees only while they wait.
#[derive(Debug, Default)]
struct Slot {
    caller: Option<End>,
    callees: Vec<End>,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    n: u64,
    key: u64,
    at: Time,
}

/// Connections to a peer whose name meant nothing when they came.
#[derive(Debug)]
struct Unexplained {
    at: Time,
    delta: ConnectionDelta,
}

/// See [`super`].
#[derive(Debug)]
pub struct Joiner {
    limits: Limits,
    next: u64,
    floor: u64,
    due: VecDeque<Due>,
    /// Callers that are counted before their window ends; each has its place in `due` too.
    soon: VecDeque<Due>,
    by_key: HashMap<u64, Slot>,
    unexplained: VecDeque<Unexplained>,
    aliases: Aliases,
    out: Buckets<EdgeDelta>,
    kept: Vec<Kept>,
    evicted: u64,
}

impl Joiner {
    /// Remembers nothing; the first end it keeps gets number `next`.
    #[must_use]
    pub fn new(limits: Limits, next: u64) -> Self {
        Self {
            limits,
            next,
            floor: next,
            due: VecDeque::new(),
            soon: VecDeque::new(),
            by_key: HashMap::new(),
            unexplained: VecDeque::new(),
            aliases: Aliases::new(limits.names),
            out: Buckets::default(),
            kept: Vec::new(),
            evicted: 0,
        }
    }

    /// As of an earlier life's last commit; its ends from `floor` on are [`Joiner::restore`]d next.
    #[must_use]
    pub fn resume(limits: Limits, next: u64, floor: u64) -> Self {
        Self { floor: floor.min(next), ..Self::new(limits, next) }
    }

    /// Puts back an end that was kept with number `floor` or above, received at `stamp`. Ends must
    /// come in the order of their numbers; nothing is emitted.
    pub fn restore(&mut self, kept: Kept, stamp: Time) {
        let Kept { n, half, fate } = kept;
        self.next = self.next.max(n + 1);
        let key = half.key;
        let slot = self.by_key.entry(key).or_default();
        if is_caller(&half.series) {
            if fate == Fate::Met {
                slot.callees.clear();
            }
            if fate == Fate::Waiting && counts_soon(&half) {
                self.soon.push_back(Due { n, key, at: stamp.plus(self.limits.soon) });
            }
            slot.caller = Some(End { n, half, fate });
        } else if fate == Fate::Met {
            if let Some(caller) = slot.caller.as_mut()
                && caller.fate == Fate::Waiting
            {
                caller.fate = Fate::Met;
            }
        } else {
            slot.callees.push(End { n, half, fate });
        }
        self.due.push_back(Due { n, key, at: stamp.plus(self.limits.window) });
    }

    /// Takes in an end that is committed as of `stamp`.
    pub fn offer(&mut self, half: HalfEdge, stamp: Time) {
        match half.series.kind {
            SpanKind::Producer => self.producer(half, stamp),
            SpanKind::Consumer => self.consumer(half, stamp),
            SpanKind::Client => self.client(half, stamp),
            SpanKind::Server => self.server(half, stamp),
            SpanKind::Internal => {}
        }
        while self.due.len() > self.limits.ends {
            self.evicted += u64::from(self.stop_waiting());
        }
    }

    /// Takes in connections that are committed as of `stamp`. They belong to the service that answers
    /// to their peer's name; where that is not known yet they wait for it, 10 s at most, and are then
    /// told by the name itself. A restart, and a commit that fails, forget those that wait, unlike ends: at most 10 s of the
    /// connections to peers it had not met before.
    pub fn connections(&mut self, delta: ConnectionDelta, stamp: Time) {
        if delta.tally.is_empty() {
            return;
        }
        if self.explained(&delta.series) {
            self.connected(&delta);
            return;
        }
        self.unexplained.push_back(Unexplained { at: stamp.plus(self.limits.soon), delta });
        while self.unexplained.len() > self.limits.connections
            && let Some(oldest) = self.unexplained.pop_front()
        {
            self.connected(&oldest.delta);
            self.evicted += 1;
        }
    }

    /// Ends the waits that are over at `stamp`. Call it before the ends of a commit are offered.
    pub fn expire(&mut self, stamp: Time) {
        while let Some(due) = self.soon.pop_front_if(|due| due.at <= stamp) {
            self.count_soon(due, stamp);
        }
        while self.due.front().is_some_and(|due| due.at <= stamp) {
            self.stop_waiting();
        }
        while let Some(over) = self.unexplained.pop_front_if(|waits| waits.at <= stamp) {
            self.connected(&over.delta);
        }
    }

    /// When [`Joiner::expire`] has something to do next.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Time> {
        let ends = [self.soon.front(), self.due.front()].into_iter().flatten().map(|due| due.at);
        ends.chain(self.unexplained.front().map(|waits| waits.at)).min()
    }

    /// Edges since the last call, added up per edge and bucket.
    pub fn take_edges(&mut self) -> Vec<EdgeDelta> {
        self.explain();
        self.out.drain()
    }

    /// Ends since the last call that a restart must know of.
    pub fn take_kept(&mut self) -> Vec<Kept> {
        std::mem::take(&mut self.kept)
    }

    /// Kept ends with a smaller number are no longer remembered.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The number the next kept end gets.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Ends remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Ends and connections that stopped waiting early because there were too many, since the last call.
    pub fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// Names that were not learnt because there were too many, since the last call.
    pub fn take_unlearnt(&mut self) -> u64 {
        self.aliases.take_unlearnt()
    }

    fn client(&mut self, half: HalfEdge, stamp: Time) {
        let series = &half.series;
        // Databases send no spans, but the kernel may see their end as well.
        let nobody_reports = matches!(series.peer_kind, NodeKind::Database | NodeKind::Queue)
            && series.evidence != Evidence::Ebpf;
        if half.key == 0 || nobody_reports {
            let to = self.peer_of(series);
            self.one_end(&half, service(series), to);
            return;
        }
        let waiting = self.by_key.get_mut(&half.key).map(|s| std::mem::take(&mut s.callees));
        let waiting = waiting.unwrap_or_default();
        let fate = if !waiting.is_empty() {
            for callee in &waiting {
                self.met(&half, &callee.half);
            }
            Fate::Met
        } else if self.counts_at_once(&half) {
            let to = self.peer_of(series);
            self.one_end(&half, service(series), to);
            Fate::Counted
        } else {
            Fate::Waiting
        };
        self.keep_caller(half, fate, stamp);
    }

    fn server(&mut self, half: HalfEdge, stamp: Time) {
        if half.key == 0 {
            self.one_end_from_outside(&half);
            return;
        }
        let slot = self.by_key.get_mut(&half.key);
        let Some(caller) = slot.and_then(|s| s.caller.as_mut()) else {
            self.keep_waiting_callee(half, stamp);
            return;
        };
        let counted = caller.fate == Fate::Counted;
        if !counted {
            caller.fate = Fate::Met;
        }
        let caller = caller.half.clone();
        if counted {
            self.learn(&caller, &half);
            self.add_callee(&caller, &half);
        } else {
            self.met(&caller, &half);
        }
        self.keep(half, Fate::Met, stamp);
    }

    fn producer(&mut self, half: HalfEdge, stamp: Time) {
        let queue = self.peer_of(&half.series);
        self.one_end(&half, service(&half.series), queue.clone());
        if half.key == 0 {
            return;
        }
        let waiting = self.by_key.get_mut(&half.key).map(|s| std::mem::take(&mut s.callees));
        let waiting = waiting.unwrap_or_default();
        for consumer in &waiting {
            self.one_end(&consumer.half, queue.clone(), service(&consumer.half.series));
        }
        let fate = if waiting.is_empty() { Fate::Counted } else { Fate::Met };
        self.keep_caller(half, fate, stamp);
    }

    fn consumer(&mut self, half: HalfEdge, stamp: Time) {
        if !half.series.peer.is_empty() {
            let queue = self.peer_of(&half.series);
            self.one_end(&half, queue, service(&half.series));
            return;
        }
        let producer = self.by_key.get(&half.key).and_then(|s| s.caller.as_ref());
        if half.key == 0 {
            self.one_end_from_outside(&half);
        } else if let Some(producer) = producer {
            let queue = self.peer_of(&producer.half.series);
            self.one_end(&half, queue, service(&half.series));
            self.keep(half, Fate::Met, stamp);
        } else {
            self.keep_waiting_callee(half, stamp);
        }
    }

    /// Whether a caller's end is counted before its callee can have answered.
    fn counts_at_once(&self, half: &HalfEdge) -> bool {
        match self.aliases.get(&half.series.service, &half.series.peer) {
            Some(Meaning::External) => true,
            Some(Meaning::Service(_)) => half.error || half.no_answer,
            _ => false,
        }
    }

    /// The node a caller's end points to, as far as its name tells.
    fn peer_of(&self, series: &HalfSeries) -> Node {
        if let Some(Meaning::Service(name)) = self.aliases.get(&series.service, &series.peer) {
            return Node { name: Arc::clone(name), kind: NodeKind::Service };
        }
        let kind = match series.kind {
            SpanKind::Producer | SpanKind::Consumer => NodeKind::Queue,
            _ => series.peer_kind,
        };
        if series.peer.is_empty() {
            return Node { name: NAMELESS.into(), kind: external_unless_known(kind) };
        }
        Node { name: Arc::clone(&series.peer), kind }
    }

    /// Whether it is known who answers to the name of a peer, or that nobody does: waiting is no use.
    fn explained(&self, series: &HalfSeries) -> bool {
        series.peer.is_empty() || self.aliases.get(&series.service, &series.peer).is_some()
    }

    /// Tells of the connections that wait for a name which has been learnt since.
    fn explain(&mut self) {
        if !self.aliases.take_fresh() || self.unexplained.is_empty() {
            return;
        }
        for waits in std::mem::take(&mut self.unexplained) {
            if self.explained(&waits.delta.series) {
                self.connected(&waits.delta);
            } else {
                self.unexplained.push_back(waits);
            }
        }
    }

    /// Connections to whoever their peer's name stands for by now.
    fn connected(&mut self, delta: &ConnectionDelta) {
        let series = &delta.series;
        let edge = EdgeDelta {
            bucket: delta.bucket.align(BUCKET),
            from: service(series),
            to: self.peer_of(series),
            protocol: Arc::clone(&series.protocol),
            ends: EdgeEnds::One,
            errors: 0,
            no_answer: 0,
            histogram: Histogram::default(),
            callee: Histogram::default(),
            sampled: false,
            evidence: series.evidence,
            connections: delta.tally,
        };
        self.out.add(&edge);
    }

    fn learn(&mut self, caller: &HalfEdge, callee: &HalfEdge) {
        let from = &caller.series;
        self.aliases.answered(&from.service, &from.peer, &callee.series.service);
    }

    /// Both ends of a request.
    fn met(&mut self, caller: &HalfEdge, callee: &HalfEdge) {
        self.learn(caller, callee);
        let mut delta = delta(caller, service(&caller.series), service(&callee.series));
        delta.ends = EdgeEnds::Both;
        delta.callee = observed(callee);
        if delta.protocol.is_empty() {
            delta.protocol = Arc::clone(&callee.series.protocol);
        }
        delta.sampled |= callee.series.sampled;
        self.out.add(&delta);
    }

    /// What the callee measured of a request that was counted before.
    fn add_callee(&mut self, caller: &HalfEdge, callee: &HalfEdge) {
        let mut delta = delta(caller, service(&caller.series), service(&callee.series));
        (delta.errors, delta.no_answer) = (0, 0);
        delta.histogram = Histogram::default();
        delta.callee = observed(callee);
        delta.ends = EdgeEnds::Both;
        self.out.add(&delta);
    }

    fn one_end(&mut self, half: &HalfEdge, from: Node, to: Node) {
        self.out.add(&delta(half, from, to));
    }

    fn one_end_from_outside(&mut self, half: &HalfEdge) {
        let from = match (half.series.kind, half.series.peer.is_empty()) {
            (SpanKind::Consumer, _) => self.peer_of(&half.series),
            (_, true) => Node { name: OUTSIDE.into(), kind: NodeKind::External },
            (_, false) => Node { name: Arc::clone(&half.series.peer), kind: half.series.peer_kind },
        };
        self.one_end(half, from, service(&half.series));
    }

    /// Remembers an end for a restart; numbers it.
    fn keep(&mut self, half: HalfEdge, fate: Fate, stamp: Time) -> u64 {
        let n = self.next;
        self.next += 1;
        self.due.push_back(Due { n, key: half.key, at: stamp.plus(self.limits.window) });
        self.kept.push(Kept { n, half, fate });
        n
    }

    fn keep_caller(&mut self, half: HalfEdge, fate: Fate, stamp: Time) {
        let n = self.keep(half.clone(), fate, stamp);
        let key = half.key;
        if fate == Fate::Waiting && counts_soon(&half) {
            self.soon.push_back(Due { n, key, at: stamp.plus(self.limits.soon) });
        }
        let earlier = self.by_key.entry(key).or_default().caller.replace(End { n, half, fate });
        // Two callers with one key are a broken SDK or a hash collision; both are counted.
        if let Some(earlier) = earlier
            && earlier.fate == Fate::Waiting
        {
            let to = self.peer_of(&earlier.half.series);
            self.one_end(&earlier.half, service(&earlier.half.series), to);
        }
    }

    fn keep_waiting_callee(&mut self, half: HalfEdge, stamp: Time) {
        let n = self.keep(half.clone(), Fate::Waiting, stamp);
        let slot = self.by_key.entry(half.key).or_default();
        slot.callees.push(End { n, half, fate: Fate::Waiting });
    }

    /// Counts a request with one end, and goes on remembering it: its callee may still report.
    fn count_soon(&mut self, due: Due, stamp: Time) {
        let slot = self.by_key.get_mut(&due.key);
        let waits = |end: &mut End| end.n == due.n && end.fate == Fate::Waiting;
        let Some(caller) = slot.and_then(|slot| slot.caller.take_if(waits)) else { return };
        let series = &caller.half.series;
        let to = self.peer_of(series);
        self.one_end(&caller.half, service(series), to);
        if series.evidence == Evidence::Ebpf {
            // Its other end would be here by now: who asks next need not wait.
            self.aliases.unanswered(&series.service, &series.peer);
        }
        // Kept anew, as counted: a restart must not count it again.
        self.keep_caller(caller.half, Fate::Counted, stamp);
    }

    /// Forgets the oldest end; one that still waited is counted with one end. True when it waited.
    fn stop_waiting(&mut self) -> bool {
        let Some(due) = self.due.pop_front() else { return false };
        self.floor = due.n + 1;
        let Some(slot) = self.by_key.get_mut(&due.key) else { return false };
        let caller = slot.caller.take_if(|end| end.n == due.n);
        let callee = slot.callees.iter().position(|end| end.n == due.n);
        let callee = callee.map(|at| slot.callees.remove(at));
        if slot.caller.is_none() && slot.callees.is_empty() {
            self.by_key.remove(&due.key);
        }
        if let Some(caller) = caller.filter(|end| end.fate == Fate::Waiting) {
            let series = &caller.half.series;
            let to = self.peer_of(series);
            self.one_end(&caller.half, service(series), to);
            self.aliases.unanswered(&series.service, &series.peer);
            return true;
        }
        if let Some(callee) = callee {
            self.one_end_from_outside(&callee.half);
            return true;
        }
        false
    }
}

fn is_caller(series: &HalfSeries) -> bool {
    matches!(series.kind, SpanKind::Client | SpanKind::Producer)
}

/// Whether a caller's end is worth to be counted before its callee must have reported: it failed, or the
/// kernel saw it, which tells of both ends at once.
fn counts_soon(half: &HalfEdge) -> bool {
    let seen = half.series.evidence == Evidence::Ebpf;
    half.series.kind == SpanKind::Client && (half.error || half.no_answer || seen)
}

fn service(series: &HalfSeries) -> Node {
    Node { name: Arc::clone(&series.service), kind: NodeKind::Service }
}

fn external_unless_known(kind: NodeKind) -> NodeKind {
    if kind == NodeKind::Service { NodeKind::External } else { kind }
}

fn observed(half: &HalfEdge) -> Histogram {
    let mut histogram = Histogram::default();
    histogram.record(half.duration_ns);
    histogram
}

fn delta(half: &HalfEdge, from: Node, to: Node) -> EdgeDelta {
    EdgeDelta {
        bucket: half.end.align(BUCKET),
        from,
        to,
        protocol: Arc::clone(&half.series.protocol),
        ends: EdgeEnds::One,
        errors: u64::from(half.error),
        no_answer: u64::from(half.no_answer),
        histogram: observed(half),
        callee: Histogram::default(),
        sampled: half.series.sampled,
        evidence: half.series.evidence,
        connections: Tally::default(),
    }
}

//! The reducer: spans in; rate, errors and duration per series, half-edges and requests in flight out.
//!
//! A plain state machine: [`decode`] turns the bytes of one export request into facts without
//! touching any state, [`Reducer::apply`] adds facts, [`Reducer::take`] hands over everything learnt
//! since the last time and [`emit`] writes that as a `coral.v1.Reduced`. No clock, no lock, no file.
//! The same facts applied in the same order always give the same result, so a restarted agent that
//! replays its spool arrives where it was.
//!
//! SERVER and CONSUMER spans make RED, CLIENT and PRODUCER spans make half-edges, INTERNAL spans
//! neither. Everything here has a bound ([`Limits`]); what a bound turned away is counted.

pub mod decode;
pub mod emit;
mod inflight;
mod names;
mod sampling;
mod seen;

use std::sync::Arc;

use coral_model::connections::Tally;
use coral_model::hist;
use coral_model::time::BUCKET;
use coral_model::view::SpanKind;
use coral_proto::v1;

use crate::counters::Counters;
use decode::{Batch, CodeKey, Fact};
use inflight::Inflight;
pub use names::Resource;
use names::{Names, ResourceIndex};
use seen::ConnectionKey;
pub use seen::{Answer, Connected, Seen, Waiting};

/// The name that everything beyond a bound on names is counted under.
pub const OTHER: &str = "__other__";

/// Bounds of the reducer.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Operations per service; the rest folds into [`OTHER`].
    pub operations: usize,
    /// Names of peers, protocols and textual status codes.
    pub words: usize,
    /// Resources remembered by their bytes.
    pub resources: usize,
    /// Requests in flight.
    pub inflight: usize,
    /// RED rows after which what was learnt must be taken.
    pub rows: usize,
    /// Half-edges after which what was learnt must be taken.
    pub halves: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            operations: 200,
            words: 4_096,
            resources: 4_096,
            inflight: 20_000,
            rows: 16_384,
            halves: 32_768,
        }
    }
}

/// What requests of one kind share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeriesKey {
    pub(crate) resource: u32,
    pub(crate) operation: u32,
    pub(crate) protocol: u32,
    pub(crate) code: CodeWord,
    pub(crate) kind: SpanKind,
    pub(crate) sampled: bool,
    pub(crate) evidence: v1::Evidence,
}

/// A status code with its word interned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CodeWord {
    Unknown,
    Number(u16),
    Word(u32),
}

/// Requests of one series that ended in one bucket.
#[derive(Debug, Clone)]
pub struct Row {
    pub(crate) series: u32,
    pub(crate) bucket: u32,
    pub(crate) errors: u64,
    pub(crate) no_answer: u64,
    pub(crate) sum_ns: u64,
    /// Occupied histogram buckets, ascending.
    pub(crate) hist: Vec<(u16, u64)>,
    pub(crate) slowest: (u64, [u8; 16]),
    pub(crate) error_trace: Option<(u64, [u8; 16])>,
}

struct Series {
    key: SeriesKey,
    /// The row last added to, valid while `epoch` is the reducer's.
    row: u32,
    bucket: u32,
    epoch: u32,
    /// Fraction of a request owed by sampling weights that are not whole numbers.
    carry: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HalfKey {
    pub(crate) resource: u32,
    pub(crate) kind: SpanKind,
    pub(crate) protocol: u32,
    pub(crate) peer: u32,
    pub(crate) peer_kind: v1::PeerKind,
    pub(crate) sampled: bool,
    pub(crate) evidence: v1::Evidence,
}

/// Half-edges, column by column, as they travel.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    pub(crate) key: Vec<u64>,
    pub(crate) series: Vec<u32>,
    pub(crate) end_ns: Vec<u64>,
    pub(crate) duration_ns: Vec<u64>,
    pub(crate) flags: Vec<u32>,
}

/// Everything learnt since the last [`Reducer::take`].
#[derive(Debug)]
pub struct Taken {
    pub(crate) at_ns: u64,
    pub(crate) rows: Vec<Row>,
    pub(crate) series: Vec<SeriesKey>,
    pub(crate) halves: Halves,
    pub(crate) half_series: Vec<HalfKey>,
    pub(crate) inflight: Vec<inflight::Snapshot>,
    pub(crate) connections: Vec<(ConnectionKey, Tally)>,
    pub(crate) resources: Vec<Arc<Resource>>,
    pub(crate) words: Vec<Arc<str>>,
}

/// The state machine.
pub struct Reducer {
    limits: Limits,
    names: Names,
    series: Vec<Series>,
    series_index: hashbrown::HashMap<SeriesKey, u32>,
    rows: Vec<Row>,
    row_index: hashbrown::HashMap<(u32, u32), u32>,
    epoch: u32,
    halves: Halves,
    half_index: hashbrown::HashMap<HalfKey, u32>,
    half_series: Vec<HalfKey>,
    inflight: Inflight,
    /// Requests in flight that the kernel sees, since the last take.
    seen_inflight: Vec<inflight::Snapshot>,
    connections: hashbrown::HashMap<ConnectionKey, Tally>,
    rebuilt_ns: u64,
    resolved: Vec<ResourceIndex>,
    counters: Arc<Counters>,
}

/// How often all tables of names are begun anew, so that names no longer used make room.
const REBUILD_NS: u64 = 3_600 * 1_000_000_000;
/// A span that ended further from now than this is counted as off clock.
const OFF_CLOCK_NS: u64 = 600 * 1_000_000_000;

impl Reducer {
    /// An empty reducer.
    #[must_use]
    pub fn new(limits: Limits, counters: Arc<Counters>) -> Self {
        Self {
            names: Names::new(limits),
            inflight: Inflight::new(limits.inflight),
            seen_inflight: Vec::new(),
            connections: hashbrown::HashMap::new(),
            limits,
            series: Vec::new(),
            series_index: hashbrown::HashMap::new(),
            rows: Vec::new(),
            row_index: hashbrown::HashMap::new(),
            epoch: 1,
            halves: Halves::default(),
            half_index: hashbrown::HashMap::new(),
            half_series: Vec::new(),
            rebuilt_ns: 0,
            resolved: Vec::new(),
            counters,
        }
    }

    /// Whether so much has been learnt that it must be taken before more is applied.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rows.len() >= self.limits.rows
            || self.halves.key.len() >= self.limits.halves
            || self.connections.len() >= self.limits.rows
    }

    /// RED rows waiting to be taken.
    #[must_use]
    pub fn rows_waiting(&self) -> usize {
        self.rows.len()
    }

    /// Adds the facts of one request. Returns the resources that are new, or that were not returned
    /// for a while: whoever follows processes wants to know that they still report.
    pub fn apply(&mut self, batch: &Batch, body: &[u8], now_ns: u64) -> Vec<Arc<Resource>> {
        let mut resolved = std::mem::take(&mut self.resolved);
        resolved.clear();
        let mut new = Vec::new();
        for resource in batch.resources() {
            let bytes = body.get(resource.range.clone()).unwrap_or_default();
            let (index, tell) = self.names.resource(resource.hash, bytes, now_ns, &self.counters);
            resolved.push(index);
            if let Some(resource) = self.names.resource_at(index.resource) {
                let heard = self.inflight.heard(resource, now_ns);
                self.counters.inflight_unheard.add(u64::from(!heard));
                if tell {
                    new.push(resource.clone());
                }
            }
        }
        self.inflight.arrived(batch.facts());
        let mut off_clock = 0;
        for fact in batch.facts() {
            let Some(&index) = resolved.get(fact.resource as usize) else { continue };
            if fact.kind != SpanKind::Internal {
                off_clock += u64::from(fact.end_ns.abs_diff(now_ns) > OFF_CLOCK_NS);
                if matches!(fact.kind, SpanKind::Server | SpanKind::Consumer) {
                    self.count(batch, fact, index);
                }
                if let Some(key) = fact.half_key {
                    self.half(batch, fact, index, key);
                }
            }
            if fact.waits_for_parent() {
                let found = self.inflight.child(fact, index.resource, &self.names, now_ns);
                self.counters.inflight_untracked.add(u64::from(!found));
            }
        }
        self.counters.spans_off_clock.add(off_clock);
        self.resolved = resolved;
        new
    }

    fn count(&mut self, batch: &Batch, fact: &Fact, index: ResourceIndex) {
        let (operation, folded) = self.names.operation(index.service, batch.text(fact.operation));
        self.counters.folded_operations.add(u64::from(folded));
        let code = match fact.code {
            CodeKey::Unknown => CodeWord::Unknown,
            CodeKey::Number(n) => CodeWord::Number(n),
            CodeKey::Word(text) => CodeWord::Word(self.names.word(batch.text(text)).0),
        };
        let key = SeriesKey {
            resource: index.resource,
            operation,
            protocol: self.names.word(batch.text(fact.protocol)).0,
            code,
            kind: fact.kind,
            sampled: fact.weight.is_none(),
            evidence: v1::Evidence::Otlp,
        };
        let weight = fact.weight.unwrap_or(1.0);
        self.add(key, &Ended::of(fact), weight);
    }

    /// Adds a request, which stands for `weight` of them, to its series.
    fn add(&mut self, key: SeriesKey, ended: &Ended, weight: f64) {
        let series = match self.series_index.get(&key) {
            Some(&at) => at,
            None => {
                let at = coral_model::num::u32_sat(self.series.len());
                self.series.push(Series { key, row: 0, bucket: 0, epoch: 0, carry: 0.0 });
                self.series_index.insert(key, at);
                at
            }
        };
        let bucket = coral_model::num::u32_sat(ended.end_ns / BUCKET);
        let Some(entry) = self.series.get_mut(series as usize) else { return };
        if entry.epoch != self.epoch || entry.bucket != bucket {
            let rows = &mut self.rows;
            entry.row = *self.row_index.entry((series, bucket)).or_insert_with(|| {
                rows.push(Row {
                    series,
                    bucket,
                    errors: 0,
                    no_answer: 0,
                    sum_ns: 0,
                    hist: Vec::with_capacity(8),
                    slowest: (0, [0; 16]),
                    error_trace: None,
                });
                coral_model::num::u32_sat(rows.len() - 1)
            });
            entry.bucket = bucket;
            entry.epoch = self.epoch;
        }
        let n = if weight == 1.0 {
            1
        } else {
            let owed = weight + entry.carry;
            let whole = owed.floor();
            entry.carry = owed - whole;
            coral_model::num::u64_from_f64(whole)
        };
        if let Some(row) = self.rows.get_mut(entry.row as usize) {
            row.add(ended, n);
        }
    }

    fn half(&mut self, batch: &Batch, fact: &Fact, index: ResourceIndex, key: u64) {
        let (peer, folded) = self.names.word(batch.text(fact.peer));
        self.counters.folded_peers.add(u64::from(folded));
        let series = HalfKey {
            resource: index.resource,
            kind: fact.kind,
            protocol: self.names.word(batch.text(fact.protocol)).0,
            peer,
            peer_kind: fact.peer_kind,
            // Half-edges are single requests and carry no weight: a weighted one is a sample.
            sampled: fact.weight != Some(1.0),
            evidence: v1::Evidence::Otlp,
        };
        self.add_half(series, key, &Ended::of(fact));
    }

    /// Adds one end of a request.
    fn add_half(&mut self, series: HalfKey, key: u64, ended: &Ended) {
        let list = &mut self.half_series;
        let at = *self.half_index.entry(series).or_insert_with(|| {
            list.push(series);
            coral_model::num::u32_sat(list.len() - 1)
        });
        self.halves.key.push(key);
        self.halves.series.push(at);
        self.halves.end_ns.push(ended.end_ns);
        self.halves.duration_ns.push(ended.duration_ns);
        self.halves.flags.push(u32::from(ended.error) | u32::from(ended.no_answer) << 1);
    }

    /// Hands over what was learnt since the last time; `None` when that is nothing.
    pub fn take(&mut self, now_ns: u64) -> Option<Taken> {
        let mut inflight = self.inflight.snapshot(now_ns, &self.counters);
        inflight.append(&mut self.seen_inflight);
        let requests = !self.rows.is_empty() || !self.halves.key.is_empty();
        if !requests && inflight.is_empty() && self.connections.is_empty() {
            self.rebuild(now_ns);
            return None;
        }
        let rows = std::mem::take(&mut self.rows);
        self.row_index.clear();
        self.epoch = self.epoch.wrapping_add(1).max(1);
        let taken = Taken {
            at_ns: now_ns,
            series: rows
                .iter()
                .filter_map(|row| self.series.get(row.series as usize).map(|s| s.key))
                .collect(),
            rows,
            halves: std::mem::take(&mut self.halves),
            half_series: std::mem::take(&mut self.half_series),
            inflight,
            connections: self.connections.drain().collect(),
            resources: self.names.resources(),
            words: self.names.words(),
        };
        self.half_index.clear();
        self.rebuild(now_ns);
        Some(taken)
    }

    /// Begins the tables of names anew, if it is time; nothing refers to them right after a take.
    fn rebuild(&mut self, now_ns: u64) {
        if self.rebuilt_ns == 0 {
            self.rebuilt_ns = now_ns;
        }
        let crowded = self.names.is_crowded() || self.series.len() > 4 * self.limits.rows;
        let due = now_ns.saturating_sub(self.rebuilt_ns) > REBUILD_NS;
        if due || crowded {
            self.counters.evicted_resources.add(if due { 0 } else { self.names.resource_count() });
            self.names = Names::new(self.limits);
            self.series.clear();
            self.series_index.clear();
            self.rebuilt_ns = now_ns;
        }
    }
}

/// What is added up of a request.
#[derive(Debug, Clone, Copy)]
struct Ended {
    end_ns: u64,
    duration_ns: u64,
    error: bool,
    no_answer: bool,
    /// Zeros: not known.
    trace: [u8; 16],
}

impl Ended {
    fn of(fact: &Fact) -> Self {
        Self {
            end_ns: fact.end_ns,
            duration_ns: fact.duration_ns(),
            error: fact.error,
            no_answer: fact.no_answer,
            trace: fact.trace,
        }
    }
}

impl Row {
    fn add(&mut self, fact: &Ended, n: u64) {
        let duration = fact.duration_ns;
        let at = hist::index(duration);
        match self.hist.binary_search_by_key(&at, |&(i, _)| i) {
            Ok(place) => {
                if let Some((_, have)) = self.hist.get_mut(place) {
                    *have = have.saturating_add(n);
                }
            }
            Err(place) if n > 0 => self.hist.insert(place, (at, n)),
            Err(_) => {}
        }
        self.sum_ns = self.sum_ns.saturating_add(duration.saturating_mul(n));
        if duration >= self.slowest.0 {
            self.slowest = (duration, fact.trace);
        }
        if fact.error {
            self.errors = self.errors.saturating_add(n);
            if self.error_trace.is_none_or(|(end, _)| fact.end_ns >= end) {
                self.error_trace = Some((fact.end_ns, fact.trace));
            }
        }
        if fact.no_answer {
            self.no_answer = self.no_answer.saturating_add(n);
        }
    }
}

#[cfg(test)]
mod tests;

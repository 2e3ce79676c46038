//! Requests in flight, from spans: a lower bound.
//!
//! A span is exported when it ends. So a child whose parent has not arrived tells that the parent is
//! still running, and since when at least. Only parents in the same service are followed: the span's
//! flags say whether its parent is remote, and where they do not, INTERNAL, CLIENT and PRODUCER spans
//! are taken for children of their own service. Children of one trace in one service count as one
//! request. A request counts from [`GRACE_NS`] after its first child arrived, because children
//! and parents that end together may be exported in different batches, and is given up on after
//! [`ABANDON_NS`].

use std::sync::Arc;

use coral_model::num::{u64_sat, usize_sat};
use hashbrown::HashMap;

use super::decode::Fact;
use super::names::{Names, Resource};
use crate::counters::Counters;

const GRACE_NS: u64 = 1_000_000_000;
const ABANDON_NS: u64 = 900 * 1_000_000_000;
const SNAPSHOT_NS: u64 = 1_000_000_000;
/// Remembered arrivals; a power of two. At 20,000 spans/s this is the last six seconds.
const SEEN: usize = 1 << 17;

/// Requests of one resource in flight.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) resource: Arc<Resource>,
    pub(crate) count: u64,
    pub(crate) oldest_start_ns: u64,
    pub(crate) oldest_trace: [u8; 16],
}

struct Waiting {
    request: u64,
    since_ns: u64,
}

struct Request {
    resource: Arc<Resource>,
    trace: [u8; 16],
    start_ns: u64,
    since_ns: u64,
    parents: u32,
}

pub(super) struct Inflight {
    bound: usize,
    /// Keys of spans that arrived lately; a later one may overwrite an earlier one.
    seen: Vec<u64>,
    /// Parents that have not arrived, by key.
    waiting: HashMap<u64, Waiting>,
    /// By hash of trace and resource.
    requests: HashMap<u64, Request>,
    /// Resources whose last snapshot was not zero.
    shown: HashMap<u64, Arc<Resource>>,
    last_ns: u64,
}

fn slot(key: u64) -> usize {
    usize_sat(key) & (SEEN - 1)
}

impl Inflight {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound,
            seen: vec![0; SEEN],
            waiting: HashMap::new(),
            requests: HashMap::new(),
            shown: HashMap::new(),
            last_ns: 0,
        }
    }

    /// Spans that have ended. Called with a whole batch before its children are looked at, since a
    /// batch usually holds children before their parents.
    pub(super) fn arrived(&mut self, facts: &[Fact]) {
        for fact in facts {
            if let Some(place) = self.seen.get_mut(slot(fact.key)) {
                *place = fact.key;
            }
            if !self.waiting.is_empty()
                && let Some(found) = self.waiting.remove(&fact.key)
            {
                self.settle(found.request);
            }
        }
    }

    fn settle(&mut self, request: u64) {
        if let Some(entry) = self.requests.get_mut(&request) {
            entry.parents = entry.parents.saturating_sub(1);
            if entry.parents == 0 {
                self.requests.remove(&request);
            }
        }
    }

    /// A span whose parent may still run. `false`: there is no room to follow it.
    pub(super) fn child(&mut self, fact: &Fact, resource: u32, names: &Names, now_ns: u64) -> bool {
        if self.seen.get(slot(fact.parent_key)) == Some(&fact.parent_key)
            || self.waiting.contains_key(&fact.parent_key)
        {
            return true;
        }
        if self.waiting.len() >= self.bound {
            return false;
        }
        let Some(resource) = names.resource_at(resource) else { return true };
        let request = fact.trace_key ^ resource.id.rotate_left(32);
        self.waiting.insert(fact.parent_key, Waiting { request, since_ns: now_ns });
        let entry = self.requests.entry(request).or_insert_with(|| Request {
            resource: resource.clone(),
            trace: fact.trace,
            start_ns: fact.start_ns,
            since_ns: now_ns,
            parents: 0,
        });
        entry.parents += 1;
        entry.start_ns = entry.start_ns.min(fact.start_ns);
        true
    }

    /// The state of every resource that has, or just had, requests in flight; empty when less than a
    /// second has passed since the last one.
    pub(super) fn snapshot(&mut self, now_ns: u64, counters: &Counters) -> Vec<Snapshot> {
        if now_ns.saturating_sub(self.last_ns) < SNAPSHOT_NS {
            return Vec::new();
        }
        self.last_ns = now_ns;
        self.abandon(now_ns, counters);
        let mut by_resource: HashMap<u64, Snapshot> = HashMap::new();
        for request in self.requests.values() {
            if now_ns.saturating_sub(request.since_ns) < GRACE_NS {
                continue;
            }
            let entry = by_resource.entry(request.resource.id).or_insert_with(|| Snapshot {
                resource: request.resource.clone(),
                count: 0,
                oldest_start_ns: u64::MAX,
                oldest_trace: [0; 16],
            });
            entry.count += 1;
            if request.start_ns < entry.oldest_start_ns {
                entry.oldest_start_ns = request.start_ns;
                entry.oldest_trace = request.trace;
            }
        }
        let mut out = Vec::with_capacity(by_resource.len() + self.shown.len());
        for (id, resource) in std::mem::take(&mut self.shown) {
            if !by_resource.contains_key(&id) {
                let (oldest_start_ns, oldest_trace) = (0, [0; 16]);
                out.push(Snapshot { resource, count: 0, oldest_start_ns, oldest_trace });
            }
        }
        for (id, snapshot) in by_resource {
            self.shown.insert(id, snapshot.resource.clone());
            out.push(snapshot);
        }
        out
    }

    fn abandon(&mut self, now_ns: u64, counters: &Counters) {
        let old = |w: &Waiting| now_ns.saturating_sub(w.since_ns) > ABANDON_NS;
        let gone: Vec<u64> =
            self.waiting.extract_if(|_, w| old(w)).map(|(_, w)| w.request).collect();
        counters.inflight_abandoned.add(u64_sat(gone.len()));
        for request in gone {
            self.settle(request);
        }
    }
}

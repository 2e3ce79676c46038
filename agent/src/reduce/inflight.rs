//! Requests in flight, from spans: a lower bound.
//!
//! A span is exported when it ends. So a child whose parent has not arrived tells that the parent is
//! still running, and since when at least. Only parents in the same service are followed: the span's
//! flags say whether its parent is remote, and where they do not, INTERNAL, CLIENT and PRODUCER spans
//! are taken for children of their own service. Children of one trace in one service count as one
//! request. A request counts from [`GRACE_NS`] after its first child arrived, because children
//! and parents that end together may be exported in different batches.
//!
//! A parent that never arrives is either hung or lost, and a hung request must stay visible while a
//! lost span must not look like one. So a request ends here
//!
//! * when its process was replaced: its resource has been silent for [`SILENT_NS`] while a younger one
//!   of the same service on the same host speaks. A process that is merely hung has no successor, and
//!   keeps looking bad;
//! * when its trace has been quiet in this service for [`QUIET_NS`] and there is reason to believe that
//!   the span is lost: this agent refused exports since the child arrived (SDKs drop what they cannot
//!   send), or no local parent of this process ever arrived although [`PROOF`] children waited for one
//!   (its instrumentation does not export them);
//! * at last after [`ABANDON_NS`].

use std::sync::Arc;

use coral_model::num::{u64_sat, usize_sat};
use hashbrown::HashMap;

use super::decode::Fact;
use super::names::{Names, Resource};
use crate::counters::Counters;

const GRACE_NS: u64 = 1_000_000_000;
const ABANDON_NS: u64 = 900 * 1_000_000_000;
const SILENT_NS: u64 = 20 * 1_000_000_000;
/// Longer than any SDK holds spans back (5 s by default, 30 s for a batch that is tried again).
const QUIET_NS: u64 = 60 * 1_000_000_000;
/// Children waiting in vain after which a process is taken not to export their parents.
const PROOF: u64 = 20;
/// Resources whose voices are remembered; beyond it the longest silent are forgotten.
const VOICES: usize = 4096;
const SNAPSHOT_NS: u64 = 1_000_000_000;
/// Remembered arrivals: sets of [`WAYS`], a power of two of them. At 20,000 spans/s these are the last
/// thirteen seconds; SDKs export within five.
const SETS: usize = 1 << 15;
/// Arrivals of a set. With one, a child would take every hundredth parent for missing that arrived
/// seconds before it: another span would have overwritten it, even at a few hundred spans/s.
const WAYS: usize = 8;

/// Requests of one resource in flight.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) resource: Arc<Resource>,
    pub(crate) count: u64,
    pub(crate) oldest_start_ns: u64,
    pub(crate) oldest_trace: [u8; 16],
    /// Counted one by one; else a lower bound.
    pub(crate) exact: bool,
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
    /// When the newest of its children arrived.
    last_ns: u64,
    parents: u32,
}

/// When a resource was heard, and whose it is.
struct Voice {
    /// Hash of service and host.
    place: u64,
    first_ns: u64,
    last_ns: u64,
    /// Children that waited for a local parent, and local parents that arrived.
    waited: u64,
    arrived: u64,
}

pub(super) struct Inflight {
    bound: usize,
    /// By resource id.
    voices: HashMap<u64, Voice>,
    /// Keys of spans that arrived lately, newest first; the oldest of a set is overwritten.
    seen: Vec<[u64; WAYS]>,
    /// Parents that have not arrived, by key.
    waiting: HashMap<u64, Waiting>,
    /// By hash of trace and resource.
    requests: HashMap<u64, Request>,
    /// Resources whose last snapshot was not zero.
    shown: HashMap<u64, Arc<Resource>>,
    last_ns: u64,
    /// Exports refused so far, and when the last of them was noticed.
    refused: (u64, u64),
}

fn set_of(key: u64) -> usize {
    usize_sat(key) & (SETS - 1)
}

impl Inflight {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound,
            voices: HashMap::new(),
            seen: vec![[0; WAYS]; SETS],
            waiting: HashMap::new(),
            requests: HashMap::new(),
            shown: HashMap::new(),
            last_ns: 0,
            refused: (0, 0),
        }
    }

    /// A resource has sent something. `false`: there is no room to remember when.
    pub(super) fn heard(&mut self, resource: &Resource, now_ns: u64) -> bool {
        if let Some(voice) = self.voices.get_mut(&resource.id) {
            voice.last_ns = now_ns;
            return true;
        }
        if self.voices.len() >= VOICES {
            self.voices.retain(|_, voice| now_ns.saturating_sub(voice.last_ns) < SILENT_NS);
        }
        let room = self.voices.len() < VOICES;
        if room {
            let part = |key| resource.get(key).unwrap_or_default();
            let pairs = ["service.namespace", "service.name", "host.name"].map(|k| (k, part(k)));
            let place = coral_model::id::resource_id(pairs).0;
            let voice = Voice { place, first_ns: now_ns, last_ns: now_ns, waited: 0, arrived: 0 };
            self.voices.insert(resource.id, voice);
        }
        room
    }

    /// Whether the process behind a resource has a successor.
    fn replaced(&self, resource: u64, now_ns: u64) -> bool {
        let speaks = |voice: &Voice| now_ns.saturating_sub(voice.last_ns) < SILENT_NS;
        self.voices.get(&resource).is_some_and(|old| {
            let younger = |v: &Voice| v.place == old.place && v.first_ns > old.first_ns;
            !speaks(old) && self.voices.values().any(|v| younger(v) && speaks(v))
        })
    }

    /// Spans that have ended. Called with a whole batch before its children are looked at, since a
    /// batch usually holds children before their parents.
    pub(super) fn arrived(&mut self, facts: &[Fact]) {
        for fact in facts {
            self.remember(fact.key);
            if !self.waiting.is_empty()
                && let Some(found) = self.waiting.remove(&fact.key)
            {
                self.settle(found.request);
            }
        }
    }

    fn remember(&mut self, key: u64) {
        if let Some(set) = self.seen.get_mut(set_of(key)) {
            set.rotate_right(1);
            if let Some(newest) = set.first_mut() {
                *newest = key;
            }
        }
    }

    /// A parent that was waited for has arrived.
    fn settle(&mut self, request: u64) {
        let resource = self.requests.get(&request).map(|r| r.resource.id);
        if let Some(voice) = resource.and_then(|id| self.voices.get_mut(&id)) {
            voice.arrived += 1;
        }
        self.end(request);
    }

    /// One parent less to wait for.
    fn end(&mut self, request: u64) {
        if let Some(entry) = self.requests.get_mut(&request) {
            entry.parents = entry.parents.saturating_sub(1);
            if entry.parents == 0 {
                self.requests.remove(&request);
            }
        }
    }

    /// A span whose parent may still run. `false`: there is no room to follow it.
    pub(super) fn child(&mut self, fact: &Fact, resource: u32, names: &Names, now_ns: u64) -> bool {
        let Some(resource) = names.resource_at(resource) else { return true };
        let request = fact.trace_key ^ resource.id.rotate_left(32);
        if self.seen.get(set_of(fact.parent_key)).is_some_and(|set| set.contains(&fact.parent_key))
        {
            if let Some(voice) = self.voices.get_mut(&resource.id) {
                voice.arrived += 1;
            }
            return true;
        }
        if let Some(entry) = self.requests.get_mut(&request) {
            entry.last_ns = now_ns;
        }
        if self.waiting.contains_key(&fact.parent_key) {
            return true;
        }
        if self.waiting.len() >= self.bound {
            return false;
        }
        if let Some(voice) = self.voices.get_mut(&resource.id) {
            voice.waited += 1;
        }
        self.waiting.insert(fact.parent_key, Waiting { request, since_ns: now_ns });
        let entry = self.requests.entry(request).or_insert_with(|| Request {
            resource: resource.clone(),
            trace: fact.trace,
            start_ns: fact.start_ns,
            since_ns: now_ns,
            last_ns: now_ns,
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
        let refused = counters.requests_refused_spool.get() + counters.requests_refused_busy.get();
        if refused != self.refused.0 {
            self.refused = (refused, now_ns);
        }
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
                exact: false,
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
                out.push(Snapshot {
                    resource,
                    count: 0,
                    oldest_start_ns,
                    oldest_trace,
                    exact: false,
                });
            }
        }
        for (id, snapshot) in by_resource {
            self.shown.insert(id, snapshot.resource.clone());
            out.push(snapshot);
        }
        out
    }

    fn abandon(&mut self, now_ns: u64, counters: &Counters) {
        let mut dead: HashMap<u64, bool> = HashMap::new();
        for request in self.requests.values() {
            let id = request.resource.id;
            if !dead.contains_key(&id) {
                dead.insert(id, self.replaced(id, now_ns));
            }
        }
        let (requests, voices, refused_ns) = (&self.requests, &self.voices, self.refused.1);
        let lost = |request: &Request| {
            let refused = refused_ns >= request.since_ns;
            let voice = voices.get(&request.resource.id);
            let unheard = voice.is_some_and(|v| v.arrived == 0 && v.waited >= PROOF);
            now_ns.saturating_sub(request.last_ns) > QUIET_NS && (refused || unheard)
        };
        let given_up = |waiting: &Waiting| {
            now_ns.saturating_sub(waiting.since_ns) > ABANDON_NS
                || requests.get(&waiting.request).is_some_and(|request| {
                    dead.get(&request.resource.id).copied().unwrap_or(false) || lost(request)
                })
        };
        let gone: Vec<u64> =
            self.waiting.extract_if(|_, w| given_up(w)).map(|(_, w)| w.request).collect();
        counters.inflight_abandoned.add(u64_sat(gone.len()));
        for request in gone {
            self.end(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(id: u64, service: &str) -> Resource {
        let attributes = vec![("service.name".into(), service.into())];
        Resource { id, attributes }
    }

    #[test]
    fn a_parent_is_remembered_while_its_children_may_still_come() {
        let mut inflight = Inflight::new(8);
        let key = |n: u64| xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes());
        // Every span of five seconds at 2,000 a second is still known at their end.
        (0..10_000).for_each(|n| inflight.remember(key(n)));
        let known = |n: &u64| inflight.seen[set_of(key(*n))].contains(&key(*n));
        assert_eq!((0..10_000).filter(known).count(), 10_000);
    }

    #[test]
    fn only_a_silent_process_with_a_younger_one_in_its_place_is_replaced() {
        let second = |n: u64| n * 1_000_000_000;
        let mut inflight = Inflight::new(8);
        inflight.heard(&resource(1, "payments"), second(100));
        inflight.heard(&resource(7, "catalog"), second(110));
        // Silent, but nobody took its place: it hangs.
        assert!(!inflight.replaced(1, second(200)));
        inflight.heard(&resource(2, "payments"), second(205));
        assert!(inflight.replaced(1, second(210)));
        assert!(!inflight.replaced(2, second(210)));
        // Two that speak are two instances.
        inflight.heard(&resource(1, "payments"), second(211));
        assert!(!inflight.replaced(1, second(212)));
        assert!(!inflight.replaced(7, second(212)));
    }
}

//! Recent RED and edge buckets in memory, so that a watched screen does not ask the disk every
//! second.
//!
//! In: batches that *have been committed*, from the store's writer. Out: merged rows per bucket and
//! series. The cut W divides time: buckets at or after W are wholly here, earlier ones are wholly in
//! the store, so an answer is the store's part of `[from, W)` plus this room's part of `[W, to)` and
//! never counts a request twice. W starts at the first whole bucket after start and only moves
//! forward, when memory or age asks for the oldest bucket. Late deltas for a bucket before W go to
//! the store alone, where the answer looks for them.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use coral_model::connections::Tally;
use coral_model::id::ResourceId;
use coral_model::time::{BUCKET, SECOND, Time};
use hashbrown::{HashMap, HashSet};
use tokio::sync::watch;

use crate::store::additive::{Buckets, resource_bytes};
use crate::store::{Batch, EdgeDelta, RedDelta, Resource};

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes, estimated.
    pub bytes: usize,
    /// Age of the oldest bucket against the newest commit, in ns.
    pub age: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 20, age: 3600 * SECOND }
    }
}

/// Recent buckets. Cheap to share; one writer, many readers.
#[derive(Debug)]
pub struct Live {
    inner: RwLock<Inner>,
    limits: Limits,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    cut: Time,
    stamp: Time,
    heard: Time,
    red: Buckets<RedDelta>,
    edges: Buckets<EdgeDelta>,
    resources: HashMap<ResourceId, (Arc<Resource>, Time)>,
    resource_bytes: usize,
    evicted: u64,
}

/// What live memory holds at one moment: nothing is committed or evicted while it is looked at.
#[derive(Debug)]
pub struct LiveView<'a> {
    inner: RwLockReadGuard<'a, Inner>,
}

impl Live {
    /// Empty, beginning at the first whole bucket after `now`.
    #[must_use]
    pub fn new(now: Time, limits: Limits) -> Self {
        let start = now.align(BUCKET);
        let cut = if start == now { start } else { start.plus(BUCKET) };
        Self {
            inner: RwLock::new(Inner {
                cut,
                stamp: Time(0),
                heard: now,
                red: Buckets::default(),
                edges: Buckets::default(),
                resources: HashMap::new(),
                resource_bytes: 0,
                evicted: 0,
            }),
            limits,
            changed: watch::Sender::new(0),
        }
    }

    /// W: buckets that start before it are the store's, the others are here.
    #[must_use]
    pub fn cut(&self) -> Time {
        self.read().cut
    }

    /// When something was last committed that an answer over requests may say: requests, ends of
    /// them, requests in flight, connections on which something happens, events. Readings of hosts, and of
    /// connections that stay open, come all the time and are no such news.
    /// The start, before there was any.
    #[must_use]
    pub fn heard(&self) -> Time {
        self.read().heard
    }

    /// Looks at everything under one lock. Keep it short: commits wait.
    pub fn visit<T>(&self, look: impl FnOnce(&LiveView<'_>) -> T) -> T {
        look(&LiveView { inner: self.read() })
    }

    /// Rises by one with every commit.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Buckets that memory or age pushed out to the store.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.read().evicted
    }

    /// Estimated bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.read().bytes()
    }

    /// Takes in batches that were committed together as of `stamp`. The store's writer calls this,
    /// in commit order, right after the commit.
    pub fn apply<'a>(&self, batches: impl IntoIterator<Item = &'a Batch>, stamp: Time) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for batch in batches {
            inner.take(batch, stamp);
        }
        inner.stamp = stamp;
        inner.shrink(self.limits);
        drop(inner);
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveView<'_> {
    /// W, as in [`Live::cut`].
    #[must_use]
    pub fn cut(&self) -> Time {
        self.inner.cut
    }

    /// Stamp (`received_ns`) of the newest commit in here.
    #[must_use]
    pub fn stamp(&self) -> Time {
        self.inner.stamp
    }

    /// RED rows of buckets with `from <= bucket < to`, oldest bucket first, one row per series.
    pub fn red(&self, from: Time, to: Time, look: &mut dyn FnMut(&RedDelta)) {
        self.inner.red.each(from, to, look);
    }

    /// Edge rows of buckets with `from <= bucket < to`, oldest bucket first, one row per edge.
    pub fn edges(&self, from: Time, to: Time, look: &mut dyn FnMut(&EdgeDelta)) {
        self.inner.edges.each(from, to, look);
    }

    /// What a row's resource id means, and when a commit first mentioned it here.
    #[must_use]
    pub fn resource(&self, id: ResourceId) -> Option<(&Resource, Time)> {
        self.inner.resources.get(&id).map(|(r, first)| (r.as_ref(), *first))
    }
}

impl Inner {
    fn bytes(&self) -> usize {
        self.red.bytes() + self.edges.bytes() + self.resource_bytes
    }

    fn take(&mut self, batch: &Batch, stamp: Time) {
        let waiting = batch.inflight.iter().any(|reading| reading.count > 0);
        let requests = !(batch.red.is_empty() && batch.half_edges.is_empty())
            || batch.edges.iter().any(happened);
        if waiting || requests || !batch.events.is_empty() {
            self.heard = self.heard.max(stamp);
        }
        for delta in &batch.red {
            if delta.bucket < self.cut {
                continue;
            }
            self.red.add(delta);
            if let Some(resource) = batch.resources.get(&delta.resource)
                && !self.resources.contains_key(&delta.resource)
            {
                self.resource_bytes += resource_bytes(resource);
                self.resources.insert(
                    delta.resource,
                    (Arc::clone(resource), resource.first.unwrap_or(stamp)),
                );
            }
        }
        for delta in batch.edges.iter().filter(|d| d.bucket >= self.cut) {
            self.edges.add(delta);
        }
    }

    fn shrink(&mut self, limits: Limits) {
        let horizon = self.stamp.minus(limits.age);
        let mut evicted = false;
        while let Some(oldest) =
            [self.red.oldest(), self.edges.oldest()].into_iter().flatten().min()
        {
            if self.bytes() <= limits.bytes && oldest >= horizon {
                break;
            }
            self.red.drop_oldest(oldest);
            self.edges.drop_oldest(oldest);
            self.cut = self.cut.max(oldest.plus(BUCKET));
            self.evicted += 1;
            // Resources nobody mentions any more go with the last bucket that did.
            if !evicted || self.bytes() > limits.bytes {
                self.sweep_resources();
            }
            evicted = true;
        }
    }

    fn sweep_resources(&mut self) {
        let mut used = HashSet::new();
        self.red.each(Time(0), Time::MAX, &mut |d| {
            used.insert(d.resource);
        });
        self.resources.retain(|id, _| used.contains(id));
        self.resource_bytes = self.resources.values().map(|(r, _)| resource_bytes(r)).sum();
    }
}

/// Whether anything happened along an edge: that connections are still open is no news.
fn happened(edge: &EdgeDelta) -> bool {
    let Tally { open_ns, rtt_sum_ns, rtt_count, .. } = edge.connections;
    let still_open = Tally { open_ns, rtt_sum_ns, rtt_count, ..Tally::default() };
    let requests = edge.histogram.count() > 0 || edge.callee.count() > 0;
    requests || edge.connections != still_open
}

#[cfg(test)]
mod tests;

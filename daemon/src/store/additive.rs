//! Rows that add up: buckets of one kind of row, merged by series.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use coral_model::hist::Histogram;
use coral_model::id::{ResourceId, TraceId};
use coral_model::time::Time;
use coral_model::view::{EdgeEnds, Evidence, SpanKind};
use hashbrown::HashMap;

use super::rows::{EdgeDelta, Node, RedDelta, Resource};

/// A row that adds up with others of its series in its bucket.
pub trait Additive: Clone {
    /// What tells series apart.
    type Key: Hash + Eq + Clone;
    /// The row's bucket.
    fn bucket(&self) -> Time;
    /// The row's bucket, to be moved into a coarser one.
    fn bucket_mut(&mut self) -> &mut Time;
    /// The row's series.
    fn key(&self) -> Self::Key;
    /// Adds a later row of the same bucket and series.
    fn merge(&mut self, other: &Self);
    /// Bytes it takes, roughly.
    fn bytes(&self) -> usize;
}

/// Bytes a histogram holds beyond itself.
fn histogram_bytes(h: &Histogram) -> usize {
    16 * h.buckets().len()
}

/// Bytes a resource takes, roughly.
pub fn resource_bytes(r: &Resource) -> usize {
    size_of::<Resource>() + r.attributes.iter().map(|(k, v)| 64 + k.len() + v.len()).sum::<usize>()
}

impl Additive for RedDelta {
    type Key = (ResourceId, Arc<str>, SpanKind, Arc<str>, Arc<str>, bool, Evidence);

    fn bucket(&self) -> Time {
        self.bucket
    }

    fn bucket_mut(&mut self) -> &mut Time {
        &mut self.bucket
    }

    fn key(&self) -> Self::Key {
        let (operation, code) = (Arc::clone(&self.operation), Arc::clone(&self.code));
        let protocol = Arc::clone(&self.protocol);
        (self.resource, operation, self.kind, code, protocol, self.sampled, self.evidence)
    }

    fn merge(&mut self, other: &Self) {
        self.errors = self.errors.saturating_add(other.errors);
        self.no_answer = self.no_answer.saturating_add(other.no_answer);
        self.histogram.merge(&other.histogram);
        // Any rule would do within ten seconds; this one does not depend on the order of arrival.
        let longest = |s: &Option<(TraceId, u64)>| s.map(|(id, ns)| (ns, id));
        self.slowest = std::cmp::max_by_key(self.slowest, other.slowest, longest);
        self.error_trace = self.error_trace.max(other.error_trace);
    }

    fn bytes(&self) -> usize {
        // Strings are counted with every row although rows of one frame share them.
        2 * size_of::<Self>()
            + histogram_bytes(&self.histogram)
            + self.operation.len()
            + self.service.len()
            + self.code.len()
    }
}

impl Additive for EdgeDelta {
    type Key = (Node, Node, Arc<str>, EdgeEnds, bool, Evidence);

    fn bucket(&self) -> Time {
        self.bucket
    }

    fn bucket_mut(&mut self) -> &mut Time {
        &mut self.bucket
    }

    fn key(&self) -> Self::Key {
        let (from, to) = (self.from.clone(), self.to.clone());
        (from, to, Arc::clone(&self.protocol), self.ends, self.sampled, self.evidence)
    }

    fn merge(&mut self, other: &Self) {
        self.errors = self.errors.saturating_add(other.errors);
        self.no_answer = self.no_answer.saturating_add(other.no_answer);
        self.histogram.merge(&other.histogram);
        self.callee.merge(&other.callee);
        self.connections.add(&other.connections);
    }

    fn bytes(&self) -> usize {
        2 * size_of::<Self>()
            + histogram_bytes(&self.histogram)
            + histogram_bytes(&self.callee)
            + self.from.name.len()
            + self.to.name.len()
    }
}

/// Rows by bucket and series, with a running estimate of their size.
#[derive(Debug)]
pub struct Buckets<R: Additive> {
    by_time: BTreeMap<Time, HashMap<R::Key, R>>,
    bytes: usize,
}

impl<R: Additive> Default for Buckets<R> {
    fn default() -> Self {
        Self { by_time: BTreeMap::new(), bytes: 0 }
    }
}

impl<R: Additive> Buckets<R> {
    /// Adds a row to its series.
    pub fn add(&mut self, row: &R) {
        let series = self.by_time.entry(row.bucket()).or_default();
        match series.entry(row.key()) {
            hashbrown::hash_map::Entry::Occupied(mut have) => {
                let before = have.get().bytes();
                have.get_mut().merge(row);
                self.bytes = self.bytes + have.get().bytes() - before;
            }
            hashbrown::hash_map::Entry::Vacant(slot) => {
                self.bytes += row.bytes();
                slot.insert(row.clone());
            }
        }
    }

    /// Rows of buckets with `from <= bucket < to`, oldest bucket first.
    pub fn each(&self, from: Time, to: Time, look: &mut dyn FnMut(&R)) {
        if from < to {
            self.by_time.range(from..to).flat_map(|(_, rows)| rows.values()).for_each(look);
        }
    }

    /// Start of the oldest bucket.
    pub fn oldest(&self) -> Option<Time> {
        self.by_time.keys().next().copied()
    }

    /// Drops buckets that start at or before `at`.
    pub fn drop_oldest(&mut self, at: Time) {
        while let Some(first) = self.by_time.first_entry()
            && *first.key() <= at
        {
            let gone: usize = first.remove().values().map(Additive::bytes).sum();
            self.bytes = self.bytes.saturating_sub(gone);
        }
    }

    /// Bytes held, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes every row out.
    pub fn drain(&mut self) -> Vec<R> {
        self.bytes = 0;
        std::mem::take(&mut self.by_time).into_values().flat_map(HashMap::into_values).collect()
    }
}

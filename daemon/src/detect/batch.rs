//! From a batch to sightings: which instance of which service sent something.

use std::sync::Arc;

use coral_model::ResourceId;
use coral_model::time::{SECOND, Time};
use coral_model::view::SEEN_BY;
use hashbrown::{HashMap, HashSet};

use crate::store::{Batch, Resource};

/// Data older than this were kept somewhere while they could not be sent; what they tell happened
/// then, not now.
const LATE: u64 = 60 * SECOND;
/// Resources remembered; beyond it all are forgotten and read anew.
const MAX_RESOURCES: usize = 50_000;

/// One instance of a service, seen in a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sighting {
    pub(super) service: Arc<str>,
    /// What tells instances apart: `service.instance.id`, else process and host.
    pub(super) instance: Arc<str>,
    pub(super) version: Option<Arc<str>>,
    pub(super) host: Option<Arc<str>>,
    /// When what was seen happened.
    pub(super) at: Time,
}

/// Sightings of known resources, so that a batch costs a look-up per resource and no text.
#[derive(Debug, Default)]
pub(super) struct Known {
    of: HashMap<ResourceId, Sighting>,
    /// Services that only the kernel sees, and when they were last at work.
    unreported: HashMap<Arc<str>, Time>,
}

impl Known {
    /// Calls `look` for every resource of the batch.
    pub(super) fn each(&mut self, batch: &Batch, now: Time, look: &mut dyn FnMut(&Sighting)) {
        if batch.resources.is_empty() {
            return;
        }
        if self.of.len() > MAX_RESOURCES {
            self.of.clear();
        }
        if self.unreported.len() > MAX_RESOURCES {
            self.unreported.clear();
        }
        let newest = newest(batch);
        let late = newest.filter(|newest| now.since(*newest) > LATE);
        let silent = silent(batch);
        for (id, resource) in &batch.resources {
            // What only the kernel sees is a program at work: without requests it has not vanished.
            let seen = resource.attributes.iter().any(|(key, _)| &**key == SEEN_BY);
            if silent.contains(id) {
                continue;
            }
            if seen {
                self.unreported.insert(Arc::clone(&resource.service), late.unwrap_or(now));
                continue;
            }
            let sighting = self.of.entry(*id).or_insert_with(|| of(resource));
            sighting.at = late.unwrap_or(now);
            look(sighting);
        }
    }
}

impl Known {
    /// Services that only the kernel has seen since then.
    pub(super) fn unreported(&self, since: Time) -> impl Iterator<Item = &str> {
        self.unreported.iter().filter(move |(_, at)| **at >= since).map(|(name, _)| &**name)
    }
}

/// Resources the batch says nothing new of: an agent goes on counting requests in flight, and
/// connections that stay open, of a service that has long fallen silent.
fn silent(batch: &Batch) -> HashSet<ResourceId> {
    let waiting = batch.inflight.iter().map(|reading| reading.resource);
    let open = batch.connections.iter().map(|delta| delta.series.resource);
    let mut silent: HashSet<_> = waiting.chain(open).collect();
    if silent.is_empty() {
        return silent;
    }
    silent.retain(|id| !batch.heard.contains(id));
    for delta in &batch.red {
        silent.remove(&delta.resource);
    }
    for half in &batch.half_edges {
        silent.remove(&half.series.resource);
    }
    silent
}

/// Start of the newest bucket in the batch.
fn newest(batch: &Batch) -> Option<Time> {
    batch.red.iter().map(|delta| delta.bucket).max()
}

/// What tells instances of a service apart: the id they give themselves, else their process, else
/// their host.
pub(super) fn instance(
    id: Option<&Arc<str>>,
    pid: Option<&Arc<str>>,
    host: Option<&Arc<str>>,
) -> Arc<str> {
    let pid = || pid.map(|pid| Arc::from(format!("pid {pid}")));
    let named = id.cloned().or_else(pid).or_else(|| host.cloned());
    named.unwrap_or_else(|| Arc::from(""))
}

fn of(resource: &Resource) -> Sighting {
    let attribute = |key: &str| {
        let found = resource.attributes.iter().find(|(k, _)| &**k == key);
        found.map(|(_, value)| Arc::clone(value))
    };
    let pid = attribute("process.pid");
    let instance = instance(resource.instance.as_ref(), pid.as_ref(), resource.host.as_ref());
    Sighting {
        service: Arc::clone(&resource.service),
        instance,
        version: resource.version.clone(),
        host: resource.host.clone(),
        at: Time(0),
    }
}

//! What a detector must know of an earlier life, so that a restart of the daemon announces nothing
//! that everybody knows.

use std::sync::Arc;

use coral_model::Time;

/// An instance that an earlier life had seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenInstance {
    /// `service.name`.
    pub service: Arc<str>,
    /// `service.instance.id`, if it had one.
    pub instance: Option<Arc<str>>,
    /// `service.version`.
    pub version: Option<Arc<str>>,
    /// `host.name`.
    pub host: Option<Arc<str>>,
    /// `process.pid`, if its resource names one.
    pub pid: Option<Arc<str>>,
    /// Newest data of it.
    pub last_seen: Time,
}

/// Requests of a service in a bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenBucket {
    /// `service.name`.
    pub service: Arc<str>,
    /// Start of the bucket.
    pub bucket: Time,
    /// Requests that ended in it.
    pub requests: u64,
    /// Of them failed.
    pub errors: u64,
    /// Spans of the service tell of its requests.
    pub told: bool,
}

/// See the module.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Seed {
    /// Every instance of every service known.
    pub instances: Vec<SeenInstance>,
    /// The last minutes' requests.
    pub buckets: Vec<SeenBucket>,
    /// Agents and when they were last seen.
    pub agents: Vec<(String, Time)>,
}

//! Decoded rows that more than the store looks at: live memory, the detectors and the edge join
//! read them from a [`super::Batch`] before they become columns. Spans, logs and metric points are
//! only ever columns ([`super::columns`]).

use std::sync::Arc;

use coral_model::connections::Tally;
use coral_model::hist::Histogram;
use coral_model::id::{AgentId, ResourceId, SegmentId, TraceId};
use coral_model::time::Time;
use coral_model::view::{EdgeEnds, Evidence, NodeKind, SpanKind};

/// Who sent telemetry: the attributes of an OTLP resource, and what Coral reads from them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resource {
    /// Content hash of the attributes.
    pub id: ResourceId,
    /// `service.name`; `unknown_service` where the SDK set none.
    pub service: Arc<str>,
    /// `service.namespace`.
    pub namespace: Option<Arc<str>>,
    /// `service.instance.id`.
    pub instance: Option<Arc<str>>,
    /// `service.version`.
    pub version: Option<Arc<str>>,
    /// `host.name`.
    pub host: Option<Arc<str>>,
    /// `cloud.availability_zone`.
    pub zone: Option<Arc<str>>,
    /// All attributes, sorted by key, values as text.
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
    /// When it was first seen, where a file says so; else the commit that mentions it first.
    pub first: Option<Time>,
}

/// Requests of one series that ended in one bucket: additive, as the agent counted them.
#[derive(Debug, Clone, PartialEq)]
pub struct RedDelta {
    /// Start of the 10 s bucket.
    pub bucket: Time,
    /// Whose they are.
    pub resource: ResourceId,
    /// `service.name` of the resource.
    pub service: Arc<str>,
    /// Operation, or `__other__`.
    pub operation: Arc<str>,
    /// SERVER or CONSUMER.
    pub kind: SpanKind,
    /// The protocol's status code; empty when unknown (NULL in SQL).
    pub code: Arc<str>,
    /// `http`, `grpc`, `messaging`, `rpc`; empty when unknown (NULL in SQL).
    pub protocol: Arc<str>,
    /// Failed requests.
    pub errors: u64,
    /// Of them: without any answer.
    pub no_answer: u64,
    /// Durations; its count is the number of requests.
    pub histogram: Histogram,
    /// The slowest request's trace and duration in ns.
    pub slowest: Option<(TraceId, u64)>,
    /// The last failed request's trace.
    pub error_trace: Option<TraceId>,
    /// The source kept only a sample and did not say which share.
    pub sampled: bool,
    /// What saw them.
    pub evidence: Evidence,
}

/// A node at an end of an edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: NodeKind,
}

/// Requests along one edge that ended in one bucket, and the connections below them: additive.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeDelta {
    /// Start of the 10 s bucket.
    pub bucket: Time,
    /// Caller.
    pub from: Node,
    /// Callee.
    pub to: Node,
    /// `http`, `grpc`, `postgresql` …; empty when unknown (NULL in SQL).
    pub protocol: Arc<str>,
    /// Ends that were seen.
    pub ends: EdgeEnds,
    /// Failed requests.
    pub errors: u64,
    /// Of them: without any answer.
    pub no_answer: u64,
    /// Durations as the caller saw them (as the callee did, where only it was seen); its count is
    /// the number of requests. Empty in a delta that only adds what the callee measured of requests
    /// that were counted before.
    pub histogram: Histogram,
    /// Durations as the callee measured them, where both ends were seen.
    pub callee: Histogram,
    /// The source kept only a sample and did not say which share.
    pub sampled: bool,
    /// What saw them.
    pub evidence: Evidence,
    /// Connections that the caller opened to the callee. A delta without requests may add these alone:
    /// it says nothing of [`EdgeDelta::ends`] then.
    pub connections: Tally,
}

/// Connections that a resource opened to a peer, in one bucket: additive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionDelta {
    /// Start of the 10 s bucket.
    pub bucket: Time,
    /// Who opened them, and to whom, in the words of that client's half-edges.
    pub series: Arc<HalfSeries>,
    /// What is known of them.
    pub tally: Tally,
}

/// One end of a request between two programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HalfEdge {
    /// Same number at both ends; 0: there is no other end to wait for.
    pub key: u64,
    /// What all halves of one origin share.
    pub series: Arc<HalfSeries>,
    /// When the request ended.
    pub end: Time,
    /// Its duration as this end saw it, ns.
    pub duration_ns: u64,
    /// It failed.
    pub error: bool,
    /// It got no answer.
    pub no_answer: bool,
}

/// What half-edges of one origin share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HalfSeries {
    /// Whose span it was.
    pub resource: ResourceId,
    /// `service.name` of the resource.
    pub service: Arc<str>,
    /// CLIENT and PRODUCER are callers, SERVER and CONSUMER callees.
    pub kind: SpanKind,
    /// `http`, `grpc`, `postgresql` …
    pub protocol: Arc<str>,
    /// Who this end says stands at the other; empty when it does not know.
    pub peer: Arc<str>,
    /// What this end says the peer is.
    pub peer_kind: NodeKind,
    /// The source kept only a sample.
    pub sampled: bool,
    /// What saw it.
    pub evidence: Evidence,
}

/// Requests of a service that had begun and not ended. A state, not additive: the newest counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InflightReading {
    /// When it was counted.
    pub at: Time,
    /// Who counted.
    pub agent: AgentId,
    /// Whose requests.
    pub resource: ResourceId,
    /// `service.name` of the resource.
    pub service: Arc<str>,
    /// Operation; empty when not known before the request ends (NULL in SQL).
    pub operation: Arc<str>,
    /// How many.
    pub count: u64,
    /// Start of the oldest; `None` when count is 0.
    pub oldest_start: Option<Time>,
    /// Trace of the oldest.
    pub oldest_trace: Option<TraceId>,
    /// Counted exactly; else a lower bound.
    pub exact: bool,
}

/// A reading of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostReading {
    /// When it was read.
    pub at: Time,
    /// Who read it.
    pub agent: AgentId,
    /// `host.name`.
    pub host: Arc<str>,
    /// A [`coral_model::view::HostRow`] as JSON, checked to parse.
    pub row: Arc<str>,
}

/// How far a segment is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Whose segment.
    pub agent: AgentId,
    /// Which.
    pub segment: SegmentId,
    /// The mark these rows follow on; the writer refuses the batch when it is not (see
    /// [`super::StoreError::Stale`]), which is what keeps a resent record from counting twice.
    pub after: Option<u64>,
    /// Everything up to and including this is in the batch or was committed before.
    pub seq: u64,
}

//! What is committed together.

use std::sync::Arc;

use coral_model::id::{AgentId, SegmentId};
use coral_model::view::EventRow;
use hashbrown::{HashMap, HashSet};

use super::columns::logs::LogColumns;
use super::columns::metrics::MetricColumns;
use super::columns::spans::SpanColumns;
use super::rows::{
    ConnectionDelta, EdgeDelta, HalfEdge, HostReading, InflightReading, Mark, RedDelta, Resource,
};
use coral_model::id::ResourceId;

/// Decoded rows and the marks that say which records they came from: all of it is committed, or
/// none.
///
/// Intake fills everything but `edges`, which the writer's edge join adds.
#[derive(Debug, Default)]
pub struct Batch {
    /// What `resource` ids in the rows mean.
    pub resources: HashMap<ResourceId, Arc<Resource>>,
    /// Resources that sent spans, logs or metric points themselves: those that live. The others are
    /// only spoken of.
    pub heard: HashSet<ResourceId>,
    /// Spans.
    pub spans: SpanColumns,
    /// How many of them agents made themselves, of what the kernel saw.
    pub made: u64,
    /// Log records.
    pub logs: LogColumns,
    /// Metric points.
    pub metrics: MetricColumns,
    /// RED deltas.
    pub red: Vec<RedDelta>,
    /// Ends of requests.
    pub half_edges: Vec<HalfEdge>,
    /// Connections, by the names that who opened them has for its peers.
    pub connections: Vec<ConnectionDelta>,
    /// Joined edges.
    pub edges: Vec<EdgeDelta>,
    /// Requests in flight.
    pub inflight: Vec<InflightReading>,
    /// Host readings.
    pub hosts: Vec<HostReading>,
    /// Events.
    pub events: Vec<EventRow>,
    /// How far segments are committed with this batch.
    pub marks: Vec<Mark>,
    /// Segments their agent has deleted.
    pub forget: Vec<(AgentId, SegmentId)>,
    /// Bytes the batch stands for, for grouping and budgets: those of the records it came from.
    pub bytes: usize,
}

impl Batch {
    /// A batch of nothing but events.
    #[must_use]
    pub fn of_events(events: Vec<EventRow>) -> Self {
        Self { events, ..Self::default() }
    }

    /// Rows of every signal.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.spans.rows()
            + self.logs.rows()
            + self.metrics.rows()
            + self.red.len()
            + self.half_edges.len()
            + self.connections.len()
            + self.edges.len()
            + self.inflight.len()
            + self.hosts.len()
            + self.events.len()
    }

    /// Whether committing it would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows() == 0 && self.marks.is_empty() && self.forget.is_empty()
    }
}

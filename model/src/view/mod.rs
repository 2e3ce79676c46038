//! What each question is answered with: one row type per view, one enum over them.
//!
//! A row serialises to exactly the JSON line that `coral query --json` prints, and the same bytes
//! travel from the colony to every program that shows them. Unknown is `null`, never 0; "no
//! traffic", "not observed" and "stale" are different values of [`State`].

mod agents;
mod diff;
mod digest;
mod hosts;
mod patterns;
mod records;
mod red;
mod sql;
mod topology;
mod traces;

use serde::{Deserialize, Serialize};

pub use agents::{
    AgentRow, EyesRow, Sense, SenseState, StatusRow, Told, is_loss, losses, lost, refused,
};
pub use diff::{DiffRow, DiffSides, Origin, Side};
pub use digest::{Change, DigestRow, Health, Line, Mover, PathStep};
pub use hosts::{
    Cpu, Disk, Filesystem, HostRow, Memory, Network, Pressure, ProcessRow, ShortLived,
    ShortLivedProgram,
};
pub use patterns::PatternRow;
pub use records::{EventKind, EventRow, LabelRow, LabelValue, LogRow, MetricKind, MetricRow};
pub use red::{
    Baseline, Evidence, InflightRow, Quantity, Red, RedRow, SEEN_BY, ServiceRow, Shift, State,
    Versions,
};
pub use sql::{SqlColumn, SqlColumns, SqlRow};
pub use topology::{Connections, EdgeEnds, EdgeRow, NodeKind, NodeRow};
pub use traces::{
    CALLER, ClockShift, CriticalSpan, Gap, SYNTHETIC, SpanEvent, SpanKind, SpanLink, SpanRow,
    SpanStatus, TraceHead, TraceRow,
};

use crate::time::{Time, Window};

/// A line of an answer. The JSON object's `schema` says which.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "schema")]
pub enum Row {
    /// The first screen.
    #[serde(rename = "coral.digest/1")]
    Digest(Box<DigestRow>),
    /// Rate, errors, duration.
    #[serde(rename = "coral.red/1")]
    Red(Box<RedRow>),
    /// A service.
    #[serde(rename = "coral.services/1")]
    Service(Box<ServiceRow>),
    /// A trace, summed up.
    #[serde(rename = "coral.traces/1")]
    Trace(Box<TraceRow>),
    /// A trace as a whole, before its spans.
    #[serde(rename = "coral.trace.head/1")]
    TraceHead(Box<TraceHead>),
    /// A span of the trace asked for.
    #[serde(rename = "coral.trace/1")]
    Span(Box<SpanRow>),
    /// A log record.
    #[serde(rename = "coral.logs/1")]
    Log(Box<LogRow>),
    /// What log records have in common.
    #[serde(rename = "coral.patterns/1")]
    Pattern(Box<PatternRow>),
    /// An event.
    #[serde(rename = "coral.events/1")]
    Event(Box<EventRow>),
    /// A node of the topology.
    #[serde(rename = "coral.topology.node/1")]
    Node(Box<NodeRow>),
    /// An edge of the topology.
    #[serde(rename = "coral.topology.edge/1")]
    Edge(Box<EdgeRow>),
    /// A metric, or a point of one.
    #[serde(rename = "coral.metrics/1")]
    Metric(Box<MetricRow>),
    /// A label of a metric.
    #[serde(rename = "coral.metrics.labels/1")]
    Label(Box<LabelRow>),
    /// A host.
    #[serde(rename = "coral.hosts/1")]
    Host(Box<HostRow>),
    /// Requests without an answer so far.
    #[serde(rename = "coral.inflight/1")]
    Inflight(Box<InflightRow>),
    /// An agent.
    #[serde(rename = "coral.agents/1")]
    Agent(Box<AgentRow>),
    /// An agent's eyes in the kernel.
    #[serde(rename = "coral.eyes/1")]
    Eyes(Box<EyesRow>),
    /// What `diff` compared with what.
    #[serde(rename = "coral.diff.sides/1")]
    DiffSides(Box<DiffSides>),
    /// A value that tells the sides of `diff` apart.
    #[serde(rename = "coral.diff/1")]
    Diff(Box<DiffRow>),
    /// The columns of a statement's answer.
    #[serde(rename = "coral.sql.columns/1")]
    SqlColumns(Box<SqlColumns>),
    /// A row of a statement's answer.
    #[serde(rename = "coral.sql/1")]
    Sql(Box<SqlRow>),
    /// The colony itself.
    #[serde(rename = "coral.status/1")]
    Status(Box<StatusRow>),
    /// The last line of every answer.
    #[serde(rename = "coral.end/1")]
    End(Box<End>),
}

impl Row {
    /// It comes before the rows and tells of them, and is not counted among them.
    #[must_use]
    pub const fn is_head(&self) -> bool {
        matches!(self, Self::DiffSides(_) | Self::SqlColumns(_) | Self::TraceHead(_))
    }
}

/// The last line of every answer. A stream without it was cut.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct End {
    /// Rows before this line; what stands at the head of them and tells of them is not counted.
    pub rows: u64,
    /// More rows matched than the limit let through.
    pub truncated: bool,
    /// Records of the asked signal that were turned away anywhere on the way, inside the window.
    pub dropped: u64,
    /// Agents known to the colony.
    pub agents_asked: u32,
    /// Agents whose data are in this answer up to its newest moment.
    pub agents_answered: u32,
    /// First moment of the answer.
    pub from: Time,
    /// First moment after it.
    pub to: Time,
    /// The baseline's window, when there is one.
    pub compare: Option<Window>,
    /// Width of the finest bucket used, in seconds; `null` where rows are single records.
    pub resolution_s: Option<u64>,
    /// The cut: stored data answer up to here, live memory after.
    pub stored_to: Option<Time>,
    /// Newest record behind this answer.
    pub newest: Option<Time>,
    /// What could not be seen, one sentence each; an answer with any exits 6 when it has no rows.
    pub blind: Vec<String>,
}

//! Log records, events and metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{RecordId, SpanId, TraceId};
use crate::question::{WordError, words};
use crate::time::Time;

/// A log record.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LogRow {
    /// What it is asked for by (`coral query logs --around ID --lines 20`).
    #[serde(default)]
    pub id: RecordId,
    /// Records between it and the one whose neighbours were asked for: negative before it, 0 that one.
    #[serde(default)]
    pub offset: Option<i64>,
    /// When it was written, or observed where the writer did not say.
    pub time: Time,
    /// `service.name`.
    pub service: String,
    /// `service.instance.id`.
    pub instance: Option<String>,
    /// `host.name`.
    pub host: Option<String>,
    /// OpenTelemetry's severity number, 1 to 24; 0 is unspecified.
    pub severity: u8,
    /// `trace`, `debug`, `info`, `warn`, `error`, `fatal`; empty when unspecified.
    pub level: String,
    /// What it says, as received.
    pub body: String,
    /// The trace it belongs to.
    pub trace_id: Option<TraceId>,
    /// The span it belongs to.
    pub span_id: Option<SpanId>,
    /// Attributes, values as text.
    pub attributes: BTreeMap<String, String>,
}

words!(
    /// What kind of thing happened.
    EventKind, "event kind", {
        /// A service was seen for the first time.
        ServiceAppeared = "service_appeared",
        /// A service that was there reports nothing any more.
        ServiceVanished = "service_vanished",
        /// A service runs another version.
        Deploy = "deploy",
        /// A process of a service was replaced.
        Restart = "restart",
        /// A process of a service ended, and none took its place.
        ProcessEnded = "process_ended",
        /// The kernel killed processes for lack of memory.
        OomKill = "oom_kill",
        /// Errors rose far above what they were.
        ErrorBurst = "error_burst",
        /// A service logs something it never did before.
        NewPattern = "new_pattern",
        /// An agent joined.
        AgentConnected = "agent_connected",
        /// An agent is gone.
        AgentLost = "agent_lost",
        /// A host's clock jumped.
        ClockJumped = "clock_jumped",
        /// A spool or disk is near its bound.
        NearBound = "near_bound",
        /// Data were turned away.
        Dropped = "dropped",
        /// Something the agent was told to read cannot be read any more.
        SourceLost = "source_lost",
        /// It can be read again.
        SourceBack = "source_back",
        /// Part of the store was set aside as damaged.
        StoreDamaged = "store_damaged",
        /// Somebody said so (`coral event`).
        Note = "note",
    }
);

/// Something that happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EventRow {
    /// When.
    pub time: Time,
    /// What kind.
    pub kind: EventKind,
    /// Service it concerns.
    pub service: Option<String>,
    /// Host it concerns.
    pub host: Option<String>,
    /// One line for a person.
    pub text: String,
    /// Who says so: `spans`, `agent`, `colony`, or the user of `coral event`.
    pub source: String,
    /// Particulars (`from`, `to`, `instance`, `count` …).
    pub attributes: BTreeMap<String, String>,
}

words!(
    /// The shape of a metric, as OTLP has it.
    MetricKind, "metric kind", {
        /// A value at a moment.
        Gauge = "gauge",
        /// A sum that only rises.
        Counter = "counter",
        /// A sum that rises and falls.
        UpDownCounter = "updowncounter",
        /// Explicit buckets.
        Histogram = "histogram",
        /// Exponential buckets.
        ExponentialHistogram = "exponential_histogram",
        /// Quantiles computed by the application.
        Summary = "summary",
    }
);

/// A metric (without `subject`) or a point of one series of it (with).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MetricRow {
    /// Its name.
    pub metric: String,
    /// Its shape.
    pub kind: MetricKind,
    /// Its unit, in UCUM.
    pub unit: String,
    /// What it says it is.
    pub description: String,
    /// `delta` or `cumulative`; `null` for gauges and summaries.
    pub temporality: Option<String>,
    /// `service.name`.
    pub service: Option<String>,
    /// `service.instance.id`.
    pub instance: Option<String>,
    /// Series of the metric (list), or 1 (point).
    pub series: u64,
    /// When the newest point was taken.
    pub time: Option<Time>,
    /// Attributes of the series.
    pub attributes: BTreeMap<String, String>,
    /// Value of a gauge or sum; the mean of a histogram.
    pub value: Option<f64>,
    /// Observations of a histogram or summary.
    pub count: Option<u64>,
    /// Their sum.
    pub sum: Option<f64>,
    /// Quantiles, where the shape gives them: `p50`, `p90`, `p99`.
    pub quantiles: BTreeMap<String, f64>,
    /// Why a number that was asked for is not there, or what it rests on.
    #[serde(default)]
    pub note: Option<String>,
}

/// A label of a metric, and the values it has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LabelRow {
    /// The metric.
    pub metric: String,
    /// The label.
    pub label: String,
    /// Series that have it.
    pub series: u64,
    /// Different values it has.
    pub values: u64,
    /// Values of most series first.
    pub top: Vec<LabelValue>,
}

/// A value of a label.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LabelValue {
    /// The value.
    pub value: String,
    /// Series that have it.
    pub series: u64,
}

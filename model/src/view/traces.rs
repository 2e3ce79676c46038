//! Traces and their spans.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{SpanId, TraceId};
use crate::question::words;
use crate::time::Time;
use std::fmt;
use std::str::FromStr;

use crate::question::WordError;

words!(
    /// A span's kind, as OpenTelemetry numbers them from 1.
    SpanKind, "span kind", {
        /// Work inside a service.
        Internal = "internal",
        /// A request being answered.
        Server = "server",
        /// A request being made.
        Client = "client",
        /// A message being sent.
        Producer = "producer",
        /// A message being processed.
        Consumer = "consumer",
    }
);

impl SpanKind {
    /// From OTLP's number; 0 and unknown ones are INTERNAL, as the specification says.
    #[must_use]
    pub fn from_otlp(n: u64) -> Self {
        match n {
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Internal,
        }
    }

    /// OTLP's number.
    #[must_use]
    pub fn to_otlp(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Server => 2,
            Self::Client => 3,
            Self::Producer => 4,
            Self::Consumer => 5,
        }
    }
}

words!(
    /// How a span ended.
    SpanStatus, "span status", {
        /// Nobody said.
        Unset = "unset",
        /// Said to be fine.
        Ok = "ok",
        /// Failed.
        Error = "error",
    }
);

impl SpanStatus {
    /// From OTLP's number.
    #[must_use]
    pub fn from_otlp(n: u64) -> Self {
        match n {
            1 => Self::Ok,
            2 => Self::Error,
            _ => Self::Unset,
        }
    }

    /// OTLP's number.
    #[must_use]
    pub fn to_otlp(self) -> u8 {
        match self {
            Self::Unset => 0,
            Self::Ok => 1,
            Self::Error => 2,
        }
    }
}

/// The attribute of a span that no application sent: an agent made it of a request that the kernel saw.
pub const SYNTHETIC: &str = "coral.synthetic";

/// The attribute of such a span of who serves that names the one of who asked, which stands above it where somebody
/// saw that end as well. Sixteen hex digits.
pub const CALLER: &str = "coral.caller";

/// A trace, summed up.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TraceRow {
    /// Its id.
    pub trace_id: TraceId,
    /// Start of its earliest span.
    pub start: Time,
    /// From its earliest start to its latest end, in nanoseconds.
    pub duration_ns: u64,
    /// Service of its root, or of its earliest span when the root has not arrived.
    pub service: String,
    /// That span's operation.
    pub operation: String,
    /// The root has arrived.
    pub complete: bool,
    /// Spans.
    pub spans: u64,
    /// Failed spans.
    pub errors: u64,
    /// Services it passed through.
    pub services: Vec<String>,
    /// The root's protocol status.
    pub status: Option<String>,
    /// How unusual it is, when ranked by that: 0 is like the others.
    #[serde(default)]
    pub score: Option<f64>,
    /// What is unusual about it, worst first, when ranked by that.
    #[serde(default)]
    pub unusual: Vec<String>,
    /// One trace in so many was looked at, when ranked by that; 1 is all.
    #[serde(default)]
    pub sampled_every: Option<u64>,
}

/// One span of a trace, in the order a waterfall draws them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SpanRow {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Its parent; `null` for a root. Of a synthetic span its caller's, where that is there.
    pub parent_id: Option<SpanId>,
    /// The parent is named but has not arrived.
    pub orphan: bool,
    /// Steps below its root.
    pub depth: u32,
    /// `service.name`.
    pub service: String,
    /// `service.instance.id`.
    pub instance: Option<String>,
    /// Name of the span.
    pub operation: String,
    /// Its kind.
    pub kind: SpanKind,
    /// When it began, by the clock of its trace's root: as reported plus `shift_ns`.
    pub start: Time,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
    /// Its duration less the time covered by its children, in nanoseconds.
    pub self_ns: u64,
    /// How much of the trace's duration passed in this span and in none below it, on the path that
    /// decided how long the trace took, in nanoseconds.
    #[serde(default)]
    pub critical_ns: u64,
    /// By how much its times were moved to correct its host's clock, in nanoseconds.
    #[serde(default)]
    pub shift_ns: i64,
    /// Stretches between its children in which none of them ran, the longest ones, by time.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// How it ended.
    pub status: SpanStatus,
    /// What its status said.
    pub message: Option<String>,
    /// Attributes, values as text.
    pub attributes: BTreeMap<String, String>,
    /// Attributes of its resource.
    pub resource: BTreeMap<String, String>,
    /// Span events.
    pub events: Vec<SpanEvent>,
    /// Links to other traces.
    pub links: Vec<SpanLink>,
}

/// Something that happened during a span.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SpanEvent {
    /// When.
    pub time: Time,
    /// What.
    pub name: String,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
}

/// A link to a span of this or another trace.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SpanLink {
    /// Trace linked to.
    pub trace_id: TraceId,
    /// Span linked to.
    pub span_id: SpanId,
}

/// A stretch of a span that none of its children covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gap {
    /// When it begins.
    pub start: Time,
    /// How long it is, in nanoseconds.
    pub duration_ns: u64,
}

/// A trace as a whole. Comes before its spans, and is not counted as a row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TraceHead {
    /// The trace.
    pub trace_id: TraceId,
    /// Start of its earliest span, clocks corrected.
    pub start: Time,
    /// From there to its latest end, in nanoseconds.
    pub duration_ns: u64,
    /// Spans.
    pub spans: u64,
    /// Failed spans.
    pub errors: u64,
    /// Spans whose parent has not arrived.
    pub orphans: u64,
    /// Services it passed through.
    pub services: Vec<String>,
    /// Where its time went: the spans of the critical path with most time of their own, most first.
    pub critical: Vec<CriticalSpan>,
    /// Clocks that were corrected, and those that could not be.
    pub clocks: Vec<ClockShift>,
    /// Log records that name it, at most as many as follow the spans.
    pub logs: u64,
}

/// A span's part of the critical path.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CriticalSpan {
    /// The span.
    pub span_id: SpanId,
    /// Its service.
    pub service: String,
    /// Its name.
    pub operation: String,
    /// Its part, in nanoseconds.
    pub critical_ns: u64,
    /// Its share of the path.
    pub share: f64,
}

/// By how much a host's clock was corrected in a trace.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ClockShift {
    /// The host; or the instance, where its host is not known.
    pub host: String,
    /// Added to its times, in nanoseconds; 0 where nothing could be said.
    pub shift_ns: i64,
    /// The calls leave this much room around the correction, to either side, in nanoseconds.
    pub within_ns: u64,
    /// Calls it was derived from.
    pub calls: u64,
    /// Its spans in the trace.
    pub spans: u64,
    /// The calls contradict each other: the clock drifted or jumped meanwhile, and the correction is
    /// the one that most of them agree with best.
    pub contradictory: bool,
}

//! What can be asked of a colony, and with which words.
//!
//! A [`Question`] is the one thing that a pane, `coral query`, an assistant's tool and an alert all
//! ask with. It prints as the command line that reproduces it (see [`crate::place`]).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::Window;

/// A word that is not one of the words allowed at its place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{word}` is not a {what}; one of: {allowed}")]
pub struct WordError {
    word: String,
    what: &'static str,
    allowed: String,
}

impl WordError {
    /// `word` is none of `allowed`.
    #[must_use]
    pub fn new(word: &str, what: &'static str, allowed: &[&str]) -> Self {
        Self { word: word.to_owned(), what, allowed: allowed.join(" ") }
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every variant, in the order help lists them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word a person types and JSON carries.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }

        impl FromStr for $name {
            type Err = WordError;
            fn from_str(word: &str) -> Result<Self, WordError> {
                Self::ALL.iter().copied().find(|v| v.word() == word).ok_or_else(|| {
                    let allowed: Vec<_> = Self::ALL.iter().map(|v| v.word()).collect();
                    WordError::new(word, $what, &allowed)
                })
            }
        }
    };
}
pub(crate) use words;

words!(
    /// One question, and the rows it is answered with (`coral.<word>/1`).
    View, "question", {
        /// The first screen: what moved most, what changed, where to look.
        Digest = "digest",
        /// Rate, errors, duration per service and operation.
        Red = "red",
        /// One row per service.
        Services = "services",
        /// Traces, ranked.
        Traces = "traces",
        /// One trace, span by span.
        Trace = "trace",
        /// Log records.
        Logs = "logs",
        /// What happened: deploys, restarts, bursts.
        Events = "events",
        /// Who calls whom.
        Topology = "topology",
        /// Applications' own metrics.
        Metrics = "metrics",
        /// Host pressure.
        Hosts = "hosts",
        /// Requests that have not been answered yet.
        Inflight = "inflight",
        /// Agents, their senses and their losses.
        Agents = "agents",
        /// Which attributes tell slow or failed spans from the others.
        Diff = "diff",
        /// What log records have in common.
        Patterns = "patterns",
        /// A SELECT over the stored signals.
        Sql = "sql",
    }
);

words!(
    /// A property rows can be grouped by.
    Dimension, "dimension", {
        /// `service.name`.
        Service = "service",
        /// Operation: route, RPC method, or span name.
        Operation = "operation",
        /// `service.instance.id`.
        Instance = "instance",
        /// `host.name`.
        Host = "host",
        /// `service.version`.
        Version = "version",
        /// `cloud.availability_zone`.
        Zone = "zone",
        /// `service.namespace`.
        Namespace = "namespace",
        /// The protocol's status code.
        Status = "status",
        /// SERVER or CONSUMER.
        Kind = "kind",
    }
);

words!(
    /// Whether an answer comes once or keeps coming.
    Mode, "mode", {
        /// One answer.
        Once = "once",
        /// The whole answer again whenever it changed; each ends with its own end record.
        Watch = "watch",
        /// Only rows that are new, as they arrive (logs, traces, events).
        Tail = "tail",
    }
);

words!(
    /// What traces are ranked by.
    TraceOrder, "order", {
        /// Newest first.
        Recent = "recent",
        /// Longest first.
        Slow = "slow",
        /// Failed first, then longest.
        Error = "error",
    }
);

/// A question, complete: asking it twice of unchanged data gives the same answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Question {
    /// What is asked.
    pub view: View,
    /// Over which time. With [`Mode::Watch`] its length slides along with now.
    pub window: Window,
    /// In the filter language of [`crate::filter`]; empty matches everything.
    pub filter: String,
    /// How rows are grouped; empty means the view's own default.
    pub by: Vec<Dimension>,
    /// Width of time buckets in nanoseconds; `None` is one row for the whole window.
    pub step: Option<u64>,
    /// A second window to compare with; printed with the answer.
    pub compare: Option<Window>,
    /// At most this many rows; the end record says `truncated`.
    pub limit: usize,
    /// The trace id (`trace`), metric name (`metrics`) or statement (`sql`) that is asked about.
    pub subject: Option<String>,
    /// `diff`: which spans are of interest, as a filter within `filter`. Without: the slow and failed.
    pub of: Option<String>,
    /// `diff`: which they are compared with. Without: all others.
    pub against: Option<String>,
    /// Rank of traces.
    pub order: TraceOrder,
    /// Once, or again and again.
    pub mode: Mode,
}

impl Question {
    /// A question about everything in `window`, with the view's defaults.
    #[must_use]
    pub fn new(view: View, window: Window) -> Self {
        Self {
            view,
            window,
            filter: String::new(),
            by: Vec::new(),
            step: None,
            compare: None,
            limit: 1000,
            subject: None,
            of: None,
            against: None,
            order: TraceOrder::Recent,
            mode: Mode::Once,
        }
    }
}

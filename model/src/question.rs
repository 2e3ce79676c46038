//! What can be asked of a colony, and with which words.
//!
//! A [`Question`] is the one thing that a pane, `coral query`, an assistant's tool and an alert all
//! ask with. It prints as the command line that reproduces it (see [`crate::place`]).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::{Time, Window};

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
        /// Of a rare shape, or with spans far from what their operation takes, first.
        Unusual = "unusual",
    }
);

words!(
    /// Which way calls are followed.
    Direction, "direction", {
        /// Both ways.
        Both = "both",
        /// To those who call.
        Upstream = "upstream",
        /// To those who are called.
        Downstream = "downstream",
    }
);

/// Which builds of each service are compared; without names the newest with the one before it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Builds {
    /// The earlier one.
    pub from: Option<String>,
    /// The later one.
    pub to: Option<String>,
}

/// What `--compare build…` says after `build`.
const BUILD: &str = "build";

impl fmt::Display for Builds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BUILD)?;
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, ":{from}..{to}"),
            _ => Ok(()),
        }
    }
}

impl Builds {
    /// What `--compare` says of builds: `build`, or `build:v41..v42`; `None` where it says a time.
    ///
    /// # Errors
    /// It names one version, or none, where two belong.
    pub fn parse(text: &str) -> Option<Result<Self, WordError>> {
        let rest = text.trim().strip_prefix(BUILD)?;
        if rest.is_empty() {
            return Some(Ok(Self::default()));
        }
        let named = rest.strip_prefix(':')?;
        let ends = named.split_once("..").filter(|(a, b)| !a.is_empty() && !b.is_empty());
        Some(match ends {
            Some((from, to)) => Ok(Self { from: Some(from.into()), to: Some(to.into()) }),
            None => Err(WordError::new(named, "pair of builds", &["build", "build:v41..v42"])),
        })
    }
}

/// What can be reached from a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reach {
    /// Name of the node.
    pub of: String,
    /// Which way.
    pub direction: Direction,
    /// At most so many calls away; `None`: as far as calls go.
    pub depth: Option<u32>,
}

/// Records before and after one of the same instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Around {
    /// When the record was written; or a moment, of which the nearest record is meant.
    pub at: Time,
    /// What tells it from others of that moment ([`crate::RecordId`]).
    pub mark: Option<u32>,
    /// Records on either side.
    pub lines: u32,
}

/// How the series of a metric become one number.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Measure {
    /// Not at all: which labels it has, and their values.
    Labels,
    /// By how much a second it grew; of distributions, observations a second.
    Rate,
    /// By how much it grew; of levels, their sum; of distributions, the sum of what was observed.
    Sum,
    /// Mean of levels, or of what was observed.
    Mean,
    /// Least of levels.
    Min,
    /// Greatest of levels.
    Max,
    /// Of what was observed, 0 to 1.
    Quantile(f64),
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Labels => f.write_str("labels"),
            Self::Rate => f.write_str("rate"),
            Self::Sum => f.write_str("sum"),
            Self::Mean => f.write_str("mean"),
            Self::Min => f.write_str("min"),
            Self::Max => f.write_str("max"),
            // No more digits than were typed: 0.999 is p99.9.
            Self::Quantile(q) => write!(f, "p{}", (q * 1e6).round() / 1e4),
        }
    }
}

impl FromStr for Measure {
    type Err = WordError;
    fn from_str(word: &str) -> Result<Self, WordError> {
        let all = [Self::Labels, Self::Rate, Self::Sum, Self::Mean, Self::Min, Self::Max];
        if let Some(known) = all.into_iter().find(|m| m.to_string() == word) {
            return Ok(known);
        }
        let percent = word.strip_prefix('p').and_then(|p| p.parse::<f64>().ok());
        match percent.filter(|p| (0.0..=100.0).contains(p)) {
            // So that it prints as it was typed: 99.9 / 100 is not 0.999.
            Some(percent) => Ok(Self::Quantile((percent * 1e4).round() / 1e6)),
            None => Err(WordError::new(
                word,
                "measure",
                &["labels", "rate", "sum", "mean", "min", "max", "p50", "p99"],
            )),
        }
    }
}

impl TryFrom<String> for Measure {
    type Error = WordError;
    fn try_from(word: String) -> Result<Self, WordError> {
        word.parse()
    }
}

impl From<Measure> for String {
    fn from(measure: Measure) -> Self {
        measure.to_string()
    }
}

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
    /// Builds to compare with each other, instead of a second window.
    #[serde(default)]
    pub builds: Option<Builds>,
    /// Only so many groups, the busiest; the others become one named `__other__`.
    #[serde(default)]
    pub top: Option<usize>,
    /// `topology`: only what this can reach.
    #[serde(default)]
    pub reach: Option<Reach>,
    /// `logs`: only the records beside this one.
    #[serde(default)]
    pub around: Option<Around>,
    /// `metrics`: labels the series are grouped by.
    #[serde(default)]
    pub labels: Vec<String>,
    /// `metrics`: how the series of a group become one number.
    #[serde(default)]
    pub measure: Option<Measure>,
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
            builds: None,
            top: None,
            reach: None,
            around: None,
            labels: Vec::new(),
            measure: None,
            order: TraceOrder::Recent,
            mode: Mode::Once,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were_printed() {
        let all = [
            Measure::Labels,
            Measure::Rate,
            Measure::Sum,
            Measure::Quantile(0.5),
            Measure::Quantile(0.999),
            Measure::Quantile(0.0),
        ];
        for measure in all {
            assert_eq!(measure.to_string().parse(), Ok(measure));
        }
        assert_eq!(Measure::Quantile(0.999).to_string(), "p99.9");
        assert!("p101".parse::<Measure>().is_err() && "pnan".parse::<Measure>().is_err());
        let named = Builds { from: Some("v41".into()), to: Some("v42".into()) };
        for builds in [Builds::default(), named] {
            assert_eq!(Builds::parse(&builds.to_string()), Some(Ok(builds)));
        }
        assert!(Builds::parse("1h").is_none() && Builds::parse("builder").is_none());
        assert!(Builds::parse("build:v41").is_some_and(|b| b.is_err()));
    }
}

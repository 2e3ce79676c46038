//! What services already publish for Prometheus: `/metrics`, read as often as a person asked for.
//!
//! Comes in: the `[[scrape]]` entries of the agent's configuration, and the text that the named
//! addresses answer with (text format 0.0.4 and OpenMetrics 1.0). Goes out: OTLP metrics for the
//! spool, so that everything behind it has one way; a sense for each target with its last result; an
//! event when a target stops answering and when it answers again.
//!
//! [`text`] reads lines, [`families`] puts the samples of one metric together, [`series`] remembers
//! what one scrape must know of the one before (when a counter began, which series came first),
//! [`otlp`] writes the request: all four are plain functions of bytes and time. [`target`] decides
//! which addresses may be asked, [`http`] asks, [`task`] does so in time. Nothing that is not named in
//! the configuration is ever asked.

pub mod families;
pub mod http;
pub mod otlp;
pub mod series;
pub mod target;
pub mod task;
pub mod text;

/// The name that counters beyond a metric's bound are added up under.
pub const OTHER: &str = "__other__";

/// Bounds of one scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest answer, in bytes.
    pub body: usize,
    /// Samples read of one answer; what follows is counted and left out.
    pub samples: usize,
    /// Series of one metric; counters beyond are added up under [`OTHER`], the rest is left out.
    pub series: usize,
    /// Metrics of one answer.
    pub metrics: usize,
    /// Labels of one sample.
    pub labels: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 16 << 20, samples: 100_000, series: 2_000, metrics: 10_000, labels: 64 }
    }
}

/// What a bound turned away in one scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turned {
    /// Samples beyond [`Limits::samples`], [`Limits::metrics`] or [`Limits::labels`].
    pub samples: u64,
    /// Series beyond [`Limits::series`].
    pub series: u64,
    /// Samples whose series had one already.
    pub repeated: u64,
}

//! Rate, errors, duration; services; requests in flight.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hist::Histogram;
use crate::id::TraceId;
use crate::question::{WordError, words};
use crate::time::{Time, Window};

/// Whether silence means anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Traffic was seen.
    Active,
    /// Watched, and there was none.
    NoTraffic,
    /// Nothing that could see it was there.
    NotObserved,
    /// Seen before; the one who saw it has stopped reporting.
    Stale,
}

words!(
    /// What a number rests on. A request that both saw is counted once: by its span.
    Evidence, "evidence", {
        /// Spans that applications exported.
        Otlp = "otlp",
        /// What the kernel saw of programs that export none.
        Ebpf = "ebpf",
        /// Requests of several services, of which some are seen this way and some that.
        Mixed = "mixed",
    }
);

/// The attribute of the resource of a program that the kernel alone tells of; a service that reports
/// itself has none.
pub const SEEN_BY: &str = "coral.evidence";

impl Evidence {
    /// The evidence of two sets of requests together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        if self == other { self } else { Self::Mixed }
    }
}

/// Rate, errors and duration of a set of requests.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Red {
    /// Requests that ended.
    pub requests: u64,
    /// Requests per second over the observed part of the window.
    pub rate: f64,
    /// Requests that failed.
    pub errors: u64,
    /// `errors / requests`; `null` without requests.
    pub error_ratio: Option<f64>,
    /// Failed requests that got no answer at all (timeout, close).
    pub no_answer: u64,
    /// Mean duration in nanoseconds.
    pub mean_ns: Option<u64>,
    /// Median duration in nanoseconds (±1.1 %, like every quantile here).
    pub p50_ns: Option<u64>,
    /// 90th percentile in nanoseconds.
    pub p90_ns: Option<u64>,
    /// 99th percentile in nanoseconds. Of fewer than 100 requests it says little.
    pub p99_ns: Option<u64>,
    /// Where the numbers come from.
    pub evidence: Evidence,
    /// The source kept only a sample and did not say which share.
    pub sampled: bool,
}

impl Red {
    /// From a histogram and its error counts over `seconds`.
    #[must_use]
    pub fn from_parts(
        histogram: &Histogram,
        errors: u64,
        no_answer: u64,
        seconds: f64,
        evidence: Evidence,
        sampled: bool,
    ) -> Self {
        let requests = histogram.count();
        let ratio = |n| crate::num::f64_from(n) / crate::num::f64_from(requests);
        Self {
            requests,
            rate: if seconds > 0.0 { crate::num::f64_from(requests) / seconds } else { 0.0 },
            errors,
            error_ratio: (requests > 0).then(|| ratio(errors)),
            no_answer,
            mean_ns: histogram.mean_ns(),
            p50_ns: histogram.quantile_ns(0.50),
            p90_ns: histogram.quantile_ns(0.90),
            p99_ns: histogram.quantile_ns(0.99),
            evidence,
            sampled,
        }
    }
}

/// The same numbers over another window, and how far they moved.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Baseline {
    /// The window compared with.
    pub window: Window,
    /// Its numbers; `null` when nothing was observed in it.
    pub red: Option<Red>,
    /// p99 now ÷ p99 then; `null` where either is unknown.
    pub p99_ratio: Option<f64>,
    /// Rate now ÷ rate then.
    pub rate_ratio: Option<f64>,
    /// The builds compared; `null` when windows are.
    #[serde(default)]
    pub versions: Option<Versions>,
    /// What moved, and whether chance explains it; empty unless a comparison was asked for.
    #[serde(default)]
    pub shifts: Vec<Shift>,
}

/// Two builds of one service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Versions {
    /// The earlier one; the baseline's numbers are its.
    pub from: String,
    /// The later one.
    pub to: String,
}

words!(
    /// A number that is compared.
    Quantity, "quantity", {
        /// Requests per second.
        Rate = "rate",
        /// Share of failed requests.
        Errors = "errors",
        /// Median duration, ns.
        P50 = "p50",
        /// 99th percentile, ns.
        P99 = "p99",
    }
);

/// One number before and now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Shift {
    /// Which.
    pub what: Quantity,
    /// Before; `null` where it is not known.
    pub before: Option<f64>,
    /// Now.
    pub now: Option<f64>,
    /// `now - before`.
    pub delta: Option<f64>,
    /// Probability of such a difference by chance, multiplied by the number of tests in the answer;
    /// `null`: not tested, because there is too little, or because no test would be honest (rate).
    pub p_value: Option<f64>,
    /// No chance, and of a size worth acting on.
    pub significant: bool,
}

/// One group of requests, over the whole window or one bucket of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RedRow {
    /// `service.name`, when grouped by it (the default).
    pub service: Option<String>,
    /// Operation, when grouped by it (the default).
    pub operation: Option<String>,
    /// Values of the other dimensions grouped by; a missing attribute is `null`.
    pub by: BTreeMap<String, Option<String>>,
    /// Start of the bucket, when asked with a step.
    pub start: Option<Time>,
    /// Whether silence means anything.
    pub state: State,
    /// The numbers.
    #[serde(flatten)]
    pub red: Red,
    /// The comparison, when asked for.
    pub baseline: Option<Baseline>,
    /// The slowest request's trace.
    pub slowest_trace: Option<TraceId>,
    /// Its duration in nanoseconds.
    pub slowest_ns: Option<u64>,
    /// The last failed request's trace.
    pub error_trace: Option<TraceId>,
    /// The youngest bucket may still grow.
    pub provisional: bool,
}

/// A service over the window.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServiceRow {
    /// `service.name`.
    pub service: String,
    /// `service.namespace`.
    pub namespace: Option<String>,
    /// Whether silence means anything.
    pub state: State,
    /// Newest data about it.
    pub last_seen: Option<Time>,
    /// The numbers; `null` when no request was observed.
    pub red: Option<Red>,
    /// Against the equal window before, or the one asked for.
    pub baseline: Option<Baseline>,
    /// Requests in flight now; `null` when not observed.
    pub inflight: Option<u64>,
    /// Age of the oldest, in nanoseconds.
    pub oldest_ns: Option<u64>,
    /// `false`: in-flight numbers are a lower bound.
    pub inflight_exact: bool,
    /// Instances seen in the window.
    pub instances: u32,
    /// Versions seen in the window, oldest first.
    pub versions: Vec<String>,
    /// Hosts it ran on.
    pub hosts: Vec<String>,
    /// Where it is bad: `all`, `host web-3`, `v42`; `null` when it is not bad or not known.
    pub place: Option<String>,
    /// 0 calm, 1 moved (`!`), 2 failing (`!!`).
    pub level: u8,
    /// Rate per bucket over the window, oldest first; `null` is not observed.
    pub spark: Vec<Option<f64>>,
}

/// Requests that began and have not ended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct InflightRow {
    /// `service.name`.
    pub service: String,
    /// Operation, where it is known before the request ends.
    pub operation: Option<String>,
    /// How many; a lower bound unless `exact`.
    pub inflight: u64,
    /// Age of the oldest in nanoseconds; a lower bound unless `exact`.
    pub oldest_ns: Option<u64>,
    /// The oldest one's trace.
    pub oldest_trace: Option<TraceId>,
    /// The kernel counted them; otherwise they are children whose parent has not arrived.
    pub exact: bool,
    /// When this was counted.
    pub at: Time,
}

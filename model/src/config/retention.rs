//! How long a colony keeps what, and how much of the disk it may take.

use std::collections::BTreeMap;

use super::spec::Spec;
use super::{Layer, duration_of, text_of};
use crate::text::parse_bytes;

/// How long each kind of row is kept after it was received, ns, and the disk's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Spans.
    pub spans: u64,
    /// Log records.
    pub logs: u64,
    /// Metric points.
    pub metrics: u64,
    /// Requests and edges in buckets of 10 s.
    pub red_10s: u64,
    /// Requests and edges in buckets of a minute.
    pub red_1m: u64,
    /// Requests and edges in buckets of an hour.
    pub red_1h: u64,
    /// Events.
    pub events: u64,
    /// Requests in flight.
    pub inflight: u64,
    /// Host readings.
    pub hosts: u64,
    /// Bytes everything may take; `None`: the colony chooses by what is free.
    pub disk_max: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self::of(&BTreeMap::new())
    }
}

impl Retention {
    /// From checked values; what is not among them has its default.
    pub(super) fn of(found: &BTreeMap<&'static str, Vec<(Layer, String)>>) -> Self {
        Self {
            spans: duration_of(found, "retention.spans"),
            logs: duration_of(found, "retention.logs"),
            metrics: duration_of(found, "retention.metrics"),
            red_10s: duration_of(found, "retention.red_10s"),
            red_1m: duration_of(found, "retention.red_1m"),
            red_1h: duration_of(found, "retention.red_1h"),
            events: duration_of(found, "retention.events"),
            inflight: duration_of(found, "retention.inflight"),
            hosts: duration_of(found, "retention.hosts"),
            disk_max: parse_bytes(text_of(found, "disk.max")),
        }
    }
}

/// A setting it comes from.
pub(super) const fn kept(key: &'static str, default: &'static str, help: &'static str) -> Spec {
    Spec { key, form: super::spec::Setting::Age, default, help }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_table() {
        let day = 86_400_000_000_000;
        let kept = Retention::default();
        assert_eq!((kept.spans, kept.red_10s, kept.red_1h), (7 * day, 2 * day, 400 * day));
        assert_eq!(kept.disk_max, None);
    }
}

//! What one scrape must know of the one before.
//!
//! A counter says how much, not since when. OTLP wants both: the series' own word (`_created`) is
//! taken, else the moment it was first read, for which the data model has a rule: a first point whose
//! start is its own time is a level to measure from, not an amount ("Cumulative streams: handling
//! unknown start time"). A counter that fell began anew after the scrape before.
//!
//! Series beyond a metric's bound are told apart from those within it by who came first, and stay so
//! while they are seen; what the rest of a counter rose by is added up under one name.

use std::hash::{Hash as _, Hasher as _};

use coral_model::Time;
use coral_model::time::SECOND;
use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3;

use super::families::Labels;

/// A series that was not seen this long is forgotten.
const FORGET: u64 = 3600 * SECOND;

/// Memory of one target.
#[derive(Debug, Default)]
pub struct Memory {
    seen: HashMap<u64, Seen>,
    metrics: HashMap<String, Metric>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    start: Time,
    /// The value, or the count.
    value: f64,
    at: Time,
}

#[derive(Debug, Default)]
struct Metric {
    /// Series admitted, and when each was last seen.
    admitted: HashMap<u64, Time>,
    /// The rest: what each said last, what they rose by together, and since when.
    rest: HashMap<u64, (f64, Time)>,
    risen: f64,
    since: Option<Time>,
}

/// What tells a series of a metric apart from the others.
#[must_use]
pub fn key(metric: &str, labels: &Labels) -> u64 {
    let mut hash = Xxh3::new();
    (metric, labels).hash(&mut hash);
    hash.finish()
}

impl Memory {
    /// Whether a series may stand for itself.
    pub fn admit(&mut self, metric: &str, series: u64, bound: usize, now: Time) -> bool {
        let metric = self.metrics.entry_ref(metric).or_default();
        let room = metric.admitted.len() < bound;
        match metric.admitted.get_mut(&series) {
            Some(last) => *last = now,
            None if room => {
                metric.admitted.insert(series, now);
            }
            None => return false,
        }
        true
    }

    /// Adds what a series beyond the bound rose by; gives what all of them rose by so far, and since
    /// when. One that is met for the first time is only measured from here on.
    pub fn fold(&mut self, metric: &str, series: u64, value: f64, now: Time) -> (f64, Time) {
        let metric = self.metrics.entry_ref(metric).or_default();
        let since = *metric.since.get_or_insert(now);
        if let Some((before, _)) = metric.rest.insert(series, (value, now)) {
            let rise = if value >= before { value - before } else { value };
            if rise.is_finite() && rise > 0.0 {
                metric.risen += rise;
            }
        }
        (metric.risen, since)
    }

    /// When a cumulative series began.
    pub fn start(&mut self, series: u64, value: f64, created: Option<Time>, now: Time) -> Time {
        let created = created.filter(|at| *at <= now);
        let seen = self.seen.entry(series).or_insert(Seen { start: now, value, at: now });
        if value < seen.value {
            seen.start = seen.at;
        }
        (seen.value, seen.at) = (value, now);
        created.unwrap_or(seen.start)
    }

    /// Forgets what has not been seen for an hour.
    pub fn forget(&mut self, now: Time) {
        self.seen.retain(|_, seen| now.since(seen.at) < FORGET);
        self.metrics.retain(|_, metric| {
            metric.admitted.retain(|_, at| now.since(*at) < FORGET);
            metric.rest.retain(|_, (_, at)| now.since(*at) < FORGET);
            !metric.admitted.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Time = |seconds| Time(seconds * SECOND);

    #[test]
    fn a_counter_begins_where_it_says_or_where_it_was_first_read() {
        let mut memory = Memory::default();
        assert_eq!(memory.start(1, 5.0, None, AT(100)), AT(100));
        assert_eq!(memory.start(1, 7.0, None, AT(110)), AT(100));
        assert_eq!(memory.start(1, 2.0, None, AT(120)), AT(110), "it fell: it began anew");
        assert_eq!(memory.start(1, 3.0, None, AT(130)), AT(110));
        assert_eq!(memory.start(2, 3.0, Some(AT(9)), AT(130)), AT(9));
        assert_eq!(memory.start(3, 3.0, Some(AT(999)), AT(130)), AT(130), "not in the future");
    }

    #[test]
    fn who_came_first_stays_and_the_rest_adds_up() {
        let mut memory = Memory::default();
        assert!(memory.admit("hits", 1, 2, AT(1)) && memory.admit("hits", 2, 2, AT(1)));
        assert!(!memory.admit("hits", 3, 2, AT(1)));
        assert!(memory.admit("hits", 1, 2, AT(2)));
        assert_eq!(memory.fold("hits", 3, 100.0, AT(1)), (0.0, AT(1)));
        assert_eq!(memory.fold("hits", 4, 50.0, AT(1)), (0.0, AT(1)));
        assert_eq!(memory.fold("hits", 3, 103.0, AT(2)), (3.0, AT(1)));
        assert_eq!(memory.fold("hits", 4, 1.0, AT(2)), (4.0, AT(1)), "a reset counts what follows");
        memory.forget(AT(4000));
        assert!(memory.admit("hits", 3, 2, AT(4000)), "an hour later there is room");
    }
}

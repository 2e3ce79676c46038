//! Everything the colony counts, by name.
//!
//! A bound without a counter would lose data in silence; every room registers its counters here
//! once, adds to them without a lock, and `coral status` prints them all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The colony's counters. They start at 0 with the process and only rise.
#[derive(Debug, Default)]
pub struct Counters {
    by_name: Mutex<BTreeMap<&'static str, Arc<AtomicU64>>>,
}

impl Counters {
    /// The counter of that name, made when it is asked for first. Keep it where counting is hot.
    #[must_use]
    pub fn counter(&self, name: &'static str) -> Arc<AtomicU64> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(by_name.entry(name).or_default())
    }

    /// Adds `n` to the counter of that name.
    pub fn add(&self, name: &'static str, n: u64) {
        self.counter(name).fetch_add(n, Ordering::Relaxed);
    }

    /// The counter's value; 0 when nobody counts under that name.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.get(name).map_or(0, |c| c.load(Ordering::Relaxed))
    }

    /// Every counter as it stands.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, u64> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.iter().map(|(&name, c)| (name.to_owned(), c.load(Ordering::Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_one_counter() {
        let counters = Counters::default();
        let kept = counters.counter("spans_committed");
        kept.fetch_add(2, Ordering::Relaxed);
        counters.add("spans_committed", 3);
        assert_eq!(counters.get("spans_committed"), 5);
        assert_eq!(counters.get("nobody_counts_this"), 0);
        assert_eq!(counters.snapshot().len(), 1);
    }
}

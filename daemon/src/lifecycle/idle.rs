//! When a colony that nobody uses leaves.
//!
//! Used means: somebody looks (an open stream, or any call just now), or an application's records
//! arrive. What the local agent reads of its host does not count; it never stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Who uses the colony, counted.
#[derive(Debug)]
pub struct Activity {
    start: Instant,
    /// Streams and calls that are open.
    viewers: AtomicUsize,
    /// Milliseconds after `start` at which the colony was last used.
    last_ms: AtomicU64,
    stays: AtomicBool,
}

impl Activity {
    /// Starts used: whoever started the daemon is about to look.
    #[must_use]
    pub fn new(now: Instant, stays: bool) -> Arc<Self> {
        Arc::new(Self {
            start: now,
            viewers: AtomicUsize::new(0),
            last_ms: AtomicU64::new(0),
            stays: AtomicBool::new(stays),
        })
    }

    /// The colony is used at `now`.
    pub fn touch(&self, now: Instant) {
        let ms = coral_model::num::u64_sat(now.duration_since(self.start).as_millis());
        self.last_ms.fetch_max(ms, Ordering::Relaxed);
    }

    /// Somebody looks until the returned value is dropped.
    #[must_use]
    pub fn viewer(self: &Arc<Self>) -> Viewer {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Viewer(Arc::clone(self))
    }

    /// Open calls and streams.
    #[must_use]
    pub fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Whether the colony stays when unused.
    #[must_use]
    pub fn stays(&self) -> bool {
        self.stays.load(Ordering::Relaxed)
    }

    /// Makes it stay, or lets it leave.
    pub fn stay(&self, stays: bool) {
        self.stays.store(stays, Ordering::Relaxed);
    }

    /// Whether it has been unused for `leave_after` and may go.
    #[must_use]
    pub fn over(&self, now: Instant, leave_after: Duration) -> bool {
        if self.stays() || self.viewers() > 0 {
            return false;
        }
        let last = self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        now.duration_since(last) >= leave_after
    }
}

/// Somebody who looks.
#[derive(Debug)]
pub struct Viewer(Arc<Activity>);

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.touch(Instant::now());
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn it_leaves_when_unused_and_only_then() {
        let start = Instant::now();
        let activity = Activity::new(start, false);
        assert!(!activity.over(start + 9 * MINUTE, 10 * MINUTE));
        assert!(activity.over(start + 10 * MINUTE, 10 * MINUTE));
        activity.touch(start + 9 * MINUTE);
        assert!(!activity.over(start + 18 * MINUTE, 10 * MINUTE));
        assert!(activity.over(start + 19 * MINUTE, 10 * MINUTE));
        let viewer = activity.viewer();
        assert!(!activity.over(start + 99 * MINUTE, 10 * MINUTE));
        drop(viewer);
        assert!(activity.over(start + 99 * MINUTE, 10 * MINUTE));
        activity.stay(true);
        assert!(!activity.over(start + 99 * MINUTE, 10 * MINUTE));
    }
}

//! How the store is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coral_model::time::Time;

use crate::counters::Counters;
use crate::{edges, live};

/// The clock the store stamps commits with.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;
/// Asks how much room the disk under a directory has.
pub type DiskProbe = Arc<dyn Fn(&Path) -> Option<DiskRoom> + Send + Sync>;

/// Room on the disk that holds the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskRoom {
    /// Bytes in use.
    pub used: u64,
    /// Bytes an unprivileged user may still use.
    pub available: u64,
}

impl DiskRoom {
    /// Of the file system that holds `dir`.
    #[must_use]
    pub fn of(dir: &Path) -> Option<Self> {
        let stat = rustix::fs::statvfs(dir).ok()?;
        let used = stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize);
        Some(Self { used, available: stat.f_bavail.saturating_mul(stat.f_frsize) })
    }

    /// How full it is, in per cent, as `df` counts.
    #[must_use]
    pub fn percent(&self) -> u8 {
        let total = u128::from(self.used) + u128::from(self.available);
        let percent = (u128::from(self.used) * 100).checked_div(total).unwrap_or(0);
        u8::try_from(percent).unwrap_or(100)
    }
}

/// How the store is opened. [`Options::new`] has the defaults a colony runs with.
#[derive(Clone)]
pub struct Options {
    /// Bytes of data on disk; `None`: the smaller of 2 GiB and 10 % of what is free.
    pub capacity_bytes: Option<u64>,
    /// Nothing new is kept while the disk is at least this full, in per cent.
    pub stop_percent: u8,
    /// DuckDB's memory limit.
    pub memory_bytes: u64,
    /// DuckDB's limit for temporary files.
    pub temp_bytes: u64,
    /// DuckDB's threads.
    pub threads: u32,
    /// Questions answered at once.
    pub readers: usize,
    /// Longest a question may take.
    pub read_timeout: Duration,
    /// Bytes of records that may wait for their commit, over all agents.
    pub pending_bytes: usize,
    /// Bytes of records in one commit.
    pub group_bytes: usize,
    /// Least time between the starts of two commits; the first after a pause waits for nothing.
    pub group_wait: Duration,
    /// A checkpoint is made when the log has grown by this.
    pub checkpoint_bytes: u64,
    /// … or when this long has passed since the last and anything was written.
    pub checkpoint_every: Duration,
    /// Hours kept, whatever the room.
    pub keep_hours: u64,
    /// Live memory.
    pub live: live::Limits,
    /// Edge join.
    pub edges: edges::Limits,
    /// Where bounds count what they turned away.
    pub counters: Arc<Counters>,
    /// Now.
    pub clock: Clock,
    /// Room on the disk.
    pub disk: DiskProbe,
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new(counters: Arc<Counters>) -> Self {
        Self {
            capacity_bytes: None,
            stop_percent: 90,
            memory_bytes: 512 << 20,
            temp_bytes: 512 << 20,
            threads: 2,
            readers: 3,
            read_timeout: Duration::from_secs(20),
            pending_bytes: 64 << 20,
            group_bytes: 8 << 20,
            group_wait: Duration::from_millis(100),
            checkpoint_bytes: 64 << 20,
            checkpoint_every: Duration::from_secs(60),
            keep_hours: 7 * 24,
            live: live::Limits::default(),
            edges: edges::Limits::default(),
            counters,
            clock: Arc::new(Time::now),
            disk: Arc::new(DiskRoom::of),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("capacity_bytes", &self.capacity_bytes)
            .field("memory_bytes", &self.memory_bytes)
            .finish_non_exhaustive()
    }
}

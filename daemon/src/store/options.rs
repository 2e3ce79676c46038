//! How the store is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coral_model::config::Retention;
use coral_model::time::{SECOND, Time};

use crate::counters::Counters;
use crate::{edges, live};

/// The clock the store stamps commits with.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;
/// Asks how much room the disk under a directory has.
pub type DiskProbe = Arc<dyn Fn(&Path) -> Option<DiskRoom> + Send + Sync>;

/// Fails where a test wants the disk to; see [`Point`].
pub type Fault = Arc<dyn Fn(Point) -> std::io::Result<()> + Send + Sync>;

/// Moments at which the disk may fail, or the process end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// A segment was copied under its unfinished name.
    Copied,
    /// It is about to be renamed.
    Renaming,
    /// It has its name; the manifest does not know.
    Renamed,
    /// The manifest is about to be told.
    Recording,
    /// The manifest knows; what it replaces is still on disk.
    Recorded,
    /// A group of batches is about to be committed.
    Committing,
    /// A checkpoint is about to be made.
    Checkpointing,
    /// A file is about to be removed.
    Unlinking,
}

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
    /// How long what is kept, and the disk's share.
    pub retention: Retention,
    /// A large signal's slice is ended when it has this many rows: sorting them fits into memory.
    pub part_rows: u64,
    /// Slices are ended when they are this old, in ns, whatever the hour; for tests.
    pub part_age: Option<u64>,
    /// A slice is sealed this long after it ended, ns.
    pub seal_grace: u64,
    /// What could not be sealed is tried again after this.
    pub retry_after: Duration,
    /// Rows of a segment that is made of several.
    pub merged_rows: u64,
    /// Where tests make the disk fail.
    pub fault: Fault,
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
    /// Bytes of records that may wait for their commit, over all agents, as they travel: compressed.
    /// Decoded they take five to ten times as much.
    pub pending_bytes: usize,
    /// Bytes of records in one commit.
    pub group_bytes: usize,
    /// Least time between the starts of two commits; the first after a pause waits for nothing.
    pub group_wait: Duration,
    /// A checkpoint is made when the log has grown by this.
    pub checkpoint_bytes: u64,
    /// … or when this long has passed since the last and anything was written.
    pub checkpoint_every: Duration,
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
            retention: Retention::default(),
            part_rows: 1_000_000,
            part_age: None,
            seal_grace: 60 * SECOND,
            retry_after: Duration::from_secs(60),
            merged_rows: 1_000_000,
            fault: Arc::new(|_| Ok(())),
            stop_percent: 90,
            memory_bytes: 384 << 20,
            temp_bytes: 512 << 20,
            threads: 2,
            readers: 3,
            read_timeout: Duration::from_secs(20),
            pending_bytes: 16 << 20,
            group_bytes: 8 << 20,
            group_wait: Duration::from_millis(200),
            checkpoint_bytes: 64 << 20,
            checkpoint_every: Duration::from_secs(60),
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
            .field("retention", &self.retention)
            .field("memory_bytes", &self.memory_bytes)
            .finish_non_exhaustive()
    }
}

//! Room on disk: when to checkpoint, when to stop writing, what to drop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coral_model::config::Retention;
use coral_model::time::{SECOND, Time};
use coral_model::view::{EventKind, EventRow};
use duckdb::Connection;

use super::StoreError;
use super::board::Board;
use super::database::LOG;
use super::options::{DiskRoom, Options};
use super::retention::{Expendable, expendable, keeps, outlived as outlived_segments};
use super::schema::{HOUR, Signal, Slice};
use super::segment::{Form, Segment};
use super::tables::Tables;

/// The default capacity is never more than this.
const DEFAULT_CAPACITY: u64 = 2 << 30;
/// A colony on a nearly full disk still gets this much.
const LEAST_CAPACITY: u64 = 64 << 20;
/// A bulky slice is cut when it holds this share of the capacity, so that dropping one is not
/// dropping everything.
const PARTS: u64 = 8;
/// Half-edges matter for the join's window; after this they are dropped.
const HALF_EDGES: u64 = 600 * SECOND;
/// A checkpoint that was put off is tried again after this.
const AGAIN: Duration = Duration::from_secs(2);
/// How often the disk is asked.
const PROBE: Duration = Duration::from_secs(1);

/// What others may know about the room.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Bytes the data may take.
    pub capacity: AtomicU64,
    /// Bytes they take, as of the last checkpoint.
    pub used: AtomicU64,
    /// Nothing new is kept.
    pub full: AtomicBool,
}

/// See the module.
pub struct Room {
    dir: PathBuf,
    options: Options,
    gauge: Arc<Gauge>,
    soon: bool,
    dirty: bool,
    checkpointed: Instant,
    probed: Option<Instant>,
    /// Bytes in use when the current bulky part began.
    part_began: Option<u64>,
    /// When a checkpoint that was put off is tried again.
    again: Option<Instant>,
    percent: u8,
}

impl Room {
    /// Capacity is settled now; the disk is asked at once.
    pub fn new(dir: PathBuf, options: Options, gauge: Arc<Gauge>, used: u64) -> Self {
        let free = (options.disk)(&dir).map_or(0, |room| room.available);
        let capacity = options.retention.disk_max.unwrap_or_else(|| default_capacity(free, used));
        gauge.capacity.store(capacity, Ordering::Relaxed);
        gauge.used.store(used, Ordering::Relaxed);
        Self {
            dir,
            options,
            gauge,
            soon: false,
            dirty: false,
            checkpointed: Instant::now(),
            probed: None,
            part_began: None,
            again: None,
            percent: 0,
        }
    }

    /// Whether telemetry may be written now.
    pub fn admit(&mut self) -> Result<(), StoreError> {
        self.probe();
        if self.gauge.full.load(Ordering::Relaxed) {
            self.options.counters.add("commits_refused_disk_full", 1);
            return Err(StoreError::DiskFull { path: self.dir.clone(), percent: self.percent });
        }
        Ok(())
    }

    /// Whether nothing new is kept.
    pub fn is_full(&self) -> bool {
        self.gauge.full.load(Ordering::Relaxed)
    }

    fn probe(&mut self) {
        if self.probed.is_some_and(|at| at.elapsed() < PROBE) {
            return;
        }
        self.probed = Some(Instant::now());
        let percent = (self.options.disk)(&self.dir).as_ref().map_or(0, DiskRoom::percent);
        self.percent = percent;
    }

    /// Tells when the disk becomes too full to write, and when it has room again.
    pub fn watch_disk(&mut self, now: Time) -> Option<EventRow> {
        self.probe();
        let full = self.percent >= self.options.stop_percent;
        if self.gauge.full.swap(full, Ordering::Relaxed) == full {
            return None;
        }
        let text = if full {
            format!("the disk is {} % full: nothing new is kept until there is room", self.percent)
        } else {
            format!("the disk is {} % full: new data are kept again", self.percent)
        };
        tracing::warn!("{text}");
        Some(told(now, EventKind::NearBound, text))
    }

    /// Something was committed.
    pub fn wrote(&mut self) {
        self.dirty = true;
    }

    /// The next look finds a checkpoint due.
    pub fn checkpoint_soon(&mut self) {
        self.soon = true;
    }

    /// Whether it is time for a checkpoint.
    pub fn checkpoint_due(&self) -> bool {
        let late = self.checkpointed.elapsed() >= self.options.checkpoint_every;
        let log = || std::fs::metadata(self.dir.join(LOG)).map_or(0, |meta| meta.len());
        let again = self.again.is_some_and(|at| Instant::now() >= at);
        again || self.soon || (self.dirty && (late || log() >= self.options.checkpoint_bytes))
    }

    /// A checkpoint was made, or tried.
    pub fn checkpointed(&mut self) {
        self.soon = false;
        self.dirty = false;
        self.again = None;
        self.checkpointed = Instant::now();
    }

    /// The disk's share from now on.
    pub fn resize(&mut self, disk_max: Option<u64>) {
        let used = self.gauge.used.load(Ordering::Relaxed);
        let free = (self.options.disk)(&self.dir).map_or(0, |room| room.available);
        let capacity = disk_max.unwrap_or_else(|| default_capacity(free, used));
        self.gauge.capacity.store(capacity, Ordering::Relaxed);
    }

    /// A checkpoint did not work out: the next is tried after a moment.
    pub fn put_off(&mut self) {
        self.again = Some(Instant::now() + AGAIN);
    }

    /// After a checkpoint: begins a new part of the hour when the current one is large, drops what
    /// is kept no longer, and then what goes first while there are more bytes than allowed. What it
    /// says of segments: they are out of the manifest, their files are not yet removed.
    pub fn make_room(
        &mut self,
        connection: &Connection,
        board: &Board,
        retention: &Retention,
        stamp: Time,
        now: Time,
    ) -> Result<Made, StoreError> {
        let capacity = self.gauge.capacity.load(Ordering::Relaxed);
        let mut used = used_bytes(connection)?;
        let began = *self.part_began.get_or_insert(used);
        if used < began {
            self.part_began = Some(used);
        } else if used - began >= capacity / PARTS {
            board.make(connection, board.now().parted(Signal::bulky))?;
            self.part_began = Some(used);
        }
        let mut made = Made::default();
        let outlived = outlived(&board.now(), retention, stamp);
        if !outlived.is_empty() {
            board.make(connection, board.now().without(&outlived))?;
            if !checkpoint(connection) {
                self.put_off();
            }
            used = used_bytes(connection)?;
        }
        let old = outlived_segments(retention, &board.now(), stamp);
        if !old.is_empty() {
            board.make(connection, board.now().replaced(&old, &[]))?;
            self.options.counters.add("segments_outlived", coral_model::num::u64_sat(old.len()));
            made.gone.extend(old);
        }
        let (mut dropped, mut newest) = (0, None);
        while used.saturating_add(board.now().sealed_bytes()) > capacity {
            let Some(next) = expendable(&board.now()) else { break };
            match next {
                Expendable::Slices(slices) => {
                    board.make(connection, board.now().without(&slices))?;
                    let done = checkpoint(connection);
                    used = used_bytes(connection)?;
                    self.part_began = self.part_began.map(|began| began.min(used));
                    dropped += slices.len();
                    let told = slices.iter().filter(|(s, _)| *s != Signal::HalfEdges);
                    newest = newest.max(told.map(|(s, slice)| (*slice, slice.table(*s))).max());
                    if !done {
                        self.put_off();
                        break;
                    }
                }
                Expendable::Segments(segments) => {
                    board.make(connection, board.now().replaced(&segments, &[]))?;
                    dropped += segments.len();
                    newest = newest.max(segments.iter().map(|s| (s.last, s.file())).max());
                    made.gone.extend(segments);
                }
            }
        }
        self.gauge.used.store(used, Ordering::Relaxed);
        self.options.counters.add("slices_dropped", coral_model::num::u64_sat(dropped));
        made.event = newest.map(|(slice, name)| {
            let until = slice.start().plus(HOUR);
            let text = format!(
                "the store is at its bound of {}: dropped {dropped} pieces, the newest `{name}` (received before {until})",
                coral_model::text::bytes(capacity),
            );
            tracing::warn!("{text}");
            told(now, EventKind::Dropped, text)
        });
        Ok(made)
    }
}

/// What making room came to.
#[derive(Debug, Default)]
pub struct Made {
    /// Segments whose files may go when no reader needs them.
    pub gone: Vec<Segment>,
    /// What a person is told.
    pub event: Option<EventRow>,
}

fn default_capacity(free: u64, used: u64) -> u64 {
    DEFAULT_CAPACITY.min(free.saturating_add(used) / 10).max(LEAST_CAPACITY)
}

/// Without it dropped tables' blocks are not free yet. A question that runs may put it off.
fn checkpoint(connection: &Connection) -> bool {
    let done = connection.execute_batch("CHECKPOINT");
    if let Err(error) = &done {
        tracing::debug!(%error, "checkpoint put off");
    }
    done.is_ok()
}

/// Tables nobody needs any more: half-edges past their window, and what is kept no longer.
fn outlived(tables: &Tables, retention: &Retention, stamp: Time) -> Vec<(Signal, Slice)> {
    let mut gone = Vec::new();
    for signal in Signal::ALL {
        let slices = tables.of(signal);
        // What could not be sealed still is all there is of its coarsest form.
        let keep = Form::of(signal).iter().map(|form| keeps(retention, signal, *form)).max();
        for (slice, next) in slices.iter().zip(slices.iter().skip(1)) {
            let ended = slice.start().plus(HOUR).0.min(stamp.0);
            // A part of an hour ended some time before the next began; the hour's end is safe.
            let unmet = signal == Signal::HalfEdges
                && next.hour > slice.hour
                && stamp.0.saturating_sub(ended) > HALF_EDGES;
            if unmet || keep.is_some_and(|keep| stamp.0.saturating_sub(ended) > keep) {
                gone.push((signal, *slice));
            }
        }
    }
    gone
}

/// Bytes of the file that hold data; dropped tables' blocks are free for reuse.
pub fn used_bytes(connection: &Connection) -> Result<u64, StoreError> {
    let sql = "SELECT (used_blocks * block_size)::UBIGINT FROM pragma_database_size() LIMIT 1";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

fn told(time: Time, kind: EventKind, text: String) -> EventRow {
    let (service, host) = (None, None);
    EventRow { time, kind, service, host, text, source: "colony".into(), attributes: [].into() }
}

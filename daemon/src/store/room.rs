//! Room on disk: when to checkpoint, when to stop writing, what to drop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coral_model::time::{SECOND, Time};
use coral_model::view::{EventKind, EventRow};
use duckdb::Connection;

use super::StoreError;
use super::database::LOG;
use super::options::{DiskRoom, Options};
use super::schema::{HOUR, Signal, Slice};
use super::tables::Tables;

/// The default capacity is never more than this.
const DEFAULT_CAPACITY: u64 = 2 << 30;
/// A colony on a nearly full disk still gets this much.
const LEAST_CAPACITY: u64 = 64 << 20;
/// A bulky slice is cut when it holds this share of the capacity, so that dropping one is not
/// dropping everything.
const PARTS: u64 = 8;
/// Bulky slices that are kept as long as there are small ones to drop.
const BULK_KEPT: usize = 2;
/// Half-edges matter for the join's window; after this they are dropped.
const HALF_EDGES: u64 = 600 * SECOND;
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
    percent: u8,
}

impl Room {
    /// Capacity is settled now; the disk is asked at once.
    pub fn new(dir: PathBuf, options: Options, gauge: Arc<Gauge>, used: u64) -> Self {
        let free = (options.disk)(&dir).map_or(0, |room| room.available);
        let capacity = options.capacity_bytes.unwrap_or_else(|| {
            DEFAULT_CAPACITY.min(free.saturating_add(used) / 10).max(LEAST_CAPACITY)
        });
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
        self.soon || (self.dirty && (late || log() >= self.options.checkpoint_bytes))
    }

    /// A checkpoint was made, or tried.
    pub fn checkpointed(&mut self) {
        self.soon = false;
        self.dirty = false;
        self.checkpointed = Instant::now();
    }

    /// After a checkpoint: begins a new part of the hour when the current one is large, and drops
    /// the oldest slices while there are more bytes than allowed.
    pub fn make_room(
        &mut self,
        connection: &Connection,
        tables: &mut Tables,
        stamp: Time,
        now: Time,
    ) -> Result<Vec<EventRow>, StoreError> {
        let capacity = self.gauge.capacity.load(Ordering::Relaxed);
        let mut used = used_bytes(connection)?;
        let began = *self.part_began.get_or_insert(used);
        if used < began {
            self.part_began = Some(used);
        } else if used - began >= capacity / PARTS {
            tables.next_part(connection)?;
            self.part_began = Some(used);
        }
        let outlived = self.outlived(tables, stamp);
        if !outlived.is_empty() {
            tables.drop(connection, &outlived)?;
            connection.execute_batch("CHECKPOINT")?;
            used = used_bytes(connection)?;
        }
        let mut dropped = Vec::new();
        while used > capacity {
            let Some(oldest) = expendable(tables) else { break };
            tables.drop(connection, &oldest)?;
            connection.execute_batch("CHECKPOINT")?;
            dropped.extend(oldest);
            used = used_bytes(connection)?;
            self.part_began = self.part_began.map(|began| began.min(used));
        }
        self.gauge.used.store(used, Ordering::Relaxed);
        self.options.counters.add("slices_dropped", coral_model::num::u64_sat(dropped.len()));
        let newest = dropped.iter().filter(|(s, _)| *s != Signal::HalfEdges).max_by_key(|d| d.1);
        let tell = newest.map(|(signal, slice)| {
            let until = slice.start().plus(HOUR);
            let text = format!(
                "the store is at its bound of {}: dropped {} tables, the newest `{}` (received before {until})",
                coral_model::text::bytes(capacity),
                dropped.len(),
                slice.table(*signal),
            );
            tracing::warn!("{text}");
            told(now, EventKind::Dropped, text)
        });
        Ok(tell.into_iter().collect())
    }

    /// Slices nobody needs any more: half-edges past their window, anything past `keep_hours`.
    fn outlived(&self, tables: &Tables, stamp: Time) -> Vec<(Signal, Slice)> {
        let keep = self.options.keep_hours.saturating_mul(HOUR);
        let mut gone = Vec::new();
        for signal in Signal::ALL {
            let slices = tables.of(signal);
            for (slice, next) in slices.iter().zip(slices.iter().skip(1)) {
                let ended = slice.start().plus(HOUR).0.min(stamp.0);
                // A part of an hour ended some time before the next began; the hour's end is safe.
                let unmet = signal == Signal::HalfEdges
                    && next.hour > slice.hour
                    && stamp.0.saturating_sub(ended) > HALF_EDGES;
                if unmet || stamp.0.saturating_sub(ended) > keep {
                    gone.push((signal, *slice));
                }
            }
        }
        gone
    }
}

/// The oldest slice of the bulky signals, else of all others; never a current one.
fn expendable(tables: &Tables) -> Option<Vec<(Signal, Slice)>> {
    let oldest = |bulky: bool, keep: usize| {
        let of = Signal::ALL.into_iter().filter(|s| s.bulky() == bulky);
        let lists: Vec<_> = of.map(|s| (s, tables.of(s))).filter(|(_, l)| l.len() > keep).collect();
        let first = lists.iter().filter_map(|(_, list)| list.first()).min().copied()?;
        let has =
            |(s, list): &(Signal, &[Slice])| (list.first() == Some(&first)).then_some((*s, first));
        Some(lists.iter().filter_map(has).collect::<Vec<_>>())
    };
    oldest(true, BULK_KEPT).or_else(|| oldest(false, 1)).or_else(|| oldest(true, 1))
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

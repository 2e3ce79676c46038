//! What is done about slices that have ended: which is sealed next, which segments become one, and
//! when a file that nothing names any more may go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coral_model::config::Retention;
use coral_model::num::u64_sat;
use coral_model::time::Time;
use duckdb::Connection;

use super::StoreError;
use super::board::Board;
use super::options::{Fault, Options, Point};
use super::readers::Readers;
use super::retention::longest;
use super::schema::{HOUR, Signal, Slice};
use super::seal::{Outcome, Sealer, Task};
use super::segment::{self, Form, Segment};
use super::tables::{Change, Tables};
use crate::counters::Counters;

/// Segments of one kind and day that are made one before the day is over.
const MANY: usize = 8;
/// How many times more rows a merged index may have.
const INDEX: u64 = 16;
/// Resources that are remembered.
const RESOURCES: usize = 50_000;

/// See the module.
pub struct Archive {
    dir: PathBuf,
    sealer: Option<Sealer>,
    fault: Fault,
    counters: Arc<Counters>,
    grace: u64,
    merged_rows: u64,
    retry_after: Duration,
    retention: Retention,
    /// When slices ended; one that is not here ended before the start.
    ended: BTreeMap<(Signal, Slice), Time>,
    /// Files that go when every reader before that number is done.
    doomed: Vec<(u64, String)>,
    /// Nothing is begun before.
    pause: Option<Instant>,
    /// There may be more to do at once.
    more: bool,
    /// Tables were dropped whose blocks a checkpoint will free.
    dropped: bool,
}

impl Archive {
    /// Of a data directory.
    pub fn new(dir: &Path, options: &Options) -> Self {
        Self {
            dir: dir.to_owned(),
            sealer: None,
            fault: Arc::clone(&options.fault),
            counters: Arc::clone(&options.counters),
            grace: options.seal_grace,
            merged_rows: options.merged_rows,
            retry_after: options.retry_after,
            retention: options.retention,
            ended: BTreeMap::new(),
            doomed: Vec::new(),
            pause: None,
            more: false,
            dropped: false,
        }
    }

    /// How long nobody needs to look after it.
    pub fn nap(&self) -> Duration {
        let busy = self.sealer.as_ref().is_some_and(Sealer::busy);
        match (self.more, busy || !self.doomed.is_empty()) {
            (true, _) => Duration::ZERO,
            (false, true) => Duration::from_millis(20),
            (false, false) => Duration::from_secs(1),
        }
    }

    /// Gives up what is under way and lets go of the database.
    pub fn stop(&mut self) {
        self.sealer = None;
    }

    /// Keeps resources as long as this asks for.
    pub fn retain(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// Newer slices began at `stamp`.
    pub fn turned(&mut self, before: &Tables, stamp: Time) {
        for signal in Signal::ALL {
            if let Some(slice) = before.current(signal) {
                self.ended.entry((signal, slice)).or_insert(stamp);
            }
        }
    }

    /// Removes files that are out of the manifest once the readers of now are done.
    pub fn remove_later(&mut self, gone: &[Segment], readers: &Readers) {
        let number = readers.next();
        self.doomed.extend(gone.iter().map(|segment| (number, segment.file())));
    }

    /// One step of whatever there is to do. True: nothing is left, and a checkpoint would free what
    /// was dropped.
    pub fn tend(
        &mut self,
        connection: &Connection,
        board: &Board,
        readers: &Readers,
        stamp: Time,
        full: bool,
    ) -> Result<bool, StoreError> {
        self.unlink(readers, board);
        self.more = false;
        if let Some(outcome) = self.sealer.as_mut().and_then(Sealer::done) {
            self.dropped |= self.record(outcome, connection, board, readers)?;
            self.more = true;
            return Ok(false);
        }
        let busy = self.sealer.as_ref().is_some_and(Sealer::busy);
        let paused = self.pause.is_some_and(|until| Instant::now() < until);
        // A full disk has no room for a copy; the tables stay until there is.
        if busy || paused || full {
            return Ok(false);
        }
        let tables = board.now();
        if let Some((signal, slice)) = self.next_to_seal(&tables, stamp) {
            if signal == Signal::Resources {
                board.make(connection, self.rolled_on(&tables, slice, stamp))?;
                self.ended.remove(&(signal, slice));
                (self.more, self.dropped) = (true, true);
                return Ok(false);
            }
            self.begin(connection, Task::Seal(signal, slice))?;
        } else if let Some(segments) = next_to_merge(&tables, stamp, self.merged_rows) {
            self.begin(connection, Task::Merge(segments))?;
        } else {
            return Ok(std::mem::take(&mut self.dropped));
        }
        Ok(false)
    }

    fn begin(&mut self, connection: &Connection, task: Task) -> Result<(), StoreError> {
        let sealer = match &mut self.sealer {
            Some(sealer) => sealer,
            none => {
                let own = connection.try_clone()?;
                none.insert(Sealer::start(own, &self.dir, Arc::clone(&self.fault))?)
            }
        };
        sealer.begin(task);
        Ok(())
    }

    fn next_to_seal(&self, tables: &Tables, stamp: Time) -> Option<(Signal, Slice)> {
        let ripe = |key: &(Signal, Slice)| {
            let ended = self.ended.get(key).copied().unwrap_or(Time(0));
            key.0 != Signal::HalfEdges && stamp.since(ended) >= self.grace
        };
        tables.ended().filter(ripe).min_by_key(|(signal, slice)| (*slice, *signal))
    }

    /// The manifest is told of what was written, in the transaction that drops what it replaces.
    fn record(
        &mut self,
        outcome: Outcome,
        connection: &Connection,
        board: &Board,
        readers: &Readers,
    ) -> Result<bool, StoreError> {
        let written = match outcome.written {
            Ok(written) => written,
            Err(error) => {
                self.counters.add("segments_failed", 1);
                self.pause = Some(Instant::now() + self.retry_after);
                return Err(error);
            }
        };
        let tables = board.now();
        let (change, replaced) = match &outcome.task {
            Task::Seal(signal, slice) if tables.of(*signal).contains(slice) => {
                (tables.sealed(*signal, *slice, &written), Vec::new())
            }
            Task::Merge(old) if old.iter().all(|s| tables.segments().contains(s)) => {
                (tables.replaced(old, &written), old.clone())
            }
            // What it was made of has been dropped meanwhile.
            _ => {
                self.remove_later(&written, readers);
                return Ok(false);
            }
        };
        let sealed = matches!(outcome.task, Task::Seal(..));
        let recorded = (self.fault)(Point::Recording)
            .map_err(|source| StoreError::Directory { path: self.dir.clone(), source })
            .and_then(|()| board.make(connection, change));
        if let Err(error) = recorded {
            self.counters.add("segments_failed", 1);
            self.pause = Some(Instant::now() + self.retry_after);
            // The files stay: they are written anew under the same names when it is tried again, and a
            // removal that waits for a reader would then hit the good ones. The next start sweeps
            // what nothing names.
            return Err(error);
        }
        if let Task::Seal(signal, slice) = outcome.task {
            self.ended.remove(&(signal, slice));
        }
        self.counters.add("segments_written", u64_sat(written.len()));
        self.remove_later(&replaced, readers);
        if let Err(error) = (self.fault)(Point::Recorded) {
            tracing::warn!(%error, "after a segment was recorded");
        }
        Ok(sealed)
    }

    fn unlink(&mut self, readers: &Readers, board: &Board) {
        if self.doomed.is_empty() {
            return;
        }
        let tables = board.now();
        let dir = self.dir.join(segment::DIR);
        let fault = Arc::clone(&self.fault);
        let counters = Arc::clone(&self.counters);
        self.doomed.retain(|(number, file)| {
            if !readers.done_before(*number) {
                return true;
            }
            // What the manifest names is somebody's data, whatever it was called before.
            if tables.segments().iter().any(|segment| segment.file() == *file) {
                return false;
            }
            let gone = fault(Point::Unlinking).and_then(|()| std::fs::remove_file(dir.join(file)));
            if let Err(error) = gone {
                // Not named by anything: the next start sweeps it.
                counters.add("segments_not_removed", 1);
                tracing::warn!(%error, file, "a file cannot be removed now");
            }
            false
        });
    }

    /// Resources of a slice that has ended roll on into the current one: of each its first mention
    /// and its last, as long as anything is kept that it may explain.
    fn rolled_on(&self, tables: &Tables, slice: Slice, stamp: Time) -> Change {
        let mut change = tables.without(&[(Signal::Resources, slice)]);
        if let Some(current) = tables.current(Signal::Resources) {
            let (old, new) = (slice.table(Signal::Resources), current.table(Signal::Resources));
            let heard = stamp.minus(longest(&self.retention)).as_i64();
            change.statements.insert(
                0,
                format!(
                    "INSERT INTO {new} SELECT r.* FROM {old} r JOIN (SELECT id, min(first_ns) AS first, \
                     max(first_ns) AS last FROM (SELECT id, first_ns FROM {old} UNION ALL \
                     SELECT id, first_ns FROM {new}) GROUP BY id HAVING max(first_ns) >= {heard} \
                     ORDER BY last DESC, id LIMIT {RESOURCES}) m ON m.id = r.id \
                     AND (r.first_ns = m.first OR r.first_ns = m.last)"
                ),
            );
        }
        change
    }
}

/// Segments of one kind that stand side by side and may become one: those of a day when it is over,
/// or when there are many of them; never more rows than can be sorted.
pub fn next_to_merge(tables: &Tables, stamp: Time, limit: u64) -> Option<Vec<Segment>> {
    let mut kinds: BTreeMap<(Signal, Form, u64), Vec<&Segment>> = BTreeMap::new();
    for segment in tables.segments() {
        let day = segment.first.hour / 24;
        kinds.entry((segment.signal, segment.form, day)).or_default().push(segment);
    }
    for ((signal, form, day), segments) in kinds {
        // Rows of an index are small, and every file of it is looked into for every trace.
        let limit = if form == Form::Traces { limit.saturating_mul(INDEX) } else { limit };
        let over = stamp.0 / (24 * HOUR) > day
            && !tables.ended().any(|(s, slice)| s == signal && slice.hour / 24 <= day);
        let mut run: Vec<&Segment> = Vec::new();
        let mut rows = 0u64;
        for segment in segments {
            let ends = rows.saturating_add(segment.rows) > limit;
            if ends && run.len() > 1 && (over || run.len() >= MANY) {
                break;
            }
            if ends {
                run.clear();
                rows = 0;
            }
            rows = rows.saturating_add(segment.rows);
            run.push(segment);
            if !over && run.len() >= MANY {
                break;
            }
        }
        if run.len() > 1 && (over || run.len() >= MANY) {
            return Some(run.into_iter().cloned().collect());
        }
    }
    None
}

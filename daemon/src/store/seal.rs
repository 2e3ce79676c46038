//! Writing segments, on a thread and a connection of its own: the writer goes on meanwhile.
//!
//! A file is written under another name, synced, renamed, and its directory synced; only then does
//! the writer name it in the manifest, in the transaction that drops what it was made of. So at every
//! moment the rows are in exactly one place that counts, and what a crash leaves over is swept at
//! the next start. A slice that has ended never changes, which is what makes copying it safe.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;

use coral_model::num::u64_sat;
use coral_model::time::Time;
use duckdb::{Connection, InterruptHandle};
use xxhash_rust::xxh3::Xxh3;

use super::StoreError;
use super::options::{Fault, Point};
use super::schema::{Signal, Slice, VERSION};
use super::segment::{self, Form, Segment};
use super::tables::text;
use super::{coarse, rollup, series, words};

/// Rows of a row group: what the smallest read of a file decodes. `docs/store.md` has the numbers.
const GROUP_ROWS: u32 = 61_440;
/// The same of log records: what their index leaves over is a minute here and there. The file grows
/// by a fiftieth.
const LOG_ROWS: u32 = 16_384;
/// The same of an index of traces, of which one row is wanted.
const INDEX_ROWS: u32 = 4096;
/// The same of requests by series.
const SERIES_ROWS: u32 = 8192;
/// The same of an index of words, whose rows have 32 KiB before they are compressed.
const WORDS_ROWS: u32 = 2048;

/// What the thread is asked to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// The segments of a slice.
    Seal(Signal, Slice),
    /// One segment in place of these, which are of one kind and stand side by side.
    Merge(Vec<Segment>),
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What was asked.
    pub task: Task,
    /// Files that stand ready, not yet in the manifest.
    pub written: Result<Vec<Segment>, StoreError>,
}

/// The thread.
pub struct Sealer {
    tasks: Option<Sender<Task>>,
    outcomes: Receiver<Outcome>,
    interrupt: Arc<InterruptHandle>,
    thread: Option<JoinHandle<()>>,
    busy: bool,
}

impl Sealer {
    /// Starts it.
    pub fn start(connection: Connection, dir: &Path, fault: Fault) -> Result<Self, StoreError> {
        let (tasks, queue) = std::sync::mpsc::channel::<Task>();
        let (told, outcomes) = std::sync::mpsc::channel();
        let interrupt = connection.interrupt_handle();
        let press = Press::new(connection, dir, fault);
        let thread = std::thread::Builder::new().name("coral-seal".into()).spawn(move || {
            for task in queue {
                let written = press.write(&task);
                if told.send(Outcome { task, written }).is_err() {
                    break;
                }
            }
        });
        let thread =
            thread.map_err(|source| StoreError::Directory { path: dir.to_owned(), source })?;
        Ok(Self { tasks: Some(tasks), outcomes, interrupt, thread: Some(thread), busy: false })
    }

    /// Whether it has a task.
    pub fn busy(&self) -> bool {
        self.busy
    }

    /// Gives it a task.
    pub fn begin(&mut self, task: Task) {
        self.busy = self.tasks.as_ref().is_some_and(|tasks| tasks.send(task).is_ok());
    }

    /// What came of its task, when it is done.
    pub fn done(&mut self) -> Option<Outcome> {
        match self.outcomes.try_recv() {
            Ok(outcome) => {
                self.busy = false;
                Some(outcome)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }
}

/// What it is at is given up; unfinished files are swept at the next start.
impl Drop for Sealer {
    fn drop(&mut self) {
        self.tasks = None;
        while let Some(thread) = self.thread.take() {
            self.interrupt.interrupt();
            if thread.is_finished() {
                _ = thread.join();
            } else {
                std::thread::sleep(std::time::Duration::from_millis(1));
                self.thread = Some(thread);
            }
        }
    }
}

/// Writes the files.
pub struct Press {
    /// Where the rows lie.
    pub connection: Connection,
    dir: PathBuf,
    fault: Fault,
}

impl Press {
    /// Into the segments of the data directory `dir`.
    pub fn new(connection: Connection, dir: &Path, fault: Fault) -> Self {
        Self { connection, dir: dir.join(segment::DIR), fault }
    }

    /// Does a task: files stand ready when it returns.
    pub fn write(&self, task: &Task) -> Result<Vec<Segment>, StoreError> {
        let mut written = Vec::new();
        let done = match task {
            Task::Seal(signal, slice) => self.seal(*signal, *slice, &mut written),
            Task::Merge(segments) => self.merge(segments, &mut written),
        };
        let tables = [coarse::MERGED_TABLE, series::PACKED_TABLE, words::MAPS_TABLE];
        for table in tables {
            _ = self.connection.execute_batch(&format!("DROP TABLE IF EXISTS {table}"));
        }
        if let Err(error) = done {
            for segment in &written {
                _ = std::fs::remove_file(self.dir.join(segment.file()));
            }
            return Err(error);
        }
        Ok(written)
    }

    fn seal(
        &self,
        signal: Signal,
        slice: Slice,
        written: &mut Vec<Segment>,
    ) -> Result<(), StoreError> {
        let table = slice.table(signal);
        for &form in Form::of(signal) {
            let (rows, from) = match form {
                Form::Rows | Form::Traces => (table.clone(), rollup::select(signal, form, slice)),
                Form::Minute | Form::Hour => {
                    coarse::merge(&self.connection, signal, &table, form.bucket())?;
                    let merged = coarse::MERGED_TABLE;
                    (merged.to_owned(), format!("SELECT * FROM {merged}"))
                }
                // Made of the same merged rows as the form before.
                Form::SeriesMinute | Form::SeriesHour => {
                    series::pack(&self.connection, form.bucket())?;
                    (coarse::MERGED_TABLE.to_owned(), series::select())
                }
                Form::Words => {
                    let span = |rows: &Segment| (rows.rows, rows.max.since(rows.min));
                    let (count, span) = written.last().map_or((0, 0), span);
                    words::pack(&self.connection, &table, count, span)?;
                    (table.clone(), words::SELECT.to_owned())
                }
            };
            let Some((count, min, max, received)) = self.extent(signal, &rows)? else {
                return Ok(());
            };
            let segment = Segment {
                signal,
                form,
                first: slice,
                last: slice,
                generation: 0,
                rows: count,
                bytes: 0,
                min,
                max,
                received,
                checksum: 0,
                version: VERSION,
            };
            written.push(self.file(segment, &from)?);
        }
        Ok(())
    }

    fn merge(&self, segments: &[Segment], written: &mut Vec<Segment>) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(()) };
        let rows = segment::select(first.signal, segments, &self.dir, "").join(" UNION ALL ");
        let all = |pick: fn(&Segment) -> Time| segments.iter().map(pick);
        let segment = Segment {
            first: first.first,
            last: last.last,
            generation: segments.iter().map(|s| s.generation).max().unwrap_or(0).saturating_add(1),
            rows: segments.iter().map(|s| s.rows).sum(),
            min: all(|s| s.min).min().unwrap_or(first.min),
            max: all(|s| s.max).max().unwrap_or(first.max),
            received: (
                all(|s| s.received.0).min().unwrap_or(first.received.0),
                all(|s| s.received.1).max().unwrap_or(first.received.1),
            ),
            version: VERSION,
            ..first.clone()
        };
        if segment.form == Form::SeriesHour {
            return self.fold(segment, &rows, written);
        }
        let wanted = segment.rows;
        let made = self.file(segment, &format!("SELECT * FROM ({rows})"))?;
        let whole = made.rows == wanted;
        written.push(made);
        if whole { Ok(()) } else { Err(StoreError::Incomplete { wanted }) }
    }

    /// Makes one row of each series' rows: a day's buckets are then read together.
    fn fold(
        &self,
        segment: Segment,
        all: &str,
        written: &mut Vec<Segment>,
    ) -> Result<(), StoreError> {
        let cells = |rows: &str| {
            let sql = format!("SELECT coalesce(sum(cells), 0)::UBIGINT FROM ({rows})");
            self.connection.query_row(&sql, [], |row| row.get::<_, u64>(0))
        };
        let wanted = cells(all)?;
        let made = self.file(segment, &series::folded(all))?;
        let file = text(&self.dir.join(made.file()).to_string_lossy());
        written.push(made);
        match cells(&format!("FROM read_parquet({file})"))? == wanted {
            true => Ok(()),
            false => Err(StoreError::Incomplete { wanted }),
        }
    }

    /// Count, first and last moment, first and last commit of some rows; `None` without any.
    #[expect(clippy::type_complexity, reason = "read once, taken apart at once")]
    fn extent(
        &self,
        signal: Signal,
        rows: &str,
    ) -> Result<Option<(u64, Time, Time, (Time, Time))>, StoreError> {
        let time = rollup::time_column(signal);
        let sql = format!(
            "SELECT count(*), coalesce(min({time}), 0), coalesce(max({time}), 0), \
             coalesce(min(received_ns), 0), coalesce(max(received_ns), 0) FROM {rows}"
        );
        let (count, times) = self.connection.query_row(&sql, [], |row| {
            let times: [i64; 4] = [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?];
            Ok((row.get::<_, u64>(0)?, times.map(Time::from_i64)))
        })?;
        let [min, max, first, last] = times;
        Ok((count > 0).then_some((count, min, max, (first, last))))
    }

    /// Writes one file. Its rows are counted as they are written: an index has fewer than its slice.
    fn file(&self, mut segment: Segment, select: &str) -> Result<Segment, StoreError> {
        let file = segment.file();
        let unfinished = self.dir.join(format!("{}{file}", segment::UNFINISHED));
        let finished = self.dir.join(&file);
        let order = rollup::order(segment.signal, segment.form);
        let group = match segment.form {
            Form::Traces => INDEX_ROWS,
            Form::SeriesMinute | Form::SeriesHour => SERIES_ROWS,
            Form::Words => WORDS_ROWS,
            Form::Rows if segment.signal == Signal::Logs => LOG_ROWS,
            Form::Rows | Form::Minute | Form::Hour => GROUP_ROWS,
        };
        let sql = format!(
            "COPY ({select} ORDER BY {order}) TO {} (FORMAT parquet, PARQUET_VERSION v2, \
             COMPRESSION zstd, ROW_GROUP_SIZE {group}, KV_METADATA {{coral: {}}})",
            text(&unfinished.to_string_lossy()),
            text(&segment.label()),
        );
        let copied = self.connection.execute(&sql, []).map_err(StoreError::from).and_then(|rows| {
            segment.rows = u64_sat(rows);
            let io = |source| StoreError::Segment { path: unfinished.clone(), source };
            (self.fault)(Point::Copied).map_err(io)?;
            let written = File::open(&unfinished).map_err(io)?;
            written.sync_all().map_err(io)?;
            segment.bytes = written.metadata().map_err(io)?.len();
            segment.checksum = checksum(&unfinished).map_err(io)?;
            (self.fault)(Point::Renaming).map_err(io)?;
            std::fs::rename(&unfinished, &finished).map_err(io)?;
            (self.fault)(Point::Renamed).map_err(io)?;
            File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io)
        });
        if let Err(error) = copied {
            _ = std::fs::remove_file(&unfinished);
            _ = std::fs::remove_file(&finished);
            return Err(error);
        }
        Ok(segment)
    }
}

/// XXH3 of a file.
pub fn checksum(path: &Path) -> std::io::Result<u64> {
    let mut file = File::open(path)?;
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hash.digest());
        }
        hash.update(buffer.get(..n).unwrap_or_default());
    }
}

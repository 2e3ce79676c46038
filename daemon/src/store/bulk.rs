//! A store of the past, written whole: piece by piece through the tables and the sealing of every
//! other piece, on as many threads as there are, without the log and the checkpoints that protect
//! what is being received. For stores of a size that would take days to receive.
//!
//! Time is passed in: a piece is named by the hour it stands for, its rows carry the stamps they are
//! given. What comes out is what a colony would have after receiving the same rows, sealing every
//! piece and merging until nothing is left to merge.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use coral_model::time::Time;
use duckdb::{Config, Connection, params};

use super::archive::next_to_merge;
use super::board::Board;
use super::columns::small;
use super::options::Options;
use super::schema::{Signal, Slice, create_table};
use super::seal::{Press, Task};
use super::sealed::{self, Sealed};
use super::segment::{self, Segment};
use super::tables::Tables;
use super::{Batch, Resource, StoreError, database};

/// Signals a piece may have.
const SEALED: [Signal; 8] = [
    Signal::Spans,
    Signal::Logs,
    Signal::Metrics,
    Signal::Red,
    Signal::Edges,
    Signal::Events,
    Signal::Inflight,
    Signal::Hosts,
];

/// A store that is being written.
#[derive(Debug)]
pub struct Bulk {
    dir: PathBuf,
    /// Where pieces lie until they are sealed: nowhere but in memory.
    staging: Mutex<Connection>,
    segments: Mutex<Vec<Segment>>,
}

/// A place to write pieces at; one per thread.
pub struct Desk {
    press: Press,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl Bulk {
    /// Begins a store in an empty `dir`. Pieces that are being written and sorted take up to
    /// `memory_bytes`, beyond it they spill beside the store.
    pub fn begin(dir: &Path, memory_bytes: u64, threads: u32) -> Result<Self, StoreError> {
        let directory = |source| StoreError::Directory { path: dir.to_owned(), source };
        let dir = std::path::absolute(dir).map_err(directory)?;
        for below in ["tmp", segment::DIR] {
            std::fs::create_dir_all(dir.join(below)).map_err(directory)?;
        }
        let config = Config::default()
            .max_memory(&format!("{memory_bytes}B"))?
            .threads(i64::from(threads))?
            .with("temp_directory", dir.join("tmp").to_string_lossy())?
            // A checkpoint in memory compresses what is about to be sealed and dropped.
            .with("checkpoint_threshold", "1TB")?
            .with("preserve_insertion_order", "false")?
            .with("default_order", "asc")?;
        let staging = Connection::open_in_memory_with_flags(config)?;
        Ok(Self { dir, staging: Mutex::new(staging), segments: Mutex::default() })
    }

    /// Another place to write at.
    pub fn desk(&self) -> Result<Desk, StoreError> {
        let staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Desk { press: Press::new(staging.try_clone()?, &self.dir, Arc::new(|_| Ok(()))) })
    }

    /// Seals some signals of a slice, which take no more rows. Gives the rows of each file.
    pub fn seal(
        &self,
        desk: &Desk,
        slice: Slice,
        signals: &[Signal],
    ) -> Result<Vec<Segment>, StoreError> {
        let mut all = Vec::new();
        for &signal in signals {
            let written = desk.press.write(&Task::Seal(signal, slice))?;
            desk.press.connection.execute_batch(&format!("DROP TABLE {}", slice.table(signal)))?;
            all.extend(written);
        }
        self.segments.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&all);
        Ok(all)
    }

    /// Merges what a colony would have merged by `options.clock`, and writes the manifest and the
    /// resources that all pieces speak of, as first heard of at `began`.
    pub fn finish(
        self,
        options: &Options,
        resources: &[Arc<Resource>],
        began: Time,
    ) -> Result<(), StoreError> {
        let segments = self.segments.into_inner().unwrap_or_else(PoisonError::into_inner);
        let now = (options.clock)();
        // Pieces are in files; the database that names them is the colony's own.
        let connection = database::attempt(&self.dir.join(database::FILE), &self.dir, options)?;
        for segment in &segments {
            connection.execute_batch(&segment.insert())?;
        }
        let board = Board::default();
        board.make(&connection, Tables::load(&connection, &self.dir)?.viewed())?;
        let press = Press::new(connection.try_clone()?, &self.dir, Arc::new(|_| Ok(())));
        while let Some(old) = next_to_merge(&board.now(), now, options.merged_rows) {
            let new = press.write(&Task::Merge(old.clone()))?;
            board.make(&connection, board.now().replaced(&old, &new))?;
            for file in old.iter().map(|s| self.dir.join(segment::DIR).join(s.file())) {
                std::fs::remove_file(&file)
                    .map_err(|source| StoreError::Segment { path: file, source })?;
            }
        }
        if let Some(change) = board.now().advanced(now) {
            board.make(&connection, change)?;
        }
        if let Some(slice) = board.now().current(Signal::Resources) {
            let mut appender = connection.appender(&slice.table(Signal::Resources))?;
            for chunk in small::resources(resources, began).map_err(sealed::arrow)? {
                appender.append_record_batch(chunk.batch(None, 0).map_err(sealed::arrow)?)?;
            }
            appender.flush()?;
        }
        connection.execute(
            "INSERT INTO commits VALUES (?, 1, 1)",
            params![segments.iter().map(|s| s.received.1).max().unwrap_or(now).as_i64()],
        )?;
        connection.execute_batch("CHECKPOINT")?;
        Ok(())
    }
}

impl Desk {
    /// Makes the tables of a slice.
    pub fn open(&self, slice: Slice, signals: &[Signal]) -> Result<(), StoreError> {
        for &signal in signals.iter().filter(|s| SEALED.contains(s)) {
            self.press.connection.execute_batch(&create_table(signal, slice))?;
        }
        Ok(())
    }

    /// Appends what some commits would have brought; `stamps` has the stamp of each row. Each signal
    /// goes into the slice that `slice_of` gives.
    pub fn append(
        &self,
        batch: Batch,
        stamps: &BTreeMap<Signal, Vec<i64>>,
        slice_of: impl Fn(Signal) -> Slice,
    ) -> Result<(), StoreError> {
        let sealed = Sealed::new(batch).map_err(sealed::arrow)?;
        for (&signal, stamps) in stamps.iter().filter(|(signal, _)| SEALED.contains(signal)) {
            let Some(at) = signal.stamp_column() else { continue };
            let mut stamps = stamps.iter().copied();
            let mut appender = self.press.connection.appender(&slice_of(signal).table(signal))?;
            for chunk in sealed.chunks_of(signal) {
                let own = stamps.by_ref().take(chunk.rows()).collect();
                appender.append_record_batch(chunk.stamped(at, own).map_err(sealed::arrow)?)?;
            }
            appender.flush()?;
        }
        Ok(())
    }
}

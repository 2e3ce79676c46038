//! What one question sees: a connection, and what a signal's rows lie in.

use std::ops::Deref;
use std::sync::Arc;

use coral_model::time::{BUCKET, SECOND, Time};
use duckdb::Connection;

use super::schema::Signal;
use super::tables::{Tables, text};
use super::{StoreError, words};

/// Entries of the index that are followed: one per piece that has spans of the trace, and those of
/// traces that happen to begin with the same digits.
const ENTRIES: usize = 64;
/// Stretches of log records that are read one by one: each costs some milliseconds.
const STRETCHES: usize = 256;
/// Stretches this close together are read as one, ns.
const NEAR: u64 = SECOND;

/// A connection on loan to one question, inside a read-only transaction.
///
/// A statement reads a signal `FROM {relation}`, asked for with all the question knows of its
/// window: what lies outside is then not even opened. A relation holds every row of its window and
/// may hold others, so a statement still says which rows it wants. The views (`spans`, `logs` …) hold
/// everything and are for people who write SQL.
#[derive(Debug)]
pub struct Reading<'a> {
    connection: &'a Connection,
    tables: Option<Arc<Tables>>,
}

impl Deref for Reading<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl<'a> Reading<'a> {
    /// Of a connection in a transaction that sees these tables.
    #[must_use]
    pub fn new(connection: &'a Connection, tables: Arc<Tables>) -> Self {
        Self { connection, tables: Some(tables) }
    }

    /// Of a connection that has the views and nothing else.
    #[cfg(test)]
    #[must_use]
    pub fn of_views(connection: &'a Connection) -> Self {
        Self { connection, tables: None }
    }

    /// Rows of a signal that tell of moments in `[from, to)`, to be put after `FROM`; of requests
    /// and edges the finest buckets that are kept.
    #[must_use]
    pub fn relation(&self, signal: Signal, from: Time, to: Time) -> String {
        self.buckets(signal, from, to, BUCKET)
    }

    /// As [`Reading::relation`], with buckets as coarse as `resolution` ns where there are such.
    #[must_use]
    pub fn buckets(&self, signal: Signal, from: Time, to: Time, resolution: u64) -> String {
        match &self.tables {
            Some(tables) => tables.relation(signal, from, to, resolution),
            None => signal.name().to_owned(),
        }
    }

    /// As [`Reading::buckets`], with the length of each row's bucket as `width_ns`; of what is sealed
    /// only what was committed before a moment.
    #[must_use]
    pub fn widths(
        &self,
        signal: Signal,
        (from, to): (Time, Time),
        resolution: u64,
        before: Time,
    ) -> String {
        match &self.tables {
            Some(tables) => tables.widths(signal, (from, to), resolution, before),
            None => format!("(SELECT *, {BUCKET}::UBIGINT AS width_ns FROM {})", signal.name()),
        }
    }

    /// Files that have the requests of a window by series, in buckets of `resolution` ns, and the
    /// commit from which on they have all that is sealed. `None`: they are not kept so.
    #[must_use]
    pub fn series(&self, from: Time, to: Time, resolution: u64) -> Option<(Vec<String>, Time)> {
        self.tables.as_ref().and_then(|tables| tables.series(from, to, resolution))
    }

    /// The coarsest of `wanted` and what is kept of requests and edges in a window, ns.
    #[must_use]
    pub fn resolution(&self, from: Time, to: Time, wanted: u64) -> u64 {
        self.tables.as_ref().map_or(wanted, |tables| tables.resolution(from, to, wanted))
    }

    /// Rows of a signal that were committed after a moment.
    #[must_use]
    pub fn since(&self, signal: Signal, after: Time) -> String {
        match &self.tables {
            Some(tables) => tables.since(signal, after),
            None => signal.name().to_owned(),
        }
    }

    /// Every resource, each once.
    #[must_use]
    pub fn resources(&self) -> String {
        match &self.tables {
            Some(tables) => tables.resources(),
            None => Signal::Resources.name().to_owned(),
        }
    }

    /// Log records of a window among which are all that have each of some texts, which are in lower
    /// case, in their body or in a value of an attribute.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn logs_with(&self, from: Time, to: Time, texts: &[String]) -> Result<String, StoreError> {
        let everything = || self.relation(Signal::Logs, from, to);
        let Some(tables) = self.tables.as_ref().filter(|_| words::tells(texts)) else {
            return Ok(everything());
        };
        let files = tables.word_index(from, to);
        if files.is_empty() {
            return Ok(everything());
        }
        let stretches = words::stretches(self.connection, &files, (from, to), texts)?;
        // What is nearly everywhere is read as a whole.
        if stretches.len() > STRETCHES {
            return Ok(everything());
        }
        Ok(tables.logs_within(from, to, &stretches))
    }

    /// Spans among which are all of the traces whose ids lie between these two, as halves.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn traces(&self, low: (u64, u64), high: (u64, u64)) -> Result<String, StoreError> {
        let Some(tables) = &self.tables else { return Ok(Signal::Spans.name().to_owned()) };
        let everything = || tables.relation(Signal::Spans, Time(0), Time::MAX, BUCKET);
        let (files, whole) = tables.trace_index();
        // The index goes by the first 32 bits, of ids of 64 bits by those of the lower half.
        let ends = match (low, high) {
            ((0, low), (0, high)) => Some((low >> 32, high >> 32)),
            ((low, _), (high, _)) if low > 0 => Some((low >> 32, high >> 32)),
            _ => None,
        };
        let (Some((first, last)), true) = (ends, whole) else { return Ok(everything()) };
        if files.is_empty() {
            return Ok(everything());
        }
        let files: Vec<String> = files.iter().map(|file| text(file)).collect();
        let sql = format!(
            "SELECT first_ns, last_ns FROM read_parquet([{}]) \
             WHERE key >= {first} AND key <= {last} LIMIT {ENTRIES}",
            files.join(", ")
        );
        let mut statement = self.connection.prepare(&sql)?;
        let entries = statement.query_map([], |row| {
            Ok((Time::from_i64(row.get(0)?), Time::from_i64(row.get::<_, i64>(1)?).plus(1)))
        })?;
        let mut entries: Vec<(Time, Time)> = entries.collect::<Result<_, _>>()?;
        if entries.len() >= ENTRIES {
            return Ok(everything());
        }
        entries.sort_unstable();
        let mut stretches: Vec<(Time, Time)> = Vec::new();
        for (from, to) in entries {
            match stretches.last_mut() {
                Some(before) if from <= before.1.plus(NEAR) => before.1 = before.1.max(to),
                _ => stretches.push((from, to)),
            }
        }
        Ok(tables.spans_within(&stretches))
    }
}

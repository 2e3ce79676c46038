//! One transaction: rows, marks, joined edges and what the join must remember, or nothing of them.

use std::sync::PoisonError;
use std::time::Duration;

use coral_model::time::Time;
use duckdb::params;

use super::super::options::Point;
use super::super::sealed::{self, Extra, Sealed};
use super::super::{Batch, Committed, StoreError, marks};
use super::Writer;
use super::damage::is_fatal;

/// How often a commit waits for memory …
const MEMORY_TRIES: u32 = 40;
/// … and how long each time.
const MEMORY_WAIT: Duration = Duration::from_millis(50);

impl Writer {
    /// One transaction. Where a question has taken the memory it needs, the question goes: first by
    /// itself, then by being interrupted.
    pub(super) fn transact(&mut self, batches: &[Sealed]) -> Result<Committed, StoreError> {
        for attempt in 0..MEMORY_TRIES {
            match self.transact_once(batches) {
                Err(StoreError::Memory(_)) => {}
                result => return result,
            }
            self.options.counters.add("commits_waited_for_memory", 1);
            if attempt > 1 {
                self.readers.interrupt();
            }
            std::thread::sleep(MEMORY_WAIT);
        }
        self.transact_once(batches)
    }

    /// After an error nothing of the transaction remains, in the database or here.
    fn transact_once(&mut self, batches: &[Sealed]) -> Result<Committed, StoreError> {
        let mut made = None;
        let result = self.try_transact(batches, &mut made);
        // Refused before anything was begun.
        let begun = !matches!(result, Err(StoreError::DiskFull { .. }));
        if let Err(error) = result.as_ref()
            && begun
        {
            tracing::warn!(%error, "rolling back");
            if let Some(connection) = &self.connection {
                _ = connection.execute_batch("ROLLBACK");
            }
            if is_fatal(error) {
                self.reopen();
            } else if let Err(error) = self.recall() {
                tracing::error!(%error, "what was committed cannot be read back");
                self.reopen();
            }
            // A COMMIT may fail after it was made; tried again, its rows would be there twice.
            if let Some((joined, extra, stamp)) = made.filter(|made| made.2 == self.stamp) {
                self.committed(batches, &joined, &extra, stamp);
                return Ok(Committed { stamp });
            }
        }
        result
    }

    pub(super) fn try_transact(
        &mut self,
        batches: &[Sealed],
        made: &mut Option<([Sealed; 1], Extra, Time)>,
    ) -> Result<Committed, StoreError> {
        let telemetry = batches.iter().any(|b| b.batch.bytes > 0);
        if telemetry {
            self.room.admit()?;
        }
        let stamp = (self.options.clock)().max(self.stamp.plus(1));
        self.turn(stamp)?;
        let connection = self.connection.as_ref().ok_or(StoreError::Closed)?;
        let tables = self.board.now();
        self.joiner.expire(stamp);
        for half in batches.iter().flat_map(|b| &b.batch.half_edges) {
            self.joiner.offer(half.clone(), stamp);
        }
        // After the requests: what their peers' names stand for may be known by now.
        for delta in batches.iter().flat_map(|b| &b.batch.connections) {
            self.joiner.connections(delta.clone(), stamp);
        }
        let joined = Batch { edges: self.joiner.take_edges(), ..Batch::default() };
        let joined = [Sealed::new(joined).map_err(sealed::arrow)?];
        let extra = Extra {
            resources: sealed::unknown_resources(batches, &self.explained),
            kept: self.joiner.take_kept(),
        };
        connection.execute_batch("BEGIN")?;
        sealed::append(connection, &tables, batches, &extra, stamp)?;
        sealed::append(connection, &tables, &joined, &Extra::default(), stamp)?;
        let marked = batches.iter().flat_map(|b| &b.batch.marks);
        let gone = batches.iter().flat_map(|b| &b.batch.forget);
        let marked = marked.map(|m| (m.agent, m.segment, m.seq, false));
        marks::append(connection, marked.chain(gone.map(|&(a, s)| (a, s, 0, true))))?;
        let mut commits = connection.appender("commits")?;
        commits.append_row(params![stamp.as_i64(), self.joiner.next(), self.joiner.floor()])?;
        commits.flush()?;
        drop(commits);
        (self.options.fault)(Point::Committing).map_err(|e| self.failed(e))?;
        if let Err(error) = connection.execute_batch("COMMIT") {
            *made = Some((joined, extra, stamp));
            return Err(error.into());
        }
        self.committed(batches, &joined, &extra, stamp);
        Ok(Committed { stamp })
    }

    /// The transaction is durable: everything that mirrors it follows.
    fn committed(&mut self, batches: &[Sealed], joined: &[Sealed], extra: &Extra, stamp: Time) {
        self.stamp = stamp;
        self.commits_since_fold += 1;
        self.explained.extend(extra.resources.iter().map(|r| r.id.0));
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        for batch in batches.iter().map(|b| &b.batch) {
            batch.marks.iter().for_each(|mark| marks.advance(mark));
            batch.forget.iter().for_each(|&(agent, segment)| marks.forget(agent, segment));
        }
        drop(marks);
        self.live.apply(batches.iter().chain(joined).map(|b| &b.batch), stamp);
        let counters = &self.options.counters;
        let names = ["spans_committed", "logs_committed", "metric_points_committed"];
        for sealed in batches {
            names.iter().zip(sealed.counts).for_each(|(name, n)| counters.add(name, n));
            let rows: u64 = sealed.counts.iter().sum();
            counters.add("records_told", rows.saturating_sub(sealed.batch.made));
            self.slice_rows.iter_mut().zip(sealed.counts).for_each(|(rows, n)| *rows += n);
        }
        counters.add("commits", 1);
        counters.add("edge_waits_cut_short", self.joiner.take_evicted());
        counters.add("edge_names_unlearnt", self.joiner.take_unlearnt());
        self.room.wrote();
    }
}

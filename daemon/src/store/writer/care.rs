//! What is due between commits: checkpoints, slices that end, sealing, and room on the disk.

use std::sync::PoisonError;

use coral_model::time::Time;
use duckdb::Connection;

use super::super::StoreError;
use super::super::options::Point;
use super::super::schema::Signal;
use super::Writer;
use super::damage::is_fatal;

impl Writer {
    /// Checkpoints, retention, and telling about a disk that fills or has room again.
    pub(super) fn tend(&mut self) {
        let now = (self.options.clock)();
        let mut events: Vec<_> = self.room.watch_disk(now).into_iter().collect();
        if self.room.checkpoint_due() {
            self.checkpoint();
            let Some(connection) = self.connection.as_ref() else {
                self.untold.extend(events);
                return;
            };
            let keep = &self.options.retention;
            match self.room.make_room(connection, &self.board, keep, self.stamp, now) {
                Ok(made) => {
                    self.archive.remove_later(&made.gone, &self.readers);
                    events.extend(made.event);
                }
                Err(error) => tracing::error!(%error, "old data could not be dropped"),
            }
        }
        if let Some(connection) = &self.connection {
            let full = self.room.is_full();
            let done = self.archive.tend(connection, &self.board, &self.readers, self.stamp, full);
            match done {
                Ok(true) => self.room.checkpoint_soon(),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "sealing failed; it is tried again");
                    if is_fatal(&error) {
                        self.reopen();
                    }
                }
            }
        }
        self.tell(events);
    }

    pub(super) fn checkpoint(&mut self) {
        let Ok(connection) = self.connection() else { return };
        let folded = if self.commits_since_fold >= 500 { self.fold(connection) } else { Ok(false) };
        let done = folded.and_then(|folded| {
            (self.options.fault)(Point::Checkpointing).map_err(|e| self.failed(e))?;
            connection.execute_batch("CHECKPOINT")?;
            Ok(folded)
        });
        self.room.checkpointed();
        match done {
            Ok(folded) => {
                if folded {
                    self.commits_since_fold = 0;
                }
                self.options.counters.add("checkpoints", 1);
            }
            Err(error) => {
                self.options.counters.add("checkpoints_failed", 1);
                self.room.put_off();
                tracing::warn!(%error, "checkpoint put off");
                if is_fatal(&error) {
                    self.reopen();
                }
            }
        }
    }

    /// Ends slices that the hour, their size or their age has ended, and begins the next.
    pub(super) fn turn(&mut self, stamp: Time) -> Result<(), StoreError> {
        let connection = self.connection.as_ref().ok_or(StoreError::Closed)?;
        let before = self.board.now();
        let large = self.slice_rows.iter().any(|rows| *rows >= self.options.part_rows);
        let age = stamp.since(self.slices_began);
        let change = if let Some(change) = before.advanced(stamp) {
            Some(change)
        } else if self.options.part_age.is_some_and(|limit| age >= limit) {
            Some(before.parted(|_| true))
        } else {
            large.then(|| before.parted(Signal::bulky))
        };
        let Some(change) = change else { return Ok(()) };
        let resources = change.tables.current(Signal::Resources);
        self.board.make(connection, change)?;
        self.archive.turned(&before, stamp);
        self.slice_rows = [0; 3];
        self.slices_began = stamp;
        if resources != before.current(Signal::Resources) {
            self.explained.clear();
        }
        self.room.checkpoint_soon();
        Ok(())
    }

    /// Rewrites the tables that only grow.
    fn fold(&self, connection: &Connection) -> Result<bool, StoreError> {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        connection.execute_batch("BEGIN")?;
        let (stamp, next, floor) = (self.stamp.as_i64(), self.joiner.next(), self.joiner.floor());
        let done = marks.fold(connection).and_then(|()| {
            connection.execute_batch(&format!(
                "DELETE FROM commits; INSERT INTO commits VALUES ({stamp}, {next}, {floor}); COMMIT"
            ))?;
            Ok(true)
        });
        if done.is_err() {
            _ = connection.execute_batch("ROLLBACK");
        }
        done
    }
}

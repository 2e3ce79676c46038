//! The one thread that changes the database.
//!
//! It takes batches from a queue, groups what is there, and commits the group as one transaction:
//! rows, marks, joined edges, and what the edge join must remember. While one commit is under way
//! the next group gathers; after a pause the first batch waits for nothing. A group that fails is
//! tried again batch by batch, so that one batch too large for memory does not stop the others, and
//! what fails alone is reported to whoever sent it and never acknowledged.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use coral_model::config::Retention;
use coral_model::time::Time;
use coral_model::view::{EventKind, EventRow, NodeKind, SpanKind};
use duckdb::{Connection, params};
use hashbrown::HashSet;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::archive::Archive;
use super::board::Board;
use super::database;
use super::marks::{self, Marks};
use super::options::{Options, Point};
use super::readers::Readers;
use super::room::Room;
use super::schema::Signal;
use super::sealed::{self, Extra, Sealed};
use super::segment::{self, Segment};
use super::sweep;
use super::tables::Tables;
use super::{Batch, Committed, HalfEdge, HalfSeries, StoreError};
use crate::edges::{Fate, Joiner, Kept};
use crate::live::Live;

/// What the writer is told.
pub enum Order {
    /// Commit a batch.
    Commit(Box<Waiting>),
    /// Keep things this long from now on.
    Retain(Retention),
    /// Look at these segments, because a question could not be answered with them; says how many
    /// were set aside.
    Examine(Vec<Segment>, oneshot::Sender<usize>),
    /// Commit what was queued before, checkpoint, and end.
    Close(oneshot::Sender<()>),
}

/// A batch, who waits for it, and the share of the byte budget it holds until it is committed.
pub struct Waiting {
    /// The batch.
    pub batch: Batch,
    /// Told when it is committed.
    pub reply: oneshot::Sender<Result<Committed, StoreError>>,
    /// Given back then.
    pub permit: OwnedSemaphorePermit,
}

/// What the writer shares with the [`super::Store`] in front of it.
pub struct Shared {
    /// To close and open again with the database.
    pub readers: Arc<Readers>,
    /// What readers see.
    pub board: Arc<Board>,
    /// Told of every commit.
    pub live: Arc<Live>,
    /// Follows the commits.
    pub marks: Arc<RwLock<Marks>>,
    /// The store was dropped without being closed.
    pub abandoned: Arc<AtomicBool>,
}

/// The writer's state; lives on its thread.
pub struct Writer {
    dir: PathBuf,
    options: Options,
    connection: Option<Connection>,
    readers: Arc<Readers>,
    live: Arc<Live>,
    marks: Arc<RwLock<Marks>>,
    board: Arc<Board>,
    archive: Archive,
    joiner: Joiner,
    room: Room,
    /// Resources the current slice explains.
    explained: HashSet<u64>,
    stamp: Time,
    /// Rows in the current slices of spans, logs and metric points.
    slice_rows: [u64; 3],
    /// When the current slices began.
    slices_began: Time,
    commits_since_fold: u32,
    last_commit: Option<Instant>,
    /// Events about the store itself that could not be kept yet.
    untold: Vec<EventRow>,
    abandoned: Arc<AtomicBool>,
}

/// Events about the store that wait for room; beyond it the oldest are lost, counted.
const UNTOLD: usize = 64;

/// Signals whose rows are counted, in the order of [`Sealed::counts`].
const COUNTED: [Signal; 3] = [Signal::Spans, Signal::Logs, Signal::Metrics];

/// How often a commit waits for memory …
const MEMORY_TRIES: u32 = 40;
/// … and how long each time.
const MEMORY_WAIT: Duration = Duration::from_millis(50);

type Reply = oneshot::Sender<Result<Committed, StoreError>>;

impl Writer {
    /// Reads what earlier commits left. Runs before the thread starts, so that opening can fail.
    pub fn new(
        dir: PathBuf,
        options: Options,
        connection: Connection,
        room: Room,
        shared: Shared,
    ) -> Result<Self, StoreError> {
        let Shared { readers, board, live, marks, abandoned } = shared;
        let joiner = Joiner::new(options.edges, 1);
        let mut writer = Self {
            archive: Archive::new(&dir, &options),
            dir,
            options,
            connection: Some(connection),
            readers,
            live,
            marks,
            board,
            joiner,
            room,
            explained: HashSet::new(),
            stamp: Time(0),
            slice_rows: [0; 3],
            slices_began: Time(0),
            commits_since_fold: 0,
            last_commit: None,
            untold: Vec::new(),
            abandoned,
        };
        writer.recall()?;
        Ok(writer)
    }

    fn connection(&self) -> Result<&Connection, StoreError> {
        self.connection.as_ref().ok_or(StoreError::Closed)
    }

    /// Rebuilds everything that mirrors the database.
    fn recall(&mut self) -> Result<(), StoreError> {
        let connection = self.connection.as_ref().ok_or(StoreError::Closed)?;
        let tables = Tables::load(connection, &self.dir)?;
        for (rows, signal) in self.slice_rows.iter_mut().zip(COUNTED) {
            *rows = match tables.current(signal) {
                Some(slice) => {
                    let sql = format!("SELECT count(*) FROM {}", slice.table(signal));
                    connection.query_row(&sql, [], |row| row.get(0))?
                }
                None => 0,
            };
        }
        self.board.make(connection, tables.viewed())?;
        let (stamp, next, floor): (Option<i64>, Option<u64>, Option<u64>) = connection.query_row(
            "SELECT max(received_ns), max(half_next), max(edges_to) FROM commits",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        self.stamp = self.stamp.max(Time::from_i64(stamp.unwrap_or(0)));
        let (next, floor) = (next.unwrap_or(1), floor.unwrap_or(1));
        let mut joiner = Joiner::resume(self.options.edges, next, floor);
        recall_ends(connection, floor, &mut joiner)?;
        self.joiner = joiner;
        self.explained.clear();
        let marks = Marks::load(connection)?;
        *self.marks.write().unwrap_or_else(PoisonError::into_inner) = marks;
        Ok(())
    }

    /// Runs until told to close or nobody can send orders any more.
    pub fn run(mut self, orders: &Receiver<Order>) {
        let mut closing = None;
        while closing.is_none() {
            let first = match orders.recv_timeout(self.nap()) {
                Ok(order) => Some(order),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let (group, close, others) = self.gather(first, orders);
            if close.is_none() && self.abandoned.load(Ordering::Relaxed) {
                break;
            }
            closing = close;
            let expired = self.joiner.next_expiry().is_some_and(|at| at <= (self.options.clock)());
            if !group.is_empty() || expired {
                self.last_commit = Some(Instant::now());
                self.commit_group(group);
            }
            others.into_iter().for_each(|order| self.obey(order));
            self.tend();
        }
        if closing.is_some() {
            self.checkpoint();
        } else if let Some(connection) = &self.connection {
            _ = connection.execute_batch("PRAGMA disable_checkpoint_on_shutdown");
        }
        self.archive.stop();
        self.readers.close();
        self.connection = None;
        if let Some(closed) = closing {
            _ = closed.send(());
        }
    }

    /// How long to wait for an order before looking at the clock.
    fn nap(&self) -> Duration {
        let now = (self.options.clock)();
        let expiry = self.joiner.next_expiry().map(|at| Duration::from_nanos(at.since(now)));
        let expiry = expiry.unwrap_or(Duration::MAX).max(Duration::from_millis(20));
        expiry.min(self.archive.nap())
    }

    /// Collects a group: what is queued, and what comes until the next commit may begin.
    fn gather(
        &self,
        first: Option<Order>,
        orders: &Receiver<Order>,
    ) -> (Vec<Waiting>, Option<oneshot::Sender<()>>, Vec<Order>) {
        let (mut group, mut others) = (Vec::new(), Vec::new());
        let mut bytes = 0usize;
        let due = self.last_commit.map(|at| at + self.options.group_wait);
        let mut next = first;
        loop {
            match next.take() {
                Some(Order::Close(closed)) => return (group, Some(closed), others),
                Some(Order::Commit(waiting)) => {
                    bytes = bytes.saturating_add(waiting.batch.bytes);
                    group.push(*waiting);
                }
                Some(other) => others.push(other),
                None => return (group, None, others),
            }
            if bytes >= self.options.group_bytes {
                return (group, None, others);
            }
            let patience =
                due.map_or(Duration::ZERO, |d| d.saturating_duration_since(Instant::now()));
            next = orders.recv_timeout(patience).ok();
        }
    }

    fn commit_group(&mut self, group: Vec<Waiting>) {
        let mut batches = Vec::with_capacity(group.len());
        let mut replies: Vec<(Reply, OwnedSemaphorePermit)> = Vec::with_capacity(group.len());
        let mut ahead = self.marks.read().unwrap_or_else(PoisonError::into_inner).clone_of(&group);
        for Waiting { batch, reply, permit } in group {
            match follows(&mut ahead, &batch)
                .and_then(|()| Sealed::new(batch).map_err(sealed::arrow))
            {
                Ok(sealed) => {
                    batches.push(sealed);
                    replies.push((reply, permit));
                }
                Err(error) => _ = reply.send(Err(error)),
            }
        }
        match self.transact(&batches) {
            Ok(committed) => replies.into_iter().for_each(|(r, _)| _ = r.send(Ok(committed))),
            Err(error) if batches.len() <= 1 => self.fail(error, replies),
            Err(_) => {
                self.options.counters.add("commits_retried", 1);
                for (sealed, reply) in batches.into_iter().zip(replies) {
                    // A batch may follow on one that has just failed.
                    let mut now = self.marks.read().unwrap_or_else(PoisonError::into_inner).clone();
                    let done = follows(&mut now, &sealed.batch)
                        .and_then(|()| self.transact(std::slice::from_ref(&sealed)));
                    match done {
                        Ok(committed) => _ = reply.0.send(Ok(committed)),
                        Err(error) => self.fail(error, vec![reply]),
                    }
                }
            }
        }
    }

    fn fail(&self, error: StoreError, replies: Vec<(Reply, OwnedSemaphorePermit)>) {
        self.options.counters.add("commits_failed", 1);
        tracing::error!(%error, "a commit failed; nothing of it is acknowledged");
        // One error, one asker: the edge join's own commits have none.
        if let Some((reply, _)) = replies.into_iter().next() {
            _ = reply.send(Err(error));
        }
    }

    /// One transaction. Where a question has taken the memory it needs, the question goes: first by
    /// itself, then by being interrupted.
    fn transact(&mut self, batches: &[Sealed]) -> Result<Committed, StoreError> {
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

    fn try_transact(
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
            self.slice_rows.iter_mut().zip(sealed.counts).for_each(|(rows, n)| *rows += n);
        }
        counters.add("commits", 1);
        counters.add("edge_waits_cut_short", self.joiner.take_evicted());
        counters.add("edge_names_unlearnt", self.joiner.take_unlearnt());
        self.room.wrote();
    }

    /// Checkpoints, retention, and telling about a disk that fills or has room again.
    fn tend(&mut self) {
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

    /// Keeps events about the store, with those that found no room before.
    fn tell(&mut self, events: Vec<EventRow>) {
        if events.is_empty() && (self.untold.is_empty() || self.room.is_full()) {
            return;
        }
        self.untold.extend(events);
        let sealed = Sealed::new(Batch::of_events(self.untold.clone())).map_err(sealed::arrow);
        match sealed.and_then(|sealed| self.transact(&[sealed])) {
            Ok(_) => self.untold.clear(),
            Err(error) => {
                tracing::error!(%error, "an event about the store waits to be kept");
                let lost = self.untold.len().saturating_sub(UNTOLD);
                self.untold.drain(..lost);
                self.options.counters.add("events_lost", coral_model::num::u64_sat(lost));
            }
        }
    }

    fn checkpoint(&mut self) {
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
    fn turn(&mut self, stamp: Time) -> Result<(), StoreError> {
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

    fn failed(&self, source: std::io::Error) -> StoreError {
        StoreError::Directory { path: self.dir.clone(), source }
    }

    /// Does what is not a commit.
    fn obey(&mut self, order: Order) {
        match order {
            Order::Retain(retention) => {
                self.room.resize(retention.disk_max);
                self.options.retention = retention;
                self.archive.retain(retention);
                self.room.checkpoint_soon();
            }
            Order::Examine(segments, reply) => {
                let bad = self.examine(segments);
                _ = reply.send(bad);
            }
            Order::Commit(_) | Order::Close(_) => {}
        }
    }

    /// Sets aside those of some segments that are not what was written.
    fn examine(&mut self, segments: Vec<Segment>) -> usize {
        let dir = self.dir.join(segment::DIR);
        let now = self.board.now();
        let mut bad: Vec<(Segment, String)> = Vec::new();
        for segment in segments.into_iter().filter(|s| now.segments().contains(s)) {
            if let Err(why) = sweep::examine(&dir.join(segment.file()), &segment) {
                bad.push((segment, why));
            }
        }
        let gone: Vec<Segment> = bad.iter().map(|(segment, _)| segment.clone()).collect();
        if gone.is_empty() {
            return 0;
        }
        let made = self.connection().and_then(|c| self.board.make(c, now.replaced(&gone, &[])));
        if let Err(error) = made {
            tracing::error!(%error, "a damaged segment could not be set aside");
            return 0;
        }
        for (segment, why) in &bad {
            sweep::put_aside(&dir, segment);
            self.tell_segment(segment, why);
        }
        bad.len()
    }

    /// Says, in the log and as an event, that a damaged segment was set aside.
    pub fn tell_segment(&mut self, segment: &Segment, why: &str) {
        let file = format!("{}.damaged", segment.file());
        let text = format!(
            "a file of the store was damaged and set aside as {file}: {} {} received from {} to {} are not shown",
            segment.rows,
            segment.signal.name(),
            segment.received.0,
            segment.received.1,
        );
        self.tell_loss(&text, &file, why);
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

    /// Closes the instance and opens it again: after a failed write DuckDB refuses everything until
    /// then. If the file itself is damaged it is set aside.
    fn reopen(&mut self) {
        tracing::error!("the database failed; opening it again");
        self.options.counters.add("store_reopened", 1);
        self.archive.stop();
        self.readers.close();
        self.connection = None;
        let opened = database::open(&self.dir, &self.options).and_then(|opened| {
            self.readers.reopen(opened.connection.try_clone()?);
            self.connection = Some(opened.connection);
            self.recall()?;
            Ok((opened.set_aside, opened.damaged))
        });
        match opened {
            Ok((aside, damaged)) => {
                if let Some((path, why)) = aside {
                    self.tell_damage(&path.to_string_lossy(), &why);
                }
                damaged.iter().for_each(|(segment, why)| self.tell_segment(segment, why));
            }
            Err(error) => tracing::error!(%error, "the database cannot be opened again"),
        }
    }

    /// Says, in the log and as an event, that a damaged file was moved away.
    pub fn tell_damage(&mut self, path: &str, why: &str) {
        let text = format!(
            "the store was damaged and set aside as {path}; what was not yet sealed of earlier data is not shown"
        );
        self.tell_loss(&text, path, why);
    }

    fn tell_loss(&mut self, text: &str, file: &str, why: &str) {
        tracing::error!(why, "{text}");
        self.options.counters.add("store_damaged", 1);
        let event = EventRow {
            time: (self.options.clock)(),
            kind: EventKind::StoreDamaged,
            service: None,
            host: None,
            text: text.to_owned(),
            source: "colony".into(),
            attributes: [("file".into(), file.into()), ("error".into(), why.into())].into(),
        };
        let sealed = Sealed::new(Batch::of_events(vec![event])).map_err(sealed::arrow);
        if let Err(error) = sealed.and_then(|sealed| self.try_transact(&[sealed], &mut None)) {
            tracing::error!(%error, "the event about the damage could not be kept");
        }
    }
}

/// Checks that a batch follows on what is committed or queued before it, and moves on past it.
fn follows(ahead: &mut Marks, batch: &Batch) -> Result<(), StoreError> {
    for mark in &batch.marks {
        let committed = ahead.get(mark.agent, mark.segment);
        if committed != mark.after {
            return Err(StoreError::Stale { committed });
        }
    }
    batch.marks.iter().for_each(|mark| ahead.advance(mark));
    Ok(())
}

/// Whether DuckDB will refuse everything until it is opened again.
fn is_fatal(error: &StoreError) -> bool {
    let text = error.to_string();
    text.contains("has been invalidated") || text.contains("FATAL Error")
}

/// Puts the ends that still matter back into the join.
fn recall_ends(connection: &Connection, floor: u64, joiner: &mut Joiner) -> Result<(), StoreError> {
    let mut statement = connection.prepare(
        "SELECT n, received_ns, key, resource, service, kind, protocol, peer, peer_kind, sampled, \
         end_ns, duration_ns, error, no_answer, fate FROM half_edges WHERE n >= ? ORDER BY n",
    )?;
    let mut rows = statement.query(params![floor])?;
    while let Some(row) = rows.next()? {
        let text = |at: usize| row.get::<_, String>(at).map(Arc::<str>::from);
        let peer_kind: String = row.get(8)?;
        let series = HalfSeries {
            resource: coral_model::ResourceId(row.get(3)?),
            service: text(4)?,
            kind: SpanKind::from_otlp(u64::from(row.get::<_, u8>(5)?)),
            protocol: text(6)?,
            peer: text(7)?,
            peer_kind: peer_kind.parse().unwrap_or(NodeKind::External),
            sampled: row.get(9)?,
        };
        let half = HalfEdge {
            key: row.get(2)?,
            series: Arc::new(series),
            end: Time::from_i64(row.get(10)?),
            duration_ns: row.get(11)?,
            error: row.get(12)?,
            no_answer: row.get(13)?,
        };
        let fate = Fate::from_byte(row.get(14)?).unwrap_or(Fate::Met);
        joiner.restore(Kept { n: row.get(0)?, half, fate }, Time::from_i64(row.get(1)?));
    }
    Ok(())
}

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

use coral_model::time::Time;
use coral_model::view::{EventKind, EventRow, NodeKind, SpanKind};
use duckdb::{Connection, params};
use hashbrown::HashSet;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::database;
use super::marks::{self, Marks};
use super::options::Options;
use super::readers::Readers;
use super::room::Room;
use super::sealed::{self, Extra, Sealed};
use super::tables::Tables;
use super::{Batch, Committed, HalfEdge, HalfSeries, StoreError};
use crate::edges::{Fate, Joiner, Kept};
use crate::live::Live;

/// What the writer is told.
pub enum Order {
    /// Commit a batch.
    Commit(Box<Waiting>),
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
    tables: Tables,
    joiner: Joiner,
    room: Room,
    /// Resources the current slice explains.
    explained: HashSet<u64>,
    stamp: Time,
    commits_since_fold: u32,
    last_commit: Option<Instant>,
    /// Events about the store itself that could not be kept yet.
    untold: Vec<EventRow>,
    abandoned: Arc<AtomicBool>,
}

/// Events about the store that wait for room; beyond it the oldest are lost, counted.
const UNTOLD: usize = 64;

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
        let Shared { readers, live, marks, abandoned } = shared;
        let joiner = Joiner::new(options.edges, 1);
        let mut writer = Self {
            dir,
            options,
            connection: Some(connection),
            readers,
            live,
            marks,
            tables: Tables::default(),
            joiner,
            room,
            explained: HashSet::new(),
            stamp: Time(0),
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
        self.tables = Tables::load(connection)?;
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
            let (group, close) = self.gather(first, orders);
            if close.is_none() && self.abandoned.load(Ordering::Relaxed) {
                break;
            }
            closing = close;
            let expired = self.joiner.next_expiry().is_some_and(|at| at <= (self.options.clock)());
            if !group.is_empty() || expired {
                self.last_commit = Some(Instant::now());
                self.commit_group(group);
            }
            self.tend();
        }
        if closing.is_some() {
            self.checkpoint();
        } else if let Some(connection) = &self.connection {
            _ = connection.execute_batch("PRAGMA disable_checkpoint_on_shutdown");
        }
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
        expiry.unwrap_or(Duration::MAX).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }

    /// Collects a group: what is queued, and what comes until the next commit may begin.
    fn gather(
        &self,
        first: Option<Order>,
        orders: &Receiver<Order>,
    ) -> (Vec<Waiting>, Option<oneshot::Sender<()>>) {
        let mut group = Vec::new();
        let mut bytes = 0usize;
        let due = self.last_commit.map(|at| at + self.options.group_wait);
        let mut next = first;
        loop {
            match next.take() {
                Some(Order::Close(closed)) => return (group, Some(closed)),
                Some(Order::Commit(waiting)) => {
                    bytes = bytes.saturating_add(waiting.batch.bytes);
                    group.push(*waiting);
                }
                None => return (group, None),
            }
            if bytes >= self.options.group_bytes {
                return (group, None);
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

    /// One transaction. After an error nothing of it remains, in the database or here.
    fn transact(&mut self, batches: &[Sealed]) -> Result<Committed, StoreError> {
        let result = self.try_transact(batches);
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
        }
        result
    }

    fn try_transact(&mut self, batches: &[Sealed]) -> Result<Committed, StoreError> {
        let telemetry = batches.iter().any(|b| b.batch.bytes > 0);
        if telemetry {
            self.room.admit()?;
        }
        let stamp = (self.options.clock)().max(self.stamp.plus(1));
        let connection = self.connection.as_ref().ok_or(StoreError::Closed)?;
        if self.tables.advance(connection, stamp)? {
            self.explained.clear();
            self.room.checkpoint_soon();
        }
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
        sealed::append(connection, &self.tables, batches, &extra, stamp)?;
        sealed::append(connection, &self.tables, &joined, &Extra::default(), stamp)?;
        let marked = batches.iter().flat_map(|b| &b.batch.marks);
        let gone = batches.iter().flat_map(|b| &b.batch.forget);
        let marked = marked.map(|m| (m.agent, m.segment, m.seq, false));
        marks::append(connection, marked.chain(gone.map(|&(a, s)| (a, s, 0, true))))?;
        let mut commits = connection.appender("commits")?;
        commits.append_row(params![stamp.as_i64(), self.joiner.next(), self.joiner.floor()])?;
        commits.flush()?;
        drop(commits);
        connection.execute_batch("COMMIT")?;
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
            match self.room.make_room(connection, &mut self.tables, self.stamp, now) {
                Ok(told) => events.extend(told),
                Err(error) => tracing::error!(%error, "old data could not be dropped"),
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
            connection.execute_batch("CHECKPOINT")?;
            Ok(folded)
        });
        match done {
            Ok(folded) => {
                if folded {
                    self.commits_since_fold = 0;
                }
                self.options.counters.add("checkpoints", 1);
            }
            Err(error) => {
                self.options.counters.add("checkpoints_failed", 1);
                tracing::warn!(%error, "checkpoint put off");
                if is_fatal(&error) {
                    self.reopen();
                }
            }
        }
        self.room.checkpointed();
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
        self.readers.close();
        self.connection = None;
        let opened = database::open(&self.dir, &self.options).and_then(|opened| {
            self.readers.reopen(opened.connection.try_clone()?);
            self.connection = Some(opened.connection);
            self.recall()?;
            Ok(opened.set_aside)
        });
        match opened {
            Ok(None) => {}
            Ok(Some((path, why))) => self.tell_damage(&path.to_string_lossy(), &why),
            Err(error) => tracing::error!(%error, "the database cannot be opened again"),
        }
    }

    /// Says, in the log and as an event, that a damaged file was moved away.
    pub fn tell_damage(&mut self, path: &str, why: &str) {
        tracing::error!(path, why, "the store was damaged: set aside, beginning an empty one");
        self.options.counters.add("store_damaged", 1);
        let event = EventRow {
            time: (self.options.clock)(),
            kind: EventKind::StoreDamaged,
            service: None,
            host: None,
            text: format!(
                "the store was damaged and set aside as {path}; earlier data are not shown"
            ),
            source: "colony".into(),
            attributes: [("file".into(), path.into()), ("error".into(), why.into())].into(),
        };
        let sealed = Sealed::new(Batch::of_events(vec![event])).map_err(sealed::arrow);
        if let Err(error) = sealed.and_then(|sealed| self.try_transact(&[sealed])) {
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

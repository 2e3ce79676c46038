//! The one thread that changes the database.
//!
//! It takes batches from a queue, groups what is there, and commits the group as one transaction:
//! rows, marks, joined edges, and what the edge join must remember. While one commit is under way
//! the next group gathers; after a pause the first batch waits for nothing. A group that fails is
//! tried again batch by batch, so that one batch too large for memory does not stop the others, and
//! what fails alone is reported to whoever sent it and never acknowledged.

mod care;
mod damage;
mod recall;
mod transact;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use coral_model::config::Retention;
use coral_model::time::Time;
use coral_model::view::EventRow;
use duckdb::Connection;
use hashbrown::HashSet;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::archive::Archive;
use super::board::Board;
use super::marks::Marks;
use super::options::Options;
use super::readers::Readers;
use super::room::Room;
use super::sealed::{self, Sealed};
use super::segment::Segment;
use super::{Batch, Committed, StoreError};
use crate::edges::Joiner;
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

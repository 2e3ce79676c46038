//! What the colony remembers, owned by this process: recent hours in one DuckDB file, older ones in
//! sealed Parquet files beside it.
//!
//! In: [`Batch`]es of decoded rows, each with the marks of the spool records it came from. Out:
//! [`Committed`] once rows *and* marks are in one durable transaction; read-only work on cloned
//! connections. One writer thread owns every change, so that nothing ever waits for a lock and the
//! order of commits is the order of their stamps. What does not belong here: what rows mean
//! ([`crate::query`]), how they travel ([`crate::intake`]).
//!
//! `docs/store.md` has the tables, the settings, and the measurements behind both.

pub(crate) mod additive;
mod archive;
mod batch;
mod board;
mod bulk;
mod coarse;
pub mod columns;
mod database;
mod error;
mod marks;
mod options;
pub mod packed;
mod readers;
mod reading;
mod retention;
mod rollup;
mod room;
mod rows;
pub mod schema;
mod seal;
mod sealed;
pub mod segment;
mod series;
mod sweep;
mod tables;
mod words;
mod writer;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};

use coral_model::config::Retention;
use coral_model::id::{AgentId, SegmentId};
use coral_model::time::{BUCKET, Time};
use duckdb::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

pub use batch::Batch;
pub use bulk::{Bulk, Desk};
pub use error::{StoreError, says_no_memory, says_no_room};
pub use options::{Clock, DiskProbe, DiskRoom, Fault, Options, Point};
pub use reading::Reading;
pub use rows::{
    ConnectionDelta, EdgeDelta, HalfEdge, HalfSeries, HostReading, InflightReading, Mark, Node,
    RedDelta, Resource,
};
pub(crate) use tables::text;

use crate::live::Live;
use board::Board;
use marks::Marks;
use readers::Readers;
use room::{Gauge, Room};
use writer::{Order, Shared, Waiting, Writer};

/// Bytes one permit of the pending budget stands for.
const PERMIT: usize = 1024;

/// A batch is durable and can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// `received_ns` of its rows; rises strictly from commit to commit.
    pub stamp: Time,
}

/// The store about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Bytes of data: in the file, as of the last checkpoint and without its free blocks, and in
    /// sealed files.
    pub used_bytes: u64,
    /// Bytes they may take.
    pub capacity_bytes: u64,
    /// Size of the file and its log on disk.
    pub file_bytes: u64,
    /// Sealed files.
    pub segments: usize,
    /// Their size.
    pub segment_bytes: u64,
    /// Tables that have ended and are not sealed yet.
    pub unsealed: usize,
    /// The disk is too full: nothing new is kept.
    pub disk_full: bool,
    /// Segments whose marks are kept.
    pub marks: usize,
    /// Bytes of records that wait for their commit.
    pub pending_bytes: usize,
    /// The file.
    pub path: PathBuf,
}

/// The telemetry store.
pub struct Store {
    dir: PathBuf,
    orders: Mutex<Option<Sender<Order>>>,
    budget: Arc<Semaphore>,
    budget_permits: usize,
    readers: Arc<Readers>,
    board: Arc<Board>,
    live: Arc<Live>,
    marks: Arc<RwLock<Marks>>,
    gauge: Arc<Gauge>,
    clock: Clock,
    abandoned: Arc<AtomicBool>,
}

/// A share of the budget for records that are decoded but not committed.
#[derive(Debug)]
pub struct Reserved(OwnedSemaphorePermit);

/// A batch on its way; resolves when it is committed or has failed.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Committed, StoreError>>);

impl Future for Pending {
    type Output = Result<Committed, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|told| told.unwrap_or(Err(StoreError::Closed)))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in `dir`, making both if need be, and starts its writer. Blocks.
    pub fn open(dir: &Path, options: Options) -> Result<Arc<Self>, StoreError> {
        let opened = database::open(dir, &options)?;
        let board = Arc::new(Board::default());
        let root = opened.connection.try_clone()?;
        let readers = Readers::new(root, Arc::clone(&board), options.readers, options.read_timeout);
        let live =
            Arc::new(Live::new(begin_of_live(&opened.connection, dir, &options)?, options.live));
        let marks = Arc::new(RwLock::new(Marks::default()));
        let gauge = Arc::new(Gauge::default());
        let used = room::used_bytes(&opened.connection)?;
        let room = Room::new(dir.to_owned(), options.clone(), Arc::clone(&gauge), used);
        let (orders, queue) = std::sync::mpsc::channel();
        let abandoned = Arc::new(AtomicBool::new(false));
        let mut writer = Writer::new(
            dir.to_owned(),
            options.clone(),
            opened.connection,
            room,
            Shared {
                readers: Arc::clone(&readers),
                board: Arc::clone(&board),
                live: Arc::clone(&live),
                marks: Arc::clone(&marks),
                abandoned: Arc::clone(&abandoned),
            },
        )?;
        if let Some((path, why)) = opened.set_aside {
            writer.tell_damage(&path.to_string_lossy(), &why);
        }
        opened.damaged.iter().for_each(|(segment, why)| writer.tell_segment(segment, why));
        std::thread::Builder::new()
            .name("coral-store".into())
            .spawn(move || writer.run(&queue))
            .map_err(|source| StoreError::Directory { path: dir.to_owned(), source })?;
        let budget_permits = (options.pending_bytes / PERMIT).max(1);
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            orders: Mutex::new(Some(orders)),
            budget: Arc::new(Semaphore::new(budget_permits)),
            budget_permits,
            readers,
            board,
            live,
            marks,
            gauge,
            clock: options.clock,
            abandoned,
        }))
    }

    /// Recent buckets in memory. The store feeds it, commit by commit.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The clock commits are stamped with.
    #[must_use]
    pub fn now(&self) -> Time {
        (self.clock)()
    }

    /// Waits until `bytes` of records may be decoded and wait for their commit. More than the whole
    /// budget waits for all of it.
    pub async fn reserve(&self, bytes: usize) -> Result<Reserved, StoreError> {
        let permits = (bytes / PERMIT + 1).min(self.budget_permits);
        let permits = coral_model::num::u32_sat(permits);
        let permit = Arc::clone(&self.budget).acquire_many_owned(permits).await;
        permit.map(Reserved).map_err(|_| StoreError::Closed)
    }

    /// Queues a batch. Batches of one segment must be queued in order.
    pub fn submit(&self, batch: Batch, reserved: Reserved) -> Result<Pending, StoreError> {
        let (reply, told) = oneshot::channel();
        let waiting = Waiting { batch, reply, permit: reserved.0 };
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = orders.as_ref().ok_or(StoreError::Closed)?;
        orders.send(Order::Commit(Box::new(waiting))).map_err(|_| StoreError::Closed)?;
        Ok(Pending(told))
    }

    /// Commits a batch.
    pub async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let reserved = self.reserve(batch.bytes).await?;
        self.submit(batch, reserved)?.await
    }

    /// Runs `look` on a connection of its own, on a blocking thread. Dropping the future interrupts
    /// it; so does the time limit ([`StoreError::TimedOut`]). Only read: changes are the writer's.
    pub async fn read<T, E, F>(&self, look: F) -> Result<T, E>
    where
        F: FnOnce(&Reading<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.readers.read(look).await
    }

    /// The committed mark of a segment.
    #[must_use]
    pub fn mark(&self, agent: AgentId, segment: SegmentId) -> Option<u64> {
        self.marks.read().unwrap_or_else(PoisonError::into_inner).get(agent, segment)
    }

    /// Every committed mark of an agent.
    #[must_use]
    pub fn marks(&self, agent: AgentId) -> Vec<(SegmentId, u64)> {
        self.marks.read().unwrap_or_else(PoisonError::into_inner).of(agent)
    }

    /// The store about itself.
    #[must_use]
    pub fn health(&self) -> Health {
        let path = self.dir.join(database::FILE);
        let size = |p: &Path| std::fs::metadata(p).map_or(0, |m| m.len());
        let log = size(&self.dir.join(database::LOG));
        let idle = self.budget.available_permits();
        let tables = self.board.now();
        Health {
            used_bytes: self.gauge.used.load(Ordering::Relaxed) + tables.sealed_bytes(),
            capacity_bytes: self.gauge.capacity.load(Ordering::Relaxed),
            file_bytes: size(&path) + log,
            segments: tables.segments().len(),
            segment_bytes: tables.sealed_bytes(),
            unsealed: tables.ended().filter(|(s, _)| *s != schema::Signal::HalfEdges).count(),
            disk_full: self.gauge.full.load(Ordering::Relaxed),
            marks: self.marks.read().unwrap_or_else(PoisonError::into_inner).len(),
            pending_bytes: self.budget_permits.saturating_sub(idle) * PERMIT,
            path,
        }
    }

    /// Keeps things this long from now on.
    pub fn retain(&self, retention: Retention) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        _ = orders.as_ref().map(|orders| orders.send(Order::Retain(retention)));
    }

    /// Looks at sealed files because a question failed with `error`, and sets aside those that are
    /// damaged. True: there were such, and the question may be asked again.
    pub async fn examine(&self, error: &str) -> bool {
        let tables = self.board.now();
        // DuckDB names the file where it can; what it could not decompress it does not.
        let named: Vec<_> =
            tables.segments().iter().filter(|s| error.contains(&s.file())).cloned().collect();
        let suspects = if named.is_empty() { tables.segments().to_vec() } else { named };
        let dir = self.dir.join(segment::DIR);
        let look = move || {
            let bad = |s: &segment::Segment| sweep::examine(&dir.join(s.file()), s).is_err();
            suspects.into_iter().filter(bad).collect::<Vec<_>>()
        };
        let Ok(suspects) = tokio::task::spawn_blocking(look).await else { return false };
        if suspects.is_empty() {
            return false;
        }
        let (reply, told) = oneshot::channel();
        {
            let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
            let sent = orders.as_ref().map(|o| o.send(Order::Examine(suspects, reply)));
            if !matches!(sent, Some(Ok(()))) {
                return false;
            }
        }
        told.await.is_ok_and(|bad| bad > 0)
    }

    /// Commits what is queued, checkpoints, and lets go of the file. Later calls find it closed.
    pub async fn close(&self) {
        let (closed, told) = oneshot::channel();
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(orders) = orders
            && orders.send(Order::Close(closed)).is_ok()
        {
            _ = told.await;
        }
    }
}

/// Live memory begins empty, so no bucket that it speaks for may have rows in the store: not the one
/// the last daemon ended in, nor those of hosts whose clocks are ahead. A clock that is further ahead
/// than an hour is wrong and does not count.
fn begin_of_live(
    connection: &Connection,
    dir: &Path,
    options: &Options,
) -> Result<Time, StoreError> {
    let now = (options.clock)();
    let tables = tables::Tables::load(connection, dir)?;
    let mut begin = now;
    for signal in [schema::Signal::Red, schema::Signal::Edges] {
        let (from, to) = (now.align(BUCKET), now.plus(schema::HOUR));
        let sql = format!(
            "SELECT max(bucket_ns) FROM {} WHERE bucket_ns >= {} AND bucket_ns < {}",
            tables.relation(signal, from, to, BUCKET),
            from.as_i64(),
            to.as_i64()
        );
        let newest: Option<i64> = connection.query_row(&sql, [], |row| row.get(0))?;
        begin = begin.max(newest.map_or(now, |ns| Time::from_i64(ns).plus(BUCKET)));
    }
    Ok(begin)
}

/// A store that is dropped without [`Store::close`] ends as after a crash: what is queued is not
/// committed, the log stays as it is.
impl Drop for Store {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod tests;

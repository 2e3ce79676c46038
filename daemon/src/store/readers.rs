//! Reading: a bounded number of cloned connections, each question on a blocking thread.
//!
//! A question whose asker went away, or that takes too long, is interrupted; the connection it used
//! goes back only once it is done with it, so that an interrupt never hits somebody else.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use duckdb::{Connection, InterruptHandle};
use tokio::sync::Semaphore;

use super::board::Board;
use super::{Reading, StoreError};

/// Connections to read with.
pub struct Readers {
    board: Arc<Board>,
    seats: Arc<Semaphore>,
    timeout: Duration,
    idle: Mutex<Idle>,
    returned: Condvar,
}

struct Idle {
    /// What others are cloned from; `None` while the database is closed.
    root: Option<Connection>,
    free: Vec<Connection>,
    /// Handed out and not returned.
    running: Vec<(u64, Arc<InterruptHandle>)>,
    next: u64,
}

/// Interrupts a question unless it is done.
struct Watch {
    handle: Arc<InterruptHandle>,
    done: Arc<Mutex<bool>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if !*done {
            self.handle.interrupt();
        }
    }
}

/// A connection on loan; comes back when dropped, whatever happened.
struct Loan {
    readers: Arc<Readers>,
    number: u64,
    connection: Option<Connection>,
    /// It is inside a transaction.
    begun: bool,
    done: Arc<Mutex<bool>>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let mut idle = self.readers.lock();
        idle.running.retain(|(number, _)| *number != self.number);
        // A transaction that cannot be ended goes with its connection.
        let ended = |c: &Connection| c.execute_batch("ROLLBACK").is_ok();
        let connection = self.connection.take().filter(|c| !self.begun || ended(c));
        if idle.root.is_some() && !std::thread::panicking() {
            idle.free.extend(connection);
        }
        drop(idle);
        self.readers.returned.notify_all();
    }
}

impl Readers {
    /// `seats` questions at once, each at most `timeout` long.
    pub fn new(root: Connection, board: Arc<Board>, seats: usize, timeout: Duration) -> Arc<Self> {
        let idle = Idle { root: Some(root), free: Vec::new(), running: Vec::new(), next: 0 };
        Arc::new(Self {
            board,
            seats: Arc::new(Semaphore::new(seats.max(1))),
            timeout,
            idle: Mutex::new(idle),
            returned: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lend(self: &Arc<Self>) -> Result<(Loan, Watch), StoreError> {
        let mut idle = self.lock();
        let connection = match idle.free.pop() {
            Some(connection) => connection,
            None => idle.root.as_ref().ok_or(StoreError::Closed)?.try_clone()?,
        };
        let done = Arc::new(Mutex::new(false));
        let handle = connection.interrupt_handle();
        let number = idle.next;
        idle.next += 1;
        idle.running.push((number, Arc::clone(&handle)));
        let watch = Watch { handle, done: Arc::clone(&done) };
        let readers = Arc::clone(self);
        let loan = Loan { readers, number, connection: Some(connection), begun: false, done };
        Ok((loan, watch))
    }

    /// Runs `look` on a connection of its own.
    pub async fn read<T, E, F>(self: &Arc<Self>, look: F) -> Result<T, E>
    where
        F: FnOnce(&Reading<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let seat = Arc::clone(&self.seats).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (loan, watch) = self.lend()?;
        let work = tokio::task::spawn_blocking(move || {
            let _seat = seat;
            let mut loan = loan;
            let Some(connection) = &loan.connection else { return Err(StoreError::Closed.into()) };
            let tables = loan.readers.board.begin(connection)?;
            loan.begun = true;
            look(&Reading::new(connection, tables))
        });
        let answer = tokio::time::timeout(self.timeout, work).await;
        drop(watch);
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StoreError::Closed.into()),
            Err(_) => Err(StoreError::TimedOut(self.timeout.as_secs()).into()),
        }
    }

    /// The number the next reader gets: all that have it or a higher one begin from now on.
    pub fn next(&self) -> u64 {
        self.lock().next
    }

    /// Whether every reader with a number below `number` is done.
    pub fn done_before(&self, number: u64) -> bool {
        self.lock().running.iter().all(|(running, _)| *running >= number)
    }

    /// Interrupts every question that runs.
    pub fn interrupt(&self) {
        self.lock().running.iter().for_each(|(_, handle)| handle.interrupt());
    }

    /// Takes every connection back, interrupting what runs; nothing can be read until
    /// [`Readers::reopen`]. Gives up waiting for a question that ignores its interrupt.
    pub fn close(&self) {
        let mut idle = self.lock();
        idle.root = None;
        idle.free.clear();
        for _ in 0..100 {
            if idle.running.is_empty() {
                return;
            }
            idle.running.iter().for_each(|(_, handle)| handle.interrupt());
            let wait = self.returned.wait_timeout(idle, Duration::from_millis(100));
            idle = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Reads from another connection from now on.
    pub fn reopen(&self, root: Connection) {
        self.lock().root = Some(root);
    }
}

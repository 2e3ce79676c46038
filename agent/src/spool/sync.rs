//! Makes writes durable in groups: one `fdatasync` serves everybody who wrote before it.
//!
//! With [`Durability::Process`] the thread syncs once a second when there is something new; with
//! [`Durability::Power`] a [`Ticket`] waits for the sync that follows its write, and while one sync
//! runs the next group gathers.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Durability;
use crate::counters::Counters;

/// Longest time between a write and its sync.
const GROUP: Duration = Duration::from_secs(1);

/// Ready when a record is as safe as was asked for.
#[derive(Debug)]
pub struct Ticket(Option<oneshot::Receiver<()>>);

impl Ticket {
    /// Waits. `false`: the sync failed, the record may not survive a power loss.
    pub async fn ready(self) -> bool {
        match self.0 {
            None => true,
            Some(receiver) => receiver.await.is_ok(),
        }
    }
}

#[derive(Default)]
struct State {
    /// Files written to since they were last synced, oldest first; the last one is active.
    files: Vec<Arc<File>>,
    dirty: bool,
    written: u64,
    waiting: Vec<oneshot::Sender<()>>,
    /// Somebody waits for a sync.
    urgent: bool,
    synced_rounds: u64,
    stop: bool,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    done: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(super) fn start(counters: Arc<Counters>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            done: Condvar::new(),
        });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("spool-sync".into())
            .spawn(move || run(&theirs, &counters))
            .inspect_err(|error| tracing::error!(%error, "no thread to sync the spool"))
            .ok();
        Self { shared, thread }
    }

    /// A new active file.
    pub(super) fn opened(&self, file: Arc<File>) {
        self.shared.lock().files.push(file);
    }

    /// A record was written to the active file.
    pub(super) fn written(&self, seq: u64, durability: Durability) -> Ticket {
        let mut state = self.shared.lock();
        state.dirty = true;
        state.written = seq;
        if durability == Durability::Process {
            return Ticket(None);
        }
        let (sender, receiver) = oneshot::channel();
        state.waiting.push(sender);
        state.urgent = true;
        drop(state);
        self.shared.wake.notify_one();
        Ticket(Some(receiver))
    }

    /// Returns when everything written before the call is synced.
    pub(super) fn sync_now(&self) {
        let mut state = self.shared.lock();
        // A round under way may have begun before the last write: wait for the one after it.
        let target = state.synced_rounds + 2;
        while state.synced_rounds < target && !state.stop && self.thread.is_some() {
            state.urgent = true;
            state.dirty = true;
            self.shared.wake.notify_one();
            let waited = self.shared.done.wait_timeout(state, GROUP);
            state = waited.map_or_else(|e| e.into_inner().0, |(guard, _)| guard);
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn run(shared: &Shared, counters: &Counters) {
    loop {
        let mut state = shared.lock();
        if !state.urgent && !state.stop {
            let waited = shared.wake.wait_timeout_while(state, GROUP, |s| !s.urgent && !s.stop);
            state = waited.map_or_else(|e| e.into_inner().0, |(guard, _)| guard);
        }
        let stop = state.stop;
        let files = if std::mem::take(&mut state.dirty) { state.files.clone() } else { Vec::new() };
        let sealed = state.files.len().saturating_sub(1);
        let waiting = std::mem::take(&mut state.waiting);
        state.urgent = false;
        drop(state);
        let mut failed = false;
        for file in &files {
            if let Err(error) = file.sync_data() {
                tracing::error!(%error, "cannot sync the spool: a power loss now may lose records");
                counters.spool_errors.add(1);
                failed = true;
            }
        }
        if !failed {
            for waiter in waiting {
                // Who no longer waits needs no answer.
                _ = waiter.send(());
            }
        }
        let mut state = shared.lock();
        if !files.is_empty() {
            // Sealed files are synced for good; the one that was active may be written to again.
            state.files.drain(..sealed.min(files.len()));
        }
        state.synced_rounds += 1;
        shared.done.notify_all();
        if stop {
            return;
        }
    }
}

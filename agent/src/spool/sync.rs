//! Makes writes durable in groups: one `fdatasync` serves everybody who wrote before it.
//!
//! With [`Durability::Process`] the thread syncs once a second when there is something new; with
//! [`Durability::Power`] a [`Ticket`] waits for the sync that follows its write, and while one sync
//! runs the next group gathers.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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

/// When to sync: a state machine without file or clock.
#[derive(Debug, Default)]
struct Group {
    /// When the oldest write was made that no sync has begun for.
    since: Option<Duration>,
    /// Somebody waits for a sync.
    urgent: bool,
}

impl Group {
    /// Something was written. True when it is the first since the last sync began.
    fn written(&mut self, now: Duration) -> bool {
        let first = self.since.is_none();
        self.since.get_or_insert(now);
        first
    }

    /// How long to wait before a sync begins; `None`: nothing was written.
    fn pause(&self, now: Duration) -> Option<Duration> {
        let due = self.since?.saturating_add(GROUP);
        Some(if self.urgent { Duration::ZERO } else { due.saturating_sub(now) })
    }

    /// A sync begins, for everything written so far.
    fn begin(&mut self) {
        *self = Self::default();
    }
}

#[derive(Default)]
struct State {
    /// Files written to since they were last synced, oldest first; the last one is active.
    files: Vec<Arc<File>>,
    group: Group,
    waiting: Vec<oneshot::Sender<()>>,
    synced_rounds: u64,
    stop: bool,
}

struct Shared {
    began: Instant,
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
            began: Instant::now(),
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
    pub(super) fn written(&self, durability: Durability) -> Ticket {
        let mut state = self.shared.lock();
        let first = state.group.written(self.shared.began.elapsed());
        if durability == Durability::Process {
            drop(state);
            if first {
                self.shared.wake.notify_one();
            }
            return Ticket(None);
        }
        let (sender, receiver) = oneshot::channel();
        state.waiting.push(sender);
        state.group.urgent = true;
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
            state.group.written(self.shared.began.elapsed());
            state.group.urgent = true;
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
        while !state.stop {
            let waited = match state.group.pause(shared.began.elapsed()) {
                None => shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(pause) => {
                    let waited = shared.wake.wait_timeout(state, pause);
                    waited.map_or_else(|e| e.into_inner().0, |(guard, _)| guard)
                }
            };
            state = waited;
        }
        let stop = state.stop;
        let files = if state.group.since.is_some() { state.files.clone() } else { Vec::new() };
        state.group.begin();
        let sealed = state.files.len().saturating_sub(1);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        let mut failed = false;
        for file in &files {
            if let Err(error) = file.sync_data() {
                tracing::error!(%error, "cannot sync the spool: a power loss now may lose records");
                counters.spool_errors.add(1);
                failed = true;
            }
        }
        counters.spool_syncs.add(u64::from(!files.is_empty()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// Plays writes at those milliseconds; a sync takes `sync` of them. Returns for every write how
    /// long it waited for its sync to begin, and how many syncs there were.
    fn play(writes: &[u32], sync: u32) -> (Vec<Duration>, usize) {
        let mut group = Group::default();
        let (mut open, mut waited) = (Vec::new(), Vec::new());
        let (mut busy_until, mut syncs) = (0, 0);
        let end = writes.iter().max().map_or(0, |last| last + 10_000);
        for now in 0..end {
            for _ in writes.iter().filter(|at| **at == now) {
                group.written(MILLI * now);
                open.push(MILLI * now);
            }
            if now >= busy_until && group.pause(MILLI * now) == Some(Duration::ZERO) {
                group.begin();
                waited.extend(open.drain(..).map(|at| MILLI * now - at));
                busy_until = now + sync;
                syncs += 1;
            }
        }
        assert!(open.is_empty(), "some were never synced");
        (waited, syncs)
    }

    proptest! {
        #[test]
        fn every_write_is_synced_within_a_second_of_a_free_disk(
            writes in prop::collection::vec(0u32..5_000, 0..60), sync in 0u32..1_000
        ) {
            let (waited, syncs) = play(&writes, sync);
            prop_assert_eq!(waited.len(), writes.len());
            prop_assert!(waited.iter().all(|w| *w <= GROUP));
            prop_assert!(syncs <= 7, "{} syncs in six seconds: writes share them", syncs);
        }
    }

    #[test]
    fn nothing_written_is_nothing_synced_and_a_waiter_does_not_wait() {
        let mut group = Group::default();
        assert_eq!(group.pause(MILLI * 9_000), None);
        group.written(MILLI * 9_000);
        assert_eq!(group.pause(MILLI * 9_400), Some(MILLI * 600));
        group.urgent = true;
        assert_eq!(group.pause(MILLI * 9_400), Some(Duration::ZERO));
        group.begin();
        assert_eq!(group.pause(MILLI * 20_000), None);
    }

    #[test]
    fn one_sync_serves_everybody_who_wrote_before_it() {
        let counters = Arc::new(Counters::default());
        let syncer = Syncer::start(counters.clone());
        let file = tempfile::tempfile().unwrap();
        syncer.opened(Arc::new(file));
        for _ in 0..1_000 {
            syncer.written(Durability::Process);
        }
        while counters.spool_syncs.get() == 0 {
            std::thread::yield_now();
        }
        drop(syncer);
        let syncs = counters.spool_syncs.get();
        assert!(syncs <= 100, "{syncs} syncs for a thousand writes");
        assert_eq!(counters.spool_errors.get(), 0);
    }
}

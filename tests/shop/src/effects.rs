//! Makes a switched-on fault happen inside a service: waiting, failing, hanging, spinning, leaking, crashing.
//!
//! In comes the [`FaultSet`] from the supervisor, whole, at each change. Handlers ask at two places: before
//! their work ([`Effects::before`]) and after their child calls ([`Effects::after`]). A hang lies in the second,
//! so that the children of a request that is never answered have finished and were exported.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::logs::Severity;
use tokio::sync::watch;

use crate::dice::Dice;
use crate::failure::Failure;
use crate::fault::FaultSet;
use crate::serving::Hung;
use crate::telemetry::{self, Telemetry};

const LEAK_STEP_MB: u64 = 6;
const LEAK_EVERY: Duration = Duration::from_millis(250);
/// More requests than these are not kept hanging, but fail: the demo must stay bounded.
const HUNG_CAP: u64 = 20_000;

/// What is broken in this process now.
pub struct Effects {
    faults: watch::Sender<FaultSet>,
    dice: Dice,
    hung: AtomicU64,
    error: &'static str,
}

impl Effects {
    /// `error` is what the service says when it is told to fail.
    pub fn new(faults: FaultSet, seed: u64, error: &'static str) -> Self {
        Self {
            faults: watch::Sender::new(faults),
            dice: Dice::new(seed),
            hung: AtomicU64::new(0),
            error,
        }
    }

    pub fn set(&self, faults: FaultSet) {
        self.faults.send_replace(faults);
    }

    pub fn now(&self) -> FaultSet {
        self.faults.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<FaultSet> {
        self.faults.subscribe()
    }

    /// Called first in each handler.
    pub async fn before(&self) {
        let ms = self.now().latency_ms;
        if ms > 0 {
            // A tenth more or less, as real slowness has.
            let tenth = ms / 10;
            let wait = self.dice.between(ms.saturating_sub(tenth), ms.saturating_add(tenth));
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// Called in each handler when its child calls are done.
    ///
    /// # Errors
    /// The failure that was asked for.
    pub async fn after(self: &Arc<Self>) -> Result<(), Failure> {
        let now = self.now();
        if self.dice.hits(now.hang_percent) {
            return Err(self.hang().await);
        }
        if self.dice.hits(now.errors_percent) {
            return Err(Failure::internal("ProcessorUnavailable", self.error));
        }
        Ok(())
    }

    /// Never answers, until the fault is healed. The request outlives its client: it stays open and active.
    async fn hang(self: &Arc<Self>) -> Failure {
        let cx = Context::current();
        if self.hung.fetch_add(1, Ordering::Relaxed) >= HUNG_CAP {
            self.hung.fetch_sub(1, Ordering::Relaxed);
            return Failure::internal("TooManyHung", "too many requests hang already");
        }
        let hung = cx.get::<Arc<Hung>>().cloned().unwrap_or_default();
        hung.begin();
        let mut faults = self.watch();
        let me = Arc::clone(self);
        let held = tokio::spawn(async move {
            let _ = faults.wait_for(|now| now.hang_percent == 0).await;
            me.hung.fetch_sub(1, Ordering::Relaxed);
            hung.release();
        });
        let _ = held.await;
        Failure::unavailable("Released", "the request hung until the fault was healed")
    }

    /// Owns what a fault runs in the background; ends when the effects are gone.
    pub async fn run(self: Arc<Self>, telemetry: Telemetry) {
        let mut faults = self.watch();
        let generation = Arc::new(AtomicU64::new(0));
        let mut held: Vec<Vec<u8>> = Vec::new();
        let mut last = FaultSet::default();
        let mut tick = tokio::time::interval(LEAK_EVERY);
        let mut crash: Option<tokio::task::JoinHandle<()>> = None;
        loop {
            let now = faults.borrow_and_update().clone();
            if now.cpu_threads != last.cpu_threads {
                let this = generation.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
                for _ in 0..now.cpu_threads {
                    let generation = Arc::clone(&generation);
                    std::thread::spawn(move || spin(&generation, this));
                }
                if now.cpu_threads > 0 {
                    telemetry::warn(
                        "price index rebuild started",
                        [("threads", u32::try_from(now.cpu_threads).unwrap_or(0).into())],
                    );
                }
            }
            if now.crash_after_ms != last.crash_after_ms {
                if let Some(task) = crash.take() {
                    task.abort();
                }
                crash = now.crash_after_ms.map(|ms| {
                    let telemetry = telemetry.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        abort(telemetry).await;
                    })
                });
            }
            let size = u64::try_from(held.len()).unwrap_or(u64::MAX).saturating_mul(LEAK_STEP_MB);
            if now.leak_mb == 0 && !held.is_empty() {
                held = Vec::new();
            } else if size.saturating_add(LEAK_STEP_MB) <= now.leak_mb {
                let bytes = usize::try_from(LEAK_STEP_MB << 20).unwrap_or(0);
                held.push(vec![1u8; bytes]);
            }
            last = now;
            tokio::select! {
                changed = faults.changed() => if changed.is_err() { return },
                _ = tick.tick(), if last.leak_mb > 0 => {}
            }
        }
    }
}

fn spin(generation: &AtomicU64, mine: u64) {
    let mut x = mine;
    while generation.load(Ordering::Relaxed) == mine {
        for _ in 0..10_000 {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

/// Ends the process as a failed assertion in C would; the last words are sent first.
async fn abort(telemetry: Telemetry) {
    telemetry::log(
        Severity::Fatal,
        "invariant violated: price index is empty, aborting",
        [("exception.type", "InvariantViolation".into())],
    );
    let _ = tokio::task::spawn_blocking(move || telemetry.flush()).await;
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    std::process::abort();
}

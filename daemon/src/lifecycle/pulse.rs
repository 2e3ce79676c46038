//! Once a second: what only time brings. Events that no batch tells of, agents to remember, whether
//! anybody still uses the colony.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coral_model::Time;

use super::{Activity, Ending, Why};
use crate::api::Backend;
use crate::counters::Counters;
use crate::detect::Detector;
use crate::registry::{Agents, Registry};

/// Beats between two times that everything connected is remembered.
const REMEMBER: u32 = 60;
const BEAT: Duration = Duration::from_secs(1);
/// Counts records that applications sent; while it rises the colony is used.
const RECORDS: &str = "records_told";

/// Everything the pulse looks at.
pub(super) struct Pulse {
    pub(super) agents: Arc<Agents>,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) detector: Arc<Mutex<Detector>>,
    pub(super) counters: Arc<Counters>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) activity: Arc<Activity>,
    pub(super) ending: Arc<Ending>,
    pub(super) leave_after: Duration,
    /// What is served is a file: nothing happens in it by itself.
    pub(super) of_file: bool,
}

impl Pulse {
    /// Beats until the end.
    pub(super) async fn run(self) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let started = Instant::now();
        let (mut records, mut beats) = (0, 0u32);
        loop {
            tokio::select! {
                () = self.ending.token().cancelled() => break,
                _ = beat.tick() => {}
            }
            let now = self.backend.now();
            if !self.of_file {
                self.tell(now, started).await;
            }
            beats = beats.wrapping_add(1);
            if beats.is_multiple_of(REMEMBER) {
                self.agents.refresh();
            }
            self.remember().await;
            let so_far = self.counters.get(RECORDS);
            if so_far != records {
                records = so_far;
                self.activity.touch(Instant::now());
            }
            if self.activity.over(Instant::now(), self.leave_after) {
                tracing::info!("unused for {:?}: leaving", self.leave_after);
                self.ending.begin(Why::Unused);
            }
        }
        self.agents.refresh();
        self.remember().await;
    }

    async fn tell(&self, now: Time, started: Instant) {
        let rows = self.agents.rows(now);
        let own = self.counters.snapshot();
        let events = {
            let mut detector = self.detector.lock().unwrap_or_else(PoisonError::into_inner);
            detector.tick(now, started.elapsed(), &rows, &own)
        };
        for event in events {
            tracing::info!("{}: {}", event.kind, event.text);
            if let Err(e) = self.backend.record(event).await {
                tracing::warn!("an event could not be kept: {e}");
                self.counters.add("events_lost", 1);
            }
        }
    }

    async fn remember(&self) {
        let changed = self.agents.take_unsaved();
        if changed.is_empty() {
            return;
        }
        let registry = Arc::clone(&self.registry);
        let saved = tokio::task::spawn_blocking(move || registry.remember(&changed)).await;
        match saved {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!("{e}"),
            Err(e) => tracing::warn!("the registry: {e}"),
        }
    }
}

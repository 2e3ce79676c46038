//! What happened, told from what arrived: services appearing and vanishing, deploys, restarts,
//! error bursts, new log patterns, agents lost, clocks jumping, bounds approached.
//!
//! In: every batch on its way to the store, and once a second the clock and the agents. Out:
//! [`EventRow`]s; those told from a batch are committed in its transaction. A plain state machine
//! without clock or IO, and bounded: what it forgets it would at worst announce again. Nothing here
//! explains anything; an event says what was seen, with the numbers.

mod agents;
mod batch;
mod bursts;
mod fold;
mod hosts;
mod patterns;
mod seed;
mod services;

use std::collections::BTreeMap;
use std::time::Duration;

use coral_model::time::{SECOND, Time};
use coral_model::view::{AgentRow, EventKind, EventRow};

use crate::store::Batch;

pub use seed::{Seed, SeenBucket, SeenInstance};

/// How far the wall clock may differ from the monotonic one between two ticks before it is a jump.
const CLOCK_JUMP: u64 = SECOND;

/// See the module.
#[derive(Debug, Default)]
pub struct Detector {
    services: services::Services,
    bursts: bursts::Bursts,
    agents: agents::Watched,
    hosts: hosts::Filling,
    patterns: patterns::Patterns,
    resources: batch::Known,
    last_tick: Option<(Time, Duration)>,
}

impl Detector {
    /// A detector that knows what an earlier life of the colony had seen.
    #[must_use]
    pub fn with(seed: Seed, now: Time) -> Self {
        let mut detector = Self::default();
        detector.services.seed(&seed.instances, now);
        detector.bursts.seed(&seed.buckets, now);
        detector.agents.seed(seed.agents, now);
        detector
    }

    /// How many services were heard of since then.
    #[must_use]
    pub fn services_since(&self, time: Time) -> usize {
        let unreported = self.resources.unreported(time).filter(|s| !self.services.knows(s, time));
        self.services.since(time) + unreported.count()
    }

    /// Services, instances and versions forgotten because there were too many: what is told of them
    /// next may have been told before.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.services.forgotten.saturating_add(self.bursts.forgotten)
    }

    /// Log records that were not looked at for new patterns, because there were too many.
    #[must_use]
    pub fn unmined(&self) -> u64 {
        self.patterns.skipped.saturating_add(self.patterns.unheard)
    }

    /// A batch arrived. Its events belong into the same transaction.
    pub fn observe(&mut self, batch: &Batch, now: Time) -> Vec<EventRow> {
        let mut events = Vec::new();
        self.resources.each(batch, now, &mut |sighting| {
            self.services.saw(sighting, now, &mut events);
        });
        for told in batch.events.iter().filter(|e| e.kind == EventKind::Restart) {
            if let Some(service) = &told.service {
                self.services.told_restart(service, now);
            }
        }
        for delta in &batch.red {
            self.bursts.add(delta, now);
        }
        if !batch.red.is_empty() {
            self.bursts.judge(now, &mut events);
        }
        self.patterns.observe(&batch.logs, now, &mut events);
        for reading in &batch.hosts {
            self.hosts.saw(&reading.row, now, &mut events);
        }
        events
    }

    /// Time passed: `now` by the wall clock, `since_start` by the monotonic one.
    pub fn tick(
        &mut self,
        now: Time,
        since_start: Duration,
        agents: &[AgentRow],
        own: &BTreeMap<String, u64>,
    ) -> Vec<EventRow> {
        let mut events = Vec::new();
        let jumped = self.clock(now, since_start, &mut events);
        self.agents.tick(now, agents, own, jumped, &mut events);
        let watched = agents.iter().any(|a| a.state == coral_model::view::State::Active);
        self.services.tick(now, watched, &mut events);
        self.patterns.tick(now, &mut events);
        events
    }

    /// Whether the colony's own clock jumped since the previous tick.
    fn clock(&mut self, now: Time, since_start: Duration, events: &mut Vec<EventRow>) -> bool {
        let last = self.last_tick.replace((now, since_start));
        let Some((then, mono_then)) = last else { return false };
        let mono = coral_model::num::u64_sat(since_start.saturating_sub(mono_then).as_nanos());
        let expected = then.plus(mono);
        let off = now.0.abs_diff(expected.0);
        if off < CLOCK_JUMP {
            return false;
        }
        let sign = if now >= expected { '+' } else { '-' };
        let by = coral_model::text::duration(off);
        let text = format!("this colony's clock jumped by {sign}{by}");
        let by_ns = format!("{sign}{off}");
        events.push(event(now, EventKind::ClockJumped, text).with("by_ns", by_ns).row);
        true
    }
}

/// An event in the making.
struct Draft {
    row: EventRow,
}

fn event(time: Time, kind: EventKind, text: String) -> Draft {
    Draft {
        row: EventRow {
            time,
            kind,
            service: None,
            host: None,
            text,
            source: "colony".into(),
            attributes: BTreeMap::new(),
        },
    }
}

impl Draft {
    fn service(mut self, service: &str) -> Self {
        self.row.service = Some(service.to_owned());
        self.row.source = "spans".into();
        self
    }

    fn host(mut self, host: Option<&str>) -> Self {
        self.row.host = host.map(str::to_owned);
        self
    }

    fn with<T: std::fmt::Display>(mut self, key: &str, value: T) -> Self {
        self.row.attributes.insert(key.to_owned(), format!("{value}"));
        self
    }
}

#[cfg(test)]
mod tests;

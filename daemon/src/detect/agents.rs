//! Agents: connected, lost, clocks that jump, spools that fill, data turned away.

use std::collections::BTreeMap;

use coral_model::text;
use coral_model::time::{SECOND, Time};
use coral_model::view::{AgentRow, EventKind, EventRow, State};

use super::event;
use super::fold::Fold;
use crate::registry::is_loss;

/// An agent that comes back within this was never lost.
const LOST: u64 = 5 * SECOND;
/// Agents an earlier life knew have this long to connect again before they are lost.
const REJOIN: u64 = 60 * SECOND;
/// An earlier life's agents that were last seen longer before were lost already.
const RECENT: u64 = 600 * SECOND;
/// A clock that moves by this much against the colony's between two reports jumped.
const JUMP: u64 = 500_000_000;
/// How often the same agent's same trouble is told.
const FOLD: u64 = 60 * SECOND;
/// Share of a spool in use from which it is nearly full, and below which it is told again.
const NEAR: f64 = 0.8;
const CLEAR: f64 = 0.6;
/// Agents remembered; the registry bounds them long before.
const MAX_AGENTS: usize = 20_000;

#[derive(Debug, Default)]
struct Agent {
    joined: bool,
    /// Since when it has been stale.
    stale_since: Option<Time>,
    patience: u64,
    offset: Option<i64>,
    jumps: Fold,
    near: bool,
    /// When its spool's disk was full last.
    disk_full: Option<Time>,
    losses: Losses,
}

#[derive(Debug, Default)]
struct Losses {
    counts: Option<BTreeMap<String, u64>>,
    fold: Fold,
    by_name: BTreeMap<String, u64>,
}

/// Every agent, as it was at the previous tick.
#[derive(Debug, Default)]
pub(super) struct Watched {
    by_id: BTreeMap<String, Agent>,
    own: Losses,
}

impl Watched {
    pub(super) fn seed(&mut self, agents: Vec<(String, Time)>, now: Time) {
        for (id, last_seen) in agents {
            let joined = now.since(last_seen) < RECENT;
            let agent = Agent { joined, patience: REJOIN, ..Agent::default() };
            self.by_id.insert(id, agent);
        }
    }

    pub(super) fn tick(
        &mut self,
        now: Time,
        rows: &[AgentRow],
        own: &BTreeMap<String, u64>,
        colony_jumped: bool,
        events: &mut Vec<EventRow>,
    ) {
        for row in rows {
            if self.by_id.len() >= MAX_AGENTS && !self.by_id.contains_key(&row.agent) {
                self.by_id.clear();
            }
            let agent = self.by_id.entry(row.agent.clone()).or_default();
            agent.presence(row, now, events);
            if row.state == State::Active {
                agent.clock(row, now, colony_jumped, events);
                agent.spool(row, now, events);
                let on = Some(row.host.as_str());
                events.extend(agent.losses.tick(&row.counters, on, now));
            }
        }
        events.extend(self.own.tick(own, None, now));
    }
}

impl Agent {
    fn presence(&mut self, row: &AgentRow, now: Time, events: &mut Vec<EventRow>) {
        let tell = |kind, at, text| {
            let draft = event(at, kind, text).host(Some(&row.host));
            draft.with("agent", &row.agent).with("build", &row.build).row
        };
        if row.state == State::Active {
            self.stale_since = None;
            self.patience = LOST;
            if !std::mem::replace(&mut self.joined, true) {
                let text = format!("the agent on {} connected", row.host);
                events.push(tell(EventKind::AgentConnected, row.since, text));
            }
            return;
        }
        let since = *self.stale_since.get_or_insert(now);
        if self.joined && now.since(since) >= self.patience {
            self.joined = false;
            let text = format!(
                "the agent on {} is lost, silent for {}",
                row.host,
                text::duration(now.since(row.last_seen))
            );
            events.push(tell(EventKind::AgentLost, row.last_seen, text));
        }
    }

    fn clock(&mut self, row: &AgentRow, now: Time, colony: bool, events: &mut Vec<EventRow>) {
        let Some(offset) = row.clock_offset_ns else { return };
        let Some(before) = self.offset.replace(offset) else { return };
        let by = offset.abs_diff(before);
        // When the colony's own clock jumped, everybody else's seems to have.
        if by < JUMP || colony || self.jumps.add(1, now, FOLD).is_none() {
            return;
        }
        let sign = if offset > before { '+' } else { '-' };
        let text = format!("the clock of {} jumped by {sign}{}", row.host, text::duration(by));
        let draft = event(now, EventKind::ClockJumped, text).host(Some(&row.host));
        events.push(draft.with("by_ns", format!("{sign}{by}")).with("offset_ns", offset).row);
    }

    fn spool(&mut self, row: &AgentRow, now: Time, events: &mut Vec<EventRow>) {
        // The agent cannot write this event itself: it has no room for it.
        let full = row.counters.get("spool_disk_full").is_some_and(|n| *n > 0);
        if full {
            // A disk that is filled and freed by the second is one event.
            let before = self.disk_full.replace(now);
            if before.is_none_or(|last| now.since(last) >= FOLD) {
                let text = format!(
                    "the disk of the agent's spool on {} is full: OTLP is refused until there is room",
                    row.host
                );
                let draft = event(now, EventKind::NearBound, text).host(Some(&row.host));
                events.push(draft.with("agent", &row.agent).row);
            }
        }
        if row.spool_capacity_bytes == 0 {
            return;
        }
        let used = coral_model::num::f64_from(row.spool_bytes)
            / coral_model::num::f64_from(row.spool_capacity_bytes);
        if used < CLEAR {
            self.near = false;
        }
        if used < NEAR || std::mem::replace(&mut self.near, true) {
            return;
        }
        let text = format!(
            "the spool of the agent on {} is {:.0} % full ({} of {})",
            row.host,
            used * 100.0,
            text::bytes(row.spool_bytes),
            text::bytes(row.spool_capacity_bytes)
        );
        let draft = event(now, EventKind::NearBound, text).host(Some(&row.host));
        events.push(draft.with("agent", &row.agent).with("used", format!("{used:.3}")).row);
    }
}

impl Losses {
    fn tick(
        &mut self,
        counters: &BTreeMap<String, u64>,
        host: Option<&str>,
        now: Time,
    ) -> Option<EventRow> {
        let counts: BTreeMap<_, _> = counters
            .iter()
            .filter(|(name, _)| is_loss(name))
            .map(|(name, n)| (name.clone(), *n))
            .collect();
        let mut more = 0u64;
        // What was lost before anybody looked is no news.
        if let Some(before) = self.counts.replace(counts.clone()) {
            for (name, n) in counts {
                let was = before.get(&name).copied().unwrap_or_default();
                // A counter that went back began anew with its process.
                let new = if n >= was { n - was } else { n };
                if new > 0 {
                    *self.by_name.entry(name).or_default() += new;
                    more += new;
                }
            }
        }
        let since = self.fold.since();
        let total = match more {
            0 => self.fold.due(now, FOLD),
            more => self.fold.add(more, now, FOLD),
        }?;
        let parts = std::mem::take(&mut self.by_name);
        let list: Vec<_> = parts.iter().map(|(name, n)| format!("{n} {name}")).collect();
        let who = host.map_or_else(|| "the colony".to_owned(), |h| format!("the agent on {h}"));
        let span = since
            .map_or_else(String::new, |since| format!(" in {}", text::duration(now.since(since))));
        let text = format!("{who} turned data away{span}: {}", list.join(", "));
        let mut draft = event(now, EventKind::Dropped, text).host(host).with("count", total);
        for (name, n) in parts {
            draft = draft.with(&name, n);
        }
        Some(draft.row)
    }
}

//! Agents and the colony itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::red::State;
use crate::time::Time;

/// Whether a sense works.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SenseState {
    /// It sees.
    On,
    /// It sees part of what it should.
    Partial,
    /// It does not.
    Off,
}

/// One of an agent's senses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sense {
    /// `otlp/grpc`, `host`, `process`, `ebpf` …
    pub name: String,
    /// Whether it works.
    pub state: SenseState,
    /// Particulars: the address it listens on, or why it is off.
    pub why: String,
    /// The one line that turns it on.
    pub remedy: Option<String>,
}

/// An agent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AgentRow {
    /// Its id.
    pub agent: String,
    /// Host it runs on.
    pub host: String,
    /// `host`, or what part of one it watches.
    pub scope: String,
    /// Connected, or stale.
    pub state: State,
    /// Since when.
    pub since: Time,
    /// Newest word from it.
    pub last_seen: Time,
    /// Its process.
    pub pid: u32,
    /// Its build.
    pub build: String,
    /// Senses.
    pub senses: Vec<Sense>,
    /// Bytes in its spool.
    pub spool_bytes: u64,
    /// The spool's bound.
    pub spool_capacity_bytes: u64,
    /// Age of the oldest record the colony has not acknowledged, in nanoseconds.
    pub lag_ns: u64,
    /// Its clock minus the colony's, in nanoseconds, by the shortest round trip.
    pub clock_offset_ns: Option<i64>,
    /// Its resident memory.
    pub rss_bytes: Option<u64>,
    /// Cores it uses.
    pub cpu: Option<f64>,
    /// Everything it counts, by name (`spans_received`, `spans_refused`, `dropped_*` …).
    pub counters: BTreeMap<String, u64>,
}

/// Whether an agent knows what is wanted of its eyes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It was told, and has acted on it; or nobody has said anything.
    Done,
    /// It was told, and has not said yet that it has acted on it.
    Told,
    /// It is not connected, or is still to come: it will be told then.
    Later,
    /// It is older than that and does not understand.
    TooOld,
}

/// An agent's eyes in the kernel (eBPF), and what is wanted of them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EyesRow {
    /// The agent; `None`: there is none, and this is what is wanted of the next one.
    pub agent: Option<String>,
    /// Its host; `None`: any.
    pub host: Option<String>,
    /// Connected, or stale; not observed where there is no agent.
    pub state: State,
    /// Whether they are open.
    pub open: Option<bool>,
    /// Open or closed since then, by the agent's clock.
    pub since: Option<Time>,
    /// Where they look; or why they are closed.
    pub why: Option<String>,
    /// The one line that opens them.
    pub remedy: Option<String>,
    /// Cores the agent uses, eyes and all.
    pub cpu: Option<f64>,
    /// Whether they shall be open.
    pub wanted: bool,
    /// Who said so; `None`: nobody has said anything.
    pub by: Option<String>,
    /// When that was said.
    pub said: Option<Time>,
    /// Whether the agent knows.
    pub told: Told,
}

/// The colony in one row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StatusRow {
    /// Its name.
    pub colony: String,
    /// Its build.
    pub build: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// Started at.
    pub since: Time,
    /// It stays until told to go (`coral up`), or leaves when unused.
    pub stays: bool,
    /// Its socket.
    pub socket: String,
    /// Where its data are.
    pub data_dir: String,
    /// Bytes of data on disk.
    pub data_bytes: u64,
    /// The bound on them.
    pub data_capacity_bytes: u64,
    /// Its log file.
    pub log_file: String,
    /// Services seen in the last 15 minutes.
    pub services: u32,
    /// Agents.
    pub agents: Vec<AgentRow>,
    /// Everything the colony counts, by name.
    pub counters: BTreeMap<String, u64>,
    /// What it cannot see, one sentence each, with the remedy.
    pub blind: Vec<String>,
}

/// Whether a counter of this name counts what Coral itself lost: dropped, evicted before its time,
/// damaged. What was refused is not lost, whoever sent it was told; and buckets that leave live
/// memory are in the store.
#[must_use]
pub fn is_loss(counter: &str) -> bool {
    let lost = |word| matches!(word, "dropped" | "lost" | "evicted" | "damaged" | "untracked");
    counter.split('_').any(lost) && !counter.starts_with("live_")
}

/// The counters that count losses and are not 0, by name.
pub fn losses(counters: &BTreeMap<String, u64>) -> impl Iterator<Item = (&str, u64)> {
    let some = counters.iter().filter(|(name, n)| **n > 0 && is_loss(name));
    some.map(|(name, n)| (name.as_str(), *n))
}

/// The sum of [`losses`].
#[must_use]
pub fn lost(counters: &BTreeMap<String, u64>) -> u64 {
    losses(counters).fold(0, |sum, (_, n)| sum.saturating_add(n))
}

/// What was turned away and told so: requests, connections, records that were not understood. What
/// a commit refuses is sent again, and is not counted.
#[must_use]
pub fn refused(counters: &BTreeMap<String, u64>) -> u64 {
    let turned = |name: &str| {
        let away = name.split('_').any(|word| matches!(word, "refused" | "rejected"));
        away && !name.starts_with("commits_")
    };
    let some = counters.iter().filter(|(name, _)| turned(name));
    some.fold(0, |sum, (_, n)| sum.saturating_add(*n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_counts_and_what_was_refused_does_not() {
        let counters: BTreeMap<String, u64> = [
            ("dropped_observations", 2),
            ("joiner_evicted", 3),
            ("events_lost", 0),
            ("requests_refused_busy", 5),
            ("live_buckets_evicted", 7),
            ("spans_received", 11),
        ]
        .into_iter()
        .map(|(name, n)| (name.to_owned(), n))
        .collect();
        assert_eq!(lost(&counters), 5);
        assert_eq!(refused(&counters), 5);
        let names: Vec<&str> = losses(&counters).map(|(name, _)| name).collect();
        assert_eq!(names, ["dropped_observations", "joiner_evicted"]);
    }
}

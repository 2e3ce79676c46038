//! The agents this colony knows: who is connected, what each last said about itself.
//!
//! A session is the unit: an agent that reconnects has a newer one, and the late end of the old one
//! changes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use coral_model::text::parts;
use coral_model::time::SECOND;
use coral_model::view::{AgentRow, EyesRow, Sense, SenseState, State};
use coral_model::{AgentId, Time};
use coral_proto::{PROTOCOL, PROTOCOL_OLDEST, v1};

use super::eyes::{self, CAPABILITY, Eye, Eyes, Following};
use super::{KnownAgent, Peer};

/// Agents beyond this are refused: a bound, far above what one colony serves.
const MAX_AGENTS: usize = 10_000;
/// A connected agent that says nothing for this long is stale: it reports about every second.
const SILENT: u64 = 10 * SECOND;
/// Agents not heard of for this long are no longer listed.
const FORGOTTEN: u64 = 24 * 3600 * SECOND;
/// Names an agent may count under, and senses it may have; the rest of a report is cut.
const MAX_NAMES: usize = 256;
/// Losses remembered per agent; the two oldest of a counter are added up beyond it.
const MAX_LOSSES: usize = 512;
/// Losses of one counter this close together are one.
const LOSS_STEP: u64 = 10 * SECOND;
/// Longest text taken over from an agent, in bytes.
const MAX_TEXT: usize = 512;
/// The same of why a sense is as it is: every hook that a kernel refused has its sentence there.
const MAX_WHY: usize = 2_048;

/// One session of one agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// The agent.
    pub agent: AgentId,
    number: u64,
}

#[derive(Debug)]
struct Agent {
    row: AgentRow,
    first_seen: Time,
    /// Number of the open session; `None` when there is none.
    session: Option<u64>,
    unsaved: bool,
    losses: VecDeque<Loss>,
    /// Its counters are known, so that a rise means something.
    reported: bool,
    eyes: Eye,
}

/// What an agent turned away between two of its reports.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Loss {
    at: Time,
    counter: String,
    count: u64,
}

#[derive(Debug, Default)]
struct Known {
    agents: BTreeMap<AgentId, Agent>,
    sessions: u64,
    /// What the colony itself could not read of what agents sent.
    unread: VecDeque<Loss>,
}

/// Every known agent. Cheap to ask and to tell; nothing here waits for a disk.
#[derive(Debug, Default)]
pub struct Agents {
    inner: Mutex<Known>,
    /// What is served was read from this file: it stands in for every agent.
    file: Option<String>,
    eyes: Eyes,
}

/// The file that is served, where agents would stand.
fn file_row(name: &str, now: Time) -> AgentRow {
    let known = KnownAgent {
        id: AgentId([0; 16]),
        host: name.to_owned(),
        scope: "file".to_owned(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        first_seen: now,
        last_seen: now,
    };
    AgentRow { pid: std::process::id(), ..known.row(now) }
}

impl Agents {
    /// For a colony that serves a file: whoever reads it in is nobody to speak of.
    #[must_use]
    pub fn of_file(name: &str) -> Self {
        Self { file: Some(name.to_owned()), ..Self::default() }
    }

    /// With those an earlier life of the colony knew; all stale until they connect.
    #[must_use]
    pub fn known(agents: impl IntoIterator<Item = KnownAgent>) -> Self {
        let agents = agents.into_iter().map(|known| {
            let row = AgentRow { state: State::Stale, ..known.row(known.last_seen) };
            let agent = Agent {
                row,
                first_seen: known.first_seen,
                session: None,
                unsaved: false,
                losses: VecDeque::new(),
                reported: false,
                eyes: Eye::default(),
            };
            (known.id, agent)
        });
        let agents = agents.collect();
        Self { inner: Mutex::new(Known { agents, ..Known::default() }), ..Self::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An agent introduces itself. `Err` is what to answer it with, as the session's last message.
    pub fn connected(
        &self,
        hello: &v1::AgentHello,
        peer: Peer,
        now: Time,
    ) -> Result<Session, v1::Refusal> {
        check_protocol("agent", hello.protocol, &hello.build)?;
        let id = AgentId::from_slice(&hello.agent_id).filter(|id| !id.is_zero());
        let id = id.ok_or_else(|| v1::Refusal {
            reason: format!("an agent id has 16 bytes, this one {}", hello.agent_id.len()),
            remedy: "delete `agent-id` in the agent's data folder and start it again".into(),
        })?;
        let mut state = self.lock();
        if state.agents.len() >= MAX_AGENTS && !state.agents.contains_key(&id) {
            return Err(v1::Refusal {
                reason: format!("this colony already knows {MAX_AGENTS} agents"),
                remedy: "start another colony for more".into(),
            });
        }
        state.sessions += 1;
        let number = state.sessions;
        let earlier = state.agents.remove(&id);
        let known = KnownAgent {
            id,
            host: text(&hello.host),
            scope: if hello.scope.is_empty() { "host".into() } else { text(&hello.scope) },
            build: text(&hello.build),
            first_seen: earlier.as_ref().map_or(now, |a| a.first_seen),
            last_seen: now,
        };
        let mut row = known.row(now);
        // The kernel knows better than the hello which process this is.
        row.pid = peer.pid.unwrap_or(hello.pid);
        let (mut losses, mut reported) = (VecDeque::new(), false);
        let understands = hello.capabilities.iter().any(|word| word == CAPABILITY);
        if let Some(earlier) = earlier {
            losses = earlier.losses;
            reported = earlier.reported;
            row.senses = earlier.row.senses;
            row.spool_capacity_bytes = earlier.row.spool_capacity_bytes;
            row.counters = earlier.row.counters;
        }
        let agent = Agent {
            row,
            first_seen: known.first_seen,
            session: Some(number),
            unsaved: true,
            losses,
            reported,
            // How they were before it was away is not how they are.
            eyes: Eye { understands, report: None },
        };
        state.agents.insert(id, agent);
        Ok(Session { agent: id, number })
    }

    /// Anything arrived on that session.
    pub fn seen(&self, session: &Session, now: Time) {
        self.of_session(session, |agent| agent.row.last_seen = agent.row.last_seen.max(now));
    }

    /// What an agent says about itself.
    pub fn report(&self, session: &Session, report: v1::AgentReport, now: Time) {
        self.of_session(session, |agent| {
            let row = &mut agent.row;
            row.last_seen = row.last_seen.max(now);
            row.spool_bytes = report.spool_bytes;
            row.spool_capacity_bytes = report.spool_capacity_bytes;
            row.lag_ns = report.lag_ns;
            row.clock_offset_ns = report.clock_offset_ns;
            row.rss_bytes = report.rss_bytes;
            row.cpu = report.cpu_cores.filter(|c| c.is_finite() && *c >= 0.0);
            let counters = report.counters.into_iter().take(MAX_NAMES);
            let counters: BTreeMap<_, _> = counters.map(|(name, n)| (text(&name), n)).collect();
            if agent.reported {
                let (old, losses) = (&row.counters, &mut agent.losses);
                note_losses(losses, old, &counters, now);
            }
            agent.reported = true;
            row.counters = counters;
            row.senses = report.senses.iter().take(MAX_NAMES).map(sense).collect();
            agent.eyes.report = report.eyes;
        });
    }

    /// The colony could not read `count` records of a kind (`spans`, `logs`, `metrics` or another
    /// word) and set them aside.
    pub fn unread(&self, kind: &str, count: u64, now: Time) {
        let counter = format!("{kind}_lost_unread");
        let old = BTreeMap::from([(counter.clone(), 0)]);
        let new = BTreeMap::from([(counter, count)]);
        note_losses(&mut self.lock().unread, &old, &new, now);
    }

    /// The session is over. Does nothing when the agent has opened a newer one meanwhile.
    pub fn lost(&self, session: &Session, now: Time) {
        self.of_session(session, |agent| {
            agent.session = None;
            agent.row.state = State::Stale;
            agent.row.since = now;
            agent.unsaved = true;
        });
    }

    fn of_session(&self, session: &Session, change: impl FnOnce(&mut Agent)) {
        let mut state = self.lock();
        let agent = state.agents.get_mut(&session.agent);
        if let Some(agent) = agent.filter(|a| a.session == Some(session.number)) {
            change(agent);
        }
    }

    /// Every agent as of `now`, those connected first, then by host.
    #[must_use]
    pub fn rows(&self, now: Time) -> Vec<AgentRow> {
        if let Some(name) = &self.file {
            return vec![file_row(name, now)];
        }
        self.listed(now).into_iter().map(|(row, _)| row).collect()
    }

    fn listed(&self, now: Time) -> Vec<(AgentRow, Eye)> {
        let state = self.lock();
        let known = state.agents.values().filter(|a| now.since(a.row.last_seen) < FORGOTTEN);
        let mut rows: Vec<(AgentRow, Eye)> = known
            .map(|agent| {
                let mut row = agent.row.clone();
                let talks = agent.session.is_some() && now.since(row.last_seen) < SILENT;
                row.state = if talks { State::Active } else { State::Stale };
                (row, agent.eyes.clone())
            })
            .collect();
        rows.sort_by(|(a, _), (b, _)| {
            let order = |r: &AgentRow| r.state != State::Active;
            (order(a), &a.host, &a.agent).cmp(&(order(b), &b.host, &b.agent))
        });
        rows
    }

    /// What is wanted of agents' eyes.
    #[must_use]
    pub fn eyes(&self) -> &Eyes {
        &self.eyes
    }

    /// What is wanted of the eyes of that session's agent; `None`: it does not understand.
    #[must_use]
    pub fn follow_eyes(&self, session: &Session) -> Option<Following> {
        let state = self.lock();
        let agent = state.agents.get(&session.agent)?;
        let tell = agent.session == Some(session.number) && agent.eyes.understands;
        tell.then(|| self.eyes.follow(&agent.row.host))
    }

    /// Every agent's eyes as of `now`, of one host or of all; where there is no agent, what the next one will
    /// be told, if somebody has said something.
    #[must_use]
    pub fn eyes_rows(&self, now: Time, host: Option<&str>) -> Vec<EyesRow> {
        if self.file.is_some() {
            return Vec::new();
        }
        let wishes = self.eyes.wishes();
        let asked = |of: &str| host.is_none_or(|host| host == of);
        let listed = self.listed(now);
        let here: Vec<_> = listed.iter().filter(|(row, _)| asked(&row.host)).collect();
        let mut rows: Vec<EyesRow> =
            here.iter().map(|(row, eye)| eye.row(row, wishes.of(&row.host))).collect();
        let empty = |of: &str| here.iter().all(|(row, _)| row.host != of);
        for (of, said) in wishes.hosts().filter(|(of, _)| asked(of) && empty(of)) {
            rows.push(eyes::next(Some(of), said));
        }
        if let Some(said) = wishes.everywhere().filter(|_| rows.is_empty()) {
            rows.push(eyes::next(host, said));
        }
        rows
    }

    /// Records of a signal (`spans`, `logs`, `metrics`) that any agent turned away, or the colony could
    /// not read, since `from`. Refusals that name no signal count for each.
    #[must_use]
    pub fn dropped_since(&self, from: Time, signal: &str) -> u64 {
        let stem = signal.trim_end_matches('s');
        let named = |counter: &str| ["span", "log", "metric"].iter().any(|s| counter.contains(s));
        let state = self.lock();
        let losses = state.agents.values().flat_map(|a| &a.losses).chain(&state.unread);
        let losses = losses.filter(|l| l.at >= from);
        losses
            .filter(|l| l.counter.contains(stem) || !named(&l.counter))
            .fold(0, |sum: u64, loss| sum.saturating_add(loss.count))
    }

    /// Marks everything connected as to be remembered, so that a crash forgets little.
    pub fn refresh(&self) {
        for agent in self.lock().agents.values_mut().filter(|a| a.session.is_some()) {
            agent.unsaved = true;
        }
    }

    /// Agents with an open session.
    #[must_use]
    pub fn connected_count(&self) -> usize {
        self.lock().agents.values().filter(|a| a.session.is_some()).count()
    }

    /// The process of the connected agent with that pid, if it is one.
    #[must_use]
    pub fn is_connected_pid(&self, pid: u32) -> bool {
        self.lock().agents.values().any(|a| a.session.is_some() && a.row.pid == pid)
    }

    /// What has changed since the previous call and belongs into the registry.
    #[must_use]
    pub fn take_unsaved(&self) -> Vec<KnownAgent> {
        let mut state = self.lock();
        let changed = state.agents.iter_mut().filter(|(_, a)| a.unsaved);
        changed
            .map(|(id, agent)| {
                agent.unsaved = false;
                KnownAgent {
                    id: *id,
                    host: agent.row.host.clone(),
                    scope: agent.row.scope.clone(),
                    build: agent.row.build.clone(),
                    first_seen: agent.first_seen,
                    last_seen: agent.row.last_seen,
                }
            })
            .collect()
    }
}

/// Whether a counter of that name counts telemetry that was turned away or lost.
#[must_use]
pub fn is_loss(name: &str) -> bool {
    let lost = ["dropped", "refused", "rejected", "lost"].iter().any(|word| name.contains(word));
    lost && !name.contains("connections") && !name.starts_with("commits")
}

fn note_losses(
    losses: &mut VecDeque<Loss>,
    old: &BTreeMap<String, u64>,
    new: &BTreeMap<String, u64>,
    now: Time,
) {
    for (name, &n) in new.iter().filter(|(name, _)| is_loss(name)) {
        let was = old.get(name).copied().unwrap_or_default();
        // A counter that went back began anew with its process.
        let count = if n >= was { n - was } else { n };
        if count == 0 {
            continue;
        }
        let same = losses.iter_mut().rev().find(|l| l.counter == *name);
        match same.filter(|l| now.since(l.at) < LOSS_STEP) {
            Some(loss) => loss.count = loss.count.saturating_add(count),
            None => losses.push_back(Loss { at: now, counter: name.clone(), count }),
        }
    }
    while losses.len() > MAX_LOSSES {
        let Some(oldest) = losses.pop_front() else { return };
        if let Some(next) = losses.iter_mut().find(|l| l.counter == oldest.counter) {
            next.count = next.count.saturating_add(oldest.count);
        }
    }
}

/// Whether a peer of that protocol version can be served; the refusal says which one to restart.
pub fn check_protocol(what: &str, protocol: u32, build: &str) -> Result<(), v1::Refusal> {
    if (PROTOCOL_OLDEST..=PROTOCOL).contains(&protocol) {
        return Ok(());
    }
    let ours = env!("CARGO_PKG_VERSION");
    let build = text(build);
    let (reason, remedy) = if protocol > PROTOCOL {
        (
            format!(
                "the {what} (build {build}) speaks protocol {protocol}, this colony \
                 (build {ours}) only up to {PROTOCOL}"
            ),
            "restart the colony: coral down && coral up".to_owned(),
        )
    } else {
        (
            format!(
                "the {what} (build {build}) speaks protocol {protocol}, this colony \
                 (build {ours}) needs {PROTOCOL_OLDEST} to {PROTOCOL}"
            ),
            format!("update and restart the {what}"),
        )
    };
    Err(v1::Refusal { reason, remedy })
}

fn text(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_TEXT);
    text.get(..end).unwrap_or_default().to_owned()
}

fn sense(report: &v1::SenseReport) -> Sense {
    let state = match report.state() {
        v1::SenseState::On => SenseState::On,
        v1::SenseState::Partial => SenseState::Partial,
        v1::SenseState::Off | v1::SenseState::Unspecified => SenseState::Off,
    };
    // What is cut says so: half a command is none.
    let why = parts(&report.why, MAX_WHY).into_owned();
    let remedy = report.remedy.as_deref().map(|remedy| parts(remedy, MAX_TEXT).into_owned());
    Sense { name: text(&report.name), state, why, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::eyes::{EYES_SENSE, Said};
    use coral_model::view::Told;

    fn hello(id: u8) -> v1::AgentHello {
        v1::AgentHello {
            protocol: PROTOCOL,
            agent_id: vec![id; 16],
            host: format!("web-{id}"),
            ..Default::default()
        }
    }

    const PEER: Peer = Peer { uid: 0, gid: 0, pid: Some(77) };

    fn at(seconds: u64) -> Time {
        Time(1_000_000 * SECOND).plus(seconds * SECOND)
    }

    #[test]
    fn a_late_end_of_an_old_session_changes_nothing() {
        let agents = Agents::default();
        let old = agents.connected(&hello(1), PEER, at(0)).unwrap();
        let new = agents.connected(&hello(1), PEER, at(1)).unwrap();
        agents.lost(&old, at(2));
        assert_eq!(agents.rows(at(2))[0].state, State::Active);
        agents.lost(&new, at(3));
        assert_eq!(agents.rows(at(3))[0].state, State::Stale);
        assert_eq!(agents.rows(at(3)).len(), 1);
    }

    #[test]
    fn a_silent_agent_is_stale_though_connected() {
        let agents = Agents::default();
        let session = agents.connected(&hello(1), PEER, at(0)).unwrap();
        assert_eq!(agents.rows(at(9))[0].state, State::Active);
        assert_eq!(agents.rows(at(10))[0].state, State::Stale);
        agents.report(&session, v1::AgentReport { spool_bytes: 5, ..Default::default() }, at(11));
        let row = agents.rows(at(12)).remove(0);
        assert_eq!((row.state, row.spool_bytes, row.pid), (State::Active, 5, 77));
    }

    #[test]
    fn an_incompatible_agent_learns_who_must_restart() {
        let agents = Agents::default();
        let newer = v1::AgentHello { protocol: PROTOCOL + 1, ..hello(1) };
        let refusal = agents.connected(&newer, PEER, at(0)).unwrap_err();
        assert!(refusal.remedy.contains("restart the colony"), "{refusal:?}");
        let older = v1::AgentHello { protocol: 0, ..hello(1) };
        let refusal = agents.connected(&older, PEER, at(0)).unwrap_err();
        assert!(refusal.remedy.contains("restart the agent"), "{refusal:?}");
        assert!(agents.rows(at(0)).is_empty());
    }

    #[test]
    fn what_changed_is_saved_once() {
        let agents = Agents::default();
        agents.connected(&hello(1), PEER, at(0)).unwrap();
        let saved = agents.take_unsaved();
        assert_eq!(saved.len(), 1);
        assert!(agents.take_unsaved().is_empty());
        let again = Agents::known(saved);
        let row = again.rows(at(5)).remove(0);
        assert_eq!((row.state, row.host.as_str()), (State::Stale, "web-1"));
    }

    #[test]
    fn what_was_turned_away_is_known_by_signal_and_time() {
        let agents = Agents::default();
        let session = agents.connected(&hello(1), PEER, at(0)).unwrap();
        let report = |second, spans, refused| {
            let counters = [("spans_rejected", spans), ("requests_refused_spool", refused)];
            let counters = counters.map(|(name, n)| (name.to_owned(), n)).into();
            let report = v1::AgentReport { counters, ..Default::default() };
            agents.report(&session, report, at(second));
        };
        report(1, 100, 100);
        assert_eq!(agents.dropped_since(at(0), "spans"), 0, "lost before anybody looked");
        report(2, 105, 101);
        report(60, 107, 101);
        assert_eq!(agents.dropped_since(at(0), "spans"), 8);
        assert_eq!(agents.dropped_since(at(30), "spans"), 2);
        assert_eq!(agents.dropped_since(at(0), "logs"), 1);
        // The agent was restarted.
        report(70, 3, 0);
        assert_eq!(agents.dropped_since(at(65), "spans"), 3);
        for second in (100..100_000).step_by(20) {
            report(second, second, 0);
        }
        let lock = agents.lock();
        assert!(lock.agents.values().all(|a| a.losses.len() <= MAX_LOSSES));
    }

    #[test]
    fn what_the_colony_cannot_read_counts_as_turned_away() {
        let agents = Agents::default();
        agents.unread("logs", 3, at(20));
        agents.unread("logs", 2, at(21));
        agents.unread("records", 1, at(60));
        assert_eq!(agents.dropped_since(at(0), "logs"), 6);
        assert_eq!(agents.dropped_since(at(40), "logs"), 1);
        assert_eq!(agents.dropped_since(at(0), "spans"), 1);
        for second in 100..10_000 {
            agents.unread(&format!("kind{second}"), 1, at(second));
        }
        assert!(agents.lock().unread.len() <= MAX_LOSSES);
    }

    /// An agent that reports its eyes so, as the answer to what was said then.
    fn eyes(agents: &Agents, id: u8, report: Option<(bool, u64)>) {
        let capabilities = report.iter().map(|_| CAPABILITY.to_owned()).collect();
        let hello = v1::AgentHello { capabilities, ..hello(id) };
        let session = agents.connected(&hello, PEER, at(0)).unwrap();
        let eyes =
            report.map(|(open, answers_ns)| v1::EyesReport { open, since_ns: at(0).0, answers_ns });
        let senses = vec![v1::SenseReport {
            name: EYES_SENSE.into(),
            state: v1::SenseState::On.into(),
            why: "process ends".into(),
            remedy: None,
        }];
        let cpu_cores = Some(0.02);
        let report = v1::AgentReport { eyes, senses, cpu_cores, ..Default::default() };
        agents.report(&session, report, at(1));
    }

    #[test]
    fn each_agents_eyes_are_told_with_what_is_wanted_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let registry = crate::registry::Control::open(&dir.path().join("control.db")).unwrap();
        let agents = Agents::default();
        let said = |open, at_ns| Said { open, at_ns, by: "user 1000".into() };
        assert!(agents.eyes_rows(at(1), None).is_empty(), "nobody, and nothing was said");
        agents.eyes().say(&registry, None, said(false, 5)).unwrap();
        let next = agents.eyes_rows(at(1), None).remove(0);
        assert_eq!((next.agent, next.host, next.wanted), (None, None, false));
        assert_eq!((next.state, next.told), (State::NotObserved, Told::Later));
        assert_eq!(agents.eyes_rows(at(1), Some("web-9"))[0].host.as_deref(), Some("web-9"));

        eyes(&agents, 1, Some((false, 5)));
        eyes(&agents, 2, Some((true, 0)));
        eyes(&agents, 3, None);
        let rows = agents.eyes_rows(at(1), None);
        let told: Vec<_> = rows.iter().map(|row| (row.open, row.wanted, row.told)).collect();
        let expected = [
            (Some(false), false, Told::Done),
            (Some(true), false, Told::Told),
            (Some(true), false, Told::TooOld),
        ];
        assert_eq!(told, expected);
        assert_eq!((rows[0].cpu, rows[0].since), (Some(0.02), Some(at(0))));
        assert_eq!((rows[0].by.as_deref(), rows[0].said), (Some("user 1000"), Some(Time(5))));
        // Of one host; and of a host without an agent.
        agents.eyes().say(&registry, Some("web-9"), said(false, 6)).unwrap();
        assert_eq!(agents.eyes_rows(at(1), Some("web-2")).len(), 1);
        assert_eq!(agents.eyes_rows(at(1), None).len(), 4);
        assert_eq!(agents.eyes_rows(at(1), Some("web-9"))[0].agent, None);
        // Who is gone says nothing of now.
        let gone = agents.eyes_rows(at(60), Some("web-1")).remove(0);
        assert_eq!((gone.open, gone.cpu, gone.told), (None, None, Told::Later));
    }

    #[test]
    fn a_wild_report_is_cut() {
        let agents = Agents::default();
        let session = agents.connected(&hello(1), PEER, at(0)).unwrap();
        let counters = (0..10_000).map(|n| (format!("{n}{}", "é".repeat(1000)), 1)).collect();
        let missing: Vec<String> = (0..100).map(|n| format!("hook{n}: refused so")).collect();
        let sense = |why: String| v1::SenseReport {
            name: "s".repeat(1000),
            state: v1::SenseState::Partial.into(),
            why,
            remedy: Some("make ".repeat(1000)),
        };
        let few = missing.iter().take(40).cloned().collect::<Vec<_>>().join(" · ");
        let many = missing.join(" · ").repeat(100);
        let senses = vec![sense(few.clone()), sense(many)];
        let cpu_cores = Some(f64::NAN);
        let report = v1::AgentReport { counters, senses, cpu_cores, ..Default::default() };
        agents.report(&session, report, at(1));
        let row = agents.rows(at(1)).remove(0);
        assert_eq!(row.senses[0].why, few, "as long as it must be");
        let why = &row.senses[1].why;
        assert!(why.len() <= MAX_WHY && why.contains("so · … and ") && why.ends_with(" more"));
        let remedy = row.senses[1].remedy.as_deref().unwrap();
        assert!(remedy.len() <= MAX_TEXT && remedy.ends_with('…'));
        assert!(row.senses.iter().all(|sense| sense.name.len() <= MAX_TEXT));
        assert!(row.counters.len() <= MAX_NAMES);
        assert!(row.counters.keys().all(|k| k.len() <= MAX_TEXT));
        assert_eq!(row.cpu, None);
    }
}

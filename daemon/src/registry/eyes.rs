//! What people want of agents' eyes in the kernel: open or closed, everywhere or on one host.
//!
//! In: what somebody says, at the API. Out: what an agent is to be told, for its session: at once, and to those that
//! connect later; and rows of how they are. It is kept in the registry before anybody is told, so that it outlives this
//! process.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use coral_model::Time;
use coral_model::view::{AgentRow, EyesRow, SenseState, State, Told};
use coral_proto::v1;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Registry, RegistryError};

/// What agent and colony say in their first messages where they know of eyes that open and close.
pub const CAPABILITY: &str = "eyes";
/// Hosts of which something else may be wanted than of the others.
const MAX_HOSTS: usize = 1_000;

/// The sense that tells of an agent's eyes.
pub(super) const EYES_SENSE: &str = "ebpf";

/// What somebody said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Said {
    /// Eyes shall be open, or closed.
    pub open: bool,
    /// When, Unix ns.
    pub at_ns: u64,
    /// Who, like `user 1000`.
    pub by: String,
}

/// Why it is not taken.
#[derive(Debug, thiserror::Error)]
pub enum EyesError {
    /// Too many hosts.
    #[error(
        "of {MAX_HOSTS} hosts something of their own is wanted already; \
         coral eyes on (or off) without --host forgets that"
    )]
    Hosts,
    /// It cannot be kept.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It cannot be written.
    #[error("what is wanted of agents' eyes cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// Everything that was said and still counts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Wishes {
    everywhere: Option<Said>,
    hosts: BTreeMap<String, Said>,
}

impl Wishes {
    /// What is wanted on a host; `None`: nobody has said anything, so eyes are open.
    #[must_use]
    pub fn of(&self, host: &str) -> Option<&Said> {
        self.hosts.get(host).or(self.everywhere.as_ref())
    }

    /// What is wanted where nothing else is.
    #[must_use]
    pub fn everywhere(&self) -> Option<&Said> {
        self.everywhere.as_ref()
    }

    /// Hosts of which something of their own is wanted. Open where nobody closed them everywhere is nothing of
    /// their own: it was said to take back that they close, or to open at once what an agent had closed itself.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, &Said)> {
        let open = self.everywhere.as_ref().is_none_or(|said| said.open);
        let all = self.hosts.iter().map(|(host, said)| (host.as_str(), said));
        all.filter(move |(_, said)| !(open && said.open))
    }

    /// Somebody says something of a host, or of all of them: that also replaces what was said of single ones.
    fn say(&mut self, host: Option<&str>, said: Said) -> Result<(), EyesError> {
        let Some(host) = host else {
            self.hosts.clear();
            self.everywhere = Some(said);
            return Ok(());
        };
        if self.hosts.len() >= MAX_HOSTS && !self.hosts.contains_key(host) {
            return Err(EyesError::Hosts);
        }
        self.hosts.insert(host.to_owned(), said);
        Ok(())
    }
}

/// Keeps what is wanted, and tells whoever follows it.
#[derive(Debug)]
pub struct Eyes {
    wishes: watch::Sender<Wishes>,
    /// Held while something is written, so that what is kept is what is told.
    turn: Mutex<()>,
}

impl Default for Eyes {
    fn default() -> Self {
        Self { wishes: watch::Sender::new(Wishes::default()), turn: Mutex::default() }
    }
}

impl Eyes {
    /// Name of the setting that keeps it, in the registry.
    pub const SETTING: &str = "eyes";

    /// Takes up what an earlier life of the colony kept.
    pub fn restore(&self, registry: &dyn Registry) -> Result<(), RegistryError> {
        let Some(text) = registry.setting(Self::SETTING)? else { return Ok(()) };
        match serde_json::from_str(&text) {
            Ok(wishes) => _ = self.wishes.send_replace(wishes),
            Err(error) => {
                tracing::error!(%error, "what is wanted of agents' eyes cannot be read: say it again with coral eyes");
            }
        }
        Ok(())
    }

    /// Somebody says something of the eyes on a host, or of all. Waits for a disk.
    pub fn say(
        &self,
        registry: &dyn Registry,
        host: Option<&str>,
        said: Said,
    ) -> Result<(), EyesError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wishes = self.wishes();
        wishes.say(host, said)?;
        registry.set(Self::SETTING, Some(&serde_json::to_string(&wishes)?))?;
        self.wishes.send_replace(wishes);
        Ok(())
    }

    /// Everything that is wanted now.
    #[must_use]
    pub fn wishes(&self) -> Wishes {
        self.wishes.borrow().clone()
    }

    /// What is wanted on a host, now and from now on.
    #[must_use]
    pub fn follow(&self, host: &str) -> Following {
        let mut wishes = self.wishes.subscribe();
        let said = wishes.borrow_and_update().of(host).cloned();
        Following { host: host.to_owned(), wishes, said, told: false }
    }
}

/// What is wanted on one host.
#[derive(Debug)]
pub struct Following {
    host: String,
    wishes: watch::Receiver<Wishes>,
    said: Option<Said>,
    told: bool,
}

impl Following {
    /// What is wanted, at once the first time; then waits until something else is said of this host. Giving it
    /// up loses nothing.
    pub async fn next(&mut self) -> v1::Eyes {
        while self.told {
            if self.wishes.changed().await.is_err() {
                // Nobody says anything any more.
                std::future::pending::<()>().await;
            }
            let said = self.wishes.borrow_and_update().of(&self.host).cloned();
            self.told = said == self.said;
            self.said = said;
        }
        self.told = true;
        match self.said.clone() {
            Some(Said { open, at_ns, by }) => v1::Eyes { open, at_ns, by },
            None => v1::Eyes { open: true, at_ns: 0, by: String::new() },
        }
    }
}

/// An agent's eyes, as far as it has told.
#[derive(Debug, Clone, Default)]
pub(super) struct Eye {
    /// It does what it is told of them.
    pub(super) understands: bool,
    pub(super) report: Option<v1::EyesReport>,
}

impl Eye {
    /// How an agent's eyes are, and what is wanted of them.
    pub(super) fn row(&self, row: &AgentRow, said: Option<&Said>) -> EyesRow {
        let sense = row.senses.iter().find(|sense| sense.name == EYES_SENSE);
        let active = row.state == State::Active;
        let report = self.report.as_ref().filter(|_| active);
        let told = match report {
            _ if !active => Told::Later,
            _ if !self.understands => Told::TooOld,
            Some(report) if report.answers_ns == said.map_or(0, |said| said.at_ns) => Told::Done,
            _ => Told::Told,
        };
        let sees =
            || sense.filter(|_| !self.understands).map(|sense| sense.state != SenseState::Off);
        EyesRow {
            agent: Some(row.agent.clone()),
            host: Some(row.host.clone()),
            state: row.state,
            // An agent that is older than that says only what its senses are.
            open: report.map(|report| report.open).or_else(sees).filter(|_| active),
            since: report.map(|report| Time(report.since_ns)),
            why: sense.map(|sense| sense.why.clone()),
            remedy: sense.and_then(|sense| sense.remedy.clone()),
            cpu: row.cpu.filter(|_| active),
            wanted: said.is_none_or(|said| said.open),
            by: said.map(|said| said.by.clone()),
            said: said.map(|said| Time(said.at_ns)),
            told,
        }
    }
}

/// What the next agent of a host, or of any, will be told.
pub(super) fn next(host: Option<&str>, said: &Said) -> EyesRow {
    EyesRow {
        agent: None,
        host: host.map(str::to_owned),
        state: State::NotObserved,
        open: None,
        since: None,
        why: None,
        remedy: None,
        cpu: None,
        wanted: said.open,
        by: Some(said.by.clone()),
        said: Some(Time(said.at_ns)),
        told: Told::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Control;

    fn said(open: bool, at_ns: u64) -> Said {
        Said { open, at_ns, by: "user 1000".into() }
    }

    fn control() -> (Control, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Control::open(&dir.path().join("control.db")).unwrap(), dir)
    }

    #[test]
    fn what_is_said_of_a_host_is_stronger_and_what_is_said_of_all_is_newer() {
        let (registry, _dir) = control();
        let eyes = Eyes::default();
        let open = |host: &str| eyes.wishes().of(host).map(|said| said.open);
        assert_eq!(open("web-1"), None);
        eyes.say(&registry, Some("web-1"), said(false, 1)).unwrap();
        assert_eq!((open("web-1"), open("web-2")), (Some(false), None));
        eyes.say(&registry, None, said(false, 2)).unwrap();
        eyes.say(&registry, Some("web-1"), said(true, 3)).unwrap();
        assert_eq!((open("web-1"), open("web-2")), (Some(true), Some(false)));
        eyes.say(&registry, None, said(true, 4)).unwrap();
        assert_eq!((open("web-1"), open("web-2")), (Some(true), Some(true)));
        assert_eq!(eyes.wishes().hosts().count(), 0);
    }

    #[test]
    fn what_was_said_of_a_host_can_be_taken_back() {
        let (registry, _dir) = control();
        let eyes = Eyes::default();
        let hosts = || eyes.wishes().hosts().map(|(host, _)| host.to_owned()).collect::<Vec<_>>();
        eyes.say(&registry, Some("web-9"), said(false, 1)).unwrap();
        assert_eq!(hosts(), ["web-9"]);
        eyes.say(&registry, Some("web-9"), said(true, 2)).unwrap();
        assert!(hosts().is_empty(), "open is what is wanted everywhere");
        // An agent that was told to close and is away must still be told to open.
        assert_eq!(eyes.wishes().of("web-9").map(|said| said.at_ns), Some(2));
        eyes.say(&registry, None, said(false, 3)).unwrap();
        eyes.say(&registry, Some("web-9"), said(true, 4)).unwrap();
        assert_eq!(hosts(), ["web-9"], "open where all others are closed");
    }

    #[tokio::test]
    async fn it_outlives_the_colony() {
        let (registry, _dir) = control();
        let eyes = Eyes::default();
        eyes.say(&registry, Some("web-1"), said(false, 7)).unwrap();
        let later = Eyes::default();
        later.restore(&registry).unwrap();
        assert_eq!(later.wishes(), eyes.wishes());
        let closed = v1::Eyes { open: false, at_ns: 7, by: "user 1000".into() };
        assert_eq!(later.follow("web-1").next().await, closed);
        let open = v1::Eyes { open: true, ..Default::default() };
        assert_eq!(later.follow("web-2").next().await, open);
        registry.set(Eyes::SETTING, Some("{")).unwrap();
        let damaged = Eyes::default();
        damaged.restore(&registry).unwrap();
        assert_eq!(damaged.wishes(), Wishes::default());
    }

    #[test]
    fn hosts_have_a_bound() {
        let (registry, _dir) = control();
        let mut wishes = Wishes::default();
        for n in 0..MAX_HOSTS {
            wishes.say(Some(&format!("web-{n}")), said(false, 1)).unwrap();
        }
        let eyes = Eyes::default();
        eyes.wishes.send_replace(wishes);
        let error = eyes.say(&registry, Some("one more"), said(false, 1)).unwrap_err();
        assert!(error.to_string().contains("coral eyes on"), "{error}");
        eyes.say(&registry, Some("web-7"), said(true, 2)).unwrap();
        eyes.say(&registry, None, said(true, 3)).unwrap();
        eyes.say(&registry, Some("one more"), said(false, 4)).unwrap();
    }

    #[tokio::test]
    async fn whoever_follows_a_host_is_told_of_that_host_alone() {
        let (registry, _dir) = control();
        let eyes = Eyes::default();
        let mut following = eyes.follow("web-1");
        assert!(following.next().await.open);
        eyes.say(&registry, Some("web-2"), said(false, 1)).unwrap();
        eyes.say(&registry, Some("web-1"), said(false, 2)).unwrap();
        let told = following.next().await;
        assert_eq!((told.open, told.at_ns), (false, 2));
        // On is said to open eyes, too: the agent may have closed them itself.
        eyes.say(&registry, None, said(true, 3)).unwrap();
        eyes.say(&registry, None, said(true, 4)).unwrap();
        let told = following.next().await;
        assert_eq!((told.open, told.at_ns), (true, 4));
    }
}

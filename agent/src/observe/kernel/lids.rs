//! What is wanted of the eyes, and how they are: between who hears the one, the uplink, and who sees to the other,
//! [`super::keeper`].
//!
//! A person's word is remembered in the agent's folder, so that an agent that is started anew does not open its
//! eyes before it has heard its colony.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coral_model::Time;
use coral_model::text::fit;
use coral_proto::v1;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::home;

/// Longest name of somebody, in columns.
const NAME: usize = 60;

/// What somebody said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Said {
    /// When, Unix ns by the colony's clock; 0: nobody has said anything.
    pub at_ns: u64,
    /// Who.
    pub by: String,
}

/// What is wanted of the eyes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// The colony was not heard yet.
    Unheard,
    /// They shall be open.
    Open(Said),
    /// They shall be closed.
    Closed(Said),
}

impl Wish {
    /// What somebody said of it.
    pub(super) fn said(&self) -> Option<&Said> {
        match self {
            Self::Unheard => None,
            Self::Open(said) | Self::Closed(said) => Some(said),
        }
    }
}

/// How the eyes are.
#[derive(Debug, Clone, Copy)]
struct State {
    open: bool,
    /// Since when they are, or are not.
    since: Time,
    /// `at_ns` of the wish that was acted on.
    answers_ns: u64,
}

/// What is wanted of the eyes, and how they are: between who hears the one and who sees to the other.
#[derive(Debug, Clone)]
pub struct Lids {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    wish: watch::Sender<Wish>,
    state: Mutex<State>,
    /// Where a wish for closed eyes is remembered.
    memory: Option<PathBuf>,
}

impl Lids {
    fn new(wish: Wish, memory: Option<PathBuf>) -> Self {
        let state = State { open: false, since: Time::now(), answers_ns: 0 };
        let (wish, state) = (watch::Sender::new(wish), Mutex::new(state));
        Self { shared: Arc::new(Shared { wish, state, memory }) }
    }

    /// For an agent without a colony: nobody says anything.
    #[must_use]
    pub fn alone() -> Self {
        Self::new(Wish::Open(Said::default()), None)
    }

    /// For an agent that will hear its colony, and keeps in this file that its eyes shall be closed.
    #[must_use]
    pub fn remembering(memory: PathBuf) -> Self {
        let wish = match std::fs::read(&memory) {
            // Whatever became of its text, somebody wanted them closed.
            Ok(text) => Wish::Closed(serde_json::from_slice(&text).unwrap_or_default()),
            Err(_) => Wish::Unheard,
        };
        Self::new(wish, Some(memory))
    }

    /// The colony says what is wanted.
    pub fn hear(&self, told: &v1::Eyes) {
        if told.open && told.at_ns == 0 {
            // Nobody ever said anything, or the colony has lost it: what is wanted is what was before.
            return self.hear_nothing();
        }
        let said = Said { at_ns: told.at_ns, by: fit(&told.by, NAME) };
        self.want(if told.open { Wish::Open(said) } else { Wish::Closed(said) });
    }

    /// Nobody has said anything, or the colony is older than that and never says anything.
    pub fn hear_nothing(&self) {
        if *self.shared.wish.borrow() == Wish::Unheard {
            self.want(Wish::Open(Said::default()));
        }
    }

    fn want(&self, wish: Wish) {
        let at_ns = wish.said().map_or(0, |said| said.at_ns);
        self.shared.wish.send_if_modified(|now| {
            let other = *now != wish;
            *now = wish;
            other
        });
        if self.shared.wish.receiver_count() == 0 {
            // There are no eyes in this agent: nothing is to be done.
            self.state().answers_ns = at_ns;
        }
    }

    /// What is wanted, from now on.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Wish> {
        self.shared.wish.subscribe()
    }

    /// Where a wish for closed eyes is remembered.
    pub(super) fn memory(&self) -> Option<PathBuf> {
        self.shared.memory.clone()
    }

    /// That wish was acted on.
    pub(super) fn answer(&self, said: &Said) {
        self.state().answers_ns = said.at_ns;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// They are open, or closed.
    pub(super) fn set_open(&self, open: bool) {
        let mut state = self.state();
        if state.open != open {
            (state.open, state.since) = (open, Time::now());
        }
    }

    /// For the report.
    #[must_use]
    pub fn report(&self) -> v1::EyesReport {
        let State { open, since, answers_ns } = *self.state();
        v1::EyesReport { open, since_ns: since.0, answers_ns }
    }
}

/// Remembers that they shall be closed, or forgets it.
pub(super) fn keep(memory: &Path, closed: Option<&Said>) -> std::io::Result<()> {
    match closed {
        Some(said) => home::replace(memory, &serde_json::to_vec(said)?),
        None => match std::fs::remove_file(memory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eyes(open: bool, at_ns: u64) -> v1::Eyes {
        v1::Eyes { open, at_ns, by: "user 1000".into() }
    }

    #[test]
    fn what_is_said_again_is_nothing_new() {
        let lids = Lids::alone();
        let mut wish = lids.follow();
        lids.hear(&eyes(false, 7));
        assert!(wish.has_changed().unwrap());
        let said = Said { at_ns: 7, by: "user 1000".into() };
        assert_eq!(*wish.borrow_and_update(), Wish::Closed(said.clone()));
        // As after a lost session.
        lids.hear(&eyes(false, 7));
        assert!(!wish.has_changed().unwrap());
        // On is said anew to eyes that are open: they may be closed for what they cost.
        lids.hear(&eyes(true, 8));
        lids.hear(&eyes(true, 9));
        assert_eq!(*wish.borrow_and_update(), Wish::Open(Said { at_ns: 9, ..said }));
    }

    #[test]
    fn an_agent_without_eyes_has_done_what_is_wanted_at_once() {
        let lids = Lids::alone();
        lids.hear(&eyes(false, 7));
        assert_eq!(lids.report().answers_ns, 7);
        let _keeper = lids.follow();
        lids.hear(&eyes(true, 9));
        assert_eq!(lids.report().answers_ns, 7, "who has eyes says when it has");
    }

    #[test]
    fn closed_eyes_are_remembered_and_an_older_colony_does_not_open_them() {
        let dir = tempfile::tempdir().unwrap();
        let memory = dir.path().join("eyes-closed");
        let wish = |lids: &Lids| lids.follow().borrow().clone();
        let first = Lids::remembering(memory.clone());
        assert_eq!(wish(&first), Wish::Unheard);
        first.hear_nothing();
        assert_eq!(wish(&first), Wish::Open(Said::default()));
        let said = Said { at_ns: 7, by: "user 1000".into() };
        keep(&memory, Some(&said)).unwrap();
        let second = Lids::remembering(memory.clone());
        assert_eq!(wish(&second), Wish::Closed(said));
        second.hear_nothing();
        assert!(matches!(wish(&second), Wish::Closed(_)));
        std::fs::write(&memory, "{").unwrap();
        assert_eq!(wish(&Lids::remembering(memory.clone())), Wish::Closed(Said::default()));
        keep(&memory, None).unwrap();
        keep(&memory, None).unwrap();
        assert_eq!(wish(&Lids::remembering(memory)), Wish::Unheard);
    }

    #[test]
    fn that_nobody_ever_said_anything_changes_nothing_that_was_said() {
        let never = v1::Eyes { open: true, ..Default::default() };
        let lids = Lids::remembering("/nonexistent".into());
        let mut wish = lids.follow();
        lids.hear(&never);
        assert_eq!(*wish.borrow_and_update(), Wish::Open(Said::default()));
        // As from a colony that lost what it knew.
        for told in [eyes(false, 7), eyes(true, 8)] {
            lids.hear(&told);
            let before = wish.borrow_and_update().clone();
            lids.hear(&never);
            assert!(!wish.has_changed().unwrap(), "{before:?}");
        }
    }
}

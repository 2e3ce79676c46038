//! What the agent can see, and what it cannot and why: one list, reported every second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use coral_model::view::{Sense, SenseState};
use coral_proto::v1;

/// The list, shared by everybody who has a sense.
#[derive(Debug, Clone, Default)]
pub struct Senses {
    list: Arc<Mutex<BTreeMap<String, Sense>>>,
}

impl Senses {
    /// Adds or replaces a sense.
    pub fn set(&self, sense: Sense) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.insert(sense.name.clone(), sense);
    }

    /// Takes a sense off the list: nobody asks for it any more.
    pub fn remove(&self, name: &str) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// A sense that works.
    pub fn on(&self, name: &str, why: impl Into<String>) {
        let (name, why) = (name.to_owned(), why.into());
        self.set(Sense { name, state: SenseState::On, why, remedy: None });
    }

    /// A sense that does not work.
    pub fn off(&self, name: &str, why: impl Into<String>, remedy: Option<&str>) {
        let (name, why, remedy) = (name.to_owned(), why.into(), remedy.map(str::to_owned));
        self.set(Sense { name, state: SenseState::Off, why, remedy });
    }

    /// For the report.
    #[must_use]
    pub fn report(&self) -> Vec<v1::SenseReport> {
        let list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let to_wire = |sense: &Sense| v1::SenseReport {
            name: sense.name.clone(),
            state: match sense.state {
                SenseState::On => v1::SenseState::On.into(),
                SenseState::Partial => v1::SenseState::Partial.into(),
                SenseState::Off => v1::SenseState::Off.into(),
            },
            why: sense.why.clone(),
            remedy: sense.remedy.clone(),
        };
        list.values().map(to_wire).collect()
    }
}

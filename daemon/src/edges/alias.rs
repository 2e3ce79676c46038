//! What callers' names for their peers stand for.

use std::sync::Arc;

use hashbrown::HashMap;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// This service answered.
    Service(Arc<str>),
    /// Nobody we know ever answered.
    External,
    /// More than one service answered.
    Several,
}

/// Names as each calling service uses them. Bounded: a full table learns no new names.
#[derive(Debug)]
pub struct Aliases {
    by_name: HashMap<(Arc<str>, Arc<str>), Meaning>,
    bound: usize,
}

impl Aliases {
    /// At most `bound` names.
    pub fn new(bound: usize) -> Self {
        Self { by_name: HashMap::new(), bound }
    }

    /// What `caller` means by `name`.
    pub fn get(&self, caller: &Arc<str>, name: &Arc<str>) -> Option<&Meaning> {
        self.by_name.get(&(Arc::clone(caller), Arc::clone(name)))
    }

    /// A request of `caller` to `name` was answered by `service`.
    pub fn answered(&mut self, caller: &Arc<str>, name: &Arc<str>, service: &Arc<str>) {
        if name.is_empty() {
            return;
        }
        match self.by_name.get_mut(&(Arc::clone(caller), Arc::clone(name))) {
            Some(Meaning::Service(known)) if known == service => {}
            Some(Meaning::Several) => {}
            Some(meaning @ Meaning::Service(_)) => *meaning = Meaning::Several,
            Some(meaning @ Meaning::External) => *meaning = Meaning::Service(Arc::clone(service)),
            None => self.learn(caller, name, Meaning::Service(Arc::clone(service))),
        }
    }

    /// A request of `caller` to `name` had no answer within the window.
    pub fn unanswered(&mut self, caller: &Arc<str>, name: &Arc<str>) {
        if !name.is_empty() && self.get(caller, name).is_none() {
            self.learn(caller, name, Meaning::External);
        }
    }

    fn learn(&mut self, caller: &Arc<str>, name: &Arc<str>, meaning: Meaning) {
        if self.by_name.len() < self.bound {
            self.by_name.insert((Arc::clone(caller), Arc::clone(name)), meaning);
        }
    }
}

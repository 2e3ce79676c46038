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
    unlearnt: u64,
    fresh: bool,
}

impl Aliases {
    /// At most `bound` names.
    pub fn new(bound: usize) -> Self {
        Self { by_name: HashMap::new(), bound, unlearnt: 0, fresh: false }
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
            self.fresh = true;
        } else {
            self.unlearnt += 1;
        }
    }

    /// Whether a name was learnt that meant nothing before, since the last call.
    pub fn take_fresh(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    /// Times a name could not be learnt for want of room, since the last call.
    pub fn take_unlearnt(&mut self) -> u64 {
        std::mem::take(&mut self.unlearnt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_counts_what_it_does_not_learn() {
        let mut aliases = Aliases::new(2);
        let [cart, a, b, c] = ["cart", "a", "b", "c"].map(Arc::<str>::from);
        for name in [&a, &b, &c] {
            aliases.answered(&cart, name, &a);
        }
        assert_eq!(aliases.get(&cart, &c), None);
        assert_eq!((aliases.take_unlearnt(), aliases.take_unlearnt()), (1, 0));
    }
}

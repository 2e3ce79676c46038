//! From what the panes want to what is asked of the colony.

use std::sync::Arc;

use coral_model::question::Mode;

use super::{App, ClockMode, Effect, wants};
use crate::feed::{Slot, Want};

impl App {
    /// The difference between what is wanted and what is asked.
    pub(super) fn sync(&mut self) -> Vec<Effect> {
        let wanted = wants::wanted(self);
        let paused = matches!(self.here.clock.mode, ClockMode::Paused(_));
        let mut effects = Vec::new();
        let gone: Vec<Slot> =
            self.asked.keys().filter(|slot| !wanted.contains_key(slot)).copied().collect();
        for slot in gone {
            self.asked.remove(&slot);
            self.held.remove(&slot);
            effects.push(Effect::Want(slot, None));
            if slot == Slot::Colony {
                self.data.lend(slot, Slot::Digest);
            }
            if matches!(slot, Slot::Services | Slot::Colony) {
                self.data.forget(slot);
            }
        }
        for (slot, want) in wanted {
            let standing = self.asked.get(&slot).is_some_and(|asked| {
                // While held still, an answer over the sliding window that ends at the hold serves.
                if paused {
                    let still = Want { span: asked.span, mode: asked.mode, ..want.clone() };
                    **asked == still
                } else {
                    **asked == want
                }
            });
            if standing {
                effects.extend(self.hold(slot, paused && self.follows(slot, &want)));
                continue;
            }
            self.held.remove(&slot);
            let subject_changed = self.asked.get(&slot).is_some_and(|asked| {
                asked.subject != want.subject
                    || asked.around != want.around
                    || asked.by != want.by
                    || (slot == Slot::Operations && asked.filter != want.filter)
            });
            if subject_changed {
                self.data.forget(slot);
            }
            if slot == Slot::Logs {
                self.data.logs.forget();
                self.data.forget(slot);
            }
            // What is known of the whole colony stays known while a filter is set.
            if slot == Slot::Colony && !self.data.is_known(slot) {
                self.data.lend(Slot::Digest, slot);
            }
            let want = Arc::new(want);
            self.asked.insert(slot, Arc::clone(&want));
            effects.push(Effect::Want(slot, Some(want)));
        }
        effects
    }

    /// Whether what a slot is asked slides with the clock, while `want` stands still.
    fn follows(&self, slot: Slot, want: &Want) -> bool {
        self.asked.get(&slot).is_some_and(|asked| asked.span != want.span)
    }

    /// Withdraws a question that has its answer while time is held, and asks it again when time
    /// goes on: the colony has forgotten it meanwhile.
    fn hold(&mut self, slot: Slot, still: bool) -> Option<Effect> {
        if !still {
            let asked = self.asked.get(&slot).filter(|_| self.held.remove(&slot))?;
            return Some(Effect::Want(slot, Some(Arc::clone(asked))));
        }
        let asked = self.asked.get(&slot)?;
        let answered = self.data.known(slot).is_some_and(|known| known.want == *asked);
        // What is asked once is not withdrawn, but for the records that a tail goes on from.
        let withdrawn = asked.mode != Mode::Once || slot == Slot::Logs;
        (answered && withdrawn && self.held.insert(slot)).then_some(Effect::Want(slot, None))
    }

    /// The question a slot is being asked.
    #[must_use]
    pub fn standing(&self, slot: Slot) -> Option<Arc<Want>> {
        self.asked.get(&slot).cloned()
    }

    /// Whether a slot's answer is still awaited.
    #[must_use]
    pub fn is_loading(&self, slot: Slot) -> bool {
        match (self.asked.get(&slot), self.data.known(slot)) {
            (Some(asked), Some(known)) => known.want != *asked,
            (Some(_), None) => self.data.failure(slot).is_none(),
            _ => false,
        }
    }
}

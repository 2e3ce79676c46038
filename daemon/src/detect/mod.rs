//! What happened, told from what arrived: services appearing and vanishing, deploys, restarts,
//! error bursts, agents lost.
//!
//! In: every batch on its way to the store, and the clock. Out: [`EventRow`]s, which intake commits
//! in the same transaction as the data they tell of. A plain state machine: no clock, no IO.

use coral_model::time::Time;
use coral_model::view::EventRow;

/// See the module.
#[derive(Debug, Default)]
pub struct Detector {}

impl Detector {
    /// Time passed.
    pub fn tick(&mut self, _now: Time, _agents: &[coral_model::view::AgentRow]) -> Vec<EventRow> {
        Vec::new()
    }
}

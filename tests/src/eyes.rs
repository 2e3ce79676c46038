//! What tests of the agent's eyes share.

use std::collections::BTreeMap;

use coral_model::view::{Row, SenseState};

use crate::colony::Colony;
use crate::wait::until;

/// Whether this kernel lets the agent see requests; where not, why is printed.
///
/// # Panics
/// When that is for another reason than a capability the kernel lacks.
#[must_use]
#[track_caller]
pub fn may_look(colony: &Colony) -> bool {
    let sense = until("the agent to say what it sees of requests", || {
        let status = colony.status()?;
        let senses = status.agents.iter().flat_map(|agent| &agent.senses);
        senses
            .clone()
            .find(|s| s.name == "requests")
            .cloned()
            .ok_or_else(|| "nothing yet".to_owned())
    });
    // What the verifier refuses is our mistake, not the kernel's lack.
    assert!(!sense.why.contains("Verifier output"), "refused: {sense:?}");
    if sense.state != SenseState::Off {
        return true;
    }
    // Without BTF, the right to load, or the two tracepoints of Linux 6.3.
    let lacks =
        ["not permitted to load", "does not describe itself", "this kernel has no", "sock_"];
    assert!(lacks.iter().any(|text| sense.why.contains(text)), "off for no reason: {sense:?}");
    eprintln!("skipped: {}", sense.why);
    false
}

/// What the one agent has counted.
///
/// # Panics
/// When there is no agent.
#[must_use]
#[track_caller]
pub fn counters(colony: &Colony) -> BTreeMap<String, u64> {
    let rows = colony.query(&["agents"]).expect("agents");
    let agent = rows.into_iter().find_map(|row| match row {
        Row::Agent(row) => Some(*row),
        _ => None,
    });
    agent.expect("an agent").counters.into_iter().collect()
}

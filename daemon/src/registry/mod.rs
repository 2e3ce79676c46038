//! Who belongs to the colony: agents and what is known of them, settings, and who a caller is.
//!
//! In: hellos and reports of uplink sessions, credentials the kernel vouches for, and what people want of
//! agents' [`eyes`]. Out: [`AgentRow`]s, and what must outlive the telemetry, in `control.db`. Telemetry itself does not belong here: it
//! can be deleted without losing the colony.

mod agents;
mod control;
pub mod eyes;
mod peer;

pub use agents::{Agents, Session, check_protocol, is_loss};
pub use control::{Control, KnownAgent, Registry, RegistryError};
pub use peer::{Peer, Role};

#[allow(unused_imports, reason = "named in this module's documentation")]
use coral_model::view::AgentRow;

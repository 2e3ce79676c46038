//! The processes of named services: CPU, memory, descriptors, threads.
//!
//! Which process a service is, the service says itself (`process.pid` of its resource), or the
//! connection does through which its telemetry came; of one that says nothing the kernel sees which
//! process serves its requests. Comes in: [`Sighting`]s from the receiving side and from
//! [`super::requests`], by way of the bounded [`ServiceProcesses`]. Goes out: a `ProcessRow` each, who came
//! (with what it was started as, [`Likeness`]) and who went, and a sentence for every service whose process cannot be told or seen.
//! What systemd starts of a unit is told apart in [`Started`].

mod likeness;
mod look;
mod peer;
mod reader;
mod table;
mod unit;

pub use likeness::{Changes, Key, Likeness};
pub(in crate::observe) use look::own_pid;
pub use peer::Peer;
pub use reader::{Known, ProcessReader, ProcessReading};
pub use table::{ServiceProcesses, Sighting, Witness, Worker};
pub use unit::{Run, Started};
pub(in crate::observe) use unit::{invocation, is_manager, unit_of};

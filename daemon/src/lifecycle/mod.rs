//! The life of a daemon: one per colony, started on demand, ending cleanly.
//!
//! In: command line, signals, `Shutdown`. Out: a served socket, then an exit code. Everything the
//! process owns is made here and taken down here, in order; what the parts do is theirs.

mod args;
mod beacon;
mod end;
mod house;
mod idle;
mod lock;
mod log;
mod pulse;
mod serve;
mod settings;
mod socket;

pub use args::Args;
pub use beacon::Beacon;
pub use end::{Ending, Why};
pub use idle::{Activity, Viewer};
pub use lock::{Lock, LockError};
pub use serve::main;
pub use socket::{Conn, Incoming, SocketError};

/// Exit code of a daemon that found its colony already served: whoever started it just connects.
pub const ALREADY_RUNNING: u8 = 76;
/// Exit code after a panic in any task.
pub const PANICKED: u8 = 101;

//! What the agent sees of its host by itself: what the kernel tells anyone, and, where it may load
//! them, what its eBPF programs see ([`kernel`], [`requests`]).
//!
//! Comes in: the kernel's text files, and [`ServiceProcesses`] from the receiving side. Goes out,
//! every 2 s: a `HostReading` for the spool, `AgentEvent`s when something happened, and the list of
//! senses that shows what works. What cannot be read is `null` and has a sentence with the remedy;
//! nothing is guessed. Every number, its unit and its source: `docs/senses.md`.
//!
//! Parsers ([`parse`]), rates ([`host`]) and watches ([`events`]) are pure; files are opened in
//! [`files`] and clocks read in [`clock`]. What is kept of processes in case that they die is in [`remains`]. What OTLP brings is elsewhere.
//!
//! What a person names in `agent.toml` is read as well: metrics that services publish
//! ([`prometheus`]), log files and the journal ([`logs`]); [`sources`] reads that file and keeps what it names going.

pub mod clock;
pub mod events;
pub mod files;
pub mod host;
pub mod kernel;
pub mod logs;
pub mod parse;
pub mod process;
pub mod prometheus;
pub mod remains;
pub mod requests;
pub mod sources;

mod observer;
mod task;

pub use observer::{Observer, Tick};
pub use process::{Peer, ServiceProcesses, Sighting, Witness};
pub use task::{Setup, Sink, SpoolUse, run};

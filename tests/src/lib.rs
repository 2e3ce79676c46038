//! The driver of the end-to-end tests: real programs, real clients, real faults.
//!
//! A test starts a [`Colony`] of its own (its own socket, data and agent ports), sends it telemetry
//! ([`otlp`], [`grpc`], the sample [`shop`] and a [`small_shop`] of made-up spans, Python and Node
//! applications), or lets the agent's [`eyes`] see programs that nobody instrumented ([`nginx`],
//! [`python`], on [`hosts`] of their own, with a [`certificate`] or a [`limit`] where they need one), and asks through the same
//! `coral` program a person uses ([`Colony::coral`], [`Terminal`]). Everything is stopped on drop.
//!
//! Nothing here sleeps for a result: [`until`] polls a condition and says what was last seen when
//! its deadline passes. Deadlines are generous; none is an assertion about speed.

pub mod certificate;
pub mod colony;
pub mod eyes;
pub mod grpc;
pub mod hosts;
pub mod ledger;
pub mod limit;
pub mod namespace;
pub mod nginx;
pub mod otlp;
pub mod python;
pub mod running;
pub mod shop;
pub mod small_shop;
pub mod terminal;
pub mod wait;

pub use colony::{Answer, Colony, bin_dir};
pub use eyes::{
    Counts, asks, calls, counters, counts, edge, edges, may, may_look, nothing_lost, red, unread,
};
pub use ledger::Ledger;
pub use limit::MemoryLimit;
pub use python::Python;
pub use running::Running;
pub use shop::Shop;
pub use terminal::Terminal;
pub use wait::until;

//! What the colony remembers: telemetry in DuckDB, one file, owned by this process.
//!
//! In: [`Batch`]es of decoded rows, each with the marks of the spool records it came from. Out:
//! [`Committed`] once rows *and* marks are in one durable transaction; read-only work on cloned
//! connections. One writer thread owns every change, so that nothing ever waits for a lock and the
//! order of commits is the order of their stamps. What does not belong here: what rows mean
//! ([`crate::query`]), how they travel ([`crate::intake`]).
//!
//! `docs/store.md` has the tables, the settings, and the measurements behind both.

pub(crate) mod additive;
mod batch;
pub mod columns;
mod error;
mod rows;
pub mod schema;

pub use batch::Batch;
pub use error::StoreError;
pub use rows::{
    EdgeDelta, HalfEdge, HalfSeries, HostReading, InflightReading, Mark, Node, RedDelta, Resource,
};

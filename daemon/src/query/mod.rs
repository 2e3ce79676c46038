//! Questions and their answers.
//!
//! In: a [`coral_model::Question`] and the colony's sources: live memory from the cut on, the store
//! before it, the registry of agents. Out: rows of `coral_model::view` and an end record. Each
//! question is one module. Both sources fill the same tables ([`cells`], [`edges`]), so merging what
//! they gave is appending, and one place makes rows of it. Nothing here writes, and nothing here decides what to do about an answer.

mod agents;
mod answer;
mod blame;
mod builds;
mod case;
mod cells;
mod complete;
mod context;
mod deaths;
mod dense;
mod diff;
mod digest;
mod distribution;
mod edges;
mod episode;
mod error;
mod events;
mod fetch;
mod filter;
mod group;
mod homes;
mod hosts;
mod inflight;
mod logs;
mod metrics;
mod parquet;
mod patterns;
mod place;
mod plan;
mod reach;
mod records;
mod red;
mod rules;
mod services;
mod shift;
mod source;
mod sql;
mod standing;
mod statement;
mod story;
mod stretch;
mod symbols;
mod tail;
mod timeline;
mod topology;
mod trace;
mod traces;
mod unusual;

#[cfg(test)]
mod aligned;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod twice;

pub use answer::Answer;
pub use context::{Context, answer, complete, tail};
pub use error::QueryError;
pub use parquet::parquet;
pub use records::passing;
pub use standing::slid;

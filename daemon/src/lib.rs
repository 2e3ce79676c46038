//! The colony: gathers what agents see, keeps it, answers.
//!
//! In: uplink sessions of agents, questions of people. Out: answers, acknowledgements, a supervised
//! local agent. Ingest never waits for a query; an agent's word for who it is is never enough.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        reason = "a test that wraps fails"
    )
)]

pub mod api;
mod chance;
pub mod counters;
pub mod detect;
pub mod doctor;
pub mod edges;
pub mod incident;
pub mod intake;
pub mod lifecycle;
pub mod live;
pub mod patterns;
pub mod query;
pub mod registry;
pub mod store;
pub mod supervise;

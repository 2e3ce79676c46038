//! What Coral's programs say to each other: `coral.v1` messages and stubs, the records of a spool
//! segment, a walker over OTLP's wire bytes, pprof's profiles, and every conversion between wire and model.
//!
//! Rows of answers travel as the JSON objects a person would get from `coral query --json`
//! ([`coral_model::view::Row`]): the published schema *is* the wire format, so no program can show
//! anything else, and a newer field passes through an older one.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        reason = "a test that wraps fails"
    )
)]

pub mod convert;
pub mod otlp;
pub mod pprof;
pub mod record;

/// Generated from `proto/coral/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("coral.v1");

    /// Descriptors of every `coral.v1` file, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/coral_v1.bin"));
}

/// Version of the protocol between agent, colony and clients. Raised when an older peer would
/// misunderstand; additive changes leave it alone.
pub const PROTOCOL: u32 = 1;
/// Oldest protocol this build still serves (colony N serves agents N−2).
pub const PROTOCOL_OLDEST: u32 = 1;
/// Largest gRPC message either side of Coral's own protocol accepts, in bytes.
pub const MAX_MESSAGE: usize = 64 << 20;

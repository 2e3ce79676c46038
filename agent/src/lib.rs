//! The agent: receives OTLP, watches its host, reduces, spools and ships.
//!
//! ```text
//!  app ──OTLP──▶ receive ─▶ pipeline ─▶ spool ─▶ uplink ═══▶ colony
//!  host ───────▶ observe ─────┘  ▲│                ▲
//!                                ││ facts          │ Reduced
//!                                │▼                │
//!                                reduce ───────────┘
//! ```
//!
//! [`receive`] speaks OTLP; [`reduce`] makes RED, half-edges and requests in flight of spans;
//! [`pipeline`] keeps reducer and spool in step; [`spool`] holds what was accepted until the colony
//! has it; [`uplink`] is the session with the colony; [`observe`] watches the host; [`spans`] makes
//! spans of the requests it sees, where a person wants that; [`agent`] puts them together. Accepted means kept: an export is acknowledged when its bytes are in the spool.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        reason = "a test that wraps fails"
    )
)]

pub mod agent;
pub mod budget;
pub mod counters;
pub mod holder;
pub mod home;
pub mod import;
pub mod logfile;
pub mod observe;
pub mod pipeline;
pub mod receive;
pub mod reduce;
pub mod senses;
pub mod spans;
pub mod spool;
pub mod uplink;

/// This build, as it names itself to its peers.
pub const BUILD: &str = concat!("coral-agent ", env!("CARGO_PKG_VERSION"));

/// Random bytes for ids. The kernel's generator does not fail once the system is up; should it, the
/// clock still keeps two agents of one host apart.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    if getrandom::fill(&mut bytes).is_err() {
        let now = coral_model::Time::now().0 ^ u64::from(std::process::id()).rotate_left(40);
        for (slot, byte) in bytes.iter_mut().zip(now.to_le_bytes().iter().cycle()) {
            *slot = *byte;
        }
    }
    bytes
}

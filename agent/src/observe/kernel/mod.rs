//! What the agent sees through eBPF.
//!
//! The programs (`bpf/`, Rust too) hang on raw tracepoints; what they see comes through a ring. They
//! are in the kernel for as long as this process holds them and no longer. Without the right to load
//! them, without BTF, or in a build without them, the agent does everything else, and the sense
//! `ebpf` says what is missing and what to do.
//!
//! Now: how processes end ([`ends`]): exit code or signal, who sent it, whether memory had run out.
//! [`btf`] finds members of the running kernel's structures, [`load`] brings the programs in.

pub mod btf;
pub mod ends;
pub mod load;

use std::sync::Arc;
use std::time::Duration;

use coral_bpf_types::ProcessEnd;
use coral_model::view::{Sense, SenseState};
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

pub use ends::{Ended, Ends};
use load::{EndsRing, Eyes, EyesError};

use crate::counters::Counters;
use crate::senses::Senses;

/// The name of the sense.
const SENSE: &str = "ebpf";
/// How often the loss counter is read.
const LOOK: Duration = Duration::from_secs(2);

/// Opens the eyes and reads what they see until cancelled.
pub async fn run(
    ends: Arc<Ends>,
    senses: Senses,
    counters: Arc<Counters>,
    cancel: CancellationToken,
) {
    let opened = tokio::task::spawn_blocking(load::open).await;
    let (eyes, ring) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return closed(&senses, &error),
        // The runtime is going down.
        Err(_) => return,
    };
    senses.set(sense(&eyes));
    tracing::info!(hooks = ?eyes.hooks, missing = ?eyes.missing, "eBPF programs attached");
    if let Err(error) = read(&eyes, ring, &ends, &counters, &cancel).await {
        tracing::error!(%error, "what the eBPF programs see cannot be read");
        senses.off(SENSE, format!("the ring cannot be read: {error}"), None);
    }
}

fn closed(senses: &Senses, error: &EyesError) {
    tracing::info!(%error, "no eBPF");
    senses.off(SENSE, error.to_string(), error.remedy());
}

fn sense(eyes: &Eyes) -> Sense {
    let hooks = format!("process ends: raw tracepoints {}", eyes.hooks.join(", "));
    let state = if eyes.missing.is_empty() { SenseState::On } else { SenseState::Partial };
    let why = match eyes.missing.is_empty() {
        true => hooks,
        false => format!("{hooks} · missing {}", eyes.missing.join(" · ")),
    };
    Sense { name: SENSE.to_owned(), state, why, remedy: None }
}

#[allow(unsafe_code, reason = "tokio has no safe way to watch a descriptor it does not know")]
fn register(ring: EndsRing) -> std::io::Result<AsyncFd<EndsRing>> {
    // SAFETY: the ring owns its descriptor, never replaces it, and moves into the registration.
    let registered =
        unsafe { AsyncFd::register_with_interest(ring, tokio::io::Interest::READABLE) };
    Ok(registered?)
}

async fn read(
    eyes: &Eyes,
    ring: EndsRing,
    ends: &Ends,
    counters: &Counters,
    cancel: &CancellationToken,
) -> std::io::Result<()> {
    let mut ring = register(ring)?;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            _ = look.tick() => counters.process_ends_lost.set(eyes.lost()),
            ready = ring.readable_mut() => {
                let mut ready = ready?;
                while let Some(item) = ready.get_inner_mut().next() {
                    if let Some(end) = ProcessEnd::from_bytes(&item) {
                        ends.heard(Ended::from(&end));
                    }
                }
                ready.clear_ready();
            }
        }
    }
}

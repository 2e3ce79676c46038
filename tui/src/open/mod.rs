//! A file in the same screens: `coral open traces.json`.
//!
//! In: the path of a file that holds telemetry. Out: a colony of its own, private to this run, into which
//! the file was read by the same code that takes what is received; so every view, question and filter is
//! the same. It has its own folder and socket, no agent, keeps nothing, and is gone with whoever
//! opened it. A profile ([`profile`]) is no telemetry: no colony is needed to show or print it. [`kind`] tells what a file is,
//! [`private`] makes the colony, [`import`] has the file read in.

pub mod import;
pub mod kind;
pub mod private;
pub mod profile;

use std::path::PathBuf;

use crate::client::ClientError;

/// Why a file is not shown.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A profile that is none.
    #[error("{}: {source}", path.display())]
    Profile {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: coral_proto::pprof::PprofError,
    },
    /// Whoever reads it in says why not.
    #[error("{0}")]
    Import(String),
    /// An incident file that is damaged.
    #[error("{}: {why}", path.display())]
    Incident {
        /// Which file.
        path: PathBuf,
        /// What the colony says of it.
        why: String,
    },
    /// There is nobody to read it in.
    #[error("there is no coral-agent beside coral nor on PATH; install it, or run make build")]
    NoAgent,
    /// The private colony.
    #[error(transparent)]
    Colony(#[from] ClientError),
}

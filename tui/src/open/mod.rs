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

use std::path::{Path, PathBuf};

use crate::client::ClientError;

/// Endings of files that can be opened: a word with one is hardly the name of a service.
const ENDINGS: &[&str] =
    &["coral", "json", "jsonl", "ndjson", "log", "txt", "gz", "zst", "pb", "pprof", "prof"];

/// Whether a text is meant as the path of a file, whether or not there is one: it has a slash, or
/// an ending that files have. A place is none.
#[must_use]
pub fn is_path(text: &str) -> bool {
    let named = text.starts_with("service=") || text.starts_with(coral_model::place::SCHEME);
    let ending = Path::new(text).extension().and_then(|ending| ending.to_str());
    !named && (text.contains('/') || ending.is_some_and(|e| ENDINGS.contains(&e)))
}

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

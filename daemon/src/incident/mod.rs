//! A window of a colony as one file that stands alone, and such a file as a colony again.
//!
//! Comes in: a window. Goes out: a Zstandard stream of JSON Lines (`docs/incident.md`): a manifest, every
//! row of every signal in the window and in the equal one before it, and an end with counts and a
//! CRC32C. Secrets are replaced on the way ([`redact`]); equal ones by equal pseudonyms. The other way
//! ([`import`]) the same rows ([`rows`]) become batches and are committed like anything that arrives.
//! The daemon never opens a path that a client names: it hands out bytes, and takes them.

pub mod export;
pub mod import;
pub mod redact;
pub mod rows;

/// Schema of the first line.
pub const BEGIN: &str = "coral.incident/1";
/// Schema of the last.
pub const END: &str = "coral.incident.end/1";

/// Why there is no file, or none that can be read.
#[derive(Debug, thiserror::Error)]
pub enum IncidentError {
    /// The store.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// A statement of ours.
    #[error("the store does not answer: {0}")]
    Database(#[from] duckdb::Error),
    /// A row that is no JSON.
    #[error("a row cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    /// Compression.
    #[error("the file cannot be packed or unpacked: {0}")]
    Zstd(#[from] std::io::Error),
    /// The file is not one, or not whole.
    #[error("line {line} of the file: {why}")]
    Line {
        /// From 1.
        line: u64,
        /// What was expected.
        why: String,
    },
    /// The filter or place that was asked for cannot be understood.
    #[error("{0}")]
    Asked(String),
    /// The file ends too early.
    #[error("the file is cut off after line {0}: its end record is missing; copy it again")]
    Cut(u64),
    /// Its lines are not what was written.
    #[error(
        "the file was changed: its lines have the checksum {found:08x}, its end says {said:08x}"
    )]
    Changed {
        /// Computed.
        found: u32,
        /// Written.
        said: u32,
    },
    /// This colony serves applications, not a file.
    #[error("only a colony that was made for a file takes one in: coral open FILE")]
    NotForFiles,
}

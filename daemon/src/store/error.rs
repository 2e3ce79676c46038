//! What can go wrong with the store, and what to do about it.

use std::path::PathBuf;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory cannot be used.
    #[error("{path}: {source}; check that the directory exists and belongs to this user")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Written by a newer build.
    #[error(
        "{path} was written by a newer Coral (store version {found}, this build knows {ours}): \
         start that version, or move the file away to begin with an empty store"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// This build's.
        ours: i64,
    },
    /// Another process has the file open.
    #[error("{path} is in use by another process: {detail}")]
    Locked {
        /// The file.
        path: PathBuf,
        /// What DuckDB says, which names the process.
        detail: String,
    },
    /// A segment cannot be written.
    #[error("{path}: {source}; its hour stays in the database and is tried again")]
    Segment {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Segments that were to become one have not all the rows they should have.
    #[error("segments that should have {wanted} rows have not: they stay as they are")]
    Incomplete {
        /// Rows the manifest names.
        wanted: u64,
    },
    /// The disk has no room for more.
    #[error(
        "the disk holding {path} is {percent} % full; the colony keeps nothing new until there is room"
    )]
    DiskFull {
        /// The data directory.
        path: PathBuf,
        /// How full.
        percent: u8,
    },
    /// The batch does not follow on what is committed: part of it was committed before.
    #[error("records up to {committed:?} of the segment are already committed")]
    Stale {
        /// The committed mark.
        committed: Option<u64>,
    },
    /// A question took too long.
    #[error("the question took longer than {0} s; narrow its window or filter")]
    TimedOut(u64),
    /// A question needed more memory than the store may use.
    #[error("the question needs more memory than the store may use; narrow its window or filter")]
    Memory(#[source] duckdb::Error),
    /// DuckDB refused.
    #[error("the store refused: {0}")]
    Database(#[source] duckdb::Error),
    /// The asker went away, or the store is closing.
    #[error("the store is closing")]
    Closed,
}

impl StoreError {
    /// Whether the disk was full: the data are well, and the same will work when there is room.
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        match self {
            Self::DiskFull { .. } => true,
            Self::Directory { source, .. } | Self::Segment { source, .. } => {
                source.kind() == std::io::ErrorKind::StorageFull
            }
            other => says_no_room(&other.to_string()),
        }
    }
}

/// Whether DuckDB says that the disk is full: it passes on what strerror(3) says of ENOSPC and EDQUOT.
#[must_use]
pub fn says_no_room(text: &str) -> bool {
    ["No space left on device", "Disk quota exceeded"].iter().any(|sign| text.contains(sign))
}

/// Whether DuckDB says that memory, or the room for what does not fit into it, is used up.
#[must_use]
pub fn says_no_memory(text: &str) -> bool {
    const SIGNS: [&str; 4] = [
        "Out of Memory",
        "could not allocate block",
        "failed to pin block",
        "max_temp_directory_size",
    ];
    SIGNS.iter().any(|sign| text.contains(sign))
}

impl From<duckdb::Error> for StoreError {
    fn from(error: duckdb::Error) -> Self {
        if says_no_memory(&error.to_string()) { Self::Memory(error) } else { Self::Database(error) }
    }
}

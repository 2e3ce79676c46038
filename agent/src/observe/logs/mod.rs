//! Log files and the journal, as far as a person named them: read on from where the last life stopped.
//!
//! Comes in: the `[[logs]]` entries of `agent.toml`, files that grow and are rotated, and what
//! `journalctl --follow` prints. Goes out: OTLP logs in the spool. A place in a file is never ahead of
//! the spool: what is read but not yet appended is read again after a crash, and what was appended
//! before its place could be saved is found in the spool itself, so each line counts once.
//!
//! [`line`] tells what a line says, [`join`] puts stack traces together, [`otlp`] writes requests:
//! plain functions. [`file`](mod@file) reads one file on, [`follow`] decides which files there are and what
//! became of the one that is gone, [`places`] remembers, [`journal`] minds the child, [`task`] does all
//! that a few times a second. Nothing is read faster than its source's bound: a file waits.

pub mod file;
pub mod follow;
pub mod join;
pub mod journal;
pub mod line;
pub mod origin;
pub mod otlp;
pub mod places;
pub mod task;

use std::path::PathBuf;

/// How the lines of files are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Found by the first line.
    #[default]
    Auto,
    /// Not at all: text, or a JSON object per line.
    Text,
    /// As Docker's `json-file` driver writes them.
    Docker,
    /// As Kubernetes' container runtimes write them.
    Cri,
}

/// Where a file that was there before its source was named is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// At its end: only what comes.
    #[default]
    End,
    /// At its beginning.
    Start,
}

/// One `[[logs]]` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What the sense is called that tells of it.
    pub sense: String,
    /// `service.name`; found from container, unit or path when not said.
    pub service: Option<String>,
    /// Where an old file is begun.
    pub from: From,
    /// Lines read a second, at most.
    pub lines_per_s: u64,
    /// What is read.
    pub what: What,
}

/// What a source reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Files.
    Files {
        /// Patterns with `*`, `?`, `[…]` and `**`.
        globs: Vec<String>,
        /// How their lines are wrapped.
        format: Format,
    },
    /// The journal.
    Journal {
        /// Only these units; all when empty.
        units: Vec<String>,
        /// These journal files instead of the machine's own.
        files: Option<PathBuf>,
    },
}

impl Source {
    /// What the source is remembered by: the same entry is the same source, wherever it stands.
    #[must_use]
    pub fn key(&self) -> String {
        let what = match &self.what {
            What::Files { globs, .. } => format!("files {}", globs.join(" ")),
            What::Journal { units, files } => {
                format!("journal {files:?} {}", units.join(" "))
            }
        };
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(what.as_bytes()))
    }
}

/// Bounds of reading logs.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest line, in bytes; the rest of it is skipped and counted.
    pub line: usize,
    /// Most lines joined into one record.
    pub joined_lines: usize,
    /// Largest record made of several lines, in bytes.
    pub joined_bytes: usize,
    /// Files of one source.
    pub files: usize,
    /// Files of one source that are gone and not read to their end.
    pub gone: usize,
    /// Bytes read at a time, of all sources together.
    pub pass: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line: 64 << 10,
            joined_lines: 500,
            joined_bytes: 256 << 10,
            files: 512,
            gone: 32,
            pass: 4 << 20,
        }
    }
}

//! A file instead of a network: what `coral open FILE` shows comes through here.
//!
//! Comes in: a file of OTLP/JSON (one object, or one a line, as the collector's file exporter writes
//! them) or of log lines, plain or compressed. Goes out: the same records, through the same checks,
//! reducer, spool and uplink as anything that is received, and a [`Summary`] of what it held. [`unpack`]
//! takes compression off, [`otlp`] cuts OTLP into requests, [`lines`] reads logs.

pub mod lines;
pub mod otlp;
pub mod unpack;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coral_model::Time;
use serde::Serialize;

use crate::agent::Agent;

/// How long the colony may take to commit what was read.
const DRAIN: Duration = Duration::from_secs(600);

/// What a file held.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    /// What it is: `otlp` or `logs`.
    pub kind: &'static str,
    /// Spans taken.
    pub spans: u64,
    /// Log records taken.
    pub logs: u64,
    /// Metric points taken.
    pub points: u64,
    /// Spans, records or points that were not taken, and lines that were cut.
    pub rejected: u64,
    /// Times without a zone that were read as UTC.
    pub zoneless: u64,
    /// The first moment in it, Unix ns.
    pub from_ns: Option<u64>,
    /// The last.
    pub to_ns: Option<u64>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

impl Summary {
    /// A moment that the file speaks of.
    pub fn at(&mut self, ns: u64) {
        if ns > 0 {
            self.from_ns = Some(self.from_ns.map_or(ns, |first| first.min(ns)));
            self.to_ns = Some(self.to_ns.map_or(ns, |last| last.max(ns)));
        }
    }
}

/// Why a file was not read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The system refused.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its compression is damaged.
    #[error("{} is damaged: its {what} ends or breaks after {bytes} bytes of content: {source}", path.display())]
    Packed {
        /// Which file.
        path: PathBuf,
        /// `gzip` or `zstd`.
        what: &'static str,
        /// How much was whole.
        bytes: u64,
        /// What is wrong.
        source: io::Error,
    },
    /// It unpacks to more than is read.
    #[error("{} unpacks to more than {limit} bytes; cut out the part you need", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The bound.
        limit: u64,
    },
    /// It is not what it began as.
    #[error("{}: line {line}: {why}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// What was expected.
        why: String,
    },
    /// Nothing is in it.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// It holds bytes that are neither.
    #[error("{}: byte {at} is 0x{byte:02x}: expected text, OTLP/JSON or a log, plain, gzip or zstd", path.display())]
    Binary {
        /// Which file.
        path: PathBuf,
        /// Where, from 0.
        at: usize,
        /// What stands there.
        byte: u8,
    },
    /// The colony does not take it.
    #[error("the colony took nothing for {} s: see its log", .0.as_secs())]
    Stuck(Duration),
}

/// Reads a file into an agent and waits until its colony has all of it. `scratch` takes what is
/// unpacked.
///
/// # Errors
/// When the file cannot be read to its end; what was read before is there.
pub async fn run(agent: &Agent, path: &Path, scratch: &Path) -> Result<Summary, ImportError> {
    let io = |source| ImportError::Io { path: path.to_owned(), source };
    let (from, to) = (path.to_owned(), scratch.join("unpacked"));
    let plain = tokio::task::spawn_blocking(move || unpack::plain(&from, &to));
    let plain = plain.await.map_err(|e| io(io::Error::other(e)))??;
    let mut summary = Summary::default();
    if otlp::is_otlp(&plain, path)? {
        summary.kind = "otlp";
        otlp::read(agent, &plain, path, &mut summary).await?;
    } else {
        summary.kind = "logs";
        lines::read(agent, &plain, path, &mut summary).await?;
    }
    drain(agent).await?;
    Ok(summary)
}

/// Waits until what was appended is counted and committed.
async fn drain(agent: &Agent) -> Result<(), ImportError> {
    let begun = tokio::time::Instant::now();
    let pipeline = agent.pipeline().clone();
    loop {
        let flushing = pipeline.clone();
        let flushed = tokio::task::spawn_blocking(move || flushing.flush(Time::now())).await;
        if matches!(flushed, Ok(Ok(()))) && pipeline.spool.oldest_unacked_ns().is_none() {
            return Ok(());
        }
        if begun.elapsed() > DRAIN {
            return Err(ImportError::Stuck(DRAIN));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

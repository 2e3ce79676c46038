//! Records become rows.
//!
//! In: the records of one frame, as they lie in an agent's spool. Out: one [`Batch`], and what could
//! not be read. A record is read as far as it can be: a span whose attributes are damaged is kept
//! with those before the damage, the others of its request are kept whole. So "bad" never means
//! "again", and what the agent counted is what is stored: both call the same spans invalid
//! ([`coral_proto::otlp::trace::Span::ids`]).

mod logs;
mod metrics;
mod own;
mod reduced;
mod resources;
mod series;
mod spans;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use coral_model::id::{AgentId, SegmentId};
use coral_model::time::Time;
use coral_proto::record::{self, HEADER, Kind, RecordError};

pub use metrics::FOLDED;
pub use series::Series;

use crate::store::{Batch, Mark};
use resources::Resources;

/// Who sent it, and what is committed of it.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The agent.
    pub agent: AgentId,
    /// The segment.
    pub segment: SegmentId,
    /// Records up to here are committed, or queued to be.
    pub after: Option<u64>,
}

/// What a frame held.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Its rows; the mark is in it unless the frame had nothing new.
    pub batch: Batch,
    /// The last record's number; `None`: nothing new.
    pub last: Option<u64>,
    /// Records that were committed before.
    pub duplicates: u64,
    /// Spans, log records and points that the specification calls invalid.
    pub invalid: u64,
    /// Metric points that went into `__other__`.
    pub folded: u64,
    /// Attributes beyond the bound, or under a name that was there already.
    pub attributes_dropped: u64,
    /// How often the memory of resources was too small and was begun anew.
    pub resources_renewed: u64,
    /// What could not be read.
    pub damaged: Vec<Damaged>,
}

/// A record that could not be read, or not all of it.
#[derive(Debug)]
pub struct Damaged {
    /// Its number.
    pub seq: u64,
    /// What it carries, as [`crate::registry::Agents::unread`] calls it.
    pub kind: &'static str,
    /// Why.
    pub why: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Decodes the frames of one session; remembers resources it has met.
#[derive(Debug)]
pub struct Decoder {
    resources: Resources,
    series: Arc<Mutex<Series>>,
    scratch: Scratch,
}

/// Memory lent from record to record.
#[derive(Debug, Default)]
struct Scratch {
    value: String,
    operation: String,
    peer: String,
    events: String,
    links: String,
}

impl Decoder {
    /// Metric series are counted over all sessions.
    #[must_use]
    pub fn new(series: Arc<Mutex<Series>>) -> Self {
        Self { resources: Resources::default(), series, scratch: Scratch::default() }
    }

    /// Reads whole records, back to back. The first should have number `first`.
    pub fn frame(&mut self, frame: &Bytes, first: u64, origin: Origin, now: Time) -> Decoded {
        let mut out = Decoded::default();
        let mut rest = frame.clone();
        let mut expected = first;
        while !rest.is_empty() {
            let before = rest.clone();
            let seq = match record::take(&mut rest) {
                Ok(record) => {
                    let seq = record.seq;
                    if origin.after.is_some_and(|after| seq <= after) {
                        out.duplicates += 1;
                    } else {
                        match record.body() {
                            Ok(body) => {
                                let read = self.record(
                                    record.kind,
                                    &body,
                                    record.time_ns,
                                    origin,
                                    now,
                                    &mut out,
                                );
                                if let Err(why) = read {
                                    let kind = signal(record.kind);
                                    out.damaged.push(Damaged { seq, kind, why, bytes: body });
                                }
                            }
                            Err(error) => {
                                let bytes = before.slice(..before.len() - rest.len());
                                let (kind, why) = (signal(record.kind), error.to_string());
                                out.damaged.push(Damaged { seq, kind, why, bytes });
                            }
                        }
                    }
                    seq
                }
                Err(error) => {
                    let whole = skip(&mut rest, &error);
                    out.damaged.push(Damaged {
                        seq: expected,
                        kind: "records",
                        why: error.to_string(),
                        bytes: before.slice(..whole.min(before.len())),
                    });
                    expected
                }
            };
            out.last = Some(out.last.map_or(seq, |last: u64| last.max(seq)));
            expected = seq.saturating_add(1);
        }
        out.batch.bytes = frame.len();
        out.last = out.last.filter(|last| origin.after.is_none_or(|after| *last > after));
        if let Some(seq) = out.last {
            let Origin { agent, segment, after } = origin;
            out.batch.marks.push(Mark { agent, segment, after, seq });
        }
        out.resources_renewed = self.resources.renewed();
        out
    }

    fn record(
        &mut self,
        kind: Kind,
        body: &Bytes,
        received: u64,
        origin: Origin,
        now: Time,
        out: &mut Decoded,
    ) -> Result<(), String> {
        match kind {
            Kind::Traces => self.traces(body, out),
            Kind::Logs => self.logs(body, received, out),
            Kind::Metrics => self.metrics(body, received, now, out),
            Kind::Reduced => reduced::read(body, origin.agent, &mut out.batch),
            Kind::Host => own::host(body, origin.agent, &mut out.batch),
            Kind::Event => own::event(body, &mut out.batch),
        }
    }
}

fn signal(kind: Kind) -> &'static str {
    match kind {
        Kind::Traces => "spans",
        Kind::Logs => "logs",
        Kind::Metrics => "metrics",
        Kind::Reduced | Kind::Host | Kind::Event => "records",
    }
}

/// Moves past a record that cannot be read; its length says how far, unless it runs past the end:
/// then nothing after it can be found. Returns how many bytes were skipped.
fn skip(rest: &mut Bytes, error: &RecordError) -> usize {
    let length = rest.first_chunk::<HEADER>().map_or(rest.len(), |h| record::peek(h).0);
    let length = match error {
        RecordError::Truncated => rest.len(),
        _ => length.clamp(HEADER, rest.len().max(HEADER)).min(rest.len()),
    };
    drop(rest.split_to(length));
    length
}

/// Keeps the first thing that went wrong with a record and how often.
#[derive(Debug, Default)]
struct Trouble {
    first: Option<String>,
    times: u64,
}

impl Trouble {
    fn note(&mut self, what: impl std::fmt::Display) {
        self.times += 1;
        if self.first.is_none() {
            self.first = Some(what.to_string());
        }
    }

    fn result(self) -> Result<(), String> {
        match self.first {
            None => Ok(()),
            Some(first) if self.times == 1 => Err(first),
            Some(first) => Err(format!("{first} (and {} more)", self.times - 1)),
        }
    }
}

#[cfg(test)]
mod tests;

//! What the screen knows: the newest answer to each standing question.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use coral_model::time::Time;
use coral_model::view::{
    AgentRow, DigestRow, EdgeRow, End, EventRow, HostRow, InflightRow, LogRow, NodeRow, RedRow,
    Row, ServiceRow, SpanRow, StatusRow, TraceRow, lost,
};

use crate::feed::{Delivery, Slot, Want};

/// Log records kept for the pane.
pub const TAIL_KEPT: usize = 5_000;

/// An answer and what it answers.
#[derive(Clone, Debug)]
pub struct Known {
    /// What was asked.
    pub want: Arc<Want>,
    /// Rows.
    pub rows: Vec<Row>,
    /// Its last line.
    pub end: End,
    /// Why the newest asking failed, when it did.
    pub error: Option<String>,
    /// When it arrived.
    pub at: Time,
}

/// A log record and its number since the program started.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Counts up; never reused.
    pub n: u64,
    /// The record.
    pub row: LogRow,
}

/// Everything known.
#[derive(Default)]
pub struct Data {
    known: BTreeMap<Slot, Known>,
    failed: BTreeMap<Slot, String>,
    /// Log records, oldest first.
    pub logs: VecDeque<Numbered>,
    next_log: u64,
    /// Oldest and newest record of the history: the tail may repeat what is not newer, and what is
    /// older stood too far back to be asked for.
    history: (Time, Time),
    /// Tail records nobody had time to look at.
    pub skipped: u64,
    /// The tail that `logs` came from.
    tail_want: Option<Arc<Want>>,
    /// The colony about itself.
    pub status: Option<Box<StatusRow>>,
    /// Newest moment of anything known.
    pub newest: Option<Time>,
}

macro_rules! rows_of {
    ($($(#[$doc:meta])* $name:ident: $slot:ident $variant:ident -> $ty:ty;)+) => {
        $($(#[$doc])* pub fn $name(&self) -> impl DoubleEndedIterator<Item = &$ty> {
            self.rows(Slot::$slot).iter().filter_map(|row| match row {
                Row::$variant(row) => Some(&**row),
                _ => None,
            })
        })+
    };
}

impl Data {
    rows_of! {
        /// Services of the services table.
        services_asked: Services Service -> ServiceRow;
        /// RED per bucket.
        series: Series Red -> RedRow;
        /// RED per operation or split.
        operations: Operations Red -> RedRow;
        /// Traces.
        traces: Traces Trace -> TraceRow;
        /// Spans of the trace.
        spans: Trace Span -> SpanRow;
        /// Events.
        events: Events Event -> EventRow;
        /// Nodes of the topology.
        nodes: Topology Node -> NodeRow;
        /// Edges of the topology.
        edges: Topology Edge -> EdgeRow;
        /// Hosts.
        hosts: Hosts Host -> HostRow;
        /// Agents.
        agents: Agents Agent -> AgentRow;
        /// Requests in flight.
        inflight: Inflight Inflight -> InflightRow;
    }

    /// The digest.
    #[must_use]
    pub fn digest(&self) -> Option<&DigestRow> {
        self.rows(Slot::Digest).iter().find_map(|row| match row {
            Row::Digest(digest) => Some(&**digest),
            _ => None,
        })
    }

    /// Services: from the services question where it is asked, else from the digest.
    #[must_use]
    pub fn services(&self) -> Vec<&ServiceRow> {
        if self.known.contains_key(&Slot::Services) {
            self.services_asked().collect()
        } else {
            self.digest().map(|d| d.services.iter().collect()).unwrap_or_default()
        }
    }

    /// Rows of a slot; none while there is no answer.
    #[must_use]
    pub fn rows(&self, slot: Slot) -> &[Row] {
        self.known.get(&slot).map_or(&[], |known| &known.rows)
    }

    /// The answer in a slot.
    #[must_use]
    pub fn known(&self, slot: Slot) -> Option<&Known> {
        self.known.get(&slot)
    }

    /// Why a slot has no answer.
    #[must_use]
    pub fn failure(&self, slot: Slot) -> Option<&str> {
        self.failed.get(&slot).map(String::as_str)
    }

    /// Forgets a slot whose rows mean something else now.
    pub fn forget(&mut self, slot: Slot) {
        self.known.remove(&slot);
        self.failed.remove(&slot);
    }

    /// Forgets the log records.
    pub fn forget_logs(&mut self) {
        self.logs.clear();
        self.skipped = 0;
        self.history = (Time::default(), Time::default());
        self.tail_want = None;
    }

    fn seen(&mut self, newest: Option<Time>) {
        self.newest = self.newest.max(newest);
    }

    /// Takes an answer; says whether anything on the screen may look different.
    pub fn take(&mut self, slot: Slot, delivery: Delivery, now: Time) -> bool {
        match delivery.outcome {
            Ok((rows, end)) => {
                self.seen(end.newest);
                self.failed.remove(&slot);
                let same = self.known.get(&slot).is_some_and(|k| {
                    k.rows == rows
                        && k.end.blind == end.blind
                        && k.end.newest == end.newest
                        && k.end.dropped == end.dropped
                        && k.end.truncated == end.truncated
                        && k.error.is_none()
                        && k.want == delivery.want
                });
                if same {
                    if let Some(known) = self.known.get_mut(&slot) {
                        known.end = end;
                        known.at = now;
                    }
                    return false;
                }
                if slot == Slot::Logs {
                    self.take_history(&rows);
                }
                self.known
                    .insert(slot, Known { want: delivery.want, rows, end, error: None, at: now });
            }
            Err(why) => {
                if let Some(known) = self.known.get_mut(&slot) {
                    known.error = Some(why.clone());
                }
                self.failed.insert(slot, why);
            }
        }
        true
    }

    fn push(&mut self, row: LogRow) {
        self.logs.push_back(Numbered { n: self.next_log, row });
        self.next_log += 1;
    }

    /// What was there before the tail began; the tail's own records stay behind it.
    fn take_history(&mut self, rows: &[Row]) {
        let tail: Vec<LogRow> = self.logs.drain(..).map(|numbered| numbered.row).collect();
        let mut history: Vec<&LogRow> = rows
            .iter()
            .filter_map(|row| match row {
                Row::Log(log) => Some(&**log),
                _ => None,
            })
            .collect();
        history.sort_by_key(|row| row.time);
        let time = |row: Option<&&LogRow>| row.map(|row| row.time).unwrap_or_default();
        self.history = (time(history.first()), time(history.last()));
        for row in history {
            self.push(row.clone());
        }
        self.append(tail);
    }

    /// Appends to the log pane, leaving out what the history already had.
    fn append(&mut self, rows: Vec<LogRow>) {
        for row in rows {
            if row.time < self.history.0 {
                continue;
            }
            let known = row.time <= self.history.1
                && self.logs.iter().rev().take(512).any(|n| n.row == row);
            if known {
                continue;
            }
            self.seen(Some(row.time));
            if self.logs.len() >= TAIL_KEPT {
                self.logs.pop_front();
            }
            self.push(row);
        }
    }

    /// Takes records of the tail.
    pub fn take_tail(&mut self, want: Option<Arc<Want>>, rows: Vec<LogRow>, skipped: u64) {
        let same = match (&self.tail_want, &want) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        if !same {
            self.tail_want = want;
            self.skipped = 0;
        }
        self.skipped += skipped;
        let rows = if rows.len() > TAIL_KEPT {
            rows.into_iter().rev().take(TAIL_KEPT).rev().collect()
        } else {
            rows
        };
        self.append(rows);
    }

    /// What is known to be lost anywhere on the way: by the answers shown, or by the counters of the
    /// colony and its agents, whichever says more. Both may count the same loss.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let answers = self.known.values().map(|k| k.end.dropped).max().unwrap_or(0);
        let counted = self.status.as_ref().map_or(0, |status| {
            let agents = status.agents.iter().map(|agent| lost(&agent.counters));
            agents.fold(lost(&status.counters), u64::saturating_add)
        });
        answers.max(counted)
    }

    /// What cannot be seen, one sentence each, without repetition.
    #[must_use]
    pub fn blind(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        let answers = self.known.get(&Slot::Digest).map(|k| &k.end.blind);
        let status = self.status.as_ref().map(|s| &s.blind);
        for text in answers.into_iter().chain(status).flatten() {
            if !all.contains(&text.as_str()) {
                all.push(text);
            }
        }
        all
    }
}

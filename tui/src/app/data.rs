//! What the screen knows: the newest answer to each standing question.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coral_model::time::Time;
use coral_model::view::{
    AgentRow, DiffRow, DigestRow, EdgeRow, End, EventRow, HostRow, InflightRow, LogRow, NodeRow,
    PatternRow, RedRow, Row, ServiceRow, SpanRow, StatusRow, TraceRow, lost, refused,
};

use super::Tail;
use crate::feed::{Delivery, Slot, Want};

/// Names of services remembered.
const NAMES: usize = 10_000;

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

/// Everything known.
#[derive(Default)]
pub struct Data {
    known: BTreeMap<Slot, Known>,
    failed: BTreeMap<Slot, String>,
    /// Log records.
    pub logs: Tail,
    /// The colony about itself.
    pub status: Option<Box<StatusRow>>,
    /// Newest moment of anything known.
    pub newest: Option<Time>,
    /// Something has arrived in this colony at some time, as far as was told.
    pub heard: bool,
    /// Services that were named in any answer.
    pub names: BTreeSet<String>,
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
        /// What tells requests apart.
        diff: Diff Diff -> DiffRow;
        /// Log records beside one.
        context: Context Log -> LogRow;
        /// What log records have in common.
        patterns: Patterns Pattern -> PatternRow;
    }

    /// The digest.
    #[must_use]
    pub fn digest(&self) -> Option<&DigestRow> {
        self.digest_in(Slot::Digest)
    }

    /// The digest of everything, whatever the filter is: how the colony is.
    #[must_use]
    pub fn colony(&self) -> Option<&DigestRow> {
        let whole =
            |slot: &Slot| self.known.get(slot).is_some_and(|known| known.want.filter.is_empty());
        [Slot::Colony, Slot::Digest].into_iter().find(whole).and_then(|s| self.digest_in(s))
    }

    fn digest_in(&self, slot: Slot) -> Option<&DigestRow> {
        self.rows(slot).iter().find_map(|row| match row {
            Row::Digest(digest) => Some(&**digest),
            _ => None,
        })
    }

    /// Whether a slot has an answer.
    #[must_use]
    pub fn is_known(&self, slot: Slot) -> bool {
        self.known.contains_key(&slot)
    }

    /// Gives one slot's answer to another, if it answers all of what the other asks.
    pub fn lend(&mut self, from: Slot, to: Slot) {
        let whole = self.known.get(&from).filter(|known| known.want.filter.is_empty());
        if let Some(known) = whole.cloned() {
            self.known.insert(to, known);
        }
    }

    /// Remembers who was named.
    fn meet(&mut self, rows: &[Row]) {
        let named = rows.iter().flat_map(|row| match row {
            Row::Digest(digest) => digest.services.iter().collect(),
            Row::Service(service) => vec![&**service],
            _ => Vec::new(),
        });
        for service in named {
            self.heard = true;
            if self.names.len() < NAMES && !self.names.contains(&service.service) {
                self.names.insert(service.service.clone());
            }
        }
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

    fn seen(&mut self, newest: Option<Time>) {
        self.newest = self.newest.max(newest);
    }

    /// Takes an answer; says whether anything on the screen may look different.
    pub fn take(&mut self, slot: Slot, delivery: Delivery, now: Time) -> bool {
        match delivery.outcome {
            Ok((rows, end)) => {
                self.seen(end.newest);
                self.meet(&rows);
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
                    self.logs.take_history(&rows);
                    self.seen(self.logs.newest().map(|n| n.row.time));
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

    /// Takes records of the tail.
    pub fn take_tail(&mut self, want: Option<Arc<Want>>, rows: Vec<LogRow>, skipped: u64) {
        self.seen(rows.iter().map(|row| row.time).max());
        self.logs.take(want, rows, skipped);
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

    /// What the colony and its agents refused: whoever sent it was told, and may not have listened.
    #[must_use]
    pub fn refused(&self) -> u64 {
        let counted = self.status.iter().flat_map(|status| {
            let agents = status.agents.iter().map(|agent| refused(&agent.counters));
            agents.chain([refused(&status.counters)])
        });
        counted.fold(0, u64::saturating_add)
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

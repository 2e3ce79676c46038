//! What a sender was told, held against what the colony has.
//!
//! Accepted spans are stored once, refused ones not at all, those whose answer never came at most
//! once, and RED counts exactly what is stored.

use std::collections::{BTreeMap, BTreeSet};

use coral_model::view::Row;

use crate::colony::Colony;
use crate::otlp::{self, Posted};
use crate::wait::until;

/// Spans of one batch.
pub const BATCH: u32 = 20;

/// Batches of one service, by the number of their first span.
#[derive(Debug)]
pub struct Ledger {
    service: String,
    mark: u32,
    next: u32,
    /// Acknowledged.
    pub kept: Vec<u32>,
    /// Refused with an answer.
    pub refused: Vec<u32>,
    /// Without an answer.
    pub unsure: Vec<u32>,
}

/// The time a question is asked about, as arguments.
pub type Window<'a> = &'a [&'a str];

impl Ledger {
    /// Nothing sent yet.
    #[must_use]
    pub fn new(service: &str, mark: u32) -> Self {
        let (kept, refused, unsure) = (Vec::new(), Vec::new(), Vec::new());
        Self { service: service.to_owned(), mark, next: 0, kept, refused, unsure }
    }

    /// Sends the next batch and takes down what was said to it.
    ///
    /// # Errors
    /// When no answer came.
    pub fn send(&mut self, address: &str) -> Result<Posted, String> {
        use prost::Message as _;
        let first = self.next;
        self.next += BATCH;
        let request = otlp::server_spans(&self.service, self.mark, first, BATCH);
        let headers = [("content-type", "application/x-protobuf")];
        let answer = otlp::post(address, "/v1/traces", &headers, &request.encode_to_vec());
        match &answer {
            Ok(posted) if posted.status == 200 => self.kept.push(first),
            Ok(_) => self.refused.push(first),
            Err(_) => self.unsure.push(first),
        }
        answer
    }

    /// Sends until so many more batches are accepted.
    ///
    /// # Panics
    /// When they are not.
    #[track_caller]
    pub fn keep(&mut self, address: &str, batches: usize) {
        let wanted = self.kept.len() + batches;
        until("batches to be accepted", || {
            let said = self.send(address);
            if self.kept.len() >= wanted { Ok(()) } else { Err(format!("{said:?}")) }
        });
    }

    /// How often each span is stored, by its number.
    ///
    /// # Errors
    /// When the colony does not answer whole.
    pub fn stored(
        &self,
        colony: &Colony,
        window: Window<'_>,
    ) -> Result<BTreeMap<u32, u32>, String> {
        let filter = format!("service={}", self.service);
        let question = [&["traces", &filter, "--limit", "1000000"], window].concat();
        let mut seen = BTreeMap::new();
        for row in colony.query(&question)? {
            if let Row::Trace(row) = row {
                let [.., a, b, c, d] = row.trace_id.0;
                *seen.entry(u32::from_be_bytes([a, b, c, d])).or_default() +=
                    u32::try_from(row.spans).unwrap_or(u32::MAX);
            }
        }
        Ok(seen)
    }

    /// Requests that RED counts.
    ///
    /// # Errors
    /// When the colony does not answer whole.
    pub fn counted(&self, colony: &Colony, window: Window<'_>) -> Result<u64, String> {
        let filter = format!("service={}", self.service);
        let rows = colony.query(&[&["red", &filter], window].concat())?;
        let requests = |row: &Row| if let Row::Red(red) = row { red.red.requests } else { 0 };
        Ok(rows.iter().map(requests).sum())
    }

    /// Waits until everything is as it was promised.
    ///
    /// # Panics
    /// When something acknowledged is missing, anything is there twice or was refused, or RED counts
    /// something else.
    #[track_caller]
    pub fn verify(&self, colony: &Colony, window: Window<'_>) {
        let spans = |batches: &[u32]| -> BTreeSet<u32> {
            batches.iter().flat_map(|&b| b..b + BATCH).collect()
        };
        let (kept, unsure) = (spans(&self.kept), spans(&self.unsure));
        assert!(!kept.is_empty(), "nothing was ever accepted");
        let seen = until("every acknowledged span", || {
            let seen = self.stored(colony, window)?;
            let missing = kept.iter().filter(|n| !seen.contains_key(n)).count();
            if missing == 0 {
                Ok(seen)
            } else {
                Err(format!("{missing} of {} missing", kept.len()))
            }
        });
        for (number, times) in &seen {
            assert_eq!(*times, 1, "span {number} is stored {times} times");
            let sent = kept.contains(number) || unsure.contains(number);
            assert!(sent, "span {number} was refused or never sent, and is stored");
        }
        let total = u64::try_from(seen.len()).unwrap_or(u64::MAX);
        until("RED to count what is stored", || match self.counted(colony, window)? {
            n if n == total => Ok(()),
            n => Err(format!("{n} requests, {total} spans")),
        });
    }
}

//! A batch turned into chunks, ready to be appended as often as it takes.

use std::sync::Arc;

use coral_model::time::Time;
use duckdb::Connection;
use duckdb::arrow::error::ArrowError;
use hashbrown::HashSet;

use super::columns::{Chunk, small};
use super::schema::{Signal, Slice};
use super::tables::Tables;
use super::{Batch, Resource, StoreError};
use crate::edges::Kept;

/// A batch whose telemetry is in chunks; what remains in the batch others still read.
#[derive(Debug)]
pub struct Sealed {
    /// The batch, its span, log and metric columns taken out.
    pub batch: Batch,
    /// Rows of spans, logs and metric points.
    pub counts: [u64; 3],
    chunks: Vec<(Signal, Vec<Chunk>)>,
}

impl Sealed {
    /// Of a batch.
    pub fn new(mut batch: Batch) -> Result<Self, ArrowError> {
        let count = |n: usize| coral_model::num::u64_sat(n);
        let counts =
            [count(batch.spans.rows()), count(batch.logs.rows()), count(batch.metrics.rows())];
        let chunks = vec![
            (Signal::Spans, batch.spans.finish()?),
            (Signal::Logs, batch.logs.finish()?),
            (Signal::Metrics, batch.metrics.finish()?),
            (Signal::Red, small::red(&batch.red)?),
            (Signal::Edges, small::edges(&batch.edges)?),
            (Signal::Events, small::events(&batch.events)?),
            (Signal::Inflight, small::inflight(&batch.inflight)?),
            (Signal::Hosts, small::hosts(&batch.hosts)?),
        ];
        Ok(Self { batch, counts, chunks })
    }

    /// Its chunks of a signal.
    pub fn chunks_of(&self, signal: Signal) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter().filter(move |(own, _)| *own == signal).flat_map(|(_, chunks)| chunks)
    }
}

/// What one transaction adds besides the batches: made by the writer.
#[derive(Debug, Default)]
pub struct Extra {
    /// Resources the current slice does not explain yet.
    pub resources: Vec<Arc<Resource>>,
    /// Ends a restart must know of.
    pub kept: Vec<Kept>,
}

/// Resources of `batches` that are not in `known`.
pub fn unknown_resources(batches: &[Sealed], known: &HashSet<u64>) -> Vec<Arc<Resource>> {
    let mut fresh = HashSet::new();
    let all = batches.iter().flat_map(|sealed| sealed.batch.resources.values());
    all.filter(|r| !known.contains(&r.id.0) && fresh.insert(r.id.0)).cloned().collect()
}

/// Appends everything inside the caller's transaction, stamped `stamp`.
pub fn append(
    connection: &Connection,
    tables: &Tables,
    batches: &[Sealed],
    extra: &Extra,
    stamp: Time,
) -> Result<(), StoreError> {
    for signal in Signal::ALL {
        let mut chunks: Vec<&Chunk> = Vec::new();
        for (_, own) in batches.iter().flat_map(|b| &b.chunks).filter(|(s, _)| *s == signal) {
            chunks.extend(own);
        }
        let made = match signal {
            Signal::Resources => small::resources(&extra.resources, stamp),
            Signal::HalfEdges => small::half_edges(&extra.kept),
            _ => Ok(Vec::new()),
        };
        let made = made.map_err(arrow)?;
        chunks.extend(&made);
        if chunks.is_empty() {
            continue;
        }
        let slice = tables.current(signal).unwrap_or(Slice::of(stamp));
        let mut appender = connection.appender(&slice.table(signal))?;
        for chunk in chunks {
            let batch = chunk.batch(signal.stamp_column(), stamp.as_i64()).map_err(arrow)?;
            appender.append_record_batch(batch)?;
        }
        appender.flush()?;
    }
    Ok(())
}

/// An Arrow error as the store's.
pub fn arrow(error: ArrowError) -> StoreError {
    StoreError::Database(duckdb::Error::ToSqlConversionFailure(Box::new(error)))
}

//! Metric columns: one row per data point, of whatever shape.

use coral_model::id::ResourceId;
use coral_model::view::MetricKind;
use duckdb::arrow::array::{
    ArrayBuilder as _, Float64Builder, Int64Builder, StringBuilder, UInt64Builder,
};
use duckdb::arrow::datatypes::{Float64Type, UInt64Type};
use duckdb::arrow::error::ArrowError;

use super::{CHUNK_BYTES, CHUNK_ROWS, Chunk, ListBuilder, MapBuilder, known, shared};

/// Everything of a data point but its attributes.
#[derive(Debug, Clone, Copy)]
pub struct Point<'a> {
    /// When it was taken, Unix ns.
    pub time_ns: u64,
    /// Start of what it covers; 0: not said.
    pub start_ns: u64,
    /// The metric's name.
    pub metric: &'a str,
    /// Its shape.
    pub kind: MetricKind,
    /// Its unit.
    pub unit: &'a str,
    /// Its description.
    pub description: &'a str,
    /// `delta`, `cumulative`, or empty.
    pub temporality: &'a str,
    /// `service.name`.
    pub service: &'a str,
    /// Resource.
    pub resource: ResourceId,
    /// Value of a gauge or sum.
    pub value: Option<f64>,
    /// Observations.
    pub count: Option<u64>,
    /// Their sum.
    pub sum: Option<f64>,
    /// Bounds of explicit buckets.
    pub bounds: &'a [f64],
    /// Counts of explicit buckets.
    pub counts: &'a [u64],
    /// JSON of what has no column; empty: none.
    pub extra: &'a str,
}

/// Metric points as columns. Write attributes into [`MetricColumns::attributes`], then `push`.
#[derive(Debug, Default)]
pub struct MetricColumns {
    done: Vec<Chunk>,
    rows: usize,
    /// Attributes of the point that is pushed next.
    pub attributes: MapBuilder,
    /// Made for the first row: most batches have no rows of most signals.
    open: Option<Box<Open>>,
}

/// The chunk that is being filled.
#[derive(Debug, Default)]
struct Open {
    time: Int64Builder,
    start: Int64Builder,
    metric: StringBuilder,
    kind: StringBuilder,
    unit: StringBuilder,
    description: StringBuilder,
    temporality: StringBuilder,
    service: StringBuilder,
    resource: UInt64Builder,
    value: Float64Builder,
    count: UInt64Builder,
    sum: Float64Builder,
    bounds: ListBuilder<Float64Type>,
    counts: ListBuilder<UInt64Type>,
    extra: StringBuilder,
    text: usize,
}

impl MetricColumns {
    /// Rows pushed.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a point; its attributes are what was written into `attributes` since the last push.
    pub fn push(&mut self, row: &Point<'_>) -> Result<(), ArrowError> {
        self.attributes.end();
        let open = self.open.get_or_insert_default();
        open.time.append_value(coral_model::num::i64_sat(row.time_ns));
        let start = (row.start_ns > 0).then(|| coral_model::num::i64_sat(row.start_ns));
        open.start.append_option(start);
        open.metric.append_value(row.metric);
        open.kind.append_value(row.kind.word());
        open.unit.append_value(row.unit);
        open.description.append_value(row.description);
        open.temporality.append_option(known(row.temporality));
        open.service.append_value(row.service);
        open.resource.append_value(row.resource.0);
        open.value.append_option(row.value);
        open.count.append_option(row.count);
        open.sum.append_option(row.sum);
        open.bounds.row(row.bounds.iter().copied());
        open.counts.row(row.counts.iter().copied());
        open.extra.append_option(known(row.extra));
        self.rows += 1;
        open.text += row.metric.len() + row.description.len() + row.unit.len() + row.extra.len();
        open.text += 8 * (row.bounds.len() + row.counts.len());
        if open.time.len() >= CHUNK_ROWS || open.text + self.attributes.bytes() >= CHUNK_BYTES {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), ArrowError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let rows = open.time.len();
        let columns = vec![
            shared(open.time.finish()),
            shared(open.start.finish()),
            shared(open.metric.finish()),
            shared(open.kind.finish()),
            shared(open.unit.finish()),
            shared(open.description.finish()),
            shared(open.temporality.finish()),
            shared(open.service.finish()),
            shared(open.resource.finish()),
            self.attributes.finish()?,
            shared(open.value.finish()),
            shared(open.count.finish()),
            shared(open.sum.finish()),
            open.bounds.finish()?,
            open.counts.finish()?,
            shared(open.extra.finish()),
        ];
        self.done.push(Chunk::new(rows, columns));
        Ok(())
    }

    /// Every chunk, the open one closed.
    pub fn finish(&mut self) -> Result<Vec<Chunk>, ArrowError> {
        self.close()?;
        self.rows = 0;
        Ok(std::mem::take(&mut self.done))
    }
}

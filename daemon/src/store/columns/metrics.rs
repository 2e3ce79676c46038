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
        self.time.append_value(coral_model::num::i64_sat(row.time_ns));
        let start = (row.start_ns > 0).then(|| coral_model::num::i64_sat(row.start_ns));
        self.start.append_option(start);
        self.metric.append_value(row.metric);
        self.kind.append_value(row.kind.word());
        self.unit.append_value(row.unit);
        self.description.append_value(row.description);
        self.temporality.append_option(known(row.temporality));
        self.service.append_value(row.service);
        self.resource.append_value(row.resource.0);
        self.value.append_option(row.value);
        self.count.append_option(row.count);
        self.sum.append_option(row.sum);
        self.bounds.row(row.bounds.iter().copied());
        self.counts.row(row.counts.iter().copied());
        self.extra.append_option(known(row.extra));
        self.rows += 1;
        self.text += row.metric.len() + row.description.len() + row.unit.len() + row.extra.len();
        self.text += 8 * (row.bounds.len() + row.counts.len());
        if self.time.len() >= CHUNK_ROWS || self.text + self.attributes.bytes() >= CHUNK_BYTES {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), ArrowError> {
        let rows = self.time.len();
        if rows == 0 {
            return Ok(());
        }
        self.text = 0;
        let columns = vec![
            shared(self.time.finish()),
            shared(self.start.finish()),
            shared(self.metric.finish()),
            shared(self.kind.finish()),
            shared(self.unit.finish()),
            shared(self.description.finish()),
            shared(self.temporality.finish()),
            shared(self.service.finish()),
            shared(self.resource.finish()),
            self.attributes.finish()?,
            shared(self.value.finish()),
            shared(self.count.finish()),
            shared(self.sum.finish()),
            self.bounds.finish()?,
            self.counts.finish()?,
            shared(self.extra.finish()),
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

//! Log columns.

use coral_model::id::{ResourceId, SpanId, TraceId};
use duckdb::arrow::array::{
    ArrayBuilder as _, Int64Builder, StringBuilder, UInt8Builder, UInt64Builder,
};
use duckdb::arrow::error::ArrowError;

use super::spans::halves;
use super::{CHUNK_BYTES, CHUNK_ROWS, Chunk, MapBuilder, shared};

/// Everything of a log record but its attributes.
#[derive(Debug, Clone, Copy)]
pub struct Log<'a> {
    /// When it was written, else observed, else received; Unix ns.
    pub time_ns: u64,
    /// `service.name`.
    pub service: &'a str,
    /// OpenTelemetry's severity number; 0 is unspecified.
    pub severity: u8,
    /// As text; structures as JSON.
    pub body: &'a str,
    /// Trace it belongs to.
    pub trace: Option<TraceId>,
    /// Span it belongs to.
    pub span: Option<SpanId>,
    /// Resource.
    pub resource: ResourceId,
}

/// Log records as columns. Write attributes into [`LogColumns::attributes`], then `push`.
#[derive(Debug, Default)]
pub struct LogColumns {
    done: Vec<Chunk>,
    rows: usize,
    /// Attributes of the record that is pushed next.
    pub attributes: MapBuilder,
    /// Made for the first row: most batches have no rows of most signals.
    open: Option<Box<Open>>,
}

/// The chunk that is being filled.
#[derive(Debug, Default)]
struct Open {
    time: Int64Builder,
    service: StringBuilder,
    severity: UInt8Builder,
    body: StringBuilder,
    trace_hi: UInt64Builder,
    trace_lo: UInt64Builder,
    span: UInt64Builder,
    resource: UInt64Builder,
}

impl LogColumns {
    /// Rows pushed.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a record; its attributes are what was written into `attributes` since the last push.
    pub fn push(&mut self, row: &Log<'_>) -> Result<(), ArrowError> {
        self.attributes.end();
        let open = self.open.get_or_insert_default();
        open.time.append_value(coral_model::num::i64_sat(row.time_ns));
        open.service.append_value(row.service);
        open.severity.append_value(row.severity);
        open.body.append_value(row.body);
        let trace = row.trace.map(halves);
        open.trace_hi.append_option(trace.map(|t| t.0));
        open.trace_lo.append_option(trace.map(|t| t.1));
        open.span.append_option(row.span.map(|s| u64::from_be_bytes(s.0)));
        open.resource.append_value(row.resource.0);
        self.rows += 1;
        let text = open.body.values_slice().len() + self.attributes.bytes();
        if open.time.len() >= CHUNK_ROWS || text >= CHUNK_BYTES {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), ArrowError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let rows = open.time.len();
        let columns = vec![
            shared(open.time.finish()),
            shared(open.service.finish()),
            shared(open.severity.finish()),
            shared(open.body.finish()),
            shared(open.trace_hi.finish()),
            shared(open.trace_lo.finish()),
            shared(open.span.finish()),
            shared(open.resource.finish()),
            self.attributes.finish()?,
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

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
        self.time.append_value(coral_model::num::i64_sat(row.time_ns));
        self.service.append_value(row.service);
        self.severity.append_value(row.severity);
        self.body.append_value(row.body);
        let trace = row.trace.map(halves);
        self.trace_hi.append_option(trace.map(|t| t.0));
        self.trace_lo.append_option(trace.map(|t| t.1));
        self.span.append_option(row.span.map(|s| u64::from_be_bytes(s.0)));
        self.resource.append_value(row.resource.0);
        self.rows += 1;
        let text = self.body.values_slice().len() + self.attributes.bytes();
        if self.time.len() >= CHUNK_ROWS || text >= CHUNK_BYTES {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), ArrowError> {
        let rows = self.time.len();
        if rows == 0 {
            return Ok(());
        }
        let columns = vec![
            shared(self.time.finish()),
            shared(self.service.finish()),
            shared(self.severity.finish()),
            shared(self.body.finish()),
            shared(self.trace_hi.finish()),
            shared(self.trace_lo.finish()),
            shared(self.span.finish()),
            shared(self.resource.finish()),
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

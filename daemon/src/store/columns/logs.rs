//! Log columns.

use coral_model::id::{ResourceId, SpanId, TraceId};
use coral_model::time::Time;
use duckdb::arrow::array::{
    Array as _, ArrayBuilder as _, Int64Array, Int64Builder, StringArray, StringBuilder,
    UInt8Array, UInt8Builder, UInt64Array, UInt64Builder,
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

/// What a record says, for whoever looks for patterns.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// When it was written.
    pub time: Time,
    /// `service.name`.
    pub service: &'a str,
    /// OpenTelemetry's severity number.
    pub severity: u8,
    /// Its body.
    pub body: &'a str,
    /// Trace it belongs to.
    pub trace: Option<TraceId>,
}

/// Columns of a chunk that is closed.
struct Columns<'a> {
    time: &'a Int64Array,
    service: &'a StringArray,
    severity: &'a UInt8Array,
    body: &'a StringArray,
    trace: (&'a UInt64Array, &'a UInt64Array),
}

impl<'a> Columns<'a> {
    fn of(chunk: &'a Chunk) -> Option<Self> {
        let mut columns = chunk.columns.iter().map(|c| c.as_any());
        Some(Self {
            time: columns.next()?.downcast_ref()?,
            service: columns.next()?.downcast_ref()?,
            severity: columns.next()?.downcast_ref()?,
            body: columns.next()?.downcast_ref()?,
            trace: (columns.next()?.downcast_ref()?, columns.next()?.downcast_ref()?),
        })
    }

    fn said(&self, row: usize) -> Option<Said<'a>> {
        let (hi, lo) = self.trace;
        let id = (hi.is_valid(row) && lo.is_valid(row)).then(|| (hi.value(row), lo.value(row)));
        Some(Said {
            time: Time::from_i64(self.time.value(row)),
            service: self.service.value(row),
            severity: self.severity.value(row),
            body: self.body.value(row),
            trace: id.and_then(whole),
        })
    }
}

/// A trace id from its halves.
fn whole((hi, lo): (u64, u64)) -> Option<TraceId> {
    let id = u128::from(hi) << 64 | u128::from(lo);
    (id != 0).then(|| TraceId(id.to_be_bytes()))
}

/// A text of a column that is being built.
fn text(column: &StringBuilder, row: usize) -> Option<&str> {
    let offsets = column.offsets_slice();
    let at = |row: usize| offsets.get(row).map(|o| coral_model::num::usize_sat(*o));
    let bytes = column.values_slice().get(at(row)?..at(row + 1)?)?;
    std::str::from_utf8(bytes).ok()
}

impl Open {
    fn said(&self, row: usize) -> Option<Said<'_>> {
        let half = |column: &UInt64Builder| column.values_slice().get(row).copied();
        Some(Said {
            time: Time::from_i64(*self.time.values_slice().get(row)?),
            service: text(&self.service, row)?,
            severity: *self.severity.values_slice().get(row)?,
            body: text(&self.body, row)?,
            // No id is written as two zeros.
            trace: half(&self.trace_hi).zip(half(&self.trace_lo)).and_then(whole),
        })
    }
}

impl LogColumns {
    /// Shows at most `most` records, evenly spread, in the order they were pushed; how many it did not.
    pub fn sample(&self, most: usize, visit: &mut dyn FnMut(Said<'_>)) -> u64 {
        let every = self.rows.div_ceil(most.max(1)).max(1);
        let (mut n, mut shown) = (0usize, 0usize);
        let mut show = |said: Option<Said<'_>>| {
            if n.is_multiple_of(every)
                && let Some(said) = said
            {
                shown += 1;
                visit(said);
            }
            n += 1;
        };
        for chunk in &self.done {
            let columns = Columns::of(chunk);
            (0..chunk.rows).for_each(|row| show(columns.as_ref().and_then(|c| c.said(row))));
        }
        if let Some(open) = &self.open {
            (0..open.time.len()).for_each(|row| show(open.said(row)));
        }
        coral_model::num::u64_sat(self.rows.saturating_sub(shown))
    }

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

//! Span columns.

use coral_model::id::{ResourceId, SpanId, TraceId};
use coral_model::view::{SpanKind, SpanStatus};
use duckdb::arrow::array::{
    ArrayBuilder as _, BooleanBuilder, Int64Builder, StringBuilder, UInt8Builder, UInt64Builder,
};
use duckdb::arrow::error::ArrowError;

use super::{CHUNK_BYTES, CHUNK_ROWS, Chunk, MapBuilder, known, shared};

/// Everything of a span but its attributes. Empty text is unknown.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// Unix ns.
    pub start_ns: u64,
    /// ns.
    pub duration_ns: u64,
    /// Trace.
    pub trace: TraceId,
    /// Span.
    pub span: SpanId,
    /// Parent; `None` for a root.
    pub parent: Option<SpanId>,
    /// `service.name`.
    pub service: &'a str,
    /// What it does, as RED counts it.
    pub operation: &'a str,
    /// The span's own name, where it is another; else empty.
    pub name: &'a str,
    /// Kind.
    pub kind: SpanKind,
    /// Status.
    pub status: SpanStatus,
    /// The protocol's status code.
    pub code: &'a str,
    /// It failed.
    pub error: bool,
    /// `http.route`.
    pub http_route: &'a str,
    /// `db.system.name`.
    pub db_system: &'a str,
    /// `rpc.method`, with its service in front where the span has one.
    pub rpc_method: &'a str,
    /// `peer.service`, else `server.address`.
    pub peer_service: &'a str,
    /// Resource.
    pub resource: ResourceId,
    /// What its status said.
    pub message: &'a str,
    /// JSON array; empty: none.
    pub events: &'a str,
    /// JSON array; empty: none.
    pub links: &'a str,
}

/// Spans as columns. Write a span's attributes into [`SpanColumns::attributes`], then `push` it.
#[derive(Debug, Default)]
pub struct SpanColumns {
    done: Vec<Chunk>,
    rows: usize,
    /// Attributes of the span that is pushed next.
    pub attributes: MapBuilder,
    /// Made for the first row: most batches have no rows of most signals.
    open: Option<Box<Open>>,
}

/// The chunk that is being filled.
#[derive(Debug, Default)]
struct Open {
    start: Int64Builder,
    duration: Int64Builder,
    trace_hi: UInt64Builder,
    trace_lo: UInt64Builder,
    span: UInt64Builder,
    parent: UInt64Builder,
    service: StringBuilder,
    operation: StringBuilder,
    name: StringBuilder,
    kind: UInt8Builder,
    status: UInt8Builder,
    code: StringBuilder,
    error: BooleanBuilder,
    http_route: StringBuilder,
    db_system: StringBuilder,
    rpc_method: StringBuilder,
    peer_service: StringBuilder,
    resource: UInt64Builder,
    message: StringBuilder,
    events: StringBuilder,
    links: StringBuilder,
    text: usize,
}

/// The two halves of a trace id.
#[must_use]
pub fn halves(id: TraceId) -> (u64, u64) {
    let n = u128::from_be_bytes(id.0);
    let low = n & u128::from(u64::MAX);
    (u64::try_from(n >> 64).unwrap_or_default(), u64::try_from(low).unwrap_or_default())
}

/// A trace id of its two halves.
#[must_use]
pub fn trace_id(hi: u64, lo: u64) -> TraceId {
    TraceId((u128::from(hi) << 64 | u128::from(lo)).to_be_bytes())
}

/// As a signed count; the few nanoseconds after 2262 saturate.
fn ns(n: u64) -> i64 {
    coral_model::num::i64_sat(n)
}

impl SpanColumns {
    /// Rows pushed.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a span; its attributes are what was written into `attributes` since the last push.
    pub fn push(&mut self, row: &Span<'_>) -> Result<(), ArrowError> {
        let (hi, lo) = halves(row.trace);
        self.attributes.end();
        let open = self.open.get_or_insert_default();
        open.start.append_value(ns(row.start_ns));
        open.duration.append_value(ns(row.duration_ns));
        open.trace_hi.append_value(hi);
        open.trace_lo.append_value(lo);
        open.span.append_value(u64::from_be_bytes(row.span.0));
        open.parent.append_value(row.parent.map_or(0, |p| u64::from_be_bytes(p.0)));
        open.service.append_value(row.service);
        open.operation.append_value(row.operation);
        open.name.append_option(known(row.name));
        open.kind.append_value(row.kind.to_otlp());
        open.status.append_value(row.status.to_otlp());
        open.code.append_option(known(row.code));
        open.error.append_value(row.error);
        open.http_route.append_option(known(row.http_route));
        open.db_system.append_option(known(row.db_system));
        open.rpc_method.append_option(known(row.rpc_method));
        open.peer_service.append_option(known(row.peer_service));
        open.resource.append_value(row.resource.0);
        open.message.append_option(known(row.message));
        open.events.append_option(known(row.events));
        open.links.append_option(known(row.links));
        self.rows += 1;
        open.text += row.events.len() + row.links.len() + row.message.len() + row.operation.len();
        if open.start.len() >= CHUNK_ROWS || open.text + self.attributes.bytes() >= CHUNK_BYTES {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), ArrowError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let rows = open.start.len();
        let columns = vec![
            shared(open.start.finish()),
            shared(open.duration.finish()),
            shared(open.trace_hi.finish()),
            shared(open.trace_lo.finish()),
            shared(open.span.finish()),
            shared(open.parent.finish()),
            shared(open.service.finish()),
            shared(open.operation.finish()),
            shared(open.name.finish()),
            shared(open.kind.finish()),
            shared(open.status.finish()),
            shared(open.code.finish()),
            shared(open.error.finish()),
            shared(open.http_route.finish()),
            shared(open.db_system.finish()),
            shared(open.rpc_method.finish()),
            shared(open.peer_service.finish()),
            shared(open.resource.finish()),
            shared(open.message.finish()),
            self.attributes.finish()?,
            shared(open.events.finish()),
            shared(open.links.finish()),
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

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
        self.start.append_value(ns(row.start_ns));
        self.duration.append_value(ns(row.duration_ns));
        self.trace_hi.append_value(hi);
        self.trace_lo.append_value(lo);
        self.span.append_value(u64::from_be_bytes(row.span.0));
        self.parent.append_value(row.parent.map_or(0, |p| u64::from_be_bytes(p.0)));
        self.service.append_value(row.service);
        self.operation.append_value(row.operation);
        self.name.append_option(known(row.name));
        self.kind.append_value(row.kind.to_otlp());
        self.status.append_value(row.status.to_otlp());
        self.code.append_option(known(row.code));
        self.error.append_value(row.error);
        self.http_route.append_option(known(row.http_route));
        self.db_system.append_option(known(row.db_system));
        self.rpc_method.append_option(known(row.rpc_method));
        self.peer_service.append_option(known(row.peer_service));
        self.resource.append_value(row.resource.0);
        self.message.append_option(known(row.message));
        self.events.append_option(known(row.events));
        self.links.append_option(known(row.links));
        self.rows += 1;
        self.text += row.events.len() + row.links.len() + row.message.len() + row.operation.len();
        if self.start.len() >= CHUNK_ROWS || self.text + self.attributes.bytes() >= CHUNK_BYTES {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), ArrowError> {
        let rows = self.start.len();
        if rows == 0 {
            return Ok(());
        }
        self.text = 0;
        let columns = vec![
            shared(self.start.finish()),
            shared(self.duration.finish()),
            shared(self.trace_hi.finish()),
            shared(self.trace_lo.finish()),
            shared(self.span.finish()),
            shared(self.parent.finish()),
            shared(self.service.finish()),
            shared(self.operation.finish()),
            shared(self.name.finish()),
            shared(self.kind.finish()),
            shared(self.status.finish()),
            shared(self.code.finish()),
            shared(self.error.finish()),
            shared(self.http_route.finish()),
            shared(self.db_system.finish()),
            shared(self.rpc_method.finish()),
            shared(self.peer_service.finish()),
            shared(self.resource.finish()),
            shared(self.message.finish()),
            self.attributes.finish()?,
            shared(self.events.finish()),
            shared(self.links.finish()),
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

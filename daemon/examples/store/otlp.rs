//! The same spans as their SDKs would export them: OTLP protobuf, all of it one zstd stream.

use std::collections::BTreeMap;
use std::io::Write as _;

use coral_daemon::store::Resource;
use coral_model::view::SpanKind;
use coral_proto::otlp::value::Value;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource as Sent;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

use crate::shape::{FAILED, Made};
use crate::world::World;

/// zstd's own default.
const LEVEL: i32 = 3;

/// Counts what spans would take.
pub struct Sample {
    /// Spans wanted.
    left: u64,
    exports: BTreeMap<(u64, usize), Vec<Span>>,
    pub spans: u64,
    pub plain: u64,
}

impl Sample {
    /// Of so many spans.
    pub fn new(spans: u64) -> Self {
        Self { left: spans, exports: BTreeMap::new(), spans: 0, plain: 0 }
    }

    /// Takes a span that comes with a commit.
    pub fn take(&mut self, made: &Made<'_>, commit: u64) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let id = |n: u64| if n == 0 { Vec::new() } else { n.to_be_bytes().to_vec() };
        let attributes = made.attributes.iter().map(|(key, value)| attribute(key, *value));
        let kind = match made.kind {
            SpanKind::Server => 2,
            SpanKind::Client => 3,
            _ => 1,
        };
        let span = Span {
            trace_id: made.trace.0.to_vec(),
            span_id: id(made.span),
            parent_span_id: id(made.parent),
            name: made.name.to_owned(),
            kind,
            start_time_unix_nano: made.start,
            end_time_unix_nano: made.start + made.duration,
            attributes: attributes.collect(),
            status: made.failed.then(|| Status { code: 2, message: FAILED.into() }),
            ..Span::default()
        };
        self.exports.entry((commit, made.resource)).or_default().push(span);
    }

    /// Requests in the order they were exported, each with its commit.
    pub fn requests(&mut self, world: &World) -> Vec<(u64, Vec<u8>)> {
        let exports = std::mem::take(&mut self.exports);
        let request = |((commit, resource), spans): ((u64, usize), Vec<Span>)| {
            let resource = sent(world.resources[resource].as_ref());
            let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
            let spans =
                ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() };
            (commit, ExportTraceServiceRequest { resource_spans: vec![spans] }.encode_to_vec())
        };
        exports.into_iter().map(request).collect()
    }

    /// Bytes of everything as one zstd stream.
    pub fn packed(&mut self, world: &World) -> std::io::Result<u64> {
        let mut stream = zstd::Encoder::new(Counted(0), LEVEL)?;
        self.spans = self.exports.values().map(|spans| spans.len() as u64).sum();
        for (_, request) in self.requests(world) {
            self.plain += request.len() as u64;
            stream.write_all(&request)?;
        }
        Ok(stream.finish()?.0)
    }
}

struct Counted(u64);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn sent(resource: &Resource) -> Sent {
    let attributes = resource.attributes.iter();
    Sent {
        attributes: attributes.map(|(key, value)| attribute(key, Value::Text(value))).collect(),
        ..Sent::default()
    }
}

fn attribute(key: &str, value: Value<'_>) -> KeyValue {
    let value = match value {
        Value::Int(n) => any_value::Value::IntValue(n),
        Value::Text(text) => any_value::Value::StringValue(text.to_owned()),
        other => any_value::Value::StringValue(other.to_text().unwrap_or_default()),
    };
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

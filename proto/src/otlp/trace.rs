//! Spans of an `ExportTraceServiceRequest`.
//! Field numbers: opentelemetry-proto v1, `trace.proto`, `collector/trace/v1/trace_service.proto`.

use coral_model::id::{SpanId, TraceId};
use coral_model::view::{SpanKind, SpanStatus};

use super::value::Attributes;
use super::wire::{Fields, Repeated, WireError};

/// The `ResourceSpans` of an export request.
pub fn resource_spans(
    request: &[u8],
) -> impl Iterator<Item = Result<ResourceSpans<'_>, WireError>> + Clone {
    Repeated::new(request, 1).map(|body| body.and_then(ResourceSpans::parse))
}

/// Spans of one resource.
#[derive(Debug, Clone, Copy)]
pub struct ResourceSpans<'a> {
    body: &'a [u8],
    resource: &'a [u8],
}

impl<'a> ResourceSpans<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        // The resource may come after its spans on the wire.
        let mut resource: &[u8] = &[];
        for found in Repeated::new(body, 1) {
            resource = found?;
        }
        Ok(Self { body, resource })
    }

    /// Attributes of the resource.
    #[must_use]
    pub fn resource(&self) -> Attributes<'a> {
        Attributes::new(self.resource, 1)
    }

    /// The resource's bytes, for recognising one that was met before.
    #[must_use]
    pub fn resource_bytes(&self) -> &'a [u8] {
        self.resource
    }

    /// The spans, scope by scope.
    pub fn spans(&self) -> impl Iterator<Item = Result<Span<'a>, WireError>> + use<'a> {
        Repeated::new(self.body, 2).flat_map(|scope| {
            let (body, error) = match scope {
                Ok(body) => (body, None),
                Err(error) => (&[][..], Some(Err(error))),
            };
            error.into_iter().chain(Repeated::new(body, 2).map(|span| span.and_then(Span::parse)))
        })
    }
}

/// A span, borrowed from the request.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    body: &'a [u8],
    /// As sent; valid when 16 bytes and not all zero.
    pub trace_id: &'a [u8],
    /// As sent; valid when 8 bytes and not all zero.
    pub span_id: &'a [u8],
    /// Empty for a root.
    pub parent_id: &'a [u8],
    /// W3C tracestate.
    pub trace_state: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its kind.
    pub kind: SpanKind,
    /// Unix nanoseconds.
    pub start_ns: u64,
    /// Unix nanoseconds.
    pub end_ns: u64,
    /// How it ended.
    pub status: SpanStatus,
    /// What its status said.
    pub message: &'a str,
}

impl<'a> Span<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let mut span = Self {
            body,
            trace_id: &[],
            span_id: &[],
            parent_id: &[],
            trace_state: "",
            name: "",
            kind: SpanKind::Internal,
            start_ns: 0,
            end_ns: 0,
            status: SpanStatus::Unset,
            message: "",
        };
        for field in Fields::new(body) {
            match field? {
                (1, field) => span.trace_id = field.bytes(1)?,
                (2, field) => span.span_id = field.bytes(2)?,
                (3, field) => span.trace_state = field.text(3)?,
                (4, field) => span.parent_id = field.bytes(4)?,
                (5, field) => span.name = field.text(5)?,
                (6, field) => span.kind = SpanKind::from_otlp(field.varint(6)?),
                (7, field) => span.start_ns = field.fixed64(7)?,
                (8, field) => span.end_ns = field.fixed64(8)?,
                (15, field) => {
                    for part in Fields::new(field.bytes(15)?) {
                        match part? {
                            (2, field) => span.message = field.text(2)?,
                            (3, field) => span.status = SpanStatus::from_otlp(field.varint(3)?),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(span)
    }

    /// Its ids, or `None` when the specification calls the span invalid: both agent and colony
    /// reject exactly those, so what was counted is what is stored.
    #[must_use]
    pub fn ids(&self) -> Option<(TraceId, SpanId)> {
        let trace = TraceId::from_slice(self.trace_id).filter(|id| !id.is_zero())?;
        let span = SpanId::from_slice(self.span_id).filter(|id| !id.is_zero())?;
        Some((trace, span))
    }

    /// Its parent; `None` for a root.
    #[must_use]
    pub fn parent(&self) -> Option<SpanId> {
        SpanId::from_slice(self.parent_id).filter(|id| !id.is_zero())
    }

    /// Nanoseconds from start to end; 0 when the clock ran backwards in between.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// Its attributes.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.body, 9)
    }

    /// Its events: time, name, attributes.
    pub fn events(&self) -> impl Iterator<Item = Result<Event<'a>, WireError>> + use<'a> {
        Repeated::new(self.body, 11).map(|body| body.and_then(Event::parse))
    }

    /// Its links: trace id and span id as sent.
    pub fn links(&self) -> impl Iterator<Item = Result<(&'a [u8], &'a [u8]), WireError>> + use<'a> {
        Repeated::new(self.body, 13).map(|body| {
            let (mut trace, mut span): (&[u8], &[u8]) = (&[], &[]);
            for field in Fields::new(body?) {
                match field? {
                    (1, field) => trace = field.bytes(1)?,
                    (2, field) => span = field.bytes(2)?,
                    _ => {}
                }
            }
            Ok((trace, span))
        })
    }
}

/// A span event, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    body: &'a [u8],
    /// Unix nanoseconds.
    pub time_ns: u64,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Event<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        let mut event = Self { body, time_ns: 0, name: "" };
        for field in Fields::new(body) {
            match field? {
                (1, field) => event.time_ns = field.fixed64(1)?,
                (2, field) => event.name = field.text(2)?,
                _ => {}
            }
        }
        Ok(event)
    }

    /// Its attributes.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.body, 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1 as otlp;
    use proptest::prelude::*;
    use prost::Message as _;

    fn attribute(key: &str, value: any_value::Value) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
            ..Default::default()
        }
    }

    fn request() -> ExportTraceServiceRequest {
        let span = otlp::Span {
            trace_id: vec![7; 16],
            span_id: vec![8; 8],
            parent_span_id: vec![9; 8],
            name: "GET /cart".into(),
            kind: 2,
            start_time_unix_nano: 1_000,
            end_time_unix_nano: 4_500,
            attributes: vec![attribute(
                "http.response.status_code",
                any_value::Value::IntValue(503),
            )],
            events: vec![otlp::span::Event {
                time_unix_nano: 2_000,
                name: "retry".into(),
                ..Default::default()
            }],
            links: vec![otlp::span::Link {
                trace_id: vec![1; 16],
                span_id: vec![2; 8],
                ..Default::default()
            }],
            status: Some(otlp::Status { code: 2, message: "boom".into() }),
            ..Default::default()
        };
        ExportTraceServiceRequest {
            resource_spans: vec![otlp::ResourceSpans {
                resource: Some(Resource {
                    attributes: vec![attribute(
                        "service.name",
                        any_value::Value::StringValue("cart".into()),
                    )],
                    ..Default::default()
                }),
                scope_spans: vec![otlp::ScopeSpans { spans: vec![span], ..Default::default() }],
                ..Default::default()
            }],
        }
    }

    #[test]
    fn the_walk_sees_what_prost_decodes() {
        let bytes = request().encode_to_vec();
        let resources: Vec<_> = resource_spans(&bytes).collect::<Result<_, _>>().unwrap();
        let attributes: Vec<_> = resources[0].resource().collect::<Result<_, _>>().unwrap();
        assert_eq!(attributes, [("service.name", super::super::value::Value::Text("cart"))]);
        let spans: Vec<_> = resources[0].spans().collect::<Result<_, _>>().unwrap();
        let span = spans[0];
        assert_eq!(span.ids(), Some((TraceId([7; 16]), SpanId([8; 8]))));
        assert_eq!(span.parent(), Some(SpanId([9; 8])));
        assert_eq!(
            (span.name, span.kind, span.duration_ns()),
            ("GET /cart", SpanKind::Server, 3_500)
        );
        assert_eq!((span.status, span.message), (SpanStatus::Error, "boom"));
        assert_eq!(span.attributes().count(), 1);
        assert_eq!(span.events().next().unwrap().unwrap().name, "retry");
        assert_eq!(span.links().next().unwrap().unwrap(), (&[1u8; 16][..], &[2u8; 8][..]));
    }

    proptest! {
        #[test]
        fn damaged_requests_never_panic(at in 0usize..400, byte: u8, cut in 0usize..400) {
            let mut bytes = request().encode_to_vec();
            let len = bytes.len();
            bytes[at % len] = byte;
            bytes.truncate(cut.min(len));
            for resource in resource_spans(&bytes).flatten() {
                for span in resource.spans().flatten() {
                    for (_, value) in span.attributes().flatten() {
                        let _ = value.to_text();
                    }
                }
            }
        }
    }
}

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(any_value::Value::StringValue(value.into()));
    KeyValue { key: key.into(), value: Some(AnyValue { value }), ..Default::default() }
}

fn span(n: u8, kind: i32) -> otlp::Span {
    otlp::Span {
        trace_id: vec![n; 16],
        span_id: vec![n; 8],
        parent_span_id: vec![n + 100; 8],
        name: format!("span {n}"),
        kind,
        start_time_unix_nano: 1_000,
        end_time_unix_nano: 3_000,
        attributes: vec![
            text("http.request.method", "GET"),
            text("http.route", "/x"),
            text("server.address", "cart"),
        ],
        events: vec![otlp::span::Event { name: "e".into(), ..Default::default() }],
        ..Default::default()
    }
}

fn request(spans: Vec<otlp::Span>) -> Vec<u8> {
    let resource = Resource { attributes: vec![text("service.name", "s")], ..Default::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![otlp::ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![otlp::ScopeSpans { spans, ..Default::default() }],
            ..Default::default()
        }],
    }
    .encode_to_vec()
}

#[test]
fn facts_say_what_the_spans_said() {
    let body = request(vec![span(1, 2), span(2, 3), span(3, 1)]);
    let mut batch = Batch::default();
    batch.decode(&body).unwrap();
    let [server, client, internal] = batch.facts() else { panic!("three spans") };
    assert_eq!(batch.text(server.operation), "GET /x");
    assert_eq!(server.half_key, Some(server.parent_key));
    assert_eq!(client.half_key, Some(client.key));
    assert_eq!((batch.text(client.peer), client.peer_kind), ("cart", PeerKind::External));
    assert_eq!((internal.half_key, internal.duration_ns()), (None, 2_000));
    assert!(internal.waits_for_parent() && client.waits_for_parent() && !server.waits_for_parent());
    // A caller's key is its callee's parent key.
    assert_eq!(key([1; 16], [101; 8]), server.parent_key);
    let resource = &batch.resources()[0];
    let parsed = crate::reduce::Resource::parse(&body[resource.range.clone()]);
    assert_eq!(parsed.get("service.name"), Some("s"));
}

/// The same, of this scope.
fn of_scope(scope: &str, spans: Vec<otlp::Span>) -> otlp::ResourceSpans {
    let mut request = ExportTraceServiceRequest::decode(&request(spans)[..]).unwrap();
    let mut part = request.resource_spans.remove(0);
    part.scope_spans[0].scope =
        Some(InstrumentationScope { name: scope.to_owned(), ..Default::default() });
    part
}

#[test]
fn what_an_agent_made_is_checked_and_passed_over() {
    let own = of_scope(SCOPE, vec![span(1, 2), span(2, 3)]);
    let mut both = own.clone();
    both.scope_spans.extend(of_scope("lib", vec![span(3, 2)]).scope_spans);
    let theirs = of_scope("coral.ebpf.2", vec![span(4, 2)]);
    let decoded = |resource_spans: Vec<otlp::ResourceSpans>| {
        let mut batch = Batch::default();
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        batch.decode(&body).map(|()| batch)
    };
    let batch = decoded(vec![own.clone()]).unwrap();
    assert_eq!((batch.facts().len(), batch.resources().len(), batch.spans), (0, 0, 2));
    assert_eq!(batch.passed_over, 2);
    // Of what stands beside it every fact has its own resource.
    let batch = decoded(vec![own, both, theirs]).unwrap();
    let facts: Vec<_> = batch.facts().iter().map(|f| (f.trace[0], f.resource)).collect();
    assert_eq!((facts, batch.resources().len()), (vec![(3, 0), (4, 1)], 2));
    assert_eq!((batch.spans, batch.passed_over), (6, 4));
    let mut short = span(1, 2);
    short.span_id.clear();
    let batch = decoded(vec![of_scope(SCOPE, vec![short])]).unwrap();
    assert_eq!((batch.rejected, batch.passed_over), (1, 0));
}

#[test]
fn a_consumer_without_a_parent_follows_its_link() {
    let mut consumer = span(1, 5);
    consumer.parent_span_id.clear();
    let link =
        otlp::span::Link { trace_id: vec![7; 16], span_id: vec![8; 8], ..Default::default() };
    consumer.links = vec![link];
    let mut root = span(2, 2);
    root.parent_span_id = vec![0; 8];
    let mut batch = Batch::default();
    batch.decode(&request(vec![consumer, root])).unwrap();
    assert_eq!(batch.facts()[0].half_key, Some(key([7; 16], [8; 8])));
    assert_eq!(batch.facts()[1].half_key, Some(NOBODY));
}

#[test]
fn repeated_keys_and_values_are_checked_all() {
    for pair in [&[0x0a, 1, 0xff, 0x0a, 1, b'k'][..], &[0x12, 2, 0x0a, 9, 0x12, 0][..]] {
        let mut walk = Walk::new();
        assert!(walk.attribute(pair).is_err(), "{pair:?}");
    }
}

#[test]
fn flags_decide_whose_child_a_span_is() {
    let mut local = span(1, 2);
    local.flags = 0x100;
    let mut remote = span(2, 1);
    remote.flags = 0x300;
    let mut batch = Batch::default();
    batch.decode(&request(vec![local, remote])).unwrap();
    assert!(batch.facts()[0].waits_for_parent());
    assert!(!batch.facts()[1].waits_for_parent());
}

#[test]
fn invalid_ids_are_rejected_and_named() {
    let mut short = span(1, 2);
    short.trace_id = vec![1; 15];
    let mut zero = span(2, 2);
    zero.span_id = vec![0; 8];
    let mut batch = Batch::default();
    batch.decode(&request(vec![span(3, 2), short, zero])).unwrap();
    assert_eq!((batch.spans, batch.rejected, batch.facts().len()), (3, 2, 1));
    let first = batch.first_rejected.unwrap();
    assert_eq!((first.place, first.trace_len, first.name.as_str()), (1, 15, "span 1"));
}

#[test]
fn too_many_spans_are_refused() {
    // 30 bytes each: the smallest valid span.
    let tiny = otlp::Span { trace_id: vec![1; 16], span_id: vec![1; 8], ..Default::default() };
    let body = request(vec![tiny; MAX_SPANS + 1]);
    assert_eq!(Batch::default().decode(&body), Err(DecodeError::TooMany));
}

proptest! {
    /// What passes here, prost can read: nothing accepted is a puzzle to the colony.
    #[test]
    fn what_passes_decodes(at in 0usize..800, byte: u8, cut in 0usize..800) {
        let mut body = request(vec![span(1, 2), span(2, 3)]);
        let len = body.len();
        body[at % len] = byte;
        body.truncate(cut.min(len));
        let mut batch = Batch::default();
        if batch.decode(&body).is_ok() {
            prop_assert!(ExportTraceServiceRequest::decode(&body[..]).is_ok());
        }
    }
}

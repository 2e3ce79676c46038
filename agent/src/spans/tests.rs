//! What spans tell, whose they are, and that nothing is counted twice.

use coral_model::Time;
use coral_model::view::{CALLER, SEEN_BY, SYNTHETIC, SpanKind};
use coral_proto::otlp::meaning::{Code, Meaning};
use coral_proto::otlp::trace::resource_spans;
use coral_proto::record::{Kind, Packer};
use coral_proto::v1::PeerKind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

use super::*;
use crate::observe::ServiceProcesses;
use crate::pipeline::Pipeline;
use crate::reduce::decode::Batch;
use crate::reduce::{Answer, Limits};
use crate::spool::{self, Spool};

const TRACE: [u8; 16] = [7; 16];
const PARENT: [u8; 8] = [8; 8];

fn source(service: &str) -> Source {
    let pair = |key: &str, value: &str| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.into())) }),
        ..KeyValue::default()
    };
    let attributes = vec![pair("service.name", service), pair(SEEN_BY, "ebpf")];
    let bytes = Resource { attributes, ..Resource::default() }.encode_to_vec();
    let hash = xxh3_64(&bytes);
    Source { service: service.to_owned(), bytes, hash, reports: false }
}

/// One end of a request that was answered well.
fn end(source: &Source, kind: SpanKind) -> Traced<'_> {
    let asks = kind == SpanKind::Client;
    Traced {
        seen: Seen {
            resource: (&source.bytes, source.hash),
            kind,
            operation: "GET /cart/{id}",
            protocol: "http",
            answer: Answer::Status(200),
            start_ns: 90 * SECOND + u64::from(!asks),
            end_ns: 91 * SECOND,
            trace: [0; 16],
            key: 9,
            peer: if asks { "127.0.0.1:80" } else { "" },
            peer_kind: PeerKind::External,
            sampled: false,
        },
        source,
        protocol: Protocol::Http,
        parent: TraceParent::default(),
        is_local: true,
    }
}

fn maker(host: &str) -> Maker {
    Maker::new(host, Arc::default())
}

/// The one span that is made of a request.
fn made(maker: &mut Maker, request: Traced<'_>) -> Span {
    let export = maker.make([request].into_iter(), 91 * SECOND).unwrap();
    let [part] = &export.resource_spans[..] else { panic!("{export:?}") };
    let [scope] = &part.scope_spans[..] else { panic!("{part:?}") };
    assert_eq!(scope.scope.as_ref().map(|s| s.name.as_str()), Some(SCOPE));
    let [span] = &scope.spans[..] else { panic!("{scope:?}") };
    span.clone()
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    let pair = span.attributes.iter().find(|pair| pair.key == key)?;
    pair.value.clone()?.value
}

#[test]
fn both_ends_make_one_trace_without_knowing_of_each_other() {
    let (ab, nginx) = (source("ab"), source("nginx"));
    let client = made(&mut maker("h"), end(&ab, SpanKind::Client));
    let server = made(&mut maker("h"), end(&nginx, SpanKind::Server));
    assert_eq!((client.trace_id.len(), client.span_id.len()), (16, 8));
    assert_eq!(client.trace_id, server.trace_id);
    assert_ne!(client.span_id, server.span_id);
    // Neither is below anything that may not be there; the colony joins them.
    assert!(client.parent_span_id.is_empty() && server.parent_span_id.is_empty());
    let caller: String = client.span_id.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(attribute(&server, CALLER), Some(Value::StringValue(caller)));
    assert_eq!(attribute(&client, CALLER), None);
    // Another request, a later one between the same ports, and the same ports of another host.
    let mut next = end(&ab, SpanKind::Client);
    next.seen.key += 1;
    let mut later = end(&ab, SpanKind::Client);
    later.seen.start_ns += 60 * SECOND;
    for other in [
        made(&mut maker("h"), next),
        made(&mut maker("h"), later),
        made(&mut maker("other"), end(&ab, SpanKind::Client)),
    ] {
        assert!(other.trace_id != client.trace_id && other.span_id != client.span_id);
    }
    // Addresses that two hosts have between them are one connection's on both.
    let between = |host, end| made(&mut maker(host), Traced { is_local: false, ..end });
    let client = between("h", end(&ab, SpanKind::Client));
    assert_eq!(client.trace_id, between("other", end(&nginx, SpanKind::Server)).trace_id);
}

#[test]
fn who_asked_is_not_known_where_there_is_no_key() {
    let nginx = source("nginx");
    let unknown = |start_ns| {
        let mut request = end(&nginx, SpanKind::Server);
        (request.seen.key, request.seen.start_ns) = (0, start_ns);
        made(&mut maker("h"), request)
    };
    assert_eq!(attribute(&unknown(5), CALLER), None);
    assert_eq!(unknown(5).trace_id, unknown(5).trace_id);
    assert_ne!(unknown(5).trace_id, unknown(6).trace_id);
}

#[test]
fn a_request_belongs_to_the_trace_it_names_unless_that_is_not_recorded() {
    let (ab, nginx) = (source("ab"), source("nginx"));
    let named = TraceParent { trace: TRACE, span: PARENT, sampled: true };
    let (mut client, mut server) = (end(&ab, SpanKind::Client), end(&nginx, SpanKind::Server));
    (client.parent, server.parent) = (named, named);
    let (client, server) = (made(&mut maker("h"), client), made(&mut maker("h"), server));
    for span in [&client, &server] {
        assert_eq!((&span.trace_id[..], &span.parent_span_id[..]), (&TRACE[..], &PARENT[..]));
    }
    assert_ne!(client.span_id, server.span_id);
    let mut quiet = end(&nginx, SpanKind::Server);
    quiet.parent = TraceParent { sampled: false, ..named };
    let mut maker = maker("h");
    assert_eq!(maker.make([quiet].into_iter(), SECOND), None);
    // That is nobody's loss.
    assert_eq!((maker.counters.spans_made.get(), maker.counters.spans_left_out.get()), (0, 0));
}

#[test]
fn the_colony_reads_of_a_span_what_the_agent_counts_of_the_request() {
    use Protocol::{Dns, Grpc, Http, Postgres, Redis};
    let service = source("shop");
    let cases = [
        (Http, "GET /cart/{id}", Answer::Status(200), "127.0.0.1:80"),
        (Http, "GET {not found}", Answer::Status(404), "127.0.0.1:80"),
        (Http, "POST /", Answer::Status(503), "api.example.com:443"),
        (Http, "GET /slow", Answer::None, "127.0.0.1:80"),
        (Grpc, "shop.Cart/Add", Answer::Grpc(Some(14)), "10.0.0.7:5000"),
        (Grpc, "shop.Cart/Get", Answer::Grpc(Some(5)), "10.0.0.7:5000"),
        (Grpc, "shop.Cart/Get", Answer::Grpc(None), "10.0.0.7:5000"),
        (Grpc, "/odd path", Answer::Grpc(Some(0)), "10.0.0.7:5000"),
        (Redis, "CONFIG GET", Answer::Done, "redis@10.0.0.7:6379"),
        (Redis, "GET", Answer::Failed("WRONGTYPE"), "redis@10.0.0.7:6379"),
        (Postgres, "SELECT orders; …", Answer::Failed("42P01"), "postgresql@db.internal:5432"),
        (Dns, "A api.example.com", Answer::Said("NOERROR"), "dns@10.0.0.2:53"),
        (Dns, "A api.example.com", Answer::Failed("SERVFAIL"), "dns@10.0.0.2:53"),
    ];
    for (protocol, operation, answer, peer) in cases {
        for kind in [SpanKind::Server, SpanKind::Client] {
            let asks = kind == SpanKind::Client;
            let mut request = Traced { protocol, ..end(&service, kind) };
            request.seen = Seen {
                operation,
                answer,
                protocol: protocol.word(),
                peer: if asks { peer } else { "" },
                ..request.seen
            };
            let (failed, no_answer) = (request.seen.failed(), request.seen.no_answer());
            let export = maker("h").make([request].into_iter(), SECOND).unwrap();
            let body = export.encode_to_vec();
            let part = resource_spans(&body).next().unwrap().unwrap();
            assert_eq!(part.resource_bytes(), service.bytes, "the resource is the counts' own");
            let span = part.spans().next().unwrap().unwrap();
            let mut meaning = Meaning::default();
            let mut synthetic = false;
            for (key, value) in span.attributes().map(Result::unwrap) {
                synthetic |= key == SYNTHETIC;
                if Meaning::concerns(key.as_bytes()) {
                    meaning.see(key.as_bytes(), value);
                }
            }
            let what = format!("{protocol:?} {operation} {answer:?} {kind:?}");
            assert!(synthetic && span.ids().is_some(), "{what}");
            assert_eq!(span.kind, kind);
            let (mut scratch, mut other) = (String::new(), String::new());
            assert_eq!(meaning.operation(span.name, &mut scratch), operation, "{what}");
            assert_eq!(meaning.is_error(span.status), failed, "{what}");
            assert_eq!(span.status == SpanStatus::Error, failed, "{what}");
            assert_eq!(span.message, if no_answer { "no answer" } else { "" }, "{what}");
            let code = match answer {
                Answer::Status(code) | Answer::Grpc(Some(code)) => Code::Number(code),
                _ => Code::Unknown,
            };
            assert_eq!(meaning.code(), code, "{what}");
            let named = meaning.peer(kind, &mut other).map(|peer| peer.name);
            // Spans have no word for servers of names.
            let expected = asks.then(|| peer.strip_prefix("dns@").unwrap_or(peer));
            assert_eq!(named, expected, "{what}");
        }
    }
}

#[test]
fn who_exports_spans_is_left_out_while_it_does() {
    let (nginx, cart) = (source("nginx"), source("cart"));
    let reports = Source { reports: true, ..source("python3") };
    let mut maker = maker("h");
    maker.heard("cart", SECOND);
    let ends = || [&nginx, &cart, &reports].map(|source| end(source, SpanKind::Server));
    let mut count = |now_ns| {
        let export = maker.make(ends().into_iter(), now_ns);
        export.map_or(0, |export| export.resource_spans.len())
    };
    assert_eq!(count(SECOND), 1);
    assert_eq!(count(SILENT_NS), 1);
    assert_eq!(count(SILENT_NS + SECOND), 2);
    // That there are many such services does not cost more than this.
    for n in 0..2 * SERVICES {
        maker.heard(&n.to_string(), SECOND);
    }
    assert!(maker.exporting.len() <= SERVICES);
}

#[test]
fn what_is_left_out_is_counted() {
    let nginx = source("nginx");
    let mut maker = maker("h");
    let all = 3 * quota::MOST;
    let requests = (0..all).map(|n| {
        let mut request = end(&nginx, SpanKind::Server);
        request.seen.key = n + 1;
        request
    });
    let export = maker.make(requests, SECOND).unwrap();
    let spans = export.resource_spans[0].scope_spans[0].spans.len() as u64;
    assert_eq!(spans, quota::MOST);
    let counted = |maker: &Maker| {
        let counters = &maker.counters;
        (counters.spans_made.get(), counters.spans_left_out.get())
    };
    assert_eq!(counted(&maker), (0, all - spans));
    maker.went(&export, true);
    assert_eq!(counted(&maker), (spans, all - spans));
    // Without room in the spool it was not made of use.
    maker.went(&export, false);
    assert_eq!(counted(&maker), (spans, all));
}

/// A pipeline on the spool in `dir`, as an agent has it when it starts.
fn pipeline(dir: &std::path::Path, counters: &Arc<Counters>) -> Pipeline {
    let options = spool::Options::new(dir.to_owned());
    let (spool, recovered) = Spool::open(&options, counters.clone(), SECOND).unwrap();
    let services = Arc::new(ServiceProcesses::new("h"));
    let limits = Limits::default();
    Pipeline::new(Arc::new(spool), limits, services, counters.clone(), recovered.covers)
}

#[test]
fn a_span_is_in_the_spool_and_is_never_counted() {
    let dir = tempfile::tempdir().unwrap();
    let counters = Arc::new(Counters::default());
    let (nginx, now) = (source("nginx"), Time(91 * SECOND));
    let request = || end(&nginx, SpanKind::Server);
    let plain = pipeline(dir.path(), &counters);
    plain.trace([request()].into_iter(), now);
    assert_eq!((counters.spool_records.get(), counters.spans_made.get()), (0, 0), "off");
    drop(plain);

    let living = pipeline(dir.path(), &counters).with_spans(Maker::new("h", counters.clone()));
    living.see([request().seen].into_iter(), now);
    living.trace([request()].into_iter(), now);
    assert_eq!((living.rows_waiting(), counters.spans_made.get()), (1, 1));
    // It dies before anything is written of its counts: what is in its spool is read again.
    drop(living);
    let next = pipeline(dir.path(), &counters).with_spans(Maker::new("h", counters.clone()));
    assert_eq!((counters.replayed_records.get(), next.rows_waiting()), (1, 0));

    // The service begins to export spans itself: those are counted, and no more are made.
    let span = Span {
        trace_id: TRACE.to_vec(),
        span_id: PARENT.to_vec(),
        kind: 2,
        start_time_unix_nano: now.0 - 1,
        end_time_unix_nano: now.0,
        ..Span::default()
    };
    let mut own = part(&nginx.bytes, vec![span]);
    own.scope_spans[0].scope = None;
    let body = ExportTraceServiceRequest { resource_spans: vec![own] }.encode_to_vec();
    let (mut batch, mut packer) = (Batch::default(), Packer::default());
    batch.decode(&body).unwrap();
    packer.pack(Kind::Traces, now.0, &body).unwrap();
    _ = next.traces(&mut packer, &batch, &body, None, now).unwrap();
    next.trace([request()].into_iter(), now);
    assert_eq!((next.rows_waiting(), counters.spans_made.get()), (1, 1));
}

//! What senders should not do, and some do: each gets a clear answer, and the agent goes on.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::large_futures,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::{Colony, Kept, until};
use coral_agent::agent::{Agent, Options};
use coral_agent::home::Home;
use coral_proto::record::Kind;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

struct Place {
    agent: Agent,
    _dir: tempfile::TempDir,
}

impl Place {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("agent");
        let mut options = Options::alone(data.clone());
        change(&mut options);
        let agent = Agent::start(options, Home::open(&data).unwrap()).await.unwrap();
        Self { agent, _dir: dir }
    }

    fn grpc(&self) -> SocketAddr {
        self.agent.otlp_grpc.unwrap()
    }

    fn http(&self) -> SocketAddr {
        self.agent.otlp_http.unwrap()
    }

    /// The agent still takes a good export, on both ports.
    async fn still_works(&self) {
        let before = self.agent.counters.spans_received.get();
        let (headers, _) = call(self.grpc(), &[], frame(0, &request(vec![span(1)]))).await;
        assert_eq!(headers["grpc-status"], "0");
        let (status, _, _) =
            post(self.http(), "/v1/traces", "application/x-protobuf", &[], request(vec![span(2)]))
                .await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(self.agent.counters.spans_received.get(), before + 2);
    }
}

fn span(n: u8) -> Span {
    Span {
        trace_id: vec![n; 16],
        span_id: vec![n; 8],
        name: format!("span {n}"),
        kind: 2,
        ..Default::default()
    }
}

fn request(spans: Vec<Span>) -> Vec<u8> {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans { spans, ..Default::default() }],
            ..Default::default()
        }],
    }
    .encode_to_vec()
}

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut out = vec![flag];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out
}

/// A gRPC call; headers and trailers together, and the body.
async fn call(address: SocketAddr, headers: &[(&str, &str)], body: Vec<u8>) -> (HeaderMap, Bytes) {
    call_path(address, TRACES, headers, body).await
}

async fn call_path(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (HeaderMap, Bytes) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut request =
        Request::post(format!("http://{address}{path}")).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response =
        send.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut headers = response.headers().clone();
    let collected = response.into_body().collect().await.unwrap();
    headers.extend(collected.trailers().cloned().unwrap_or_default());
    (headers, collected.to_bytes())
}

async fn post(
    address: SocketAddr,
    path: &str,
    media: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> (StatusCode, HeaderMap, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut send, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(path).header("host", "x").header("content-type", media);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = send.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, String::from_utf8_lossy(&body).into_owned())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn message(headers: &HeaderMap) -> String {
    headers["grpc-message"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_messages_are_refused_with_the_reason() {
    let place = Place::new().await;
    let good = request(vec![span(1)]);
    let cut = frame(0, &good[..good.len() - 1]);
    let mut wrong = good.clone();
    // Field 1 of the request becomes a varint.
    wrong[0] = 0x08;
    let mut utf8 = request(vec![Span { name: "ab".into(), ..span(1) }]);
    let at = utf8.windows(2).position(|w| w == b"ab").unwrap();
    utf8[at] = 0xff;
    for (body, code, why) in [
        (cut, "3", "ends in the middle"),
        (frame(0, &wrong), "3", "wire type"),
        (frame(0, &utf8), "3", "UTF-8"),
        (frame(2, &good), "3", "first byte must be 0 or 1"),
        (frame(1, &good), "3", "without a grpc-encoding"),
        (frame(0, &good)[..3].to_vec(), "3", "shorter than its prefix"),
        ([frame(0, &good), vec![1, 2]].concat(), "3", "bytes after it"),
        ([0, 255, 0, 0, 0].to_vec(), "8", "larger than 16 MiB"),
    ] {
        let (headers, _) = call(place.grpc(), &[], body).await;
        assert_eq!(headers["grpc-status"], code, "{why}");
        assert!(message(&headers).contains(why), "{} has no `{why}`", message(&headers));
    }
    assert_eq!(place.agent.counters.spans_received.get(), 0);
    place.still_works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nesting_has_a_bound() {
    let place = Place::new().await;
    let mut value = AnyValue { value: Some(any_value::Value::IntValue(1)) };
    for _ in 0..60 {
        value = AnyValue {
            value: Some(any_value::Value::ArrayValue(ArrayValue { values: vec![value] })),
        };
    }
    let deep = Span {
        attributes: vec![KeyValue { key: "deep".into(), value: Some(value), ..Default::default() }],
        ..span(1)
    };
    let (headers, _) = call(place.grpc(), &[], frame(0, &request(vec![deep]))).await;
    assert_eq!(headers["grpc-status"], "3");
    assert!(message(&headers).contains("nested more than 16 deep"));
    for depth in [60, 300] {
        let open = r#"{"arrayValue":{"values":["#.repeat(depth);
        let json = format!(
            r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"k","value":{open}{}}}]}}}}]}}"#,
            "]}}".repeat(depth)
        );
        let (status, _, body) =
            post(place.http(), "/v1/traces", "application/json", &[], json).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    }
    place.still_works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_cut_off_where_the_bound_is() {
    let place = Place::new().await;
    let bomb = vec![0u8; 100 << 20];
    for (name, packed) in [("gzip", gzip(&bomb)), ("zstd", zstd::encode_all(&bomb[..], 1).unwrap())]
    {
        let (headers, _) = call(place.grpc(), &[("grpc-encoding", name)], frame(1, &packed)).await;
        assert_eq!(headers["grpc-status"], "8", "{name}");
        assert!(message(&headers).contains("when decompressed"), "{}", message(&headers));
        let encoding = [("content-encoding", name)];
        let (status, ..) =
            post(place.http(), "/v1/traces", "application/x-protobuf", &encoding, packed).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert_eq!(place.agent.counters.requests_too_large.get(), 4);
    let (headers, _) =
        call(place.grpc(), &[("grpc-encoding", "gzip")], frame(1, &gzip(b"x")[..9])).await;
    assert_eq!(headers["grpc-status"], "3");
    assert!(message(&headers).contains("not valid gzip: it is cut short"), "{}", message(&headers));
    place.still_works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_spoken_is_named_with_what_is() {
    let place = Place::new().await;
    let good = request(vec![span(1)]);
    let (headers, _) = call(place.grpc(), &[("grpc-encoding", "snappy")], frame(1, &good)).await;
    assert_eq!(
        (headers["grpc-status"].as_bytes(), message(&headers).contains("gzip, zstd")),
        (&b"12"[..], true)
    );
    let (headers, _) =
        call_path(place.grpc(), "/grpc.health.v1.Health/Check", &[], frame(0, &[])).await;
    assert_eq!(headers["grpc-status"], "12");
    for (path, media, encoding, status, why) in [
        ("/v1/traces", "text/xml", "", 415, "application/x-protobuf"),
        ("/v1/traces", "application/json", "br", 415, "gzip, zstd"),
        ("/v1/spans", "application/json", "", 404, "/v1/traces"),
        ("/v1/traces", "application/json", "", 400, "not valid OTLP/JSON"),
    ] {
        let (got, _, body) =
            post(place.http(), path, media, &[("content-encoding", encoding)], "<").await;
        assert_eq!(got.as_u16(), status, "{body}");
        assert!(body.contains(why), "{body}");
    }
    place.still_works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_spans_are_rejected_and_the_rest_is_taken() {
    let place = Place::new().await;
    let short = Span { trace_id: vec![1; 3], ..span(1) };
    let body = request(vec![span(1), short, span(2)]);
    let (headers, reply) = call(place.grpc(), &[], frame(0, &body)).await;
    assert_eq!(headers["grpc-status"], "0");
    assert!(String::from_utf8_lossy(&reply).contains("1 of 3 spans have invalid ids"));
    let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[
        {"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"a","kind":2,
         "startTimeUnixNano":"1","endTimeUnixNano":2,"attributes":[{"key":"k","value":{"intValue":"-3"}}],"new":[{}]},
        {"traceId":"","spanId":"0102030405060708","name":"b","kind":"SPAN_KIND_SERVER"}]}]}]}"#;
    let (status, _, body) = post(place.http(), "/v1/traces", "application/json", &[], json).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(body.contains("\"rejectedSpans\":\"1\"") && body.contains("span 1 (`b`)"), "{body}");
    assert_eq!(place.agent.counters.spans_rejected.get(), 2);
    assert_eq!(place.agent.counters.spans_received.get(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_and_a_spent_budget_ask_to_come_again() {
    let place = Place::with(|o| o.spool_cap = Some(64 << 10)).await;
    let noise = |n: u64| {
        let name = (0..400)
            .map(|i| format!("{:x}", (n * 1_000 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        request(vec![Span { name, ..span(1) }])
    };
    let mut refused = None;
    for n in 0..50 {
        let (headers, _) = call(place.grpc(), &[], frame(0, &noise(n))).await;
        if headers["grpc-status"] != "0" {
            refused = Some(headers);
            break;
        }
    }
    let headers = refused.expect("64 KiB fill up");
    assert_eq!(headers["grpc-status"], "14");
    assert!(
        message(&headers).contains("spool is full")
            && headers.contains_key("grpc-status-details-bin")
    );
    let (status, headers, _) =
        post(place.http(), "/v1/traces", "application/json", &[], "{\"resourceSpans\":[]}").await;
    assert_eq!(status, StatusCode::OK, "an empty request needs next to nothing: {headers:?}");
    assert_eq!(place.agent.counters.requests_refused_spool.get(), 1);

    let place = Place::with(|o| o.memory = 64 << 10).await;
    let big = request(vec![Span { name: "x".repeat(100_000), ..span(1) }]);
    let (headers, _) = call(place.grpc(), &[], frame(0, &big)).await;
    assert_eq!(headers["grpc-status"], "14");
    let (status, headers, _) =
        post(place.http(), "/v1/traces", "application/x-protobuf", &[], big).await;
    assert_eq!(
        (status, headers["retry-after"].as_bytes()),
        (StatusCode::TOO_MANY_REQUESTS, &b"1"[..])
    );
    assert_eq!(place.agent.counters.requests_refused_busy.get(), 2);
    place.still_works().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_spans_mean_the_same_in_every_encoding() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Arc::new(Mutex::new(Kept::default()));
    let colony = Colony::start(dir.path(), kept.clone());
    let place = Place::with(|o| o.colony = Some(colony.address())).await;
    let sent = ExportTraceServiceRequest::decode(&request(vec![span(1), span(2)])[..]).unwrap();
    let proto = sent.encode_to_vec();
    let json = serde_json::to_vec(&sent).unwrap();
    let media = "application/x-protobuf";
    let http = place.http();
    assert_eq!(call(place.grpc(), &[], frame(0, &proto)).await.0["grpc-status"], "0");
    for (media, encoding, body) in [
        (media, "", proto.clone()),
        (media, "gzip", gzip(&proto)),
        (media, "zstd", zstd::encode_all(&proto[..], 1).unwrap()),
        ("application/json", "", json.clone()),
        ("application/json; charset=utf-8", "gzip", gzip(&json)),
    ] {
        let (status, _, body) =
            post(http, "/v1/traces", media, &[("content-encoding", encoding)], body).await;
        assert_eq!(status, StatusCode::OK, "{media} {encoding}: {body}");
    }
    let bodies = until("six records", || {
        let bodies = kept.lock().unwrap().bodies(Kind::Traces);
        (bodies.len() == 6).then_some(bodies)
    })
    .await;
    for body in bodies {
        assert_eq!(ExportTraceServiceRequest::decode(body).unwrap(), sent);
    }
    until("the counts", || (kept.lock().unwrap().requests() == 12).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_slow_connections_do_not_hold_anybody_up() {
    let place = Place::new().await;
    let mut open = Vec::new();
    for n in 0..300 {
        let mut stream =
            TcpStream::connect(if n % 2 == 0 { place.grpc() } else { place.http() }).await.unwrap();
        match n % 4 {
            0 => {}
            1 => stream.write_all(b"POST /v1/traces HTTP/1.1\r\ncontent-").await.unwrap(),
            2 => stream.write_all(b"PRI * HT").await.unwrap(),
            _ => {
                let head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{";
                stream.write_all(head).await.unwrap();
            }
        }
        open.push(stream);
    }
    place.still_works().await;
    let mut greeting = TcpStream::connect(place.http()).await.unwrap();
    greeting.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    greeting.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("200 OK") && text.contains("/v1/traces"), "{text}");
    let counters = place.agent.counters.clone();
    until("all seen", || (counters.connections_open.get() >= 300).then_some(())).await;
    drop(open);
    until("all gone", || (counters.connections_open.get() <= 2).then_some(())).await;
    place.agent.stop().await;
}

//! Bad input gets a clear error and loses nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use coral_model::view::Row;
use coral_tests::grpc::{self, frame};
use coral_tests::{Colony, otlp, until};
use prost::Message as _;

/// Name, headers, body, and the status it must be answered with.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Vec<u8>, u16);

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");

/// The colony still takes a good request and counts it.
fn still_well(colony: &Colony, service: &str) {
    let request = otlp::server_spans(service, 9, 0, 30);
    assert!(otlp::post_spans(&colony.otlp_http, &request).unwrap());
    let filter = format!("service={service}");
    until("30 requests after the attack", || {
        let rows = colony.query(&["red", &filter, "--since", "10m"])?;
        let n: u64 =
            rows.iter().map(|r| if let Row::Red(r) = r { r.red.requests } else { 0 }).sum();
        if n == 30 { Ok(()) } else { Err(n.to_string()) }
    });
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bad_bodies_get_a_clear_error() {
    let colony = Colony::start();
    let good = otlp::server_spans("cart", 1, 0, 10).encode_to_vec();
    let cases: [Case<'_>; 7] = [
        ("truncated", &[PROTOBUF], good[..good.len() - 7].to_vec(), 400),
        ("not protobuf", &[PROTOBUF], vec![0xff; 400], 400),
        (
            "not JSON",
            &[("content-type", "application/json")],
            b"{\"resourceSpans\": [".to_vec(),
            400,
        ),
        ("wrong type", &[("content-type", "text/plain")], good.clone(), 415),
        ("unknown encoding", &[PROTOBUF, ("content-encoding", "br")], good.clone(), 415),
        ("not gzip", &[PROTOBUF, ("content-encoding", "gzip")], good.clone(), 400),
        // 128 MiB of zeros in 128 KiB: more than any body may become.
        ("bomb", &[PROTOBUF, ("content-encoding", "gzip")], gzip(&vec![0; 128 << 20]), 413),
    ];
    for (name, headers, body, status) in cases {
        let answer = otlp::post(&colony.otlp_http, "/v1/traces", headers, &body).unwrap();
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        assert!(answer.body.len() > 10, "{name} says why: {answer:?}");
    }
    let answer = otlp::post(&colony.otlp_http, "/v1/nothing", &[PROTOBUF], &good).unwrap();
    assert_eq!(answer.status, 404, "{answer:?}");
    still_well(&colony, "after-bad-bodies");
}

#[test]
fn an_oversized_body_is_refused_before_it_is_read() {
    let colony = Colony::start();
    let mut stream = TcpStream::connect(&colony.otlp_http).unwrap();
    // Promises 10 GiB and sends a little: refused by the promise.
    stream
        .write_all(
            b"POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\n\
              content-length: 10737418240\r\n\r\nabc",
        )
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    still_well(&colony, "after-oversize");
}

#[test]
fn ten_thousand_connections_do_not_stop_it() {
    let colony = Colony::start();
    // Held open in hundreds, slow and silent, until ten thousand have been tried.
    let mut refused = 0u32;
    for _ in 0..100 {
        let held: Vec<_> = (0..100)
            .filter_map(|i| match TcpStream::connect(&colony.otlp_http) {
                Ok(mut stream) => {
                    if i % 10 == 0 {
                        // A sender that stops in the middle of its header.
                        _ = stream.write_all(b"POST /v1/traces HTTP/1.1\r\nho");
                    }
                    Some(stream)
                }
                Err(_) => {
                    refused += 1;
                    None
                }
            })
            .collect();
        drop(held);
    }
    assert!(refused < 10_000, "not one connection was accepted");
    still_well(&colony, "after-flood");
}

#[test]
fn invalid_spans_are_rejected_and_the_rest_kept() {
    let colony = Colony::start();
    let mut request = otlp::server_spans("partial", 3, 0, 10);
    request.resource_spans[0].scope_spans[0].spans[4].trace_id = vec![0; 16];
    request.resource_spans[0].scope_spans[0].spans[5].span_id = vec![1; 3];
    let answer =
        otlp::post(&colony.otlp_http, "/v1/traces", &[PROTOBUF], &request.encode_to_vec()).unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("id"), "partial success says why: {answer:?}");
    until("the eight valid ones", || {
        let rows = colony.query(&["red", "service=partial", "--since", "10m"])?;
        let n: u64 =
            rows.iter().map(|r| if let Row::Red(r) = r { r.red.requests } else { 0 }).sum();
        if n == 8 { Ok(()) } else { Err(n.to_string()) }
    });
}

#[test]
fn hostile_text_never_reaches_the_terminal() {
    let colony = Colony::start();
    let nasty = "pay\u{1b}[2J\u{202e}ments\u{7}";
    let request = otlp::server_spans(nasty, 5, 0, 10);
    assert!(otlp::post_spans(&colony.otlp_http, &request).unwrap());
    let out = until("the service", || {
        let out = colony.coral(&["query", "services", "--since", "10m"]).out;
        if out.contains("pay") { Ok(out) } else { Err(out) }
    });
    assert!(!out.contains(['\u{1b}', '\u{202e}', '\u{7}']), "{out:?}");
}

/// Spans whose one attribute is nested so deep.
fn nested(depth: usize) -> Vec<u8> {
    use opentelemetry_proto::tonic::common::v1::{
        AnyValue, ArrayValue, KeyValue, any_value::Value,
    };
    let mut value = AnyValue { value: Some(Value::IntValue(1)) };
    for _ in 0..depth {
        value = AnyValue { value: Some(Value::ArrayValue(ArrayValue { values: vec![value] })) };
    }
    let mut request = otlp::server_spans("deep", 7, 0, 1);
    let deep = KeyValue { key: "deep".into(), value: Some(value), ..Default::default() };
    request.resource_spans[0].scope_spans[0].spans[0].attributes.push(deep);
    request.encode_to_vec()
}

/// What the agent says it counts under that name.
fn counted(colony: &Colony, name: &str) -> u64 {
    let agents = colony.status().map(|status| status.agents).unwrap_or_default();
    agents.iter().filter_map(|agent| agent.counters.get(name)).sum()
}

/// A gRPC case: name, headers, body, the status, a word of the reason, and what counts it.
type Call<'a> = (&'a str, &'a [(&'a str, &'a str)], Vec<u8>, u16, &'a str, &'a str);

#[test]
fn bad_bodies_over_grpc_get_the_right_status_and_are_counted() {
    const GZIP: &[(&str, &str)] = &[("grpc-encoding", "gzip")];
    const ZSTD: &[(&str, &str)] = &[("grpc-encoding", "zstd")];
    let colony = Colony::start();
    let good = otlp::server_spans("cart", 1, 0, 10).encode_to_vec();
    let mut wrong = good.clone();
    // The request's only field becomes a number.
    wrong[0] = 0x08;
    let bomb = vec![0u8; 128 << 20];
    let zstd_bomb = zstd::encode_all(&bomb[..], 1).unwrap();
    let half = frame(0, &good)[..good.len() / 2].to_vec();
    let huge = frame(0, &vec![0; 17 << 20]);
    let cases: [Call<'_>; 16] = [
        ("truncated", &[], frame(0, &good[..good.len() - 7]), 3, "middle", "requests_invalid"),
        ("wrongly typed", &[], frame(0, &wrong), 3, "wire%20type", "requests_invalid"),
        ("not protobuf", &[], frame(0, &[0xff; 400]), 3, "OTLP", "requests_invalid"),
        ("nested", &[], frame(0, &nested(200)), 3, "nested", "requests_invalid"),
        ("bad flag", &[], frame(7, &good), 3, "first%20byte", "requests_invalid"),
        ("flag only", &[], frame(1, &good), 3, "grpc-encoding", "requests_invalid"),
        ("no prefix", &[], vec![0, 0], 3, "prefix", "requests_invalid"),
        ("half a frame", &[], half, 3, "", "requests_invalid"),
        ("two frames", &[], [frame(0, &good), frame(0, &good)].concat(), 3, "", "requests_invalid"),
        ("oversized", &[], huge, 8, "16%20MiB", "requests_too_large"),
        ("a promise", &[], vec![0, 0xff, 0xff, 0xff, 0xff], 8, "16%20MiB", "requests_too_large"),
        ("gzip bomb", GZIP, frame(1, &gzip(&bomb)), 8, "decompressed", "requests_too_large"),
        ("zstd bomb", ZSTD, frame(1, &zstd_bomb), 8, "decompressed", "requests_too_large"),
        ("not gzip", GZIP, frame(1, &good), 3, "gzip", "requests_invalid"),
        ("not zstd", ZSTD, frame(1, &good), 3, "zstd", "requests_invalid"),
        ("unknown", &[("grpc-encoding", "br")], frame(1, &good), 12, "gzip", "requests_unspoken"),
    ];
    for (name, headers, body, code, why, counter) in cases {
        let before = counted(&colony, counter);
        let told = grpc::call(&colony.otlp_grpc, grpc::TRACES, headers, body)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(told.code, code, "{name}: {told:?}");
        let plain = told.message.replace("%20", " ");
        let why = why.replace("%20", " ");
        assert!(plain.len() > 10 && plain.contains(&why), "{name} says why: {told:?}");
        until(&format!("{counter} to count {name}"), || match counted(&colony, counter) {
            n if n > before => Ok(()),
            n => Err(n.to_string()),
        });
    }
    // All that went through half of 256 MiB for bodies, and what an idle agent takes.
    let agent = colony.status().unwrap().agents.remove(0);
    assert!(agent.rss_bytes.unwrap() <= 256 << 20, "{} bytes resident", agent.rss_bytes.unwrap());
    still_well(&colony, "after-bad-calls");
}

#[test]
fn slow_senders_over_grpc_are_told_and_hold_nobody_up() {
    use http_body_util::{BodyExt as _, StreamBody};
    let colony = Colony::start();
    let begun = frame(0, &otlp::server_spans("slow", 6, 0, 10).encode_to_vec())[..20].to_vec();
    let slow: Vec<_> = (0..50)
        .map(|_| {
            let (address, begun) = (colony.otlp_grpc.clone(), begun.clone());
            std::thread::spawn(move || {
                // The first bytes, and then nothing: the stream stays open.
                let (sender, frames) = tokio::sync::mpsc::channel(1);
                let first = hyper::body::Frame::data(bytes::Bytes::from(begun));
                sender.blocking_send(Ok(first)).unwrap();
                let stream = tokio_stream::wrappers::ReceiverStream::new(frames);
                let told =
                    grpc::stream(&address, grpc::TRACES, &[], StreamBody::new(stream).boxed());
                drop(sender);
                told
            })
        })
        .collect();
    still_well(&colony, "beside-slow-senders");
    for one in slow {
        let told = one.join().unwrap().unwrap();
        assert_eq!(told.code, 4, "DEADLINE_EXCEEDED: {told:?}");
    }
    until("the slow ones to be counted", || match counted(&colony, "requests_broken_off") {
        50.. => Ok(()),
        n => Err(n.to_string()),
    });
}

#[test]
fn bad_records_and_points_are_rejected_and_the_rest_kept() {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1 as metrics;
    let colony = Colony::start();
    let mut request =
        ExportLogsServiceRequest::decode(&otlp::log_lines("partial-logs", 0, 10)[..]).unwrap();
    request.resource_logs[0].scope_logs[0].log_records[4].severity_text = "BADTEXT".to_owned();
    let mut body = request.encode_to_vec();
    let at = body.windows(7).position(|w| w == b"BADTEXT").unwrap();
    body[at] = 0xff;
    let answer = otlp::post(&colony.otlp_http, "/v1/logs", &[PROTOBUF], &body).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains("1 of 10 log records"), "partial success says why: {answer:?}");
    let told = grpc::call(&colony.otlp_grpc, grpc::LOGS, &[], frame(0, &body)).unwrap();
    assert_eq!(told.code, 0, "{told:?}");
    assert!(String::from_utf8_lossy(&told.body).contains("1 of 10 log records"), "{told:?}");
    until("the good lines, twice", || {
        let filter = ["logs", "service=partial-logs", "--since", "10m", "--limit", "100"];
        let rows = colony.query(&filter)?;
        if rows.len() == 18 { Ok(()) } else { Err(rows.len().to_string()) }
    });

    let point = |value| metrics::NumberDataPoint {
        time_unix_nano: otlp::now_ns(),
        value,
        ..Default::default()
    };
    let some = Some(metrics::number_data_point::Value::AsInt(7));
    let gauge = metrics::Gauge { data_points: vec![point(some), point(None), point(some)] };
    let metric = metrics::Metric {
        name: "queue.length".into(),
        data: Some(metrics::metric::Data::Gauge(gauge)),
        ..Default::default()
    };
    let scope = metrics::ScopeMetrics { metrics: vec![metric], ..Default::default() };
    let resource = metrics::ResourceMetrics { scope_metrics: vec![scope], ..Default::default() };
    let body = ExportMetricsServiceRequest { resource_metrics: vec![resource] }.encode_to_vec();
    let answer = otlp::post(&colony.otlp_http, "/v1/metrics", &[PROTOBUF], &body).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains("1 of 3 metric points"), "{answer:?}");
    until("what was rejected to be counted", || {
        let n = ["logs_rejected", "metric_points_rejected"].map(|name| counted(&colony, name));
        if n == [2, 1] { Ok(()) } else { Err(format!("{n:?}")) }
    });
}

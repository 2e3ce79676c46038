//! Bad input gets a clear error and loses nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use coral_model::view::Row;
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

//! Telemetry made for a purpose: requests with known ids and counts.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

/// Nanoseconds since the epoch, now.
#[must_use]
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A string attribute.
#[must_use]
pub fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }),
        ..Default::default()
    }
}

/// An integer attribute.
#[must_use]
pub fn int(key: &str, value: i64) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::IntValue(value)) }),
        ..Default::default()
    }
}

/// `count` root SERVER spans of one service, each a trace of its own, numbered from `first`.
/// Trace ids carry `mark` and the number, so that a test can say which ones are missing.
#[must_use]
pub fn server_spans(service: &str, mark: u32, first: u32, count: u32) -> ExportTraceServiceRequest {
    let now = now_ns();
    let spans = (first..first + count)
        .map(|n| {
            let mut trace_id = vec![0xc0; 8];
            trace_id.extend(mark.to_be_bytes());
            trace_id.extend(n.to_be_bytes());
            Span {
                trace_id,
                span_id: [mark.to_be_bytes(), (n + 1).to_be_bytes()].concat(),
                name: "GET /item".to_owned(),
                kind: 2,
                start_time_unix_nano: now - 5_000_000,
                end_time_unix_nano: now,
                attributes: vec![
                    text("http.request.method", "GET"),
                    text("http.route", "/item"),
                    int("http.response.status_code", if n % 10 == 0 { 500 } else { 200 }),
                ],
                status: Some(Status {
                    code: if n % 10 == 0 { 2 } else { 0 },
                    ..Default::default()
                }),
                ..Default::default()
            }
        })
        .collect();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", service), text("host.name", "test-host")],
                ..Default::default()
            }),
            scope_spans: vec![ScopeSpans { spans, ..Default::default() }],
            ..Default::default()
        }],
    }
}

/// An answer to a POST: status and body.
#[derive(Debug)]
pub struct Posted {
    /// HTTP status code.
    pub status: u16,
    /// Body, as text where it is.
    pub body: String,
}

/// Sends a body to OTLP over HTTP.
///
/// # Errors
/// When the connection fails or ends before an answer came.
pub fn post(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Posted, String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(crate::wait::PATIENCE)).map_err(|e| e.to_string())?;
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (key, value) in headers {
        head.push_str(&format!("{key}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).map_err(|e| e.to_string())?;
    // A server that refuses early may close before it has read everything; its answer still counts.
    let sent = stream.write_all(body).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    status
        .map(|status| Posted { status, body })
        .ok_or_else(|| format!("no answer (sent: {sent:?}, read: {read:?})"))
}

/// Sends spans to OTLP over HTTP as protobuf; true when they were accepted.
///
/// # Errors
/// When the connection fails or ends before an answer came.
pub fn post_spans(address: &str, request: &ExportTraceServiceRequest) -> Result<bool, String> {
    let headers = [("content-type", "application/x-protobuf")];
    post(address, "/v1/traces", &headers, &request.encode_to_vec()).map(|a| a.status == 200)
}

/// An encoded logs request of `count` lines of one service, numbered from `first`.
#[must_use]
pub fn log_lines(service: &str, first: u64, count: u64) -> Vec<u8> {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    let now = now_ns();
    let log_records = (first..first + count)
        .map(|n| LogRecord {
            time_unix_nano: now,
            observed_time_unix_nano: now,
            severity_number: if n % 100 == 0 { 17 } else { 9 },
            body: Some(AnyValue {
                value: Some(Value::StringValue(format!(
                    "line {n}: handled request in {} ms",
                    n % 97
                ))),
            }),
            ..Default::default()
        })
        .collect();
    let resource =
        Resource { attributes: vec![text("service.name", service)], ..Default::default() };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource),
            scope_logs: vec![ScopeLogs { log_records, ..Default::default() }],
            ..Default::default()
        }],
    }
    .encode_to_vec()
}

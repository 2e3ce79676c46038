//! Yes and no, in the sender's own encoding.
//!
//! gRPC: status in the trailers, `google.rpc.Status` with `RetryInfo` in `grpc-status-details-bin`.
//! HTTP: the response message, or `google.rpc.Status`, as protobuf or JSON like the request
//! (opentelemetry-proto, docs/specification.md).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use bytes::Bytes;
use hyper::body::Frame;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use prost::Message as _;

use super::{Accepted, Form, Refused, Signal};

/// Seconds a refused sender is asked to wait.
const RETRY_S: u64 = 1;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ACCEPT: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,gzip,zstd");

/// A body of one piece, and trailers.
#[derive(Debug, Default)]
pub struct Reply {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl hyper::body::Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.data.as_ref().map_or(0, |d| d.len() as u64))
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial: Option<Partial>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

impl Refused {
    /// gRPC's status code.
    fn grpc_code(&self) -> i32 {
        match self {
            Self::Invalid(_) | Self::Media(_) => 3,
            // Without RetryInfo, OTLP clients do not retry this.
            Self::TooLarge(_) => 8,
            Self::Encoding(_) => 12,
            Self::TooSlow(_) => 4,
            Self::Busy(_) => 14,
        }
    }

    fn http_code(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Encoding(_) | Self::Media(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    fn status(&self) -> Status {
        let mut details = Vec::new();
        if matches!(self, Self::Busy(_)) {
            let delay = Some(Delay { seconds: RETRY_S.cast_signed() });
            let value = RetryInfo { delay }.encode_to_vec();
            details.push(Any { type_url: RETRY_INFO.to_owned(), value });
        }
        Status { code: self.grpc_code(), message: self.to_string(), details }
    }
}

/// The answer to an export.
#[must_use]
pub fn answer(signal: Signal, form: Form, outcome: Result<Accepted, Refused>) -> Response<Reply> {
    match (form, outcome) {
        (Form::Grpc, Ok(accepted)) => grpc_yes(accepted),
        (Form::Grpc, Err(refused)) => grpc_no(&refused),
        (Form::Protobuf, Ok(accepted)) => {
            let body = response(accepted).encode_to_vec();
            http(StatusCode::OK, "application/x-protobuf", body)
        }
        (Form::Json, Ok(accepted)) => {
            http(StatusCode::OK, "application/json", json_yes(signal, &accepted))
        }
        (form, Err(refused)) => http_no(form, &refused),
    }
}

fn response(accepted: Accepted) -> ExportResponse {
    let Accepted { rejected, message } = accepted;
    let rejected = coral_model::num::i64_sat(rejected);
    let partial = (rejected > 0 || !message.is_empty()).then_some(Partial { rejected, message });
    ExportResponse { partial }
}

fn grpc_yes(accepted: Accepted) -> Response<Reply> {
    let message = response(accepted);
    let length = coral_model::num::u32_sat(message.encoded_len());
    let mut data = vec![0];
    data.extend_from_slice(&length.to_be_bytes());
    data.extend_from_slice(&message.encode_to_vec());
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Reply { data: Some(data.into()), trailers: Some(trailers) });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_ACCEPT, ACCEPTED);
    response
}

/// A gRPC failure: everything in the headers, no body ("trailers-only").
fn grpc_no(refused: &Refused) -> Response<Reply> {
    let status = refused.status();
    let details = (!status.details.is_empty())
        .then(|| base64::engine::general_purpose::STANDARD_NO_PAD.encode(status.encode_to_vec()));
    grpc_status(status.code, &status.message, details.as_deref())
}

/// A gRPC status without a message.
pub(super) fn grpc_status(code: i32, message: &str, details: Option<&str>) -> Response<Reply> {
    let mut response = Response::new(Reply::default());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_ACCEPT, ACCEPTED);
    headers.insert(GRPC_STATUS, HeaderValue::from(code));
    if let Ok(message) = HeaderValue::try_from(percent(message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    if let Some(details) = details.and_then(|d| HeaderValue::try_from(d).ok()) {
        headers.insert(GRPC_DETAILS, details);
    }
    response
}

/// gRPC's percent-encoding of status messages (PROTOCOL-HTTP2.md).
fn percent(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for &byte in message.as_bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            _ = std::fmt::Write::write_fmt(&mut out, format_args!("%{byte:02X}"));
        }
    }
    out
}

fn json_yes(signal: Signal, accepted: &Accepted) -> Vec<u8> {
    if *accepted == Accepted::default() {
        return b"{}".to_vec();
    }
    let rejected = match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Logs => "rejectedLogRecords",
        Signal::Metrics => "rejectedDataPoints",
    };
    let body = serde_json::json!({
        "partialSuccess": {
            rejected: accepted.rejected.to_string(),
            "errorMessage": accepted.message,
        }
    });
    body.to_string().into_bytes()
}

fn http_no(form: Form, refused: &Refused) -> Response<Reply> {
    let status = refused.status();
    let mut response = if form == Form::Json {
        let details: Vec<_> = status
            .details
            .iter()
            .map(|d| serde_json::json!({"@type": d.type_url, "retryDelay": format!("{RETRY_S}s")}))
            .collect();
        let body = serde_json::json!({
            "code": status.code, "message": status.message, "details": details,
        });
        http(refused.http_code(), "application/json", body.to_string().into_bytes())
    } else {
        http(refused.http_code(), "application/x-protobuf", status.encode_to_vec())
    };
    match refused {
        Refused::Busy(_) => {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_S));
        }
        // The rest of the body is not read: this connection cannot be used again.
        Refused::TooLarge(_) | Refused::TooSlow(_) => {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}

/// Any HTTP response.
pub(super) fn http(code: StatusCode, media: &'static str, body: Vec<u8>) -> Response<Reply> {
    let mut response = Response::new(Reply { data: Some(body.into()), trailers: None });
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

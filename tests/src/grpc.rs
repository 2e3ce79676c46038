//! OTLP over gRPC as a sender speaks it, down to the bytes: what an SDK would never send too.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};

/// The method that takes spans.
pub const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// The method that takes log records.
pub const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// What a call was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `grpc-status`.
    pub code: u16,
    /// `grpc-message`, as sent (percent-encoded).
    pub message: String,
    /// The reply, its five-byte prefix included.
    pub body: Bytes,
}

/// A message behind gRPC's prefix: a flag (1: compressed) and its length.
#[must_use]
pub fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[flag][..], &length.to_be_bytes(), message].concat()
}

/// Calls a method with a body of whatever bytes.
///
/// # Errors
/// When no gRPC answer came.
pub fn call(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<Told, String> {
    stream(address, path, headers, Full::new(Bytes::from(body)).boxed())
}

/// Calls a method with a body that arrives as it likes.
///
/// # Errors
/// When no gRPC answer came.
pub fn stream(
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: BoxBody<Bytes, std::convert::Infallible>,
) -> Result<Told, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let called = async {
        let io = tokio::net::TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        let shaken =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await;
        let (mut send, connection) = shaken.map_err(|e| e.to_string())?;
        let connection = tokio::spawn(connection);
        let request = Request::post(format!("http://{address}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let request = headers.iter().fold(request, |r, (name, value)| r.header(*name, *value));
        let request = request.body(body).map_err(|e| e.to_string())?;
        let answer = send.send_request(request).await.map_err(|e| e.to_string())?;
        let mut told = answer.headers().clone();
        let collected = answer.into_body().collect().await.map_err(|e| e.to_string())?;
        told.extend(collected.trailers().cloned().unwrap_or_default());
        connection.abort();
        let text = |name: &str| {
            told.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
        };
        let code = text("grpc-status").parse().map_err(|_| format!("no grpc-status: {told:?}"))?;
        Ok(Told { code, message: text("grpc-message"), body: collected.to_bytes() })
    };
    runtime.map_err(|e| e.to_string())?.block_on(async {
        tokio::time::timeout(crate::wait::PATIENCE, called)
            .await
            .map_err(|_| "no answer in time".to_owned())?
    })
}

//! The client side of every call: finds the peer, opens the CLIENT or PRODUCER span, hands the context on, and
//! says on the span how it went.

use std::net::SocketAddr;
use std::time::Instant;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use opentelemetry::metrics::Histogram;
use opentelemetry::propagation::Injector;
use opentelemetry::trace::{
    FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, global};

use crate::failure::Failure;
use crate::service::App;
use crate::telemetry::SCOPE;

/// One call that is under way. Dropped unfinished, it says so.
pub struct Call {
    pub cx: Context,
    started: Instant,
    duration: Option<Histogram<f64>>,
    dimensions: Vec<KeyValue>,
    done: bool,
}

impl Call {
    /// Opens the span under the current one. `dimensions` go to span and metric, `attributes` to the span.
    pub fn begin(
        name: impl Into<std::borrow::Cow<'static, str>>,
        kind: SpanKind,
        dimensions: Vec<KeyValue>,
        attributes: Vec<KeyValue>,
        duration: Option<Histogram<f64>>,
    ) -> Self {
        let tracer = global::tracer_provider().tracer(SCOPE);
        let parent = Context::current();
        let all = dimensions.iter().cloned().chain(attributes);
        let span = tracer
            .span_builder(name)
            .with_kind(kind)
            .with_attributes(all)
            .start_with_context(&tracer, &parent);
        Self {
            cx: parent.with_span(span),
            started: Instant::now(),
            duration,
            dimensions,
            done: false,
        }
    }

    /// Runs the call with its span as the current one.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        work.with_context(self.cx.clone()).await
    }

    /// Ends the span; `error` is the word for `error.type` and what happened.
    pub fn finish(mut self, result: Vec<KeyValue>, error: Option<(String, String)>) {
        self.end(result, error);
    }

    fn end(&mut self, result: Vec<KeyValue>, error: Option<(String, String)>) {
        self.done = true;
        let span = self.cx.span();
        span.set_attributes(result.iter().cloned());
        self.dimensions.extend(result);
        if let Some((kind, message)) = error {
            let kind = KeyValue::new("error.type", kind);
            span.set_attribute(kind.clone());
            span.set_status(Status::error(message));
            self.dimensions.push(kind);
        }
        span.end();
        if let Some(duration) = &self.duration {
            duration.record(self.started.elapsed().as_secs_f64(), &self.dimensions);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.done {
            self.end(
                Vec::new(),
                Some(("cancelled".to_owned(), "given up before the answer".to_owned())),
            );
        }
    }
}

/// Writes W3C headers into HTTP.
struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(key.as_bytes()), HeaderValue::from_str(&value))
        {
            self.0.insert(name, value);
        }
    }
}

/// Writes W3C headers into gRPC metadata.
struct Metadata<'a>(&'a mut tonic::metadata::MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) =
            (tonic::metadata::MetadataKey::from_bytes(key.as_bytes()), value.parse())
        {
            self.0.insert(name, value);
        }
    }
}

/// Hands a span's context on in any carrier.
pub fn inject(cx: &Context, carrier: &mut dyn Injector) {
    global::get_text_map_propagator(|propagator| propagator.inject_context(cx, carrier));
}

/// Where a peer is: the name it goes by and the address behind it.
pub struct Place {
    pub host: String,
    pub address: SocketAddr,
}

/// Finds a peer by its name, with a span and a measured lookup when the name server had to be asked.
///
/// # Errors
/// When the name does not resolve.
pub async fn find(app: &App, peer: &str) -> Result<Place, Failure> {
    let host = app.peer_host(peer);
    let port = app.config.peers.get(peer).copied().unwrap_or_default();
    if let Some(ip) = app.resolver.cached(&host) {
        return Ok(Place { host, address: SocketAddr::from((ip, port)) });
    }
    let call = Call::begin(
        "dns.lookup",
        SpanKind::Internal,
        vec![KeyValue::new("dns.question.name", host.clone())],
        Vec::new(),
        Some(app.meters.dns.clone()),
    );
    match app.resolver.query(&host).await {
        Ok(ip) => {
            call.finish(Vec::new(), None);
            Ok(Place { host, address: SocketAddr::from((ip, port)) })
        }
        Err(error) => {
            call.finish(Vec::new(), Some((error.kind().to_owned(), error.to_string())));
            Err(Failure::upstream(error.kind(), format!("cannot reach {peer}: {error}")))
        }
    }
}

/// Calls a peer over HTTP under a CLIENT span; `route` is the path with its parts named.
///
/// # Errors
/// When the peer cannot be found or reached, or answers with 400 or more.
pub async fn http(
    app: &App,
    peer: &str,
    method: Method,
    route: &'static str,
    path: &str,
    body: Bytes,
) -> Result<Bytes, Failure> {
    let host = app.peer_host(peer);
    let port = app.config.peers.get(peer).copied().unwrap_or_default();
    let call = Call::begin(
        format!("{method} {route}"),
        SpanKind::Client,
        vec![
            KeyValue::new("http.request.method", method.as_str().to_owned()),
            KeyValue::new("server.address", host.clone()),
            KeyValue::new("server.port", i64::from(port)),
        ],
        vec![
            KeyValue::new("url.full", format!("http://{host}:{port}{path}")),
            KeyValue::new("url.template", route),
            KeyValue::new("network.protocol.version", "1.1"),
        ],
        Some(app.meters.http_client.clone()),
    );
    let exchange = async {
        let place = find(app, peer).await?;
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::USER_AGENT, concat!("coral-shop/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Failure::internal("bad_request", error.to_string()))?;
        inject(&call.cx, &mut Headers(request.headers_mut()));
        app.http.send(place.address, request).await.map_err(|error| {
            Failure::upstream(error.kind(), format!("cannot reach {peer}: {error}"))
        })
    };
    match call.run(exchange).await {
        Ok((status, body)) => {
            let code = KeyValue::new("http.response.status_code", i64::from(status.as_u16()));
            if status.as_u16() < 400 {
                call.finish(vec![code], None);
                return Ok(body);
            }
            let said = said(&body);
            call.finish(vec![code], Some((status.as_u16().to_string(), said.clone())));
            Err(match status {
                StatusCode::NOT_FOUND => Failure::not_found(said),
                _ => Failure::upstream("upstream_error", format!("{peer}: {said}")),
            })
        }
        Err(failure) => {
            call.finish(Vec::new(), Some((failure.kind.to_owned(), failure.message.clone())));
            Err(failure)
        }
    }
}

/// The error text of a failed answer.
fn said(body: &Bytes) -> String {
    serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|value| value.get("error")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| "no reason given".to_owned())
}

/// Makes one gRPC call under a CLIENT span: `invoke` gets the request with the context in its metadata.
///
/// # Errors
/// When the peer cannot be found or reached, or answers with an error status.
pub async fn grpc<Q, A, F>(
    app: &App,
    peer: &str,
    service: &'static str,
    method: &'static str,
    message: Q,
    invoke: impl FnOnce(Place, tonic::Request<Q>) -> F,
) -> Result<A, Failure>
where
    F: Future<Output = Result<tonic::Response<A>, tonic::Status>>,
{
    let port = app.config.peers.get(peer).copied().unwrap_or_default();
    let call = Call::begin(
        format!("{service}/{method}"),
        SpanKind::Client,
        vec![
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service),
            KeyValue::new("rpc.method", method),
            KeyValue::new("server.address", app.peer_host(peer)),
            KeyValue::new("server.port", i64::from(port)),
        ],
        Vec::new(),
        Some(app.meters.rpc_client.clone()),
    );
    let exchange = async {
        let place = find(app, peer).await?;
        let mut request = tonic::Request::new(message);
        inject(&call.cx, &mut Metadata(request.metadata_mut()));
        Ok::<_, Failure>(invoke(place, request).await)
    };
    let code =
        |code: tonic::Code| KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(code)));
    match call.run(exchange).await {
        Ok(Ok(response)) => {
            call.finish(vec![code(tonic::Code::Ok)], None);
            Ok(response.into_inner())
        }
        Ok(Err(status)) => {
            let kind = format!("{:?}", status.code());
            call.finish(vec![code(status.code())], Some((kind, status.message().to_owned())));
            Err(Failure::upstream("upstream_error", format!("{peer}: {}", status.message())))
        }
        Err(failure) => {
            call.finish(Vec::new(), Some((failure.kind.to_owned(), failure.message.clone())));
            Err(failure)
        }
    }
}

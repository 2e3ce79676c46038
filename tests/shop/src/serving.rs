//! The server side of every call: takes the caller's context, opens the SERVER or CONSUMER span, counts the
//! request as active, and ends both whichever way the request ends: answered, failed, or left by its client.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::metrics::{Histogram, UpDownCounter};
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{
    FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, global};

use crate::failure::{ErrorType, Failure};
use crate::service::App;
use crate::telemetry::{self, SCOPE};

/// One request that is being served. However it is let go, it ends; only a hung one stays open.
pub struct Serving {
    open: Option<Open>,
    hung: Arc<Hung>,
}

/// What must be ended: the span, the count of active requests, the measured time.
struct Open {
    cx: Context,
    started: Instant,
    active: Option<UpDownCounter<i64>>,
    duration: Histogram<f64>,
    dimensions: Vec<KeyValue>,
}

/// Lies in the context of each request, so that a fault can keep it open after its client went away.
#[derive(Default)]
pub struct Hung(Mutex<Hang>);

#[derive(Default)]
enum Hang {
    #[default]
    No,
    Yes(Option<Open>),
}

impl Hung {
    /// From now on nobody answers this request.
    pub fn begin(&self) {
        *self.lock() = Hang::Yes(None);
    }

    /// The fault is healed: what was left behind ends now.
    pub fn release(&self) {
        let left = std::mem::take(&mut *self.lock());
        if let Hang::Yes(Some(open)) = left {
            let late = Failure::unavailable("abandoned", "nobody answered before the client left");
            open.end(Vec::new(), Some(&late));
        }
    }

    /// Keeps what is open of a hung request; gives it back when the request does not hang.
    fn keep(&self, open: Open) -> Option<Open> {
        match &mut *self.lock() {
            Hang::No => Some(open),
            Hang::Yes(left) => {
                *left = Some(open);
                None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Hang> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serving {
    /// Opens the span under `parent`. `dimensions` are those attributes that the metrics carry too.
    pub fn begin(
        name: String,
        kind: SpanKind,
        parent: &Context,
        dimensions: Vec<KeyValue>,
        attributes: Vec<KeyValue>,
        duration: Histogram<f64>,
        active: Option<UpDownCounter<i64>>,
    ) -> Self {
        let tracer = global::tracer_provider().tracer(SCOPE);
        let all = dimensions.iter().cloned().chain(attributes);
        let span = tracer
            .span_builder(name)
            .with_kind(kind)
            .with_attributes(all)
            .start_with_context(&tracer, parent);
        let hung = Arc::new(Hung::default());
        let cx = parent.with_span(span).with_value(Arc::clone(&hung));
        if let Some(active) = &active {
            active.add(1, &dimensions);
        }
        let open = Open { cx, started: Instant::now(), active, duration, dimensions };
        Self { open: Some(open), hung }
    }

    /// Runs the handler with the span as the current one.
    pub async fn run<F: Future>(&self, work: F) -> F::Output {
        let cx = self.open.as_ref().map(|open| open.cx.clone()).unwrap_or_default();
        work.with_context(cx).await
    }

    /// Ends the span. `result` are attributes of the answer; a server's error also marks the span.
    pub fn finish(mut self, result: Vec<KeyValue>, failure: Option<&Failure>) {
        if let Some(open) = self.open.take() {
            open.end(result, failure);
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        if let Some(open) = self.hung.keep(open) {
            let gone = Failure::unavailable("cancelled", "the client went away before the answer");
            let _current = open.cx.clone().attach();
            telemetry::warn(gone.message.clone(), [("error.type", gone.kind.into())]);
            open.end(Vec::new(), Some(&gone));
        }
    }
}

impl Open {
    fn end(mut self, result: Vec<KeyValue>, failure: Option<&Failure>) {
        let span = self.cx.span();
        span.set_attributes(result.iter().cloned());
        if let Some(active) = &self.active {
            active.add(-1, &self.dimensions);
        }
        self.dimensions.extend(result);
        if let Some(failure) = failure {
            let kind = KeyValue::new("error.type", failure.kind);
            span.set_attribute(kind.clone());
            span.set_status(Status::error(failure.message.clone()));
            span.add_event(
                "exception",
                vec![
                    KeyValue::new("exception.type", failure.kind),
                    KeyValue::new("exception.message", failure.message.clone()),
                ],
            );
            self.dimensions.push(kind);
        }
        span.end();
        self.duration.record(self.started.elapsed().as_secs_f64(), &self.dimensions);
    }
}

/// Reads W3C headers from HTTP.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }
    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

/// Reads W3C headers from gRPC metadata.
struct Metadata<'a>(&'a tonic::metadata::MetadataMap);

impl Extractor for Metadata<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }
    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Reads W3C fields from a queued message, or from anything else that maps names to text.
pub fn parent_of(carrier: &dyn Extractor) -> Context {
    global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), carrier)
    })
}

/// What the HTTP middleware of one route knows.
#[derive(Clone)]
pub struct Route {
    pub app: Arc<App>,
    pub path: &'static str,
}

/// Serves one HTTP request under its SERVER span.
pub async fn http(State(route): State<Route>, request: Request, next: Next) -> Response {
    let parent = parent_of(&Headers(request.headers()));
    let method = request.method().as_str().to_owned();
    let host = text(request.headers(), header::HOST);
    let dimensions = vec![
        KeyValue::new("http.request.method", method.clone()),
        KeyValue::new("http.route", route.path),
        KeyValue::new("url.scheme", "http"),
    ];
    let attributes = vec![
        KeyValue::new("url.path", request.uri().path().to_owned()),
        KeyValue::new("server.address", host.split(':').next().unwrap_or_default().to_owned()),
        KeyValue::new("server.port", i64::from(route.app.config.port)),
        KeyValue::new("client.address", "127.0.0.1"),
        KeyValue::new("network.protocol.version", "1.1"),
        KeyValue::new("user_agent.original", text(request.headers(), header::USER_AGENT)),
    ];
    let meters = &route.app.meters;
    let serving = Serving::begin(
        format!("{method} {}", route.path),
        SpanKind::Server,
        &parent,
        dimensions,
        attributes,
        meters.http_server.clone(),
        Some(meters.http_active.clone()),
    );
    let response = serving.run(next.run(request)).await;
    let status = response.status();
    let result = vec![KeyValue::new("http.response.status_code", i64::from(status.as_u16()))];
    let failure = response.extensions().get::<ErrorType>().filter(|_| status.is_server_error());
    serving.finish(result, failure.map(|kind| &kind.0));
    response
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// Serves one gRPC call under its SERVER span.
///
/// # Errors
/// Whatever the handler failed with, as a gRPC status.
pub async fn grpc<Q, A, F>(
    app: &App,
    service: &'static str,
    method: &'static str,
    request: tonic::Request<Q>,
    handler: impl FnOnce(Q) -> F,
) -> Result<tonic::Response<A>, tonic::Status>
where
    F: Future<Output = Result<A, Failure>>,
{
    let parent = parent_of(&Metadata(request.metadata()));
    let dimensions = vec![
        KeyValue::new("rpc.system", "grpc"),
        KeyValue::new("rpc.service", service),
        KeyValue::new("rpc.method", method),
    ];
    let attributes = vec![
        KeyValue::new("server.address", app.own_host()),
        KeyValue::new("server.port", i64::from(app.config.port)),
        KeyValue::new("client.address", "127.0.0.1"),
    ];
    let serving = Serving::begin(
        format!("{service}/{method}"),
        SpanKind::Server,
        &parent,
        dimensions,
        attributes,
        app.meters.rpc_server.clone(),
        Some(app.meters.rpc_active.clone()),
    );
    let outcome = serving.run(handler(request.into_inner())).await;
    let code =
        |code: tonic::Code| KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(code)));
    match outcome {
        Ok(answer) => {
            serving.finish(vec![code(tonic::Code::Ok)], None);
            Ok(tonic::Response::new(answer))
        }
        Err(failure) => {
            let status = tonic::Status::from(failure.clone());
            serving.finish(vec![code(status.code())], Some(&failure));
            Err(status)
        }
    }
}

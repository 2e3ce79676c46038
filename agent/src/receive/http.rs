//! Requests: which signal, in which form, and the bytes of its body.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::sync::oneshot;

use super::answer::{Reply, answer, grpc_status, http};
use super::work::Job;
use super::{Accepted, Encoding, Form, Limits, Refused, Signal, Workers, body};
use crate::budget::Held;
use crate::counters::Counters;
use crate::observe::Peer;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Bytes before a gRPC message: a flag and a length.
const PREFIX: usize = 5;

const PATHS: [(&str, Signal, bool); 6] = [
    ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Signal::Traces, true),
    ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", Signal::Logs, true),
    ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", Signal::Metrics, true),
    ("/v1/traces", Signal::Traces, false),
    ("/v1/logs", Signal::Logs, false),
    ("/v1/metrics", Signal::Metrics, false),
];

/// What every connection shares.
pub(super) struct Server {
    pub(super) limits: Limits,
    pub(super) workers: Arc<Workers>,
    pub(super) counters: Arc<Counters>,
}

impl Server {
    /// Answers one request.
    pub(super) async fn serve(
        &self,
        request: Request<Incoming>,
        peer: Option<Peer>,
    ) -> Response<Reply> {
        let grpc = is_grpc(request.headers());
        let route = match route(&request) {
            Ok(route) => route,
            Err(response) => {
                // The greeting at / is no request for anything.
                if response.status() != StatusCode::OK || grpc {
                    self.counters.requests_unspoken.add(1);
                }
                return response;
            }
        };
        let outcome = self.export(route, request, peer).await;
        answer(route.signal, route.form, outcome)
    }

    async fn export(
        &self,
        route: Route,
        request: Request<Incoming>,
        peer: Option<Peer>,
    ) -> Result<Accepted, Refused> {
        let encoding = encoding(route.form, request.headers())
            .inspect_err(|_| self.counters.requests_unspoken.add(1))?;
        let mut held = self.limits.budget.hold();
        let received = tokio::time::timeout(self.limits.request, self.receive(request, &mut held));
        let body = match received.await {
            Ok(body) => body,
            Err(_) => Err(Refused::TooSlow(format!(
                "the body did not arrive within {} s",
                self.limits.request.as_secs()
            ))),
        };
        let body = body.inspect_err(|refused| match refused {
            Refused::TooLarge(_) => self.counters.requests_too_large.add(1),
            Refused::Busy(_) => self.counters.requests_refused_busy.add(1),
            _ => self.counters.requests_broken_off.add(1),
        })?;
        let (body, encoding) = match route.form {
            Form::Grpc => {
                self.unwrap_grpc(&body, encoding).inspect_err(|refused| match refused {
                    Refused::TooLarge(_) => self.counters.requests_too_large.add(1),
                    _ => self.counters.requests_invalid.add(1),
                })?
            }
            _ => (body, encoding),
        };
        let (reply, taken) = oneshot::channel();
        let (signal, form) = (route.signal, route.form);
        let job = Job { signal, form, encoding, body, held, peer, reply };
        if self.workers.submit(job).is_err() {
            self.counters.requests_refused_busy.add(1);
            return Err(Refused::Busy("too many requests wait already; send again later".into()));
        }
        let gone = || Refused::Busy("the agent is stopping; send again later".into());
        let (accepted, ticket) = taken.await.map_err(|_| gone())??;
        if !ticket.ready().await {
            return Err(Refused::Busy("the agent's disk did not take it; send again later".into()));
        }
        Ok(accepted)
    }

    /// Collects the body; each byte is held in the budget before it is kept.
    async fn receive(&self, request: Request<Incoming>, held: &mut Held) -> Result<Bytes, Refused> {
        let limit = self.limits.body;
        let too_large = || {
            Refused::TooLarge(format!("the body is larger than {} MiB", limit.div_ceil(1 << 20)))
        };
        let stated =
            request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let mut stated = stated.unwrap_or(0usize);
        if stated > limit + PREFIX {
            return Err(too_large());
        }
        let is_grpc = is_grpc(request.headers());
        let mut incoming = request.into_body();
        let mut first: Option<Bytes> = None;
        let mut all = BytesMut::new();
        loop {
            let Some(frame) = incoming.frame().await else { break };
            let frame = frame.map_err(|error| {
                Refused::Invalid(format!("the body broke off before its end: {error}"))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            let have = first.as_ref().map_or(all.len(), Bytes::len);
            let now = have + data.len();
            if now > limit + PREFIX {
                return Err(too_large());
            }
            if !held.grow_to(now as u64) {
                return Err(Refused::Busy(body::NO_ROOM.to_owned()));
            }
            if have == 0 {
                if is_grpc && stated == 0 {
                    stated = grpc_length(&data).unwrap_or(0) + PREFIX;
                }
                first = Some(data);
                if incoming.is_end_stream() {
                    break;
                }
                continue;
            }
            if let Some(first) = first.take() {
                // Room for what the sender says is coming, but not on its word alone for megabytes.
                all.reserve(stated.clamp(now, 1 << 20));
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
        Ok(first.unwrap_or_else(|| all.freeze()))
    }

    fn unwrap_grpc(&self, body: &Bytes, encoding: Encoding) -> Result<(Bytes, Encoding), Refused> {
        let invalid = |why: &str| Refused::Invalid(format!("not a gRPC message: {why}"));
        let length = grpc_length(body).ok_or_else(|| invalid("it is shorter than its prefix"))?;
        if length > self.limits.body {
            let mib = self.limits.body.div_ceil(1 << 20);
            return Err(Refused::TooLarge(format!("the message is larger than {mib} MiB")));
        }
        let message = body.slice(PREFIX..);
        if message.len() < length {
            return Err(invalid(&format!("it is cut short, {} of {length} bytes", message.len())));
        }
        if message.len() > length {
            return Err(invalid("there is more than one message, or bytes after it"));
        }
        match body.first() {
            Some(0) => Ok((message, Encoding::Identity)),
            Some(1) if encoding != Encoding::Identity => Ok((message, encoding)),
            Some(1) => Err(invalid("it is flagged as compressed without a grpc-encoding")),
            _ => Err(invalid("its first byte must be 0 or 1")),
        }
    }
}

fn grpc_length(body: &[u8]) -> Option<usize> {
    let length = body.get(1..).and_then(|rest| rest.first_chunk())?;
    usize::try_from(u32::from_be_bytes(*length)).ok()
}

#[derive(Clone, Copy)]
struct Route {
    signal: Signal,
    form: Form,
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

#[expect(clippy::result_large_err, reason = "the error is the response")]
fn route(request: &Request<Incoming>) -> Result<Route, Response<Reply>> {
    let path = request.uri().path();
    let known = PATHS.iter().find(|(known, ..)| *known == path);
    let is_grpc = is_grpc(request.headers());
    let Some(&(_, signal, grpc_path)) = known else {
        return Err(if is_grpc {
            let message = format!("{path} is not served here: this is an OTLP receiver");
            grpc_status(12, &message, None)
        } else if path == "/" {
            http(StatusCode::OK, "text/plain; charset=utf-8", HELLO.as_bytes().to_vec())
        } else {
            let text = format!("{path} is not here. {HELLO}");
            http(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", text.into_bytes())
        });
    };
    if request.method() != Method::POST {
        let text = format!("{path} takes POST only. {HELLO}");
        let mut response =
            http(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", text.into_bytes());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Err(response);
    }
    let refuse = |form, why: &str| answer(signal, form, Err(Refused::Media(why.to_owned())));
    let media = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let media = media.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    let form = match media {
        b"application/x-protobuf" | b"application/protobuf" => Form::Protobuf,
        b"application/json" => Form::Json,
        b"application/grpc" | b"application/grpc+proto" => Form::Grpc,
        other => {
            let other = String::from_utf8_lossy(other);
            let why = format!(
                "media type `{other}` is not OTLP: send application/x-protobuf or application/json \
                 to /v1/…, application/grpc to the services' Export methods"
            );
            return Err(if is_grpc {
                grpc_status(12, &why, None)
            } else {
                refuse(Form::Json, &why)
            });
        }
    };
    match (form, grpc_path) {
        (Form::Grpc, true) if request.version() == Version::HTTP_2 => Ok(Route { signal, form }),
        (Form::Grpc, true) => Err(refuse(Form::Json, "gRPC needs HTTP/2")),
        (Form::Grpc, false) => {
            Err(grpc_status(12, "gRPC calls go to the service's Export method", None))
        }
        (_, true) => {
            Err(refuse(Form::Json, "this path takes gRPC (content-type application/grpc)"))
        }
        (form, false) => Ok(Route { signal, form }),
    }
}

const HELLO: &str = "This is coral-agent: it takes OpenTelemetry data (OTLP) as gRPC, or as POST to \
                     /v1/traces, /v1/logs and /v1/metrics in protobuf or JSON.\n";

fn encoding(form: Form, headers: &HeaderMap) -> Result<Encoding, Refused> {
    let name = if form == Form::Grpc { GRPC_ENCODING } else { CONTENT_ENCODING };
    let value = headers.get(&name).map_or(&b""[..], HeaderValue::as_bytes);
    Encoding::from_header(value).ok_or_else(|| {
        let value = String::from_utf8_lossy(value);
        Refused::Encoding(format!(
            "{name} `{value}` is not spoken here; gzip, zstd and identity are"
        ))
    })
}

//! An OTLP receiver that keeps everything, and a shop that sends to it.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Uri};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::{Request, Response, Status};

/// A span with its service's name and resource.
#[derive(Clone)]
pub struct Seen {
    pub service: String,
    pub resource: Vec<KeyValue>,
    pub span: Span,
}

impl Seen {
    pub fn has(&self, key: &str, value: &str) -> bool {
        text(&self.span.attributes, key).as_deref() == Some(value)
    }

    pub fn millis(&self) -> u64 {
        self.span.end_time_unix_nano.saturating_sub(self.span.start_time_unix_nano) / 1_000_000
    }

    pub fn failed(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == 2)
    }
}

#[derive(Clone)]
pub struct Line {
    pub service: String,
    pub text: String,
    pub trace: Vec<u8>,
    pub severity: i32,
}

/// One point of a metric.
pub struct Point {
    pub service: String,
    pub metric: String,
    pub kind: &'static str,
    /// Its number, or the sum of a histogram.
    pub value: f64,
    /// How many values a histogram has.
    pub count: u64,
}

#[derive(Default)]
pub struct Kept {
    pub spans: Vec<Seen>,
    pub logs: Vec<Line>,
    pub points: Vec<Point>,
}

pub type Shared = Arc<Mutex<Kept>>;

/// The attribute of that name as text.
pub fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|kv| kv.key == key)?.value.as_ref()?.value.as_ref()?;
    Some(match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(n) => n.to_string(),
        Value::BoolValue(b) => b.to_string(),
        Value::DoubleValue(n) => n.to_string(),
        other => format!("{other:?}"),
    })
}

impl Kept {
    fn add_traces(&mut self, request: ExportTraceServiceRequest) {
        for group in request.resource_spans {
            let resource = group.resource.unwrap_or_default().attributes;
            let service = text(&resource, "service.name").unwrap();
            for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.spans.push(Seen {
                    service: service.clone(),
                    resource: resource.clone(),
                    span,
                });
            }
        }
    }

    fn add_logs(&mut self, request: ExportLogsServiceRequest) {
        for group in request.resource_logs {
            let resource = group.resource.unwrap_or_default().attributes;
            let service = text(&resource, "service.name").unwrap();
            for record in group.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                let text = match record.body.and_then(|body| body.value) {
                    Some(Value::StringValue(text)) => text,
                    other => panic!("a log body that is no text: {other:?}"),
                };
                self.logs.push(Line {
                    service: service.clone(),
                    text,
                    trace: record.trace_id,
                    severity: record.severity_number,
                });
            }
        }
    }

    fn add_metrics(&mut self, request: ExportMetricsServiceRequest) {
        for group in request.resource_metrics {
            let resource = group.resource.unwrap_or_default().attributes;
            let service = text(&resource, "service.name").unwrap();
            for metric in group.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let (kind, values): (_, Vec<(f64, u64)>) = match metric.data {
                    Some(Data::Gauge(gauge)) => ("gauge", numbers(&gauge.data_points)),
                    Some(Data::Sum(sum)) => ("sum", numbers(&sum.data_points)),
                    Some(Data::Histogram(h)) => (
                        "histogram",
                        h.data_points.iter().map(|p| (p.sum.unwrap_or(0.0), p.count)).collect(),
                    ),
                    Some(Data::ExponentialHistogram(h)) => (
                        "exponential_histogram",
                        h.data_points.iter().map(|p| (p.sum.unwrap_or(0.0), p.count)).collect(),
                    ),
                    other => panic!("a metric of another kind: {other:?}"),
                };
                self.points.extend(values.into_iter().map(|(value, count)| Point {
                    service: service.clone(),
                    metric: metric.name.clone(),
                    kind,
                    value,
                    count,
                }));
            }
        }
    }
}

struct Sink(Shared);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().add_traces(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Sink {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.0.lock().unwrap().add_logs(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Sink {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.lock().unwrap().add_metrics(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// Takes OTLP over HTTP: protobuf or JSON, gzip or plain.
async fn take_http(
    State(kept): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (HeaderMap, Vec<u8>) {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|v| v == value);
    let mut plain = Vec::new();
    if is("content-encoding", "gzip") {
        flate2::read::GzDecoder::new(body.as_ref()).read_to_end(&mut plain).unwrap();
    } else {
        plain = body.to_vec();
    }
    let json = is("content-type", "application/json");
    assert!(json || is("content-type", "application/x-protobuf"), "{headers:?}");
    fn read<T: prost::Message + Default + serde::de::DeserializeOwned>(json: bool, of: &[u8]) -> T {
        if json { serde_json::from_slice(of).unwrap() } else { T::decode(of).unwrap() }
    }
    let mut kept = kept.lock().unwrap();
    match uri.path() {
        "/v1/traces" => kept.add_traces(read(json, &plain)),
        "/v1/logs" => kept.add_logs(read(json, &plain)),
        "/v1/metrics" => kept.add_metrics(read(json, &plain)),
        other => panic!("{other}"),
    }
    let kind = if json { "application/json" } else { "application/x-protobuf" };
    let answer = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
    (answer, if json { b"{}".to_vec() } else { Vec::new() })
}

/// Receives gRPC and HTTP, each on a port of its own, until it is dropped.
pub struct Receiver {
    pub kept: Shared,
    pub grpc: String,
    pub http: String,
    _runtime: tokio::runtime::Runtime,
}

impl Receiver {
    pub fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let kept = Shared::default();
        let bind = || runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let (grpc, http) = (bind(), bind());
        let url = |listener: &tokio::net::TcpListener| {
            format!("http://{}", listener.local_addr().unwrap())
        };
        let (grpc_url, http_url) = (url(&grpc), url(&http));
        let gzip = tonic::codec::CompressionEncoding::Gzip;
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Sink(kept.clone())).accept_compressed(gzip))
            .add_service(LogsServiceServer::new(Sink(kept.clone())).accept_compressed(gzip))
            .add_service(MetricsServiceServer::new(Sink(kept.clone())).accept_compressed(gzip))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(grpc));
        runtime.spawn(server);
        let router = axum::Router::new().fallback(take_http).with_state(kept.clone());
        runtime.spawn(async move { axum::serve(http, router).await });
        Self { kept, grpc: grpc_url, http: http_url, _runtime: runtime }
    }
}

fn numbers(points: &[opentelemetry_proto::tonic::metrics::v1::NumberDataPoint]) -> Vec<(f64, u64)> {
    points
        .iter()
        .filter_map(|point| match point.value {
            Some(number_data_point::Value::AsDouble(n)) => Some((n, 1)),
            Some(number_data_point::Value::AsInt(n)) => Some((n as f64, 1)),
            None => None,
        })
        .collect()
}

/// A running shop with its receiver. Dropping it stops both.
pub struct Shop {
    pub kept: Shared,
    pub dir: PathBuf,
    run: Child,
    _receiver: Receiver,
    _temp: tempfile::TempDir,
}

pub const EXE: &str = env!("CARGO_BIN_EXE_coral-shop");

impl Shop {
    /// Starts a receiver on a free port and a shop that sends to it; returns when the shop says it is ready.
    pub fn start(rps: u32) -> Self {
        let receiver = Receiver::start();
        let temp = tempfile::tempdir().unwrap();
        // PostgreSQL's user must be able to go through.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(temp.path(), open).unwrap();
        let dir = temp.path().join("shop");
        let run = Command::new(EXE)
            .args(["run", "--otlp", &receiver.grpc, "--seconds", "300"])
            .args(["--rps", &rps.to_string(), "--dir"])
            .arg(&dir)
            .stdout(Stdio::inherit())
            .spawn()
            .unwrap();
        let kept = receiver.kept.clone();
        let mut shop = Self { kept, dir, run, _receiver: receiver, _temp: temp };
        let until = Instant::now() + Duration::from_secs(60);
        while !shop.dir.join("shop.json").exists() {
            assert!(shop.run.try_wait().unwrap().is_none(), "the shop ended: tools/services.sh?");
            assert!(Instant::now() < until, "the shop did not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        shop
    }

    pub fn state(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.dir.join("shop.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub fn service(&self, name: &str) -> serde_json::Value {
        let state = self.state();
        let services = state["services"].as_array().unwrap();
        services.iter().find(|service| service["name"] == name).unwrap().clone()
    }

    /// Every process of the shop, the supervisor first.
    pub fn pids(&self) -> Vec<u32> {
        let state = self.state();
        let mut pids: Vec<u64> = ["run_pid", "load_pid", "redis_pid", "postgres_pid"]
            .iter()
            .map(|key| state[*key].as_u64().unwrap())
            .collect();
        pids.extend(
            state["services"].as_array().unwrap().iter().map(|s| s["pid"].as_u64().unwrap()),
        );
        pids.into_iter().map(|pid| u32::try_from(pid).unwrap()).collect()
    }

    /// Runs a verb of `coral-shop` against this shop; true when it succeeded.
    pub fn does(&self, words: &[&str]) -> bool {
        Command::new(EXE).args(words).arg("--dir").arg(&self.dir).status().unwrap().success()
    }

    /// Waits until what was received shows it. What is waited for is named for the person who reads the failure.
    pub fn wait(&self, what: &str, mut seen: impl FnMut(&Kept) -> bool) {
        self.wait_for(what, || seen(&self.kept.lock().unwrap()));
    }

    pub fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < until, "never happened: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("seen: {what}");
    }

    /// Forgets what was received so far, so that the next wait sees only what is new.
    pub fn forget(&self) {
        *self.kept.lock().unwrap() = Kept::default();
    }

    pub fn signal_run(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.run);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn wait_run(&mut self) -> std::process::ExitStatus {
        self.run.wait().unwrap()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if self.run.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal_run(rustix::process::Signal::TERM);
        }
        let _ = self.run.wait();
    }
}

/// Whether a process of that id is there and is no zombie.
pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|text| !text.contains(") Z "))
}

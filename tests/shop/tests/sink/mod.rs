//! An OTLP receiver that keeps everything, and a shop that sends to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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

#[derive(Default)]
pub struct Kept {
    pub spans: Vec<Seen>,
    pub logs: Vec<Line>,
    /// Service, metric, and the newest value of each of its number points.
    pub metrics: Vec<(String, String, f64)>,
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

struct Sink(Shared);

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap();
        for group in request.into_inner().resource_spans {
            let resource = group.resource.unwrap_or_default().attributes;
            let service = text(&resource, "service.name").unwrap();
            for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                kept.spans.push(Seen {
                    service: service.clone(),
                    resource: resource.clone(),
                    span,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Sink {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap();
        for group in request.into_inner().resource_logs {
            let resource = group.resource.unwrap_or_default().attributes;
            let service = text(&resource, "service.name").unwrap();
            for record in group.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                let body = record.body.and_then(|body| body.value);
                let text = match body {
                    Some(Value::StringValue(text)) => text,
                    other => panic!("a log body that is no text: {other:?}"),
                };
                kept.logs.push(Line {
                    service: service.clone(),
                    text,
                    trace: record.trace_id,
                    severity: record.severity_number,
                });
            }
        }
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Sink {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap();
        for group in request.into_inner().resource_metrics {
            let resource = group.resource.unwrap_or_default().attributes;
            let service = text(&resource, "service.name").unwrap();
            for metric in group.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let values: Vec<f64> = match metric.data {
                    Some(Data::Gauge(gauge)) => numbers(&gauge.data_points),
                    Some(Data::Sum(sum)) => numbers(&sum.data_points),
                    Some(Data::Histogram(h)) => {
                        h.data_points.iter().filter_map(|p| p.sum).collect()
                    }
                    _ => Vec::new(),
                };
                for value in values {
                    kept.metrics.push((service.clone(), metric.name.clone(), value));
                }
            }
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn numbers(points: &[opentelemetry_proto::tonic::metrics::v1::NumberDataPoint]) -> Vec<f64> {
    points
        .iter()
        .filter_map(|point| match point.value {
            Some(number_data_point::Value::AsDouble(n)) => Some(n),
            Some(number_data_point::Value::AsInt(n)) => Some(n as f64),
            None => None,
        })
        .collect()
}

/// A running shop with its receiver. Dropping it stops both.
pub struct Shop {
    pub kept: Shared,
    pub dir: PathBuf,
    run: Child,
    runtime: tokio::runtime::Runtime,
    _temp: tempfile::TempDir,
}

pub const EXE: &str = env!("CARGO_BIN_EXE_coral-shop");

impl Shop {
    /// Starts a receiver on a free port and a shop that sends to it; returns when the shop says it is ready.
    pub fn start(rps: u32) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let kept = Shared::default();
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().unwrap().port();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Sink(kept.clone())))
            .add_service(LogsServiceServer::new(Sink(kept.clone())))
            .add_service(MetricsServiceServer::new(Sink(kept.clone())))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
        runtime.spawn(server);

        let temp = tempfile::tempdir().unwrap();
        // PostgreSQL's user must be able to go through.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(temp.path(), open).unwrap();
        let dir = temp.path().join("shop");
        let run = Command::new(EXE)
            .args(["run", "--otlp", &format!("http://127.0.0.1:{port}"), "--seconds", "300"])
            .args(["--rps", &rps.to_string(), "--dir"])
            .arg(&dir)
            .stdout(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut shop = Self { kept, dir, run, runtime, _temp: temp };
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
        // Dropping the runtime ends the receiver.
        let _ = &self.runtime;
    }
}

/// Whether a process of that id is there and is no zombie.
pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|text| !text.contains(") Z "))
}

//! The whole way through the agent: the real OpenTelemetry SDK in, a colony at the other end.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation,
    clippy::large_futures,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::{Arc, Mutex};

use common::{Colony, Kept, until};
use coral_agent::agent::{Agent, Options};
use coral_agent::home::Home;
use coral_proto::record::Kind;
use coral_proto::v1::{Refusal, SenseState};
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer as _, TracerProvider as _};
use opentelemetry::{KeyValue, logs::AnyValue, logs::LogRecord as _, logs::Logger as _};
use opentelemetry::{logs::LoggerProvider as _, metrics::MeterProvider as _};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_sdk::Resource;
use prost::Message as _;

async fn agent(dir: &std::path::Path, colony: Option<coral_agent::uplink::Colony>) -> Agent {
    let data = dir.join("agent");
    let home = Home::open(&data).unwrap();
    Agent::start(Options { colony, ..Options::alone(data) }, home).await.unwrap()
}

fn resource(service: &'static str) -> Resource {
    Resource::builder().with_service_name(service).build()
}

/// Ends `n` SERVER spans, each with a CLIENT child, every tenth failed, and exports them.
async fn serve(endpoint: &str, n: usize) {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint.to_owned())
        .build()
        .unwrap();
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource("cart"))
        .build();
    let tracer = provider.tracer("test");
    for i in 0..n {
        let mut server = tracer
            .span_builder("GET /cart")
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", "GET"),
                KeyValue::new("http.route", "/cart/{id}"),
                KeyValue::new("http.response.status_code", if i % 10 == 0 { 500 } else { 200 }),
            ])
            .start(&tracer);
        let parent = opentelemetry::Context::new();
        let parent = opentelemetry::trace::TraceContextExt::with_remote_span_context(
            &parent,
            server.span_context().clone(),
        );
        let mut client = tracer
            .span_builder("SELECT")
            .with_kind(SpanKind::Client)
            .with_attributes([
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.namespace", "shop"),
            ])
            .start_with_context(&tracer, &parent);
        client.end();
        if i % 10 == 0 {
            server.set_status(Status::error("boom"));
        }
        server.end();
    }
    tokio::task::spawn_blocking(move || {
        provider.force_flush().unwrap();
        provider.shutdown().unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_an_sdk_sends_arrives_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Arc::new(Mutex::new(Kept::default()));
    let colony = Colony::start(dir.path(), kept.clone());
    let agent = agent(dir.path(), Some(colony.address())).await;
    let endpoint = format!("http://{}", agent.otlp_grpc.unwrap());
    serve(&endpoint, 100).await;

    let metrics = opentelemetry_otlp::MetricExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint.clone())
        .build()
        .unwrap();
    let meters = opentelemetry_sdk::metrics::SdkMeterProvider::builder()
        .with_periodic_exporter(metrics)
        .with_resource(resource("cart"))
        .build();
    let meter = meters.meter("test");
    meter.u64_counter("orders").build().add(3, &[KeyValue::new("shop", "a")]);
    meter.f64_histogram("latency").build().record(0.5, &[]);
    let logs = opentelemetry_otlp::LogExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .unwrap();
    let loggers = opentelemetry_sdk::logs::SdkLoggerProvider::builder()
        .with_batch_exporter(logs)
        .with_resource(resource("cart"))
        .build();
    let logger = loggers.logger("test");
    for n in 0..7 {
        let mut record = logger.create_log_record();
        record.set_body(AnyValue::String(format!("line {n}").into()));
        logger.emit(record);
    }
    tokio::task::spawn_blocking(move || {
        meters.shutdown().unwrap();
        loggers.shutdown().unwrap();
    })
    .await
    .unwrap();

    until("all of it", || {
        let kept = kept.lock().unwrap();
        let done = kept.requests() >= 100
            && !kept.bodies(Kind::Logs).is_empty()
            && !kept.bodies(Kind::Metrics).is_empty();
        done.then_some(())
    })
    .await;
    agent.stop().await;
    let kept = kept.lock().unwrap();
    let spans: usize = kept
        .bodies(Kind::Traces)
        .into_iter()
        .map(|b| ExportTraceServiceRequest::decode(b).unwrap())
        .flat_map(|r| r.resource_spans)
        .flat_map(|r| r.scope_spans)
        .map(|s| s.spans.len())
        .sum();
    assert_eq!(spans, 200);
    let records: usize = kept
        .bodies(Kind::Logs)
        .into_iter()
        .map(|b| ExportLogsServiceRequest::decode(b).unwrap())
        .flat_map(|r| r.resource_logs)
        .flat_map(|r| r.scope_logs)
        .map(|s| s.log_records.len())
        .sum();
    assert_eq!(records, 7);
    let metrics =
        ExportMetricsServiceRequest::decode(kept.bodies(Kind::Metrics)[0].clone()).unwrap();
    assert_eq!(metrics.resource_metrics[0].scope_metrics[0].metrics.len(), 2);
    let (mut errors, mut halves) = (0, 0);
    for reduced in kept.reduced() {
        for row in &reduced.red {
            assert_eq!(reduced.strings[row.operation as usize], "GET /cart/{id}");
            assert_eq!(reduced.strings[row.protocol as usize], "http");
            errors += row.errors;
        }
        let edges = reduced.half_edges.unwrap_or_default();
        halves += edges.key.len();
        for series in edges.series {
            let peer = if series.kind == 3 { "postgresql/shop" } else { "" };
            assert_eq!(reduced.strings[series.peer as usize], peer);
        }
    }
    assert_eq!((kept.requests(), errors, halves), (100, 10, 200));
    assert_eq!(kept.repeated, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_colony_that_comes_late_or_restarts_gets_everything_once() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Arc::new(Mutex::new(Kept::default()));
    let address = coral_agent::uplink::Colony::Unix(dir.path().join("uplink.sock"));
    let agent = agent(dir.path(), Some(address)).await;
    let endpoint = format!("http://{}", agent.otlp_grpc.unwrap());
    serve(&endpoint, 50).await;
    for round in 1..=3u64 {
        let colony = Colony::start(dir.path(), kept.clone());
        serve(&endpoint, 50).await;
        until("this round", || (kept.lock().unwrap().requests() >= 50 + round * 50).then_some(()))
            .await;
        drop(colony);
    }
    agent.stop().await;
    let kept = kept.lock().unwrap();
    assert_eq!(kept.requests(), 200);
    assert!(kept.hellos.len() >= 3);
    let seqs: std::collections::HashSet<u64> = kept.records.iter().map(|(_, r)| r.seq).collect();
    assert_eq!(seqs.len(), kept.records.len(), "no record twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_killed_counts_what_it_had_not() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Arc::new(Mutex::new(Kept::default()));
    {
        let agent = agent(dir.path(), None).await;
        serve(&format!("http://{}", agent.otlp_grpc.unwrap()), 30).await;
        // Dropped, not stopped: nothing is flushed, as after kill -9. The spool is copied as it is.
        let from = dir.path().join("agent/spool");
        let to = dir.path().join("again/spool");
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
        agent.stop().await;
    }
    let colony = Colony::start(dir.path(), kept.clone());
    let data = dir.path().join("again");
    let home = Home::open(&data).unwrap();
    let options = Options { colony: Some(colony.address()), ..Options::alone(data) };
    let agent = Agent::start(options, home).await.unwrap();
    until("the counts", || (kept.lock().unwrap().requests() >= 30).then_some(())).await;
    agent.stop().await;
    assert_eq!(kept.lock().unwrap().requests(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_reports_itself_and_deletes_what_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let kept = Arc::new(Mutex::new(Kept::default()));
    let colony = Colony::start(dir.path(), kept.clone());
    let agent = agent(dir.path(), Some(colony.address())).await;
    let endpoint = format!("http://{}", agent.otlp_grpc.unwrap());
    serve(&endpoint, 20).await;
    let report = until("a report", || {
        let kept = kept.lock().unwrap();
        let last = kept.reports.last().filter(|r| r.clock_offset_ns.is_some());
        last.filter(|r| r.counters["spans_received"] == 40).cloned()
    })
    .await;
    assert!(report.clock_offset_ns.unwrap().abs() < 1_000_000_000);
    assert!(report.rss_bytes.unwrap() > 1 << 20);
    let sense = |name: &str| report.senses.iter().find(|s| s.name == name).unwrap();
    assert_eq!(sense("otlp/grpc").why, agent.otlp_grpc.unwrap().to_string());
    assert_eq!(sense("ebpf").state(), SenseState::Off);
    let hello = kept.lock().unwrap().hellos[0].clone();
    assert_eq!((hello.protocol, hello.agent_id.len()), (1, 16));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_colony_that_refuses_is_named_in_the_senses() {
    let dir = tempfile::tempdir().unwrap();
    let refuse = Refusal { reason: "too old".into(), remedy: "restart coral-agent".into() };
    let kept = Arc::new(Mutex::new(Kept { refuse: Some(refuse), ..Kept::default() }));
    let colony = Colony::start(dir.path(), kept.clone());
    let agent = agent(dir.path(), Some(colony.address())).await;
    let why = until("the refusal", || {
        let senses = agent.senses.report();
        let uplink = senses.iter().find(|s| s.name == "uplink")?;
        uplink.why.contains("too old").then(|| uplink.why.clone())
    })
    .await;
    assert!(why.contains("restart coral-agent"), "{why}");
    agent.stop().await;
}

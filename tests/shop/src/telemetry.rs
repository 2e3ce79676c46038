//! The official OpenTelemetry SDK, set up as an application would: OTLP over gRPC, batches, W3C context.
//!
//! In comes who the process is; out go spans, metrics and logs to one endpoint. Delays are short, so
//! that a screen looks alive. The logs also go to stderr: they must be readable without any collector.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{
    BatchConfigBuilder as LogBatch, BatchLogProcessor, SdkLoggerProvider,
};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};

use crate::service::ServiceConfig;

/// The instrumentation scope of everything the shop sends.
pub const SCOPE: &str = "coral-shop";
/// Bucket bounds that the HTTP semantic conventions advise, in seconds.
pub const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

const SPAN_DELAY: Duration = Duration::from_millis(500);
const METRIC_INTERVAL: Duration = Duration::from_secs(1);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// In place of an endpoint: no telemetry at all, as of an application that nobody instrumented.
pub const OFF: &str = "off";

static LOGGER: OnceLock<(String, opentelemetry_sdk::logs::SdkLogger)> = OnceLock::new();

/// Keeps the three pipelines; whoever holds it must call [`Telemetry::shutdown`].
#[derive(Clone)]
pub struct Telemetry {
    spans: SdkTracerProvider,
    metrics: SdkMeterProvider,
    logs: SdkLoggerProvider,
}

/// Starts the pipelines. Needs a running tokio runtime (tonic's channel lives on it).
///
/// # Errors
/// When the endpoint is no URL.
pub fn start(config: &ServiceConfig) -> anyhow::Result<Telemetry> {
    if config.otlp == OFF {
        // No provider, no propagator: spans are no-ops, and no header says what belongs together.
        return Ok(Telemetry {
            spans: SdkTracerProvider::builder().build(),
            metrics: SdkMeterProvider::builder().build(),
            logs: SdkLoggerProvider::builder().build(),
        });
    }
    let resource = Resource::builder()
        .with_service_name(config.service.clone())
        .with_attributes([
            KeyValue::new("service.namespace", "shop"),
            KeyValue::new("service.version", config.version.clone()),
            KeyValue::new("service.instance.id", config.instance.clone()),
            KeyValue::new("deployment.environment.name", "demo"),
            KeyValue::new("host.name", host_name()),
            KeyValue::new("process.pid", i64::from(std::process::id())),
            KeyValue::new("process.executable.name", "coral-shop"),
            KeyValue::new("process.runtime.name", "rust"),
        ])
        .build();
    let endpoint = config.otlp.as_str();

    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .context("span exporter")?;
    let batch = BatchConfigBuilder::default().with_scheduled_delay(SPAN_DELAY).build();
    let spans = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batch).build())
        .build();

    let exporter = MetricExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .context("metric exporter")?;
    let reader = PeriodicReader::builder(exporter).with_interval(METRIC_INTERVAL).build();
    let metrics =
        SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(reader).build();

    let exporter = LogExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .context("log exporter")?;
    let batch = LogBatch::default().with_scheduled_delay(SPAN_DELAY).build();
    let logs = SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_log_processor(BatchLogProcessor::builder(exporter).with_batch_config(batch).build())
        .build();

    global::set_text_map_propagator(TraceContextPropagator::new());
    global::set_tracer_provider(spans.clone());
    global::set_meter_provider(metrics.clone());
    let _ = LOGGER.set((config.service.clone(), logs.logger(SCOPE)));
    watch_process();
    Ok(Telemetry { spans, metrics, logs })
}

impl Telemetry {
    /// Sends what is still held. Blocks: not for a runtime's thread.
    pub fn shutdown(&self) {
        let _ = self.spans.shutdown_with_timeout(Duration::from_secs(2));
        let _ = self.logs.shutdown_with_timeout(Duration::from_secs(2));
        let _ = self.metrics.shutdown_with_timeout(Duration::from_secs(2));
    }

    /// Sends log records and spans now, without stopping. Blocks.
    pub fn flush(&self) {
        let _ = self.logs.force_flush();
        let _ = self.spans.force_flush();
    }
}

/// What the process costs, read from `/proc` when the reader asks.
fn watch_process() {
    let meter = global::meter(SCOPE);
    let _ = meter
        .i64_observable_up_down_counter("process.memory.usage")
        .with_unit("By")
        .with_callback(|gauge| {
            if let Some(bytes) = rss_bytes() {
                gauge.observe(bytes, &[]);
            }
        })
        .build();
    let _ = meter
        .f64_observable_counter("process.cpu.time")
        .with_unit("s")
        .with_callback(|counter| {
            let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            let nanos = u32::try_from(used.tv_nsec).unwrap_or(0);
            let whole = u32::try_from(used.tv_sec).unwrap_or(u32::MAX);
            counter.observe(f64::from(whole) + f64::from(nanos) / 1e9, &[]);
        })
        .build();
}

fn rss_bytes() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(i64::try_from(rustix::param::page_size()).ok()?)
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// One log record, through the SDK (with the current span's ids) and on stderr.
pub fn log<const N: usize>(
    severity: Severity,
    message: impl Into<String>,
    attributes: [(&'static str, AnyValue); N],
) {
    let message = message.into();
    let Some((service, logger)) = LOGGER.get() else {
        eprintln!("{} {message}", severity.name());
        return;
    };
    let mut line = format!("{} {service} {message}", severity.name());
    let mut record = logger.create_log_record();
    record.set_timestamp(SystemTime::now());
    record.set_severity_number(severity);
    record.set_severity_text(severity.name());
    record.set_target(SCOPE);
    for (key, value) in attributes {
        line.push_str(&format!(" {key}={}", plain(&value)));
        record.add_attribute(key, value);
    }
    record.set_body(AnyValue::from(message));
    logger.emit(record);
    eprintln!("{line}");
}

fn plain(value: &AnyValue) -> String {
    match value {
        AnyValue::Int(n) => n.to_string(),
        AnyValue::Double(n) => n.to_string(),
        AnyValue::Boolean(yes) => yes.to_string(),
        AnyValue::String(text) => text.as_str().to_owned(),
        other => format!("{other:?}"),
    }
}

pub fn info<const N: usize>(message: impl Into<String>, with: [(&'static str, AnyValue); N]) {
    log(Severity::Info, message, with);
}

pub fn warn<const N: usize>(message: impl Into<String>, with: [(&'static str, AnyValue); N]) {
    log(Severity::Warn, message, with);
}

pub fn error<const N: usize>(message: impl Into<String>, with: [(&'static str, AnyValue); N]) {
    log(Severity::Error, message, with);
}

//! How much CPU it costs to take in spans: decode, append, commit, checkpoint.
//!
//! `cargo run --release -p coral-daemon --example ingest [-- <spans>]` makes frames of spool records
//! (500 spans with eight attributes each), sends them through decoder and store as a session does,
//! and prints CPU time per span (user and system, all threads) and bytes on disk.

use std::sync::Arc;

use bytes::Bytes;
use coral_daemon::counters::Counters;
use coral_daemon::intake::decode::{Decoder, Origin};
use coral_daemon::store::{Options, Store, StoreError};
use coral_model::id::{AgentId, SegmentId};
use coral_model::time::Time;
use coral_proto::record::{Kind, append};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

const BATCH: u64 = 500;

fn attribute(key: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.into(), value, ..Default::default() }
}

fn text(text: impl Into<String>) -> Value {
    Value::StringValue(text.into())
}

/// A cheap scramble, so that ids look random to the compressor.
fn scramble(n: u64) -> u64 {
    let x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (x >> 31)
}

fn request(batch: u64) -> Vec<u8> {
    let now = Time::now().0;
    let spans = (0..BATCH).map(|i| {
        let n = batch * BATCH + i;
        let route = scramble(n) % 20;
        let duration = 1_000_000 + scramble(n + 7) % 50_000_000;
        let trace = [scramble(n / 8).to_be_bytes(), scramble(n / 8 + 1).to_be_bytes()].concat();
        Span {
            trace_id: trace,
            span_id: scramble(n + 99).to_be_bytes().to_vec(),
            parent_span_id: scramble(n + 98).to_be_bytes().to_vec(),
            name: format!("GET /route/{route}"),
            kind: 2,
            start_time_unix_nano: now - duration,
            end_time_unix_nano: now,
            attributes: vec![
                attribute("http.request.method", text("GET")),
                attribute("http.route", text(format!("/route/{route}"))),
                attribute("http.response.status_code", Value::IntValue(200)),
                attribute("url.path", text(format!("/route/{route}/{}", scramble(n) % 1000))),
                attribute("server.address", text("web-1.example.internal")),
                attribute("user.id", text(format!("user-{}", scramble(n) % 10_000))),
                attribute("thread.id", Value::IntValue(17)),
                attribute("client.address", text(format!("10.0.{}.{}", n % 7, n % 251))),
            ],
            ..Default::default()
        }
    });
    let resource = Resource {
        attributes: vec![
            attribute("service.name", text("bench")),
            attribute("service.instance.id", text("bench-1")),
            attribute("host.name", text("web-1")),
        ],
        ..Default::default()
    };
    let scope = ScopeSpans { spans: spans.collect(), ..Default::default() };
    let resource_spans =
        ResourceSpans { resource: Some(resource), scope_spans: vec![scope], ..Default::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |n: usize| after.split_whitespace().nth(n).and_then(|t| t.parse::<f64>().ok());
    // Fields 14 and 15 of proc(5), in clock ticks of 1/100 s.
    (field(11).unwrap_or(0.0) + field(12).unwrap_or(0.0)) / 100.0
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let spans: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    let counters = Arc::new(Counters::default());
    let mut options = Options::new(Arc::clone(&counters));
    options.retention.disk_max = Some(8 << 30);
    if let Ok(bytes) = std::env::var("CHECKPOINT_BYTES") {
        options.checkpoint_bytes = bytes.parse()?;
    }
    let store = Store::open(dir.path(), options)?;
    let mut decoder = Decoder::new(Arc::default());
    let (agent, segment) = (AgentId([1; 16]), SegmentId([2; 16]));

    println!("making {spans} spans");
    let frames: Vec<Bytes> = (0..spans / BATCH)
        .map(|n| {
            let mut frame = Vec::new();
            append(&mut frame, Kind::Traces, n, 5, &request(n)).map(|()| frame.into())
        })
        .collect::<Result<_, _>>()?;
    let bytes: usize = frames.iter().map(Bytes::len).sum();

    let (began, cpu_began) = (std::time::Instant::now(), cpu());
    let mut decoding = 0.0;
    let mut pending = std::collections::VecDeque::new();
    let mut after = None;
    for (n, frame) in (0u64..).zip(&frames) {
        let reserved = store.reserve(frame.len()).await?;
        let started = std::time::Instant::now();
        let decoded = decoder.frame(frame, n, Origin { agent, segment, after }, Time::now());
        decoding += started.elapsed().as_secs_f64();
        after = decoded.last;
        pending.push_back(store.submit(decoded.batch, reserved)?);
        if pending.len() > 64
            && let Some(oldest) = pending.pop_front()
        {
            oldest.await?;
        }
    }
    for oldest in pending {
        oldest.await?;
    }
    let committed = cpu() - cpu_began;
    let wall = began.elapsed().as_secs_f64();
    store.close().await;
    let closed = cpu() - cpu_began;

    let store = Store::open(dir.path(), Options::new(counters.clone()))?;
    let rows: u64 = store
        .read(|c| -> Result<u64, StoreError> {
            Ok(c.query_row("SELECT count(*) FROM spans", [], |row| row.get(0))?)
        })
        .await?;
    anyhow::ensure!(rows == spans, "{rows} rows of {spans} spans");
    let health = store.health();
    let n = coral_model::num::f64_from(spans);
    let per = |seconds: f64| seconds / n * 1e6;
    println!(
        "records          {:.0} bytes a span",
        coral_model::num::f64_from(u64::try_from(bytes)?) / n
    );
    println!("wall             {wall:.2} s, {:.0} spans/s", n / wall);
    println!("cpu, decode      {:.2} µs a span (wall of one thread)", per(decoding));
    println!("cpu, to commit   {:.2} µs a span", per(committed));
    println!(
        "cpu, to closed   {:.2} µs a span, {:.0} spans per CPU second",
        per(closed),
        n / closed
    );
    println!(
        "on disk          {:.0} bytes a span",
        coral_model::num::f64_from(health.used_bytes) / n
    );
    println!("counters         {:?}", counters.snapshot());
    store.close().await;
    Ok(())
}

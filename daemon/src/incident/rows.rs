//! Rows of a file, and how they become a batch.
//!
//! The columns are those of the public views (`store/schema.rs`); unknown ones are skipped, so that an
//! older build reads what a newer one wrote as far as it knows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use coral_model::Time;
use coral_model::connections::Tally;
use coral_model::hist::{BUCKETS, Histogram};
use coral_model::id::{AgentId, ResourceId, SpanId, TraceId};
use coral_model::view::{
    EdgeEnds, EventKind, EventRow, Evidence, HostRow, MetricKind, NodeKind, SpanKind, SpanStatus,
};
use serde::Deserialize;
use serde_json::Value;

use crate::store::columns::logs::Log;
use crate::store::columns::metrics::Point;
use crate::store::columns::spans::Span;
use crate::store::{Batch, EdgeDelta, HostReading, InflightReading, Node, RedDelta, Resource};

type Text = Option<String>;
type Attributes = Option<BTreeMap<String, Option<String>>>;

#[derive(Deserialize)]
struct ResourceLine {
    id: u64,
    service: Text,
    namespace: Text,
    instance: Text,
    version: Text,
    host: Text,
    zone: Text,
    attributes: Attributes,
    first_ns: Option<u64>,
}

#[derive(Deserialize)]
struct SpanLine {
    start_ns: u64,
    duration_ns: u64,
    trace_hi: u64,
    trace_lo: u64,
    span_id: u64,
    parent_id: u64,
    service: Text,
    operation: Text,
    name: Text,
    kind: u64,
    status: u64,
    code: Text,
    error: bool,
    http_route: Text,
    db_system: Text,
    rpc_method: Text,
    peer_service: Text,
    resource: u64,
    message: Text,
    attributes: Attributes,
    events: Text,
    links: Text,
}

#[derive(Deserialize)]
struct LogLine {
    time_ns: u64,
    service: Text,
    severity: u8,
    body: Text,
    trace_hi: Option<u64>,
    trace_lo: Option<u64>,
    span_id: Option<u64>,
    resource: u64,
    attributes: Attributes,
}

#[derive(Deserialize)]
struct MetricLine {
    time_ns: u64,
    start_ns: Option<u64>,
    metric: Text,
    kind: Text,
    unit: Text,
    description: Text,
    temporality: Text,
    service: Text,
    resource: u64,
    attributes: Attributes,
    value: Option<f64>,
    count: Option<u64>,
    sum: Option<f64>,
    bounds: Option<Vec<f64>>,
    counts: Option<Vec<u64>>,
    extra: Text,
}

#[derive(Deserialize)]
struct RedLine {
    bucket_ns: u64,
    resource: u64,
    service: Text,
    operation: Text,
    kind: u64,
    code: Text,
    protocol: Text,
    errors: u64,
    no_answer: u64,
    sum_ns: u64,
    hist_index: Option<Vec<u16>>,
    hist_count: Option<Vec<u64>>,
    slow_hi: Option<u64>,
    slow_lo: Option<u64>,
    slow_ns: Option<u64>,
    error_hi: Option<u64>,
    error_lo: Option<u64>,
    sampled: bool,
    evidence: Text,
}

#[derive(Deserialize)]
struct EdgeLine {
    bucket_ns: u64,
    from_name: Text,
    from_kind: String,
    to_name: Text,
    to_kind: String,
    protocol: Text,
    ends: u8,
    errors: u64,
    no_answer: u64,
    sum_ns: u64,
    hist_index: Option<Vec<u16>>,
    hist_count: Option<Vec<u64>>,
    callee_sum_ns: Option<u64>,
    callee_hist_index: Option<Vec<u16>>,
    callee_hist_count: Option<Vec<u64>>,
    sampled: bool,
    evidence: Text,
    // Files of earlier builds lack all of these.
    conn_opened: Option<u64>,
    conn_failed: Option<u64>,
    conn_refused: Option<u64>,
    conn_reset: Option<u64>,
    retransmits: Option<u64>,
    sent_bytes: Option<u64>,
    received_bytes: Option<u64>,
    rtt_sum_ns: Option<u64>,
    rtt_count: Option<u64>,
    conn_open_ns: Option<u64>,
    conn_busy_ns: Option<u64>,
}

impl EdgeLine {
    fn connections(&self) -> Tally {
        let number = |n: Option<u64>| n.unwrap_or_default();
        Tally {
            opened: number(self.conn_opened),
            failed: number(self.conn_failed),
            refused: number(self.conn_refused),
            reset: number(self.conn_reset),
            retransmits: number(self.retransmits),
            sent_bytes: number(self.sent_bytes),
            received_bytes: number(self.received_bytes),
            rtt_sum_ns: number(self.rtt_sum_ns),
            rtt_count: number(self.rtt_count),
            open_ns: number(self.conn_open_ns),
            busy_ns: number(self.conn_busy_ns),
        }
    }
}

#[derive(Deserialize)]
struct EventLine {
    time_ns: u64,
    kind: String,
    service: Text,
    host: Text,
    text: Text,
    source: Text,
    attributes: Attributes,
}

#[derive(Deserialize)]
struct InflightLine {
    at_ns: u64,
    agent: String,
    resource: u64,
    service: Text,
    operation: Text,
    count: u64,
    oldest_start_ns: Option<u64>,
    oldest_hi: Option<u64>,
    oldest_lo: Option<u64>,
    exact: bool,
}

#[derive(Deserialize)]
struct HostLine {
    at_ns: u64,
    host: Text,
    agent: String,
    row: String,
}

fn words(text: &Text) -> &str {
    text.as_deref().unwrap_or_default()
}

fn shared(text: Text) -> Arc<str> {
    text.unwrap_or_default().into()
}

fn some(text: Text) -> Option<Arc<str>> {
    text.map(Into::into)
}

fn trace(hi: Option<u64>, lo: Option<u64>) -> Option<TraceId> {
    let id = u128::from(hi?) << 64 | u128::from(lo?);
    Some(TraceId(id.to_be_bytes())).filter(|id| !id.is_zero())
}

fn span(id: u64) -> Option<SpanId> {
    (id != 0).then(|| SpanId(id.to_be_bytes()))
}

fn histogram(
    index: Option<Vec<u16>>,
    count: Option<Vec<u64>>,
    sum_ns: u64,
) -> Result<Histogram, String> {
    let (index, count) = (index.unwrap_or_default(), count.unwrap_or_default());
    if index.len() != count.len() {
        return Err("a histogram has as many indices as counts".into());
    }
    let mut histogram = Histogram::default();
    for (index, n) in index.into_iter().zip(count) {
        if index >= BUCKETS {
            return Err(format!("a histogram's index is below {BUCKETS}, not {index}"));
        }
        histogram.add(index, n);
    }
    histogram.add_sum(sum_ns);
    Ok(histogram)
}

/// Adds a row of a table to a batch.
///
/// # Errors
/// When the row is not one of that table, in words that say what was expected.
pub fn push(table: &str, row: Value, batch: &mut Batch) -> Result<(), String> {
    match table {
        "resources" => resource(read(row)?, batch),
        "spans" => spans(&read(row)?, batch),
        "logs" => logs(&read(row)?, batch),
        "metrics" => metrics(&read(row)?, batch),
        "red" => red(read(row)?, batch),
        "edges" => edges(read(row)?, batch),
        "events" => events(read(row)?, batch),
        "hosts" => hosts(read(row)?, batch),
        "inflight" => inflight(read(row)?, batch),
        // Of a newer build.
        _ => Ok(()),
    }
}

fn read<T: serde::de::DeserializeOwned>(row: Value) -> Result<T, String> {
    serde_json::from_value(row).map_err(|e| e.to_string())
}

fn resource(line: ResourceLine, batch: &mut Batch) -> Result<(), String> {
    let attributes = line.attributes.unwrap_or_default().into_iter();
    let resource = Resource {
        id: ResourceId(line.id),
        service: shared(line.service),
        namespace: some(line.namespace),
        instance: some(line.instance),
        version: some(line.version),
        host: some(line.host),
        zone: some(line.zone),
        attributes: attributes.map(|(k, v)| (k.into(), v.unwrap_or_default().into())).collect(),
        first: line.first_ns.map(Time),
    };
    batch.heard.insert(resource.id);
    batch.resources.insert(resource.id, Arc::new(resource));
    Ok(())
}

fn spans(line: &SpanLine, batch: &mut Batch) -> Result<(), String> {
    for (key, value) in line.attributes.iter().flatten() {
        batch.spans.attributes.pair(key, words(value));
    }
    let id = trace(Some(line.trace_hi), Some(line.trace_lo)).ok_or("a trace id is not zero")?;
    let row = Span {
        start_ns: line.start_ns,
        duration_ns: line.duration_ns,
        trace: id,
        span: span(line.span_id).ok_or("a span id is not zero")?,
        parent: span(line.parent_id),
        service: words(&line.service),
        operation: words(&line.operation),
        name: words(&line.name),
        kind: SpanKind::from_otlp(line.kind),
        status: SpanStatus::from_otlp(line.status),
        code: words(&line.code),
        error: line.error,
        http_route: words(&line.http_route),
        db_system: words(&line.db_system),
        rpc_method: words(&line.rpc_method),
        peer_service: words(&line.peer_service),
        resource: ResourceId(line.resource),
        message: words(&line.message),
        events: words(&line.events),
        links: words(&line.links),
    };
    batch.spans.push(&row).map_err(|e| e.to_string())
}

fn logs(line: &LogLine, batch: &mut Batch) -> Result<(), String> {
    for (key, value) in line.attributes.iter().flatten() {
        batch.logs.attributes.pair(key, words(value));
    }
    let row = Log {
        time_ns: line.time_ns,
        service: words(&line.service),
        severity: line.severity,
        body: words(&line.body),
        trace: trace(line.trace_hi, line.trace_lo),
        span: line.span_id.and_then(span),
        resource: ResourceId(line.resource),
    };
    batch.logs.push(&row).map_err(|e| e.to_string())
}

fn metrics(line: &MetricLine, batch: &mut Batch) -> Result<(), String> {
    for (key, value) in line.attributes.iter().flatten() {
        batch.metrics.attributes.pair(key, words(value));
    }
    let kind = words(&line.kind);
    let row = Point {
        time_ns: line.time_ns,
        start_ns: line.start_ns.unwrap_or_default(),
        metric: words(&line.metric),
        kind: kind.parse::<MetricKind>().map_err(|e| e.to_string())?,
        unit: words(&line.unit),
        description: words(&line.description),
        temporality: words(&line.temporality),
        service: words(&line.service),
        resource: ResourceId(line.resource),
        value: line.value,
        count: line.count,
        sum: line.sum,
        bounds: line.bounds.as_deref().unwrap_or_default(),
        counts: line.counts.as_deref().unwrap_or_default(),
        extra: words(&line.extra),
    };
    batch.metrics.push(&row).map_err(|e| e.to_string())
}

/// Files of earlier builds know spans alone.
fn evidence(text: &Text) -> Result<Evidence, String> {
    text.as_deref().map_or(Ok(Evidence::Otlp), |word| word.parse()).map_err(|e| e.to_string())
}

fn red(line: RedLine, batch: &mut Batch) -> Result<(), String> {
    batch.red.push(RedDelta {
        bucket: Time(line.bucket_ns),
        resource: ResourceId(line.resource),
        service: shared(line.service),
        operation: shared(line.operation),
        kind: SpanKind::from_otlp(line.kind),
        code: shared(line.code),
        protocol: shared(line.protocol),
        errors: line.errors,
        no_answer: line.no_answer,
        histogram: histogram(line.hist_index, line.hist_count, line.sum_ns)?,
        slowest: trace(line.slow_hi, line.slow_lo).zip(line.slow_ns),
        error_trace: trace(line.error_hi, line.error_lo),
        sampled: line.sampled,
        evidence: evidence(&line.evidence)?,
    });
    Ok(())
}

fn edges(line: EdgeLine, batch: &mut Batch) -> Result<(), String> {
    let node = |name: Text, kind: &str| {
        let kind = kind.parse::<NodeKind>().map_err(|e| e.to_string())?;
        Ok::<_, String>(Node { name: shared(name), kind })
    };
    let connections = line.connections();
    batch.edges.push(EdgeDelta {
        bucket: Time(line.bucket_ns),
        from: node(line.from_name, &line.from_kind)?,
        to: node(line.to_name, &line.to_kind)?,
        protocol: shared(line.protocol),
        ends: if line.ends >= 2 { EdgeEnds::Both } else { EdgeEnds::One },
        errors: line.errors,
        no_answer: line.no_answer,
        histogram: histogram(line.hist_index, line.hist_count, line.sum_ns)?,
        callee: histogram(
            line.callee_hist_index,
            line.callee_hist_count,
            line.callee_sum_ns.unwrap_or_default(),
        )?,
        sampled: line.sampled,
        evidence: evidence(&line.evidence)?,
        connections,
    });
    Ok(())
}

fn events(line: EventLine, batch: &mut Batch) -> Result<(), String> {
    let attributes = line.attributes.unwrap_or_default().into_iter();
    batch.events.push(EventRow {
        time: Time(line.time_ns),
        kind: line.kind.parse().unwrap_or(EventKind::Note),
        service: line.service,
        host: line.host,
        text: line.text.unwrap_or_default(),
        source: line.source.unwrap_or_default(),
        attributes: attributes.map(|(k, v)| (k, v.unwrap_or_default())).collect(),
    });
    Ok(())
}

fn hosts(line: HostLine, batch: &mut Batch) -> Result<(), String> {
    let agent: AgentId = line.agent.parse().map_err(|_| "an agent is 32 hex digits".to_owned())?;
    serde_json::from_str::<HostRow>(&line.row).map_err(|e| e.to_string())?;
    batch.hosts.push(HostReading {
        at: Time(line.at_ns),
        agent,
        host: shared(line.host),
        row: line.row.into(),
    });
    Ok(())
}

fn inflight(line: InflightLine, batch: &mut Batch) -> Result<(), String> {
    let agent: AgentId = line.agent.parse().map_err(|_| "an agent is 32 hex digits".to_owned())?;
    batch.inflight.push(InflightReading {
        at: Time(line.at_ns),
        agent,
        resource: ResourceId(line.resource),
        service: shared(line.service),
        operation: shared(line.operation),
        count: line.count,
        oldest_start: line.oldest_start_ns.map(Time),
        oldest_trace: trace(line.oldest_hi, line.oldest_lo),
        exact: line.exact,
    });
    Ok(())
}

//! What an agent's reducer counted: RED deltas, half-edges, requests in flight, connections.
//!
//! Every index is checked; a row with one that points nowhere is left out and the record is set
//! aside, but its other rows are kept: they are additive.

use std::sync::Arc;

use coral_model::connections::Tally;
use coral_model::hist::{BUCKETS, Histogram};
use coral_model::id::{AgentId, TraceId};
use coral_model::time::{BUCKET, Time};
use coral_model::view::{Evidence, NodeKind, SpanKind};
use coral_proto::v1;
use prost::Message as _;

use super::Trouble;
use super::resources::of_pairs;
use crate::store::{
    Batch, ConnectionDelta, HalfEdge, HalfSeries, InflightReading, RedDelta, Resource,
};

struct Tables {
    strings: Vec<Arc<str>>,
    resources: Vec<Arc<Resource>>,
}

impl Tables {
    fn text(&self, index: u32) -> Result<Arc<str>, String> {
        at(&self.strings, index, "string").cloned()
    }

    fn resource(&self, index: u32) -> Result<&Arc<Resource>, String> {
        at(&self.resources, index, "resource")
    }
}

fn at<'a, T>(list: &'a [T], index: u32, what: &str) -> Result<&'a T, String> {
    let found = usize::try_from(index).ok().and_then(|i| list.get(i));
    found.ok_or_else(|| format!("{what} {index} of {}", list.len()))
}

/// Reads a `Reduced` into the batch.
pub fn read(body: &[u8], agent: AgentId, batch: &mut Batch) -> Result<(), String> {
    let reduced = v1::Reduced::decode(body).map_err(|e| e.to_string())?;
    let mut trouble = Trouble::default();
    let strings: Vec<Arc<str>> = reduced.strings.into_iter().map(Arc::from).collect();
    let mut tables = Tables { strings, resources: Vec::new() };
    for resource in reduced.resources {
        let pairs = resource.keys.iter().zip(&resource.values);
        let pairs: Result<Vec<_>, String> =
            pairs.map(|(&k, &v)| Ok((tables.text(k)?, tables.text(v)?))).collect();
        // Without its attributes a resource is nobody's; rows that point to it must still count.
        let resource = Arc::new(of_pairs(pairs.unwrap_or_else(|error| {
            trouble.note(error);
            Vec::new()
        })));
        batch.resources.entry(resource.id).or_insert_with(|| Arc::clone(&resource));
        tables.resources.push(resource);
    }
    for delta in reduced.red {
        match red(&delta, &tables) {
            Ok(row) => batch.red.push(row),
            Err(error) => trouble.note(error),
        }
    }
    if let Some(halves) = reduced.half_edges {
        half_edges(&halves, &tables, batch, &mut trouble);
    }
    for reading in reduced.inflight {
        match inflight(&reading, reduced.at_ns, agent, &tables) {
            Ok(row) => batch.inflight.push(row),
            Err(error) => trouble.note(error),
        }
    }
    for delta in reduced.connections {
        match connections(&delta, &tables) {
            Ok(row) => batch.connections.push(row),
            Err(error) => trouble.note(error),
        }
    }
    trouble.result()
}

fn trace(bytes: &[u8]) -> Option<TraceId> {
    TraceId::from_slice(bytes).filter(|id| !id.is_zero())
}

fn red(delta: &v1::RedDelta, tables: &Tables) -> Result<RedDelta, String> {
    let resource = tables.resource(delta.resource)?;
    let mut histogram = Histogram::default();
    if delta.hist_index.len() != delta.hist_count.len() {
        return Err("a histogram's indices and counts differ in number".into());
    }
    for (&index, &count) in delta.hist_index.iter().zip(&delta.hist_count) {
        let index = u16::try_from(index).ok().filter(|i| *i < BUCKETS);
        histogram.add(index.ok_or("a histogram index is out of range")?, count);
    }
    histogram.add_sum(delta.sum_ns);
    Ok(RedDelta {
        bucket: Time(u64::from(delta.bucket) * BUCKET),
        resource: resource.id,
        service: Arc::clone(&resource.service),
        operation: tables.text(delta.operation)?,
        kind: SpanKind::from_otlp(u64::from(delta.kind)),
        code: tables.text(delta.status)?,
        protocol: tables.text(delta.protocol)?,
        errors: delta.errors,
        no_answer: delta.no_answer,
        histogram,
        slowest: trace(&delta.slowest_trace).map(|id| (id, delta.slowest_ns)),
        error_trace: trace(&delta.error_trace),
        sampled: delta.sampled,
        evidence: evidence(delta.evidence)?,
    })
}

/// One that only newer agents know is not taken for either.
fn evidence(number: i32) -> Result<Evidence, String> {
    match v1::Evidence::try_from(number) {
        Ok(v1::Evidence::Otlp) => Ok(Evidence::Otlp),
        Ok(v1::Evidence::Ebpf) => Ok(Evidence::Ebpf),
        Err(_) => Err(format!("evidence {number} is unknown")),
    }
}

fn half_edges(halves: &v1::HalfEdges, tables: &Tables, batch: &mut Batch, trouble: &mut Trouble) {
    let series: Vec<_> = halves.series.iter().map(|series| half_series(series, tables)).collect();
    let parts = halves.key.iter().zip(&halves.series_index).zip(&halves.end_ns);
    let parts = parts.zip(&halves.duration_ns).zip(&halves.flags);
    let lengths = [
        halves.key.len(),
        halves.series_index.len(),
        halves.end_ns.len(),
        halves.duration_ns.len(),
        halves.flags.len(),
    ];
    if lengths.iter().any(|n| n != &halves.key.len()) {
        trouble.note("half-edge columns differ in length");
    }
    for ((((&key, &index), &end), &duration_ns), &flags) in parts {
        match at(&series, index, "half-edge series").map(Result::as_ref) {
            Ok(Ok(series)) => batch.half_edges.push(HalfEdge {
                key,
                series: Arc::clone(series),
                end: Time(end),
                duration_ns,
                error: flags & 1 != 0,
                no_answer: flags & 2 != 0,
            }),
            Ok(Err(error)) => trouble.note(error),
            Err(error) => trouble.note(error),
        }
    }
}

fn half_series(series: &v1::HalfSeries, tables: &Tables) -> Result<Arc<HalfSeries>, String> {
    let resource = tables.resource(series.resource)?;
    Ok(Arc::new(HalfSeries {
        resource: resource.id,
        service: Arc::clone(&resource.service),
        kind: SpanKind::from_otlp(u64::from(series.kind)),
        protocol: tables.text(series.protocol)?,
        peer: tables.text(series.peer)?,
        peer_kind: peer_kind(series.peer_kind),
        sampled: series.sampled,
        evidence: evidence(series.evidence)?,
    }))
}

fn peer_kind(number: u32) -> NodeKind {
    match v1::PeerKind::try_from(i32::try_from(number).unwrap_or(-1)) {
        Ok(v1::PeerKind::Service) => NodeKind::Service,
        Ok(v1::PeerKind::Database) => NodeKind::Database,
        Ok(v1::PeerKind::Queue) => NodeKind::Queue,
        Ok(v1::PeerKind::External) | Err(_) => NodeKind::External,
    }
}

/// Only the kernel counts connections, and only where they were opened.
fn connections(delta: &v1::ConnectionDelta, tables: &Tables) -> Result<ConnectionDelta, String> {
    let resource = tables.resource(delta.resource)?;
    let series = HalfSeries {
        resource: resource.id,
        service: Arc::clone(&resource.service),
        kind: SpanKind::Client,
        protocol: tables.text(delta.protocol)?,
        peer: tables.text(delta.peer)?,
        peer_kind: peer_kind(delta.peer_kind),
        sampled: false,
        evidence: Evidence::Ebpf,
    };
    let tally = Tally {
        opened: delta.opened,
        failed: delta.failed,
        refused: delta.refused,
        reset: delta.reset,
        retransmits: delta.retransmits,
        sent_bytes: delta.sent_bytes,
        received_bytes: delta.received_bytes,
        rtt_sum_ns: delta.rtt_sum_ns,
        rtt_count: delta.rtt_count,
        open_ns: delta.open_ns,
        busy_ns: delta.busy_ns,
    };
    let bucket = Time(u64::from(delta.bucket) * BUCKET);
    Ok(ConnectionDelta { bucket, series: Arc::new(series), tally })
}

fn inflight(
    reading: &v1::Inflight,
    at_ns: u64,
    agent: AgentId,
    tables: &Tables,
) -> Result<InflightReading, String> {
    let resource = tables.resource(reading.resource)?;
    Ok(InflightReading {
        at: Time(at_ns),
        agent,
        resource: resource.id,
        service: Arc::clone(&resource.service),
        operation: tables.text(reading.operation)?,
        count: reading.count,
        oldest_start: (reading.count > 0).then_some(Time(reading.oldest_start_ns)),
        oldest_trace: trace(&reading.oldest_trace),
        exact: reading.exact,
    })
}

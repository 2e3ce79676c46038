//! Columns of the signals that arrive as decoded rows: resources, RED, edges, half-edges, events,
//! in-flight and host readings.

use std::sync::Arc;

use coral_model::hist::Histogram;
use coral_model::id::TraceId;
use coral_model::num::i64_sat;
use coral_model::time::Time;
use coral_model::view::{EdgeEnds, EventRow};
use duckdb::arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, StringArray, UInt8Array, UInt64Array,
};
use duckdb::arrow::datatypes::{UInt16Type, UInt64Type};
use duckdb::arrow::error::ArrowError;

use super::spans::halves;
use super::tallies;
use super::{CHUNK_ROWS, Chunk, ListBuilder, MapBuilder, known, shared};
use crate::edges::Kept;
use crate::store::rows::{EdgeDelta, HostReading, InflightReading, RedDelta, Resource};

fn array<'a, R: 'a, A: Array + FromIterator<V> + 'static, V>(
    rows: &'a [R],
    value: impl Fn(&'a R) -> V,
) -> ArrayRef {
    shared(rows.iter().map(value).collect::<A>())
}

fn ns<'a, R: 'a>(rows: &'a [R], value: impl Fn(&'a R) -> Time) -> ArrayRef {
    array::<_, Int64Array, _>(rows, |r| Some(value(r).as_i64()))
}

fn number<'a, R: 'a>(rows: &'a [R], value: impl Fn(&'a R) -> u64) -> ArrayRef {
    array::<_, UInt64Array, _>(rows, |r| Some(value(r)))
}

fn maybe_number<'a, R: 'a>(rows: &'a [R], value: impl Fn(&'a R) -> Option<u64>) -> ArrayRef {
    array::<_, UInt64Array, _>(rows, value)
}

fn text<'a, R: 'a>(rows: &'a [R], value: impl Fn(&'a R) -> &'a str) -> ArrayRef {
    array::<_, StringArray, _>(rows, |r| Some(value(r)))
}

fn maybe_text<'a, R: 'a>(rows: &'a [R], value: impl Fn(&'a R) -> Option<&'a str>) -> ArrayRef {
    array::<_, StringArray, _>(rows, value)
}

fn flag<'a, R: 'a>(rows: &'a [R], value: impl Fn(&'a R) -> bool) -> ArrayRef {
    array::<_, BooleanArray, _>(rows, |r| Some(value(r)))
}

fn byte<'a, R: 'a>(rows: &'a [R], value: impl Fn(&'a R) -> u8) -> ArrayRef {
    array::<_, UInt8Array, _>(rows, |r| Some(value(r)))
}

fn high(id: Option<TraceId>) -> Option<u64> {
    id.map(|id| halves(id).0)
}

fn low(id: Option<TraceId>) -> Option<u64> {
    id.map(|id| halves(id).1)
}

fn maps<'a, R: 'a, P: IntoIterator<Item = (&'a str, &'a str)>>(
    rows: &'a [R],
    pairs: impl Fn(&'a R) -> P,
) -> Result<ArrayRef, ArrowError> {
    let mut map = MapBuilder::default();
    for row in rows {
        for (key, value) in pairs(row) {
            map.pair(key, value);
        }
        map.end();
    }
    map.finish()
}

fn histograms<'a, R: 'a>(
    rows: &'a [R],
    value: impl Fn(&'a R) -> &'a Histogram,
) -> Result<(ArrayRef, ArrayRef), ArrowError> {
    let mut index = ListBuilder::<UInt16Type>::default();
    let mut count = ListBuilder::<UInt64Type>::default();
    for row in rows {
        let buckets = value(row).buckets();
        index.row(buckets.iter().map(|b| b.0));
        count.row(buckets.iter().map(|b| b.1));
    }
    Ok((index.finish()?, count.finish()?))
}

fn chunks<R>(
    rows: &[R],
    columns: impl Fn(&[R]) -> Result<Vec<ArrayRef>, ArrowError>,
) -> Result<Vec<Chunk>, ArrowError> {
    rows.chunks(CHUNK_ROWS).map(|rows| Ok(Chunk::new(rows.len(), columns(rows)?))).collect()
}

/// Resources, as first mentioned at `first` where they do not say themselves.
pub fn resources(rows: &[Arc<Resource>], first: Time) -> Result<Vec<Chunk>, ArrowError> {
    chunks(rows, |rows| {
        Ok(vec![
            number(rows, |r| r.id.0),
            text(rows, |r| &r.service),
            maybe_text(rows, |r| r.namespace.as_deref()),
            maybe_text(rows, |r| r.instance.as_deref()),
            maybe_text(rows, |r| r.version.as_deref()),
            maybe_text(rows, |r| r.host.as_deref()),
            maybe_text(rows, |r| r.zone.as_deref()),
            maps(rows, |r| r.attributes.iter().map(|(k, v)| (&**k, &**v)))?,
            ns(rows, |r| r.first.unwrap_or(first)),
        ])
    })
}

/// RED deltas.
pub fn red(rows: &[RedDelta]) -> Result<Vec<Chunk>, ArrowError> {
    chunks(rows, |rows| {
        let (index, count) = histograms(rows, |r| &r.histogram)?;
        Ok(vec![
            ns(rows, |r| r.bucket),
            number(rows, |r| r.resource.0),
            text(rows, |r| &r.service),
            text(rows, |r| &r.operation),
            byte(rows, |r| r.kind.to_otlp()),
            maybe_text(rows, |r| known(&r.code)),
            maybe_text(rows, |r| known(&r.protocol)),
            number(rows, |r| r.histogram.count()),
            number(rows, |r| r.errors),
            number(rows, |r| r.no_answer),
            number(rows, |r| r.histogram.sum_ns()),
            index,
            count,
            maybe_number(rows, |r| high(r.slowest.map(|s| s.0))),
            maybe_number(rows, |r| low(r.slowest.map(|s| s.0))),
            maybe_number(rows, |r| r.slowest.map(|s| s.1)),
            maybe_number(rows, |r| high(r.error_trace)),
            maybe_number(rows, |r| low(r.error_trace)),
            flag(rows, |r| r.sampled),
            text(rows, |r| r.evidence.word()),
        ])
    })
}

/// Joined edges.
pub fn edges(rows: &[EdgeDelta]) -> Result<Vec<Chunk>, ArrowError> {
    chunks(rows, |rows| {
        let (index, count) = histograms(rows, |r| &r.histogram)?;
        let (callee_index, callee_count) = histograms(rows, |r| &r.callee)?;
        let mut columns = vec![
            ns(rows, |r| r.bucket),
            text(rows, |r| &r.from.name),
            text(rows, |r| r.from.kind.word()),
            text(rows, |r| &r.to.name),
            text(rows, |r| r.to.kind.word()),
            maybe_text(rows, |r| known(&r.protocol)),
            byte(rows, |r| if r.ends == EdgeEnds::Both { 2 } else { 1 }),
            number(rows, |r| r.histogram.count()),
            number(rows, |r| r.errors),
            number(rows, |r| r.no_answer),
            number(rows, |r| r.histogram.sum_ns()),
            index,
            count,
            number(rows, |r| r.callee.sum_ns()),
            callee_index,
            callee_count,
            flag(rows, |r| r.sampled),
            text(rows, |r| r.evidence.word()),
        ];
        columns.extend(tallies::written(rows, |r| &r.connections));
        Ok(columns)
    })
}

/// Half-edges with what the join made of them.
pub fn half_edges(rows: &[Kept]) -> Result<Vec<Chunk>, ArrowError> {
    chunks(rows, |rows| {
        Ok(vec![
            number(rows, |r| r.n),
            number(rows, |r| r.half.key),
            number(rows, |r| r.half.series.resource.0),
            text(rows, |r| &r.half.series.service),
            byte(rows, |r| r.half.series.kind.to_otlp()),
            text(rows, |r| &r.half.series.protocol),
            text(rows, |r| &r.half.series.peer),
            text(rows, |r| r.half.series.peer_kind.word()),
            flag(rows, |r| r.half.series.sampled),
            ns(rows, |r| r.half.end),
            number(rows, |r| r.half.duration_ns),
            flag(rows, |r| r.half.error),
            flag(rows, |r| r.half.no_answer),
            byte(rows, |r| r.fate.to_byte()),
            text(rows, |r| r.half.series.evidence.word()),
        ])
    })
}

/// Events.
pub fn events(rows: &[EventRow]) -> Result<Vec<Chunk>, ArrowError> {
    chunks(rows, |rows| {
        Ok(vec![
            ns(rows, |r| r.time),
            text(rows, |r| r.kind.word()),
            maybe_text(rows, |r| r.service.as_deref()),
            maybe_text(rows, |r| r.host.as_deref()),
            text(rows, |r| &r.text),
            text(rows, |r| &r.source),
            maps(rows, |r| r.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())))?,
        ])
    })
}

/// Requests in flight.
pub fn inflight(rows: &[InflightReading]) -> Result<Vec<Chunk>, ArrowError> {
    chunks(rows, |rows| {
        Ok(vec![
            ns(rows, |r| r.at),
            array::<_, StringArray, _>(rows, |r| Some(r.agent.to_string())),
            number(rows, |r| r.resource.0),
            text(rows, |r| &r.service),
            maybe_text(rows, |r| known(&r.operation)),
            number(rows, |r| r.count),
            array::<_, Int64Array, _>(rows, |r| r.oldest_start.map(|t| i64_sat(t.0))),
            maybe_number(rows, |r| high(r.oldest_trace)),
            maybe_number(rows, |r| low(r.oldest_trace)),
            flag(rows, |r| r.exact),
        ])
    })
}

/// Host readings.
pub fn hosts(rows: &[HostReading]) -> Result<Vec<Chunk>, ArrowError> {
    chunks(rows, |rows| {
        Ok(vec![
            ns(rows, |r| r.at),
            text(rows, |r| &r.host),
            array::<_, StringArray, _>(rows, |r| Some(r.agent.to_string())),
            text(rows, |r| &r.row),
        ])
    })
}

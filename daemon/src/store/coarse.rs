//! Requests and edges of a slice in longer buckets.
//!
//! Buckets of a minute and of an hour are made of the slice's own rows and nothing else: several
//! slices may tell of one bucket (late data), readers sum. Rows of one bucket and series are merged
//! as live memory merges them ([`Additive`]): histograms exactly, counts of the same index are
//! added, which is the histogram of the union. It is done here and not in SQL because DuckDB merges
//! lists by taking them apart, which costs more and cannot be put on disk.

use std::sync::Arc;

use coral_model::hist::Histogram;
use coral_model::id::{ResourceId, TraceId};
use coral_model::time::Time;
use coral_model::view::{EdgeEnds, Evidence, NodeKind, SpanKind};
use duckdb::arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, ListArray, StringArray, UInt8Array, UInt16Array,
    UInt64Array,
};
use duckdb::arrow::error::ArrowError;
use duckdb::arrow::record_batch::RecordBatch;
use duckdb::{Connection, params};
use hashbrown::{HashMap, HashSet};

use super::additive::Additive;
use super::columns::spans::trace_id;
use super::columns::tallies::Tallies;
use super::columns::{Chunk, small};
use super::rows::{EdgeDelta, Node, RedDelta};
use super::schema::Signal;
use super::{StoreError, sealed};

/// Rows that are merged at once; more of one bucket are merged a share of the series at a time.
pub const MERGED_ROWS: u64 = 131_072;
/// The temporary table that takes the merged rows.
const MERGED: &str = "merged";
/// As a statement names it.
pub const MERGED_TABLE: &str = "temp.merged";

/// Merges a table's rows into buckets of `width` ns, in [`MERGED_TABLE`].
pub fn merge(
    connection: &Connection,
    signal: Signal,
    table: &str,
    width: u64,
) -> Result<(), StoreError> {
    connection.execute_batch(&format!(
        "CREATE OR REPLACE TEMP TABLE {MERGED} AS SELECT * FROM {table} LIMIT 0"
    ))?;
    match signal {
        Signal::Red => of::<RedDelta>(connection, table, width),
        Signal::Edges => of::<EdgeDelta>(connection, table, width),
        _ => Ok(()),
    }
}

fn of<R: Coarse>(connection: &Connection, table: &str, width: u64) -> Result<(), StoreError> {
    let sql = format!(
        "SELECT bucket_ns // {width} * {width} AS bucket, count(*)::UBIGINT FROM {table} \
         GROUP BY bucket ORDER BY bucket"
    );
    let mut statement = connection.prepare(&sql)?;
    let found =
        statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u64>(1)?)))?;
    let buckets: Vec<(i64, u64)> = found.collect::<Result<_, _>>()?;
    let mut words = Words::default();
    let mut rest = buckets.as_slice();
    while let Some(((first, mut rows), more)) = rest.split_first().map(|(b, more)| (*b, more)) {
        let (mut last, mut taken) = (first, 0);
        for (bucket, count) in more {
            if rows + count > MERGED_ROWS {
                break;
            }
            (last, rows, taken) = (*bucket, rows + count, taken + 1);
        }
        rest = more.get(taken..).unwrap_or_default();
        let shares = rows.div_ceil(MERGED_ROWS).max(1);
        for share in 0..shares {
            let part = match shares {
                1 => String::new(),
                _ => format!(" AND hash({}) % {shares} = {share}", R::KEYS),
            };
            let sql = format!(
                "SELECT {} FROM {table} WHERE bucket_ns >= ? AND bucket_ns < ?{part}",
                R::COLUMNS
            );
            let end = last.saturating_add_unsigned(width);
            merge_rows::<R>(connection, &sql, (first, end), width, &mut words)?;
        }
    }
    Ok(())
}

fn merge_rows<R: Coarse>(
    connection: &Connection,
    sql: &str,
    (from, to): (i64, i64),
    width: u64,
    words: &mut Words,
) -> Result<(), StoreError> {
    let mut merged: HashMap<(Time, R::Key), (R, i64)> = HashMap::new();
    let mut statement = connection.prepare(sql)?;
    for batch in statement.query_arrow(params![from, to])? {
        let received = received(&batch)?;
        R::each(&batch, words, &mut |row, mut delta: R| {
            let bucket = delta.bucket_mut();
            *bucket = bucket.align(width);
            let at = received.value(row);
            match merged.entry((delta.bucket(), delta.key())) {
                hashbrown::hash_map::Entry::Occupied(mut have) => {
                    let (sum, latest) = have.get_mut();
                    sum.merge(&delta);
                    *latest = (*latest).max(at);
                }
                hashbrown::hash_map::Entry::Vacant(slot) => _ = slot.insert((delta, at)),
            }
        })?;
    }
    let (rows, mut received): (Vec<R>, Vec<i64>) = merged.into_values().unzip();
    let mut appender = connection.appender_to_catalog_and_db(MERGED, "temp", "main")?;
    for chunk in R::chunks(&rows).map_err(sealed::arrow)? {
        let rest = received.split_off(chunk.rows().min(received.len()));
        appender.append_record_batch(chunk.stamped(1, received).map_err(sealed::arrow)?)?;
        received = rest;
    }
    appender.flush()?;
    Ok(())
}

/// The stamps of rows read with [`Coarse::COLUMNS`].
pub fn received(batch: &RecordBatch) -> Result<&Int64Array, StoreError> {
    column(batch, 1)
}

/// Names met before, so that a row costs no new string.
#[derive(Debug, Default)]
pub struct Words(HashSet<Arc<str>>);

impl Words {
    fn of(&mut self, column: &StringArray, row: usize) -> Arc<str> {
        let word = if column.is_valid(row) { column.value(row) } else { "" };
        Arc::clone(self.0.get_or_insert_with(word, |word: &str| Arc::from(word)))
    }
}

/// Rows that can be read from their table and written again.
pub trait Coarse: Additive {
    /// What is read, in the order [`Coarse::each`] takes it; `received_ns` second.
    const COLUMNS: &'static str;
    /// What tells series apart.
    const KEYS: &'static str;
    /// Hands every row to `take`.
    fn each(
        batch: &RecordBatch,
        words: &mut Words,
        take: &mut dyn FnMut(usize, Self),
    ) -> Result<(), StoreError>;
    /// As columns, without `received_ns`.
    fn chunks(rows: &[Self]) -> Result<Vec<Chunk>, ArrowError>;
}

impl Coarse for RedDelta {
    const COLUMNS: &'static str = "bucket_ns, received_ns, resource, service, operation, kind, code, \
        protocol, errors, no_answer, sum_ns, hist_index, hist_count, slow_hi, slow_lo, slow_ns, \
        error_hi, error_lo, sampled, evidence";
    const KEYS: &'static str = "resource, operation, kind, code, protocol, sampled, evidence";

    fn each(
        batch: &RecordBatch,
        words: &mut Words,
        take: &mut dyn FnMut(usize, Self),
    ) -> Result<(), StoreError> {
        let number = |at| column::<UInt64Array>(batch, at);
        let text = |at| column::<StringArray>(batch, at);
        let bucket = column::<Int64Array>(batch, 0)?;
        let (resource, service, operation) = (number(2)?, text(3)?, text(4)?);
        let (kind, code, protocol) = (column::<UInt8Array>(batch, 5)?, text(6)?, text(7)?);
        let (errors, no_answer, sum) = (number(8)?, number(9)?, number(10)?);
        let histograms = Histograms::of(batch, 11)?;
        let (slow_hi, slow_lo, slow_ns) = (number(13)?, number(14)?, number(15)?);
        let (error_hi, error_lo) = (number(16)?, number(17)?);
        let sampled = column::<BooleanArray>(batch, 18)?;
        let evidence = text(19)?;
        for row in 0..batch.num_rows() {
            let delta = Self {
                bucket: Time::from_i64(bucket.value(row)),
                resource: ResourceId(resource.value(row)),
                service: words.of(service, row),
                operation: words.of(operation, row),
                kind: SpanKind::from_otlp(u64::from(kind.value(row))),
                code: words.of(code, row),
                protocol: words.of(protocol, row),
                errors: errors.value(row),
                no_answer: no_answer.value(row),
                histogram: histograms.at(row, sum.value(row)),
                slowest: id(slow_hi, slow_lo, row).map(|id| (id, slow_ns.value(row))),
                error_trace: id(error_hi, error_lo, row),
                sampled: sampled.value(row),
                evidence: evidence_of(evidence, row),
            };
            take(row, delta);
        }
        Ok(())
    }

    fn chunks(rows: &[Self]) -> Result<Vec<Chunk>, ArrowError> {
        small::red(rows)
    }
}

impl Coarse for EdgeDelta {
    const COLUMNS: &'static str = "bucket_ns, received_ns, from_name, from_kind, to_name, to_kind, \
        protocol, ends, errors, no_answer, sum_ns, hist_index, hist_count, callee_sum_ns, \
        callee_hist_index, callee_hist_count, sampled, evidence, conn_opened, conn_failed, \
        conn_refused, conn_reset, retransmits, sent_bytes, received_bytes, rtt_sum_ns, rtt_count, \
        conn_open_ns, conn_busy_ns";
    const KEYS: &'static str =
        "from_name, from_kind, to_name, to_kind, protocol, ends, sampled, evidence";

    fn each(
        batch: &RecordBatch,
        words: &mut Words,
        take: &mut dyn FnMut(usize, Self),
    ) -> Result<(), StoreError> {
        let number = |at| column::<UInt64Array>(batch, at);
        let text = |at| column::<StringArray>(batch, at);
        let bucket = column::<Int64Array>(batch, 0)?;
        let (from, from_kind, to, to_kind) = (text(2)?, text(3)?, text(4)?, text(5)?);
        let (protocol, ends) = (text(6)?, column::<UInt8Array>(batch, 7)?);
        let (errors, no_answer, sum) = (number(8)?, number(9)?, number(10)?);
        let histograms = Histograms::of(batch, 11)?;
        let (callee_sum, callees) = (number(13)?, Histograms::of(batch, 14)?);
        let sampled = column::<BooleanArray>(batch, 16)?;
        let evidence = text(17)?;
        let connections = Tallies::of(18, number)?;
        let kind_of = |column: &StringArray, row: usize| {
            column.value(row).parse().unwrap_or(NodeKind::External)
        };
        for row in 0..batch.num_rows() {
            let delta = Self {
                bucket: Time::from_i64(bucket.value(row)),
                from: Node { name: words.of(from, row), kind: kind_of(from_kind, row) },
                to: Node { name: words.of(to, row), kind: kind_of(to_kind, row) },
                protocol: words.of(protocol, row),
                ends: if ends.value(row) == 2 { EdgeEnds::Both } else { EdgeEnds::One },
                errors: errors.value(row),
                no_answer: no_answer.value(row),
                histogram: histograms.at(row, sum.value(row)),
                callee: callees.at(row, callee_sum.value(row)),
                sampled: sampled.value(row),
                evidence: evidence_of(evidence, row),
                connections: connections.at(row),
            };
            take(row, delta);
        }
        Ok(())
    }

    fn chunks(rows: &[Self]) -> Result<Vec<Chunk>, ArrowError> {
        small::edges(rows)
    }
}

/// Two parallel list columns.
struct Histograms<'a> {
    lists: [&'a ListArray; 2],
    index: &'a [u16],
    count: &'a [u64],
}

impl<'a> Histograms<'a> {
    /// Those at `at` and behind it.
    fn of(batch: &'a RecordBatch, at: usize) -> Result<Self, StoreError> {
        let lists = [column::<ListArray>(batch, at)?, column::<ListArray>(batch, at + 1)?];
        let [index, count] = lists;
        let index = index.values().as_any().downcast_ref::<UInt16Array>();
        let count = count.values().as_any().downcast_ref::<UInt64Array>();
        let (Some(index), Some(count)) = (index, count) else { return Err(unlike(at)) };
        Ok(Self { lists, index: index.values(), count: count.values() })
    }

    fn at(&self, row: usize, sum_ns: u64) -> Histogram {
        let range = |list: &ListArray| {
            let offsets = list.value_offsets();
            let at = |i: usize| offsets.get(i).map_or(0, |&o| coral_model::num::usize_sat(o));
            if list.is_valid(row) { at(row)..at(row + 1) } else { 0..0 }
        };
        let [index, count] = self.lists.map(range);
        let mut histogram = Histogram::default();
        let pairs = self.index.get(index).unwrap_or_default().iter();
        for (&index, &count) in pairs.zip(self.count.get(count).unwrap_or_default()) {
            histogram.add(index, count);
        }
        histogram.add_sum(sum_ns);
        histogram
    }
}

fn evidence_of(column: &StringArray, row: usize) -> Evidence {
    column.value(row).parse().unwrap_or(Evidence::Otlp)
}

fn id(hi: &UInt64Array, lo: &UInt64Array, row: usize) -> Option<TraceId> {
    (hi.is_valid(row) && lo.is_valid(row)).then(|| trace_id(hi.value(row), lo.value(row)))
}

fn column<A: Array + 'static>(batch: &RecordBatch, at: usize) -> Result<&A, StoreError> {
    column_of(batch.columns(), at)
}

/// One of some columns, if it is of this type.
pub fn column_of<A: Array + 'static>(columns: &[ArrayRef], at: usize) -> Result<&A, StoreError> {
    let found = columns.get(at).and_then(|c| c.as_any().downcast_ref());
    found.ok_or_else(|| unlike(at))
}

fn unlike(at: usize) -> StoreError {
    StoreError::Database(duckdb::Error::InvalidColumnIndex(at))
}

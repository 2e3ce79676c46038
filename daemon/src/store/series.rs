//! Requests by series: the same buckets as the coarse forms, each series in one row.
//!
//! A question about an hour of a hundred services reads some ten thousand buckets of some hundred
//! series. As rows, each of these buckets brings its service, operation and two lists; here a series
//! has them once, and its buckets are one packed value (see [`packed`]). People's SQL reads the
//! rows, Coral's own questions read this.

use std::sync::Arc;

use coral_model::id::ResourceId;
use coral_model::time::Time;
use coral_model::view::Evidence;
use duckdb::arrow::array::{
    ArrayRef, BinaryArray, Int64Array, StringArray, UInt8Array, UInt32Array, UInt64Array,
};
use duckdb::arrow::datatypes::{Field, Schema};
use duckdb::arrow::record_batch::RecordBatch;
use duckdb::{Connection, params};
use hashbrown::HashMap;

use super::coarse::{Coarse as _, MERGED_ROWS, MERGED_TABLE, Words, received};
use super::packed::{Cell, List};
use super::rows::RedDelta;
use super::{StoreError, sealed};

/// The temporary table that takes packed series.
const PACKED: &str = "packed";
/// As a statement names it.
pub const PACKED_TABLE: &str = "temp.packed";
/// Rows of a chunk given to the appender.
const CHUNK: usize = 2048;

/// What a file has: `cells` counts buckets, `packed` is a list of [`packed::List`]s.
const COLUMNS: &str = "received_ns, first_ns, last_ns, resource, service, operation, kind, code, \
    evidence, cells, packed";

/// One row for each series of several files, where each file may have one.
#[must_use]
pub fn folded(rows: &str) -> String {
    format!(
        "SELECT max(received_ns) AS received_ns, min(first_ns) AS first_ns, \
         max(last_ns) AS last_ns, resource, service, operation, kind, code, evidence, \
         sum(cells)::UINTEGER AS cells, flatten(list(packed)) AS packed \
         FROM ({rows}) GROUP BY resource, service, operation, kind, code, evidence"
    )
}

/// The rows of [`PACKED_TABLE`] as a file has them.
#[must_use]
pub fn select() -> String {
    let columns = COLUMNS.replace(", packed", "");
    format!("SELECT {columns}, [packed] AS packed FROM {PACKED_TABLE}")
}

/// What tells series apart.
type Key = (ResourceId, Arc<str>, Arc<str>, u8, Arc<str>, Evidence);

/// Packs the merged rows of requests, whose buckets have `width` ns, into [`PACKED_TABLE`].
pub fn pack(connection: &Connection, width: u64) -> Result<(), StoreError> {
    connection.execute_batch(&format!(
        "CREATE OR REPLACE TEMP TABLE {PACKED}(received_ns BIGINT, first_ns BIGINT, \
         last_ns BIGINT, resource UBIGINT, service VARCHAR, operation VARCHAR, kind UTINYINT, \
         code VARCHAR, evidence VARCHAR, cells UINTEGER, packed BLOB)"
    ))?;
    let sql = format!("SELECT count(*)::UBIGINT FROM {MERGED_TABLE}");
    let rows: u64 = connection.query_row(&sql, [], |row| row.get(0))?;
    let mut words = Words::default();
    // A share of the series at a time, so that memory has a bound.
    let shares = rows.div_ceil(MERGED_ROWS).max(1);
    for share in 0..shares {
        let sql = format!(
            "SELECT {} FROM {MERGED_TABLE} WHERE hash(service, operation) % {shares} = ?",
            RedDelta::COLUMNS
        );
        let mut series: HashMap<Key, (i64, Vec<RedDelta>)> = HashMap::new();
        let mut statement = connection.prepare(&sql)?;
        for batch in statement.query_arrow(params![share])? {
            let stamps = received(&batch)?;
            RedDelta::each(&batch, &mut words, &mut |row, delta: RedDelta| {
                let at = stamps.value(row);
                let (service, operation) =
                    (Arc::clone(&delta.service), Arc::clone(&delta.operation));
                let code = Arc::clone(&delta.code);
                let kind = delta.kind.to_otlp();
                let key = (delta.resource, service, operation, kind, code, delta.evidence);
                let (latest, list) = series.entry(key).or_insert_with(|| (at, Vec::new()));
                *latest = (*latest).max(at);
                list.push(delta);
            })?;
        }
        let series: Vec<_> = series.into_iter().collect();
        let mut appender = connection.appender_to_catalog_and_db(PACKED, "temp", "main")?;
        for chunk in series.chunks(CHUNK) {
            appender.append_record_batch(record(chunk, width)?)?;
        }
        appender.flush()?;
    }
    Ok(())
}

fn record(series: &[(Key, (i64, Vec<RedDelta>))], width: u64) -> Result<RecordBatch, StoreError> {
    let packed: Vec<(Vec<u8>, u32)> =
        series.iter().map(|(_, (_, deltas))| list(deltas, width)).collect();
    let ends = |pick: fn(&mut dyn Iterator<Item = Time>) -> Option<Time>| {
        let each = series.iter().map(move |(_, (_, deltas))| {
            pick(&mut deltas.iter().map(|d| d.bucket)).unwrap_or(Time(0)).as_i64()
        });
        Int64Array::from_iter_values(each)
    };
    let keys = || series.iter().map(|(key, _)| key);
    let text = |word: fn(&Key) -> &Arc<str>| -> ArrayRef {
        Arc::new(
            keys().map(|key| Some(&**word(key)).filter(|w| !w.is_empty())).collect::<StringArray>(),
        )
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(series.iter().map(|(_, (at, _))| *at))),
        Arc::new(ends(|times| times.min())),
        Arc::new(ends(|times| times.max())),
        Arc::new(UInt64Array::from_iter_values(keys().map(|key| key.0.0))),
        text(|key| &key.1),
        text(|key| &key.2),
        Arc::new(UInt8Array::from_iter_values(keys().map(|key| key.3))),
        text(|key| &key.4),
        Arc::new(StringArray::from_iter_values(keys().map(|key| key.5.word()))),
        Arc::new(UInt32Array::from_iter_values(packed.iter().map(|(_, cells)| *cells))),
        Arc::new(BinaryArray::from_iter_values(packed.iter().map(|(bytes, _)| bytes))),
    ];
    let named = COLUMNS.split(", ").zip(&columns);
    let fields: Vec<Field> =
        named.map(|(name, column)| Field::new(name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(sealed::arrow)
}

fn list(deltas: &[RedDelta], width: u64) -> (Vec<u8>, u32) {
    let mut sorted: Vec<&RedDelta> = deltas.iter().collect();
    sorted.sort_unstable_by_key(|delta| delta.bucket);
    let mut list = List::default();
    let mut bytes = Vec::new();
    for delta in sorted {
        let cell = Cell {
            requests: delta.histogram.count(),
            errors: delta.errors,
            no_answer: delta.no_answer,
            sum_ns: delta.histogram.sum_ns(),
            sampled: delta.sampled,
            slowest: delta.slowest,
            error: delta.error_trace,
            pairs: &[],
        };
        bytes.clear();
        cell.write(&mut bytes, delta.histogram.buckets().iter().copied());
        list.push(delta.bucket.0 / width.max(1), &bytes);
    }
    list.finish()
}

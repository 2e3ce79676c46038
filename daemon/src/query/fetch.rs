//! Running one SELECT and reading its columns without making a string per row.
//!
//! Every statement of this room goes through [`run`]: values are bound, never pasted, and results
//! are visited batch by batch as Arrow columns, so a scan allocates for what is kept, not for what
//! is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use coral_model::id::{SpanId, TraceId};
use coral_model::num::{u64_sat, usize_sat};
use coral_model::time::Time;
use coral_model::view::Evidence;
use duckdb::Connection;
use duckdb::arrow::array::{
    Array, BinaryArray, BooleanArray, Float64Array, Int64Array, ListArray, MapArray, StringArray,
    StructArray, UInt8Array, UInt16Array, UInt64Array,
};
use duckdb::types::Value;

use super::QueryError;
use super::dense::Buckets;

/// A statement with its bound values.
#[derive(Debug, Clone, Default)]
pub struct Sql {
    /// Text with `?` where a value goes.
    pub text: String,
    /// The values, in order.
    pub values: Vec<Value>,
}

impl Sql {
    /// A statement, or part of one, without values.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// Appends text.
    #[must_use]
    pub fn then(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Appends another part with its values.
    #[must_use]
    pub fn part(mut self, other: Self) -> Self {
        self.text.push_str(&other.text);
        self.values.extend(other.values);
        self
    }

    /// Appends a `?` bound to a value.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Self {
        self.text.push('?');
        self.values.push(value.into());
        self
    }

    /// Appends a moment.
    #[must_use]
    pub fn time(self, time: Time) -> Self {
        self.bind(time.as_i64())
    }

    /// Appends ` AND column >= from AND column < to`; a condition must come before.
    #[must_use]
    pub fn within(self, column: &str, from: Time, to: Time) -> Self {
        let low = self.then(" AND ").then(column).then(" >= ").time(from);
        low.then(" AND ").then(column).then(" < ").time(to)
    }

    /// Appends that a row was committed in `(after, upto]`: what a tail has not shown yet.
    #[must_use]
    pub fn committed(self, after: Time, upto: Time) -> Self {
        self.then(" AND t.received_ns > ").time(after).then(" AND t.received_ns <= ").time(upto)
    }
}

/// Runs a SELECT, handing each batch of its result to `visit` as it is made: the result is nowhere
/// whole, and DuckDB goes on while a batch is visited. `visit` runs no other statement on the
/// connection, which would end this one.
pub fn run(
    conn: &Connection,
    sql: &Sql,
    mut visit: impl FnMut(&Batch) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let failed = |error: duckdb::Error| QueryError::database(&error, &sql.text);
    let mut statement = conn.prepare(&sql.text).map_err(failed)?;
    // Its own iterator panics where a step says what is wrong.
    drop(statement.stream_arrow(duckdb::params_from_iter(sql.values.iter())).map_err(failed)?);
    while let Some(columns) = statement.step().map_err(failed)? {
        visit(&Batch { columns })?;
    }
    Ok(())
}

/// Some rows of a result, by column.
pub struct Batch {
    columns: StructArray,
}

macro_rules! column {
    ($(#[$doc:meta])* $name:ident, $array:ty) => {
        $(#[$doc])*
        pub fn $name(&self, at: usize) -> Result<&$array, QueryError> {
            self.columns
                .columns()
                .get(at)
                .and_then(|c| c.as_any().downcast_ref::<$array>())
                .ok_or_else(|| self.shape(at, stringify!($array)))
        }
    };
}

impl Batch {
    /// Rows in it.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    fn shape(&self, at: usize, want: &'static str) -> QueryError {
        let found = self.columns.columns().get(at).map(|c| c.data_type().to_string());
        let name = self.columns.column_names().get(at).map(|n| (*n).to_owned());
        QueryError::Shape {
            column: name.unwrap_or_else(|| at.to_string()),
            want,
            found: found.unwrap_or_else(|| "nothing".to_owned()),
        }
    }

    column!(
        /// A BIGINT column.
        i64s, Int64Array
    );
    column!(
        /// A UBIGINT column.
        u64s, UInt64Array
    );
    column!(
        /// A UTINYINT column.
        u8s, UInt8Array
    );
    column!(
        /// A DOUBLE column.
        f64s, Float64Array
    );
    column!(
        /// A BOOLEAN column.
        bools, BooleanArray
    );
    column!(
        /// A VARCHAR column.
        texts, StringArray
    );
    column!(
        /// A list column.
        lists, ListArray
    );
    column!(
        /// A map column.
        maps, MapArray
    );
}

/// The text at `row`, unless NULL.
pub fn text(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

/// The text at `row` as its own string, unless NULL or empty.
pub fn owned(column: &StringArray, row: usize) -> Option<String> {
    text(column, row).filter(|t| !t.is_empty()).map(str::to_owned)
}

/// The number at `row`; NULL is 0.
pub fn uint(column: &UInt64Array, row: usize) -> u64 {
    if column.is_valid(row) { column.value(row) } else { 0 }
}

/// The number at `row`, unless NULL.
pub fn some_uint(column: &UInt64Array, row: usize) -> Option<u64> {
    column.is_valid(row).then(|| column.value(row))
}

/// The number at `row`, unless NULL.
pub fn some_float(column: &Float64Array, row: usize) -> Option<f64> {
    column.is_valid(row).then(|| column.value(row))
}

/// The number at `row`, unless NULL.
pub fn some_int(column: &Int64Array, row: usize) -> Option<i64> {
    (row < column.len() && column.is_valid(row)).then(|| column.value(row))
}

/// The moment at `row`; NULL is the epoch.
pub fn time(column: &Int64Array, row: usize) -> Time {
    if column.is_valid(row) { Time::from_i64(column.value(row)) } else { Time(0) }
}

/// The flag at `row`; NULL is `false`.
pub fn flag(column: &BooleanArray, row: usize) -> bool {
    column.is_valid(row) && column.value(row)
}

/// The small number at `row`; NULL is 0.
pub fn byte(column: &UInt8Array, row: usize) -> u8 {
    if column.is_valid(row) { column.value(row) } else { 0 }
}

/// The evidence at `row`.
pub fn evidence(column: &StringArray, row: usize) -> Evidence {
    match text(column, row) {
        Some("ebpf") => Evidence::Ebpf,
        _ => Evidence::Otlp,
    }
}

/// The trace id in two columns, unless zero or NULL.
pub fn trace_id(high: &UInt64Array, low: &UInt64Array, row: usize) -> Option<TraceId> {
    trace_of(uint(high, row), uint(low, row))
}

/// A trace id from its halves; zero is none.
pub fn trace_of(high: u64, low: u64) -> Option<TraceId> {
    (high != 0 || low != 0)
        .then(|| TraceId((u128::from(high) << 64 | u128::from(low)).to_be_bytes()))
}

/// A trace id as its halves.
pub fn halves(id: TraceId) -> (u64, u64) {
    let whole = u128::from_be_bytes(id.0);
    (u64_sat(whole >> 64), u64_sat(whole & u128::from(u64::MAX)))
}

/// The span id at `row`, unless zero or NULL.
pub fn span_id(column: &UInt64Array, row: usize) -> Option<SpanId> {
    let id = uint(column, row);
    (id != 0).then(|| SpanId(id.to_be_bytes()))
}

/// Where the list at `row` lies in the column's values.
pub fn range(column: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = column.value_offsets();
    let at = |i: usize| offsets.get(i).map_or(0, |&o| usize_sat(o));
    if column.is_valid(row) { at(row)..at(row + 1) } else { 0..0 }
}

/// The histogram at `row`, from its two list columns.
pub fn buckets<'a>(index: &'a ListArray, count: &'a ListArray, row: usize) -> Buckets<'a> {
    Buckets::Columns(
        u16_values(index).get(range(index, row)).unwrap_or_default(),
        u64_values(count).get(range(count, row)).unwrap_or_default(),
    )
}

/// All values under a USMALLINT list column.
pub fn u16_values(column: &ListArray) -> &[u16] {
    column.values().as_any().downcast_ref::<UInt16Array>().map_or(&[], |a| a.values())
}

/// All values under a UBIGINT list column.
pub fn u64_values(column: &ListArray) -> &[u64] {
    column.values().as_any().downcast_ref::<UInt64Array>().map_or(&[], |a| a.values())
}

/// All values under a DOUBLE list column.
pub fn f64_values(column: &ListArray) -> &[f64] {
    column.values().as_any().downcast_ref::<Float64Array>().map_or(&[], |a| a.values())
}

/// The map at `row`; NULL is empty.
pub fn map(column: &MapArray, row: usize) -> BTreeMap<String, String> {
    let offsets = column.value_offsets();
    let at = |i: usize| offsets.get(i).map_or(0, |&o| usize_sat(o));
    let strings = |a: &'_ dyn Array| a.as_any().downcast_ref::<StringArray>().cloned();
    let (Some(keys), Some(values)) =
        (strings(column.keys().as_ref()), strings(column.values().as_ref()))
    else {
        return BTreeMap::new();
    };
    if !column.is_valid(row) {
        return BTreeMap::new();
    }
    (at(row)..at(row + 1))
        .filter_map(|i| {
            let key = text(&keys, i)?;
            Some((key.to_owned(), text(&values, i).unwrap_or_default().to_owned()))
        })
        .collect()
}

/// Visits the pairs of the map at `row` without copying them.
pub fn each_pair(column: &MapArray, row: usize, mut visit: impl FnMut(&str, &str)) {
    let strings = |a: &'_ Arc<dyn Array>| a.as_any().downcast_ref::<StringArray>().cloned();
    let (Some(keys), Some(values)) = (strings(column.keys()), strings(column.values())) else {
        return;
    };
    let offsets = column.value_offsets();
    let at = |i: usize| offsets.get(i).map_or(0, |&o| usize_sat(o));
    if column.is_valid(row) {
        for i in at(row)..at(row + 1) {
            if let (Some(key), Some(value)) = (text(&keys, i), text(&values, i)) {
                visit(key, value);
            }
        }
    }
}

/// The values of the list of BLOBs at `row`.
pub fn bytes_of(column: &ListArray, row: usize) -> impl Iterator<Item = &[u8]> {
    let values = column.values().as_any().downcast_ref::<BinaryArray>();
    let valid = move |i: usize| values.filter(|v| v.is_valid(i)).map(|v| v.value(i));
    range(column, row).filter_map(valid)
}

/// The texts of the list at `row`.
pub fn texts_of(column: &ListArray, row: usize) -> Vec<String> {
    let Some(values) = column.values().as_any().downcast_ref::<StringArray>() else {
        return Vec::new();
    };
    range(column, row).filter_map(|i| text(values, i)).map(str::to_owned).collect()
}

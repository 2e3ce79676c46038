//! Decoded telemetry as Arrow columns, in the very order of [`super::schema`]'s tables.
//!
//! A chunk never holds more rows than one DuckDB vector (2,048): the duckdb crate cuts larger
//! record batches into slices, and copies *all* entries of a MAP or LIST column for each slice, so
//! larger chunks would cost quadratic time. `received_ns` is left out until the writer stamps it.

pub mod logs;
pub mod metrics;
pub mod small;
pub mod spans;
pub mod tallies;

use std::sync::Arc;

use duckdb::arrow::array::{
    Array, ArrayBuilder as _, ArrayRef, Int64Array, ListArray, MapArray, PrimitiveBuilder,
    StringArray, StringBuilder, StructArray,
};
use duckdb::arrow::buffer::OffsetBuffer;
use duckdb::arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Fields, Schema};
use duckdb::arrow::error::ArrowError;
use duckdb::arrow::record_batch::RecordBatch;

/// Rows of a DuckDB vector.
pub const CHUNK_ROWS: usize = 2048;
/// A chunk is closed early when its text reaches this many bytes, so that 32-bit offsets hold.
pub const CHUNK_BYTES: usize = 8 << 20;
/// Attributes kept of one record; SDKs stop at 128.
pub const MAX_ATTRIBUTES: usize = 256;

/// Some rows of one signal, complete but for their stamp.
#[derive(Debug, Clone)]
pub struct Chunk {
    rows: usize,
    columns: Vec<ArrayRef>,
}

impl Chunk {
    /// Columns but for `received_ns`, which belongs at place [`Chunk::batch`] is told.
    #[must_use]
    pub fn new(rows: usize, columns: Vec<ArrayRef>) -> Self {
        Self { rows, columns }
    }

    /// Rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// As a record batch, every row stamped `received_ns` in column `at`; `None`: no such column.
    pub fn batch(&self, at: Option<usize>, received_ns: i64) -> Result<RecordBatch, ArrowError> {
        match at {
            Some(at) => self.stamped(at, vec![received_ns; self.rows]),
            None => Self::record(self.columns.clone()),
        }
    }

    /// As a record batch, each row with its own stamp in column `at`.
    pub fn stamped(&self, at: usize, received_ns: Vec<i64>) -> Result<RecordBatch, ArrowError> {
        let mut columns = self.columns.clone();
        columns.insert(at.min(columns.len()), Arc::new(Int64Array::from(received_ns)));
        Self::record(columns)
    }

    fn record(columns: Vec<ArrayRef>) -> Result<RecordBatch, ArrowError> {
        // The appender goes by position; names only show in error messages.
        let fields: Fields = columns
            .iter()
            .enumerate()
            .map(|(i, c)| Field::new(i.to_string(), c.data_type().clone(), true))
            .collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }
}

/// Builds a `MAP(VARCHAR, VARCHAR)` column; a key that comes twice in a row keeps its first value.
#[derive(Debug)]
pub struct MapBuilder {
    keys: StringBuilder,
    values: StringBuilder,
    offsets: Vec<i32>,
    row: Vec<(usize, usize)>,
}

impl Default for MapBuilder {
    fn default() -> Self {
        // Builders' own default reserves room for 1,024 rows; most maps stay empty.
        let empty = || StringBuilder::with_capacity(0, 0);
        Self { keys: empty(), values: empty(), offsets: Vec::new(), row: Vec::new() }
    }
}

impl MapBuilder {
    /// Adds a pair to the open row. False: the key was there already, or the row is full.
    #[inline]
    pub fn pair(&mut self, key: &str, value: &str) -> bool {
        if self.row.len() >= MAX_ATTRIBUTES {
            return false;
        }
        let bytes = self.keys.values_slice();
        let seen =
            |&(from, to): &(usize, usize)| bytes.get(from..to).is_some_and(|k| k == key.as_bytes());
        if self.row.iter().any(seen) {
            return false;
        }
        let from = bytes.len();
        self.row.push((from, from + key.len()));
        self.keys.append_value(key);
        self.values.append_value(value);
        true
    }

    /// Ends the row.
    #[inline]
    pub fn end(&mut self) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        self.row.clear();
        self.offsets.push(coral_model::num::u32_sat(self.keys.len()).cast_signed());
    }

    /// Bytes of text so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.keys.values_slice().len() + self.values.values_slice().len()
    }

    /// The column; the builder is empty again.
    pub fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let offsets =
            if self.offsets.is_empty() { vec![0] } else { std::mem::take(&mut self.offsets) };
        let keys: StringArray = self.keys.finish();
        let values: StringArray = self.values.finish();
        let fields: Fields = vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Utf8, true),
        ]
        .into();
        let entries = StructArray::try_new(
            fields.clone(),
            vec![Arc::new(keys) as ArrayRef, Arc::new(values) as ArrayRef],
            None,
        )?;
        let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
        let map =
            MapArray::try_new(field, OffsetBuffer::new(offsets.into()), entries, None, false)?;
        Ok(Arc::new(map))
    }
}

/// Builds a LIST column of numbers.
#[derive(Debug)]
pub struct ListBuilder<T: ArrowPrimitiveType> {
    values: PrimitiveBuilder<T>,
    offsets: Vec<i32>,
}

impl<T: ArrowPrimitiveType> Default for ListBuilder<T> {
    fn default() -> Self {
        Self { values: PrimitiveBuilder::new(), offsets: Vec::new() }
    }
}

impl<T: ArrowPrimitiveType> ListBuilder<T> {
    /// Adds a row.
    pub fn row(&mut self, values: impl IntoIterator<Item = T::Native>) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        for value in values {
            self.values.append_value(value);
        }
        self.offsets.push(coral_model::num::u32_sat(self.values.len()).cast_signed());
    }

    /// Elements so far.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.values.len()
    }

    /// The column; the builder is empty again.
    pub fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let offsets =
            if self.offsets.is_empty() { vec![0] } else { std::mem::take(&mut self.offsets) };
        let field = Arc::new(Field::new("item", T::DATA_TYPE, true));
        let values = Arc::new(self.values.finish());
        Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::new(offsets.into()), values, None)?))
    }
}

/// Makes an [`ArrayRef`] of any array.
pub(super) fn shared(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

/// Text where empty means unknown.
pub(super) fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

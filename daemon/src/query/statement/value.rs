//! A value of any of DuckDB's types as JSON.

use coral_model::time::Time;
use duckdb::arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, Decimal128Array, LargeStringArray, ListArray,
    MapArray, StringArray, StructArray,
};
use duckdb::arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use duckdb::arrow::util::display::array_value_to_string;
use serde_json::{Map, Number, Value};

/// Lists in lists beyond this are text.
const MAX_DEPTH: usize = 16;

/// The value at `row`.
pub fn json(column: &dyn Array, row: usize, depth: usize) -> Value {
    if row >= column.len() || column.is_null(row) || depth > MAX_DEPTH {
        return Value::Null;
    }
    macro_rules! number {
        ($type:ty) => {
            Value::from(column.as_primitive::<$type>().value(row))
        };
    }
    match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => text_of::<BooleanArray, _>(column, |a| Value::Bool(a.value(row))),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => float(f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(_, 0) => {
            text_of::<Decimal128Array, _>(column, |a| whole(a.value(row)))
        }
        DataType::Utf8 => text_of::<StringArray, _>(column, |a| Value::from(a.value(row))),
        DataType::LargeUtf8 => {
            text_of::<LargeStringArray, _>(column, |a| Value::from(a.value(row)))
        }
        DataType::Binary => text_of::<BinaryArray, _>(column, |a| hex(a.value(row))),
        DataType::Timestamp(unit, zone) => moment(column, row, *unit, zone.is_some()),
        DataType::List(_) => {
            text_of::<ListArray, _>(column, |a| list(a.value(row).as_ref(), depth))
        }
        DataType::Struct(_) => text_of::<StructArray, _>(column, |a| structure(a, row, depth)),
        DataType::Map(_, _) => text_of::<MapArray, _>(column, |a| map(&a.value(row), depth)),
        _ => printed(column, row),
    }
}

fn text_of<A: 'static, F: FnOnce(&A) -> Value>(column: &dyn Array, f: F) -> Value {
    column.as_any().downcast_ref::<A>().map_or(Value::Null, f)
}

/// As Arrow prints it: intervals, times of day, decimals.
fn printed(column: &dyn Array, row: usize) -> Value {
    array_value_to_string(column, row).map_or(Value::Null, Value::from)
}

/// JSON has no NaN and no infinity.
fn float(x: f64) -> Value {
    Number::from_f64(x).map_or_else(|| Value::from(x.to_string()), Value::Number)
}

/// A HUGEINT: a number while JSON's readers can hold it.
fn whole(x: i128) -> Value {
    i64::try_from(x)
        .map(Value::from)
        .or_else(|_| u64::try_from(x).map(Value::from))
        .unwrap_or_else(|_| Value::from(x.to_string()))
}

fn hex(bytes: &[u8]) -> Value {
    Value::from(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn moment(column: &dyn Array, row: usize, unit: TimeUnit, zoned: bool) -> Value {
    let (value, factor) = match unit {
        TimeUnit::Second => {
            (column.as_primitive::<TimestampSecondType>().value(row), 1_000_000_000)
        }
        TimeUnit::Millisecond => {
            (column.as_primitive::<TimestampMillisecondType>().value(row), 1_000_000)
        }
        TimeUnit::Microsecond => {
            (column.as_primitive::<TimestampMicrosecondType>().value(row), 1_000)
        }
        TimeUnit::Nanosecond => (column.as_primitive::<TimestampNanosecondType>().value(row), 1),
    };
    let ns = i128::from(value) * factor;
    // Before 1970 and after 2554 Coral has no moments; a statement may.
    match u64::try_from(ns) {
        Ok(ns) if zoned => Value::from(Time(ns).to_string()),
        Ok(ns) => Value::from(Time(ns).to_string().trim_end_matches('Z').to_owned()),
        Err(_) => printed(column, row),
    }
}

fn list(values: &dyn Array, depth: usize) -> Value {
    Value::Array((0..values.len()).map(|i| json(values, i, depth + 1)).collect())
}

fn structure(array: &StructArray, row: usize, depth: usize) -> Value {
    let fields = array.fields().iter().zip(array.columns());
    let pairs = fields.map(|(f, c)| (f.name().clone(), json(c.as_ref(), row, depth + 1)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

/// An object where keys are text or print as such.
fn map(entries: &StructArray, depth: usize) -> Value {
    let (Some(keys), Some(values)) = (entries.columns().first(), entries.columns().get(1)) else {
        return Value::Null;
    };
    let pairs = (0..entries.len()).map(|i| {
        let key = match json(keys.as_ref(), i, depth + 1) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        (key, json(values.as_ref(), i, depth + 1))
    });
    Value::Object(pairs.collect())
}

/// About how many bytes a value is.
pub fn weight(value: &Value) -> usize {
    8 + match value {
        Value::String(text) => text.len(),
        Value::Array(all) => all.iter().map(weight).sum(),
        Value::Object(all) => all.iter().map(|(k, v)| k.len() + weight(v)).sum(),
        _ => 0,
    }
}

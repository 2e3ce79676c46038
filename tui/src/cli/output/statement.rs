//! What a statement of the person's own was answered with.

use std::borrow::Cow;

use coral_model::text::clean;
use coral_model::view::{SqlColumns, SqlRow};
use serde_json::Value;

use super::cell::{Cell, Look};
use super::table::{Block, number, text};

/// Types whose values stand to the right.
const NUMBERS: [&str; 14] = [
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
    "FLOAT",
    "DOUBLE",
    "REAL",
    "DECIMAL",
];

/// A table with the statement's own columns.
#[must_use]
pub fn rows(head: &SqlColumns, rows: &[&SqlRow]) -> Block {
    let columns = head.columns.iter().map(|c| {
        let base = c.kind.split('(').next().unwrap_or_default();
        let right = NUMBERS.contains(&base) && !c.kind.ends_with(']');
        let mut column = if right { number("") } else { text("", 8) };
        column.title = Cow::Owned(clean(&c.name).into_owned());
        column
    });
    let mut block = Block::new(columns.collect());
    for row in rows {
        let cells = head.columns.iter().map(|c| row.values.get(&c.name).map_or_else(null, cell));
        block.rows.push(cells.collect());
    }
    block
}

fn null() -> Cell {
    Cell::text("NULL").look(Look::Dim)
}

/// One value, as text.
fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => null(),
        Value::String(text) => Cell::text(text),
        other => Cell::text(&other.to_string()),
    }
}

//! What a statement of a person's own is answered with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The columns of the rows that follow, in their order. Comes first, and is not counted as a row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SqlColumns {
    /// From left to right.
    pub columns: Vec<SqlColumn>,
}

/// A column of the answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SqlColumn {
    /// Its name; where the statement names two alike, the later one ends in `_2`, `_3` …
    pub name: String,
    /// DuckDB's name of its type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// One row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SqlRow {
    /// Values by column: JSON's number, boolean, text, list or object where the type has one; a
    /// moment as RFC 3339; what JSON cannot hold exactly as text.
    pub values: BTreeMap<String, serde_json::Value>,
}

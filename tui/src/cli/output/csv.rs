//! Comma-separated values (RFC 4180): one line per row, what is nested as JSON.

use std::io::{self, Write};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// A JSON object whose fields stay in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut all = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    all.push(pair);
                }
                Ok(Object(all))
            }
        }
        d.deserialize_map(Fields)
    }
}

/// Writes rows as CSV. Its columns are the fields of the rows it has when it begins; a row that comes
/// later (`--follow`) is cut to them.
#[derive(Debug, Default)]
pub struct Csv {
    columns: Vec<String>,
}

impl Csv {
    /// Begins with columns that are known before any row is.
    ///
    /// # Errors
    /// When `out` does not take them.
    pub fn head<'a>(
        &mut self,
        out: &mut impl Write,
        columns: impl Iterator<Item = &'a str>,
    ) -> io::Result<()> {
        self.columns = columns.map(str::to_owned).collect();
        let header: Vec<_> = self.columns.iter().map(|c| field(c)).collect();
        write!(out, "{}\r\n", header.join(","))
    }

    /// Writes some rows, each a JSON object; the header first, once.
    ///
    /// # Errors
    /// When `out` does not take them.
    pub fn write(&mut self, out: &mut impl Write, rows: &[Object]) -> io::Result<()> {
        let rows: Vec<_> = rows.iter().map(flat).collect();
        if self.columns.is_empty() && !rows.is_empty() {
            for row in &rows {
                for (name, _) in row {
                    if !self.columns.contains(name) {
                        self.columns.push(name.clone());
                    }
                }
            }
            let header: Vec<_> = self.columns.iter().map(|c| field(c)).collect();
            write!(out, "{}\r\n", header.join(","))?;
        }
        for row in &rows {
            let line: Vec<_> = self
                .columns
                .iter()
                .map(|c| {
                    row.iter()
                        .find(|(name, _)| name == c)
                        .map_or_else(String::new, |(_, v)| field(v))
                })
                .collect();
            write!(out, "{}\r\n", line.join(","))?;
        }
        Ok(())
    }
}

/// Fields of [`coral_model::view::Red`]: they become columns even where a row has none of them, so
/// that the columns of an answer do not depend on its data.
const RED: [&str; 11] = [
    "requests",
    "rate",
    "errors",
    "error_ratio",
    "no_answer",
    "mean_ns",
    "p50_ns",
    "p90_ns",
    "p99_ns",
    "evidence",
    "sampled",
];

/// Top-level fields in their order; `by`, `red` and the values of a statement unfold, since they are
/// what was asked for.
fn flat(row: &Object) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (name, value) in &row.0 {
        match value {
            Value::Object(by) if name == "by" => {
                out.extend(by.iter().map(|(k, v)| (format!("by.{k}"), scalar(v))));
            }
            Value::Object(values) if name == "values" => {
                out.extend(values.iter().map(|(k, v)| (k.clone(), scalar(v))));
            }
            red if name == "red" => out.extend(RED.map(|field| {
                (format!("red.{field}"), red.get(field).map(scalar).unwrap_or_default())
            })),
            value => out.push((name.clone(), scalar(value))),
        }
    }
    out
}

/// Unknown is empty; what is nested stays JSON.
fn scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Quoted where it must be. A text that a spreadsheet would run as a formula is defused with `'`.
fn field(text: &str) -> String {
    let number = text.parse::<f64>().is_ok();
    let formula = !number && text.starts_with(['=', '+', '-', '@']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_unfolded_and_defused() {
        let row = |text: &str| serde_json::from_str::<Object>(text).unwrap();
        let mut csv = Csv::default();
        let mut out = Vec::new();
        let rows = [
            row(
                r#"{"schema":"coral.red/1","service":"a,\"b\"","rate":1.5,"by":{"host":"h"},"p99_ns":null}"#,
            ),
            row(
                r#"{"schema":"coral.red/1","service":"=cmd()","rate":-2,"by":{"host":null},"extra":1}"#,
            ),
        ];
        csv.write(&mut out, &rows).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "schema,service,rate,by.host,p99_ns,extra\r\n\
             coral.red/1,\"a,\"\"b\"\"\",1.5,h,,\r\n\
             coral.red/1,'=cmd(),-2,,,1\r\n"
        );
    }

    #[test]
    fn red_unfolds_whether_it_is_there_or_not() {
        let red = coral_model::view::Red::from_parts(
            &coral_model::Histogram::default(),
            0,
            0,
            1.0,
            coral_model::view::Evidence::Otlp,
            false,
        );
        let Ok(Value::Object(fields)) = serde_json::to_value(&red) else { panic!("an object") };
        let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
        let mut known = RED;
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
        let row: Object = serde_json::from_str(r#"{"service":"a","red":null}"#).unwrap();
        let columns: Vec<_> = flat(&row).into_iter().map(|(name, _)| name).collect();
        assert_eq!(columns.len(), 12);
        assert_eq!(columns[1], "red.requests");
    }
}

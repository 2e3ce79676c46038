//! A window out of the store, redacted, packed.
//!
//! Rows are read in slices that fit into memory and the time one question may take, and handed over as
//! packed bytes; whoever takes them slowly slows the reading, nobody else.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use coral_model::filter::{self, Test};
use coral_model::place::{Place, PlaceError};
use coral_model::redaction::RULES;
use coral_model::time::{SECOND, Time, Window};
use duckdb::params;
use duckdb::types::Value;
use serde_json::json;
use tokio::sync::mpsc;

use super::redact::Redactor;
use super::{BEGIN, END, IncidentError};
use crate::query::passing;
use crate::store::schema::Signal;
use crate::store::{Reading, Store, StoreError};

/// Rows of one slice, about.
const SLICE: u64 = 20_000;
/// Width of what is counted before it is sliced, in ns.
const STEP: u64 = 10 * SECOND;
/// zstd's level: small files, still faster than the rows are read.
const LEVEL: i32 = 6;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The window.
    pub window: Window,
    /// Which records; empty is all ([`passing`]). Requests, edges, hosts and requests in flight are
    /// always whole: they are small, and a part of a topology is none.
    pub filter: String,
    /// Where whoever opens the file looks first; empty is wherever they like.
    pub place: String,
    /// Names of attributes that are replaced besides those of [`RULES`].
    pub more: Vec<String>,
    /// The colony's name.
    pub colony: String,
    /// The host that writes it.
    pub host: String,
    /// Now.
    pub now: Time,
    /// Key of the pseudonyms; random, used for this file only.
    pub key: u64,
}

/// Tables in the order they are written: who spoke first, then what was said.
const TABLES: [(Signal, &str); 8] = [
    (Signal::Red, "bucket_ns"),
    (Signal::Edges, "bucket_ns"),
    (Signal::Events, "time_ns"),
    (Signal::Hosts, "at_ns"),
    (Signal::Inflight, "at_ns"),
    (Signal::Metrics, "time_ns"),
    (Signal::Logs, "time_ns"),
    (Signal::Spans, "start_ns"),
];

/// The whole that is written: the window and the equal one before it, which it is compared with.
#[must_use]
pub fn whole(window: Window) -> Window {
    Window::new(window.from.minus(window.length()), window.to)
}

/// Writes the file into `out`.
///
/// # Errors
/// When the store cannot be read. A taker who left is no error.
pub async fn run(
    store: Arc<Store>,
    wanted: Wanted,
    out: mpsc::Sender<Result<Bytes, IncidentError>>,
) -> Result<(), IncidentError> {
    let mut redactor = Redactor::new(wanted.key, wanted.more.clone());
    // Redacted like the rows, so that the filter means the same of them.
    let (filter, place) =
        (said(&mut redactor, &wanted.filter)?, where_to(&mut redactor, &wanted.place)?);
    let mut parts = BTreeMap::new();
    for (signal, _) in TABLES {
        let part = passing(signal, &wanted.filter);
        parts.insert(signal, part.map_err(|e| IncidentError::Asked(e.to_string()))?);
    }
    let mut file = File::new(redactor)?;
    let all = whole(wanted.window);
    file.line(&json!({
        "schema": BEGIN,
        "colony": wanted.colony,
        "host": wanted.host,
        "build": concat!("coral-daemon ", env!("CARGO_PKG_VERSION")),
        "written": wanted.now,
        "from": wanted.window.from,
        "to": wanted.window.to,
        "data_from": all.from,
        "filter": filter,
        "place": place,
        "redaction": RULES.iter().map(|(name, what)| json!({"rule": name, "what": what})).collect::<Vec<_>>(),
        "redact_more": wanted.more,
    }))?;
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let resources = store.read(move |conn| resources(conn, all)).await?;
    file.rows("resources", resources, &mut counts)?;
    for (signal, column) in TABLES {
        let slices = store.read(move |conn| slices(conn, signal, column, all)).await?;
        for slice in slices {
            let part = parts.get(&signal).cloned().flatten();
            let read = move |conn: &Reading<'_>| rows(conn, signal, column, slice, part.as_ref());
            let rows = store.read(read).await?;
            file.rows(signal.name(), rows, &mut counts)?;
            if let Some(bytes) = file.take()
                && out.send(Ok(bytes)).await.is_err()
            {
                return Ok(());
            }
        }
        counts.entry(signal.name()).or_default();
    }
    let bytes = file.end(&counts)?;
    _ = out.send(Ok(bytes)).await;
    Ok(())
}

/// The file as it grows.
struct File {
    packed: zstd::stream::write::Encoder<'static, Vec<u8>>,
    redactor: Redactor,
    crc: u32,
    lines: u64,
}

impl File {
    fn new(redactor: Redactor) -> Result<Self, IncidentError> {
        let mut packed = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
        packed.include_checksum(true)?;
        Ok(Self { packed, redactor, crc: 0, lines: 0 })
    }

    fn line(&mut self, value: &serde_json::Value) -> Result<(), IncidentError> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.crc = crc32c::crc32c_append(self.crc, &line);
        self.lines += 1;
        self.packed.write_all(&line)?;
        Ok(())
    }

    fn rows(
        &mut self,
        table: &'static str,
        rows: Vec<String>,
        counts: &mut BTreeMap<&'static str, u64>,
    ) -> Result<(), IncidentError> {
        for row in rows {
            let mut row: serde_json::Value = serde_json::from_str(&row)?;
            self.redactor.value("", &mut row);
            self.line(&json!({ "table": table, "row": row }))?;
            *counts.entry(table).or_default() += 1;
        }
        Ok(())
    }

    /// What is packed so far.
    fn take(&mut self) -> Option<Bytes> {
        let bytes = std::mem::take(self.packed.get_mut());
        (!bytes.is_empty()).then(|| bytes.into())
    }

    fn end(mut self, counts: &BTreeMap<&'static str, u64>) -> Result<Bytes, IncidentError> {
        let (crc, lines) = (format!("{:08x}", self.crc), self.lines);
        let redacted = self.redactor.counts.clone();
        self.line(&json!({
            "schema": END, "lines": lines, "rows": counts, "redacted": redacted, "crc32c": crc,
        }))?;
        Ok(self.packed.finish()?.into())
    }
}

/// Every resource a row of the window speaks of.
fn resources(conn: &Reading<'_>, window: Window) -> Result<Vec<String>, StoreError> {
    let (from, to) = (window.from.as_i64(), window.to.as_i64());
    let used = |signal, column: &str| {
        let relation = conn.relation(signal, window.from, window.to);
        format!(
            "SELECT DISTINCT resource FROM {relation} WHERE {column} >= {from} AND {column} < {to}"
        )
    };
    let used = [
        used(Signal::Red, "bucket_ns"),
        used(Signal::Metrics, "time_ns"),
        used(Signal::Logs, "time_ns"),
        used(Signal::Spans, "start_ns"),
    ];
    let sql = format!(
        "SELECT to_json(r)::VARCHAR FROM (SELECT * FROM {} WHERE id IN ({})) r",
        conn.resources(),
        used.join(" UNION ")
    );
    texts(conn, &sql)
}

fn texts(conn: &Reading<'_>, sql: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map(params![], |row| row.get::<_, String>(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The window cut where slices have about as many rows as they may.
fn slices(
    conn: &Reading<'_>,
    signal: Signal,
    column: &str,
    window: Window,
) -> Result<Vec<Window>, StoreError> {
    let relation = conn.relation(signal, window.from, window.to);
    let (from, to) = (window.from.as_i64(), window.to.as_i64());
    let sql = format!(
        "SELECT {column} // {STEP} AS step, count(*)::UBIGINT FROM {relation} \
         WHERE {column} >= {from} AND {column} < {to} GROUP BY 1 ORDER BY 1"
    );
    let mut statement = conn.prepare(&sql)?;
    let rows =
        statement.query_map(params![], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u64>(1)?)))?;
    let mut out = Vec::new();
    let (mut begins, mut held) = (window.from, 0);
    for row in rows {
        let (step, n) = row?;
        let at = Time(coral_model::num::u64_sat(step).saturating_mul(STEP)).max(window.from);
        if held > 0 && held + n > SLICE {
            out.push(Window::new(begins, at));
            (begins, held) = (at, 0);
        }
        held += n;
    }
    if held > 0 {
        out.push(Window::new(begins, window.to));
    }
    Ok(out)
}

/// A condition on `t` and its resource `r`, and its values.
type Part = (String, Vec<Value>);

fn rows(
    conn: &Reading<'_>,
    signal: Signal,
    column: &str,
    window: Window,
    part: Option<&Part>,
) -> Result<Vec<String>, StoreError> {
    let relation = conn.relation(signal, window.from, window.to);
    let (from, to) = (window.from.as_i64(), window.to.as_i64());
    // JSON has no NaN and no infinity.
    let finite = if signal == Signal::Metrics {
        "t.* EXCLUDE (received_ns) REPLACE (CASE WHEN isfinite(t.value) THEN t.value END AS value, \
         CASE WHEN isfinite(t.sum) THEN t.sum END AS sum)"
    } else {
        "t.* EXCLUDE (received_ns)"
    };
    let (join, condition, values) = match part {
        Some((condition, values)) if signal == Signal::Events => {
            (String::new(), condition.as_str(), values.as_slice())
        }
        Some((condition, values)) => {
            let join = format!("LEFT JOIN {} r ON r.id = t.resource", conn.resources());
            (join, condition.as_str(), values.as_slice())
        }
        None => (String::new(), "true", [].as_slice()),
    };
    let sql = format!(
        "SELECT to_json(x)::VARCHAR FROM (SELECT {finite} FROM {relation} t {join} \
         WHERE t.{column} >= {from} AND t.{column} < {to} AND {condition} ORDER BY t.{column}) x"
    );
    let mut statement = conn.prepare(&sql)?;
    let found =
        statement.query_map(duckdb::params_from_iter(values), |row| row.get::<_, String>(0))?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// A filter without secrets: values of its tests by the names they stand under, then as text.
fn said(redactor: &mut Redactor, text: &str) -> Result<String, IncidentError> {
    let expr = filter::parse(text).map_err(|e| IncidentError::Asked(e.to_string()))?;
    let mut out = text.to_owned();
    for term in expr.terms() {
        let Test::Any(values) = &term.test else { continue };
        for value in values {
            if let filter::Value::Text(value) = value {
                let name = term.key.to_string();
                let replaced = redactor.attribute(&name, value);
                if replaced != *value {
                    out = out.replace(value.as_str(), &replaced);
                }
            }
        }
    }
    Ok(redactor.text(&out))
}

/// A place without secrets.
fn where_to(redactor: &mut Redactor, text: &str) -> Result<String, IncidentError> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let mut place: Place =
        text.parse().map_err(|e: PlaceError| IncidentError::Asked(e.to_string()))?;
    place.filter = said(redactor, &place.filter)?;
    let selection = &mut place.selection;
    for (name, value) in [
        ("service", &mut selection.service),
        ("operation", &mut selection.operation),
        ("instance", &mut selection.instance),
        ("host", &mut selection.host),
    ] {
        if let Some(value) = value {
            *value = redactor.attribute(name, value);
        }
    }
    Ok(place.to_string())
}

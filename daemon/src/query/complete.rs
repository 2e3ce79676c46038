//! Words to complete a filter with: its keys, and the values a key has had lately.

use coral_model::filter::Key;
use coral_model::num::i64_sat;
use coral_model::time::{SECOND, Time};

use super::QueryError;
use super::answer::Inputs;
use super::fetch::{self, Sql};
use crate::store::schema::Signal;

/// Values are looked for this far back.
const BACK: u64 = 3600 * SECOND;
/// Longest list handed out.
const MAX: usize = 1000;

/// Keys that begin with `prefix` when `key` is empty, else values of `key` that do, sorted.
pub fn complete(
    inputs: &Inputs<'_>,
    key: &str,
    prefix: &str,
    limit: usize,
) -> Result<Vec<String>, QueryError> {
    let limit = limit.clamp(1, MAX);
    let since = inputs.now.minus(BACK);
    if key.is_empty() {
        let mut names: Vec<String> = Key::known()
            .map(|(word, _)| word.to_owned())
            .filter(|word| word.starts_with(prefix))
            .collect();
        let spans = inputs.conn.relation(Signal::Spans, since, Time::MAX);
        let attributes = Sql::new(format!(
            "SELECT DISTINCT unnest(map_keys(attributes)) AS name FROM \
             (SELECT attributes FROM {spans} WHERE start_ns >= "
        ))
        .time(since)
        .then(" ORDER BY start_ns DESC LIMIT 2000)");
        let sql = Sql::new("SELECT name FROM (")
            .part(attributes)
            .then(") WHERE starts_with(name, ")
            .bind(prefix.to_owned())
            .then(") ORDER BY name LIMIT ")
            .bind(i64_sat(limit));
        names.extend(texts(inputs, &sql)?);
        names.truncate(limit);
        return Ok(names);
    }
    let of = |column: &str, signal: Signal, time: Option<&str>| {
        let relation = match signal {
            Signal::Resources => inputs.conn.resources(),
            _ => inputs.conn.relation(signal, since, Time::MAX),
        };
        let mut sql = Sql::new(format!(
            "SELECT DISTINCT {column} AS value FROM {relation} WHERE {column} IS NOT NULL"
        ));
        if let Some(time) = time {
            sql = sql.then(&format!(" AND {time} >= ")).time(since);
        }
        sql.then(&format!(" AND starts_with({column}, "))
            .bind(prefix.to_owned())
            .then(") ORDER BY value LIMIT ")
            .bind(i64_sat(limit))
    };
    let sql = match Key::from_name(key) {
        Key::Service => of("service", Signal::Resources, None),
        Key::Host => of("host", Signal::Resources, None),
        Key::Instance => of("instance", Signal::Resources, None),
        Key::Version => of("version", Signal::Resources, None),
        Key::Zone => of("zone", Signal::Resources, None),
        Key::Namespace => of("namespace", Signal::Resources, None),
        Key::Operation => of("operation", Signal::Red, Some("bucket_ns")),
        Key::Status => of("code", Signal::Red, Some("bucket_ns")),
        Key::Protocol => of("protocol", Signal::Edges, Some("bucket_ns")),
        Key::Name | Key::Metric => of("metric", Signal::Metrics, Some("time_ns")),
        Key::Route => of("http_route", Signal::Spans, Some("start_ns")),
        Key::Level => {
            let words = coral_model::filter::Level::ALL.into_iter().map(|l| l.word().to_owned());
            return Ok(words.filter(|w| w.starts_with(prefix)).take(limit).collect());
        }
        Key::Error => {
            let words = ["true", "false"].into_iter().filter(|w| w.starts_with(prefix));
            return Ok(words.map(str::to_owned).take(limit).collect());
        }
        Key::Kind => {
            let kinds = coral_model::view::SpanKind::ALL.iter().map(|k| k.word());
            let events = coral_model::view::EventKind::ALL.iter().map(|k| k.word());
            let words = kinds.chain(events).filter(|w| w.starts_with(prefix));
            return Ok(words.map(str::to_owned).take(limit).collect());
        }
        Key::Attribute(name) | Key::Resource(name) => Sql::new(
            "SELECT DISTINCT value FROM (SELECT attributes[",
        )
        .bind(name.clone())
        .then(&format!(
            "] AS value FROM {} UNION ALL SELECT value FROM (SELECT attributes[",
            inputs.conn.resources()
        ))
        .bind(name)
        .then(&format!(
            "] AS value FROM {} WHERE start_ns >= ",
            inputs.conn.relation(Signal::Spans, since, Time::MAX)
        ))
        .time(since)
        .then(
            " ORDER BY start_ns DESC LIMIT 20000)) WHERE value IS NOT NULL AND starts_with(value, ",
        )
        .bind(prefix.to_owned())
        .then(") ORDER BY value LIMIT ")
        .bind(i64_sat(limit)),
        Key::Duration | Key::Trace | Key::Span | Key::Body | Key::Agent => return Ok(Vec::new()),
    };
    texts(inputs, &sql)
}

fn texts(inputs: &Inputs<'_>, sql: &Sql) -> Result<Vec<String>, QueryError> {
    let mut out = Vec::new();
    fetch::run(inputs.conn, sql, |batch| {
        let column = batch.texts(0)?;
        out.extend((0..batch.len()).filter_map(|row| fetch::owned(column, row)));
        Ok(())
    })?;
    Ok(out)
}

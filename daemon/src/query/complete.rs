//! Words to complete a filter with: its keys, and the values a key has had lately, in any signal.

use coral_model::filter::Key;
use coral_model::num::i64_sat;
use coral_model::time::{SECOND, Time};
use coral_model::view::{EventKind, MetricKind, NodeKind, SpanKind};

use super::QueryError;
use super::answer::Inputs;
use super::fetch::{self, Sql};
use crate::store::schema::Signal;

/// Values are looked for this far back.
const BACK: u64 = 3600 * SECOND;
/// Longest list handed out.
const MAX: usize = 1000;
/// Newest rows of a signal whose attributes' names are looked at.
const NAMED: u32 = 2_000;
/// Newest rows of a signal in which values of an attribute are looked for.
const VALUED: u32 = 20_000;

/// Signals whose rows have attributes, and the column of their time.
const ATTRIBUTED: [(Signal, &str); 4] = [
    (Signal::Spans, "start_ns"),
    (Signal::Logs, "time_ns"),
    (Signal::Metrics, "time_ns"),
    (Signal::Events, "time_ns"),
];

/// Keys that begin with `prefix` when `key` is empty, else values of `key` that do, sorted.
pub fn complete(
    inputs: &Inputs<'_>,
    key: &str,
    prefix: &str,
    limit: usize,
) -> Result<Vec<String>, QueryError> {
    let limit = limit.clamp(1, MAX);
    if key.is_empty() {
        return names(inputs, prefix, limit);
    }
    let words = |words: &mut dyn Iterator<Item = &'static str>| {
        let mut words: Vec<String> =
            words.filter(|w| w.starts_with(prefix)).map(str::to_owned).collect();
        words.sort_unstable();
        words.dedup();
        words.truncate(limit);
        Ok(words)
    };
    let resource = |column: &str| column_of(inputs, column, Signal::Resources, None);
    let values = match Key::from_name(key) {
        Key::Service => resource("service"),
        Key::Host => resource("host"),
        Key::Instance => resource("instance"),
        Key::Version => resource("version"),
        Key::Zone => resource("zone"),
        Key::Namespace => resource("namespace"),
        Key::Operation => column_of(inputs, "operation", Signal::Red, Some("bucket_ns")),
        Key::Status => column_of(inputs, "code", Signal::Red, Some("bucket_ns")),
        Key::Protocol => column_of(inputs, "protocol", Signal::Edges, Some("bucket_ns")),
        Key::Metric => column_of(inputs, "metric", Signal::Metrics, Some("time_ns")),
        Key::Route => column_of(inputs, "http_route", Signal::Spans, Some("start_ns")),
        // Of a metric, a span, or a node.
        Key::Name => column_of(inputs, "metric", Signal::Metrics, Some("time_ns"))
            .then(" UNION ")
            .part(column_of(inputs, "coalesce(name, operation)", Signal::Spans, Some("start_ns")))
            .then(" UNION ")
            .part(column_of(inputs, "to_name", Signal::Edges, Some("bucket_ns"))),
        Key::Level => {
            return words(&mut coral_model::filter::Level::ALL.into_iter().map(|l| l.word()));
        }
        Key::Error => return words(&mut ["true", "false"].into_iter()),
        Key::Kind => {
            let kinds = SpanKind::ALL.iter().map(|k| k.word());
            let kinds = kinds.chain(EventKind::ALL.iter().map(|k| k.word()));
            let kinds = kinds.chain(MetricKind::ALL.iter().map(|k| k.word()));
            return words(&mut kinds.chain(NodeKind::ALL.iter().map(|k| k.word())));
        }
        Key::Agent => {
            let agents = inputs.agents.iter().map(|a| a.agent.clone());
            return Ok(agents.filter(|a| a.starts_with(prefix)).take(limit).collect());
        }
        Key::Attribute(name) => attribute(inputs, &name, true),
        Key::Resource(name) => attribute(inputs, &name, false),
        Key::Duration | Key::Trace | Key::Span | Key::Body => return Ok(Vec::new()),
    };
    let sql = Sql::new("SELECT DISTINCT value FROM (")
        .part(values)
        .then(") WHERE value IS NOT NULL AND value <> '' AND starts_with(value, ")
        .bind(prefix.to_owned())
        .then(") ORDER BY value LIMIT ")
        .bind(i64_sat(limit));
    texts(inputs, &sql)
}

/// Names of keys and of attributes that rows of any signal have had lately, as a filter writes them.
fn names(inputs: &Inputs<'_>, prefix: &str, limit: usize) -> Result<Vec<String>, QueryError> {
    let since = inputs.now.minus(BACK);
    let known = Key::known().map(|(word, _)| word.to_owned());
    let mut names: Vec<String> = known.filter(|word| word.starts_with(prefix)).collect();
    let mut sql = Sql::new("SELECT DISTINCT name, own FROM (SELECT unnest(map_keys(attributes)) AS name, false AS own FROM ")
        .then(&inputs.conn.resources());
    for (signal, time) in ATTRIBUTED {
        sql = sql
            .then(&format!(
                " UNION ALL SELECT unnest(map_keys(attributes)), true FROM \
                 (SELECT attributes FROM {} WHERE {time} >= ",
                inputs.conn.relation(signal, since, Time::MAX)
            ))
            .time(since)
            .then(&format!(" ORDER BY {time} DESC LIMIT {NAMED})"));
    }
    let sql = sql.then(") ORDER BY name, own DESC");
    let mut found = Vec::new();
    fetch::run(inputs.conn, &sql, |batch| {
        let (name, own) = (batch.texts(0)?, batch.bools(1)?);
        for row in 0..batch.len() {
            let name = fetch::text(name, row).unwrap_or_default().to_owned();
            found.push(match fetch::flag(own, row) {
                true => Key::Attribute(name).to_string(),
                false => Key::Resource(name).to_string(),
            });
        }
        Ok(())
    })?;
    // The plain name finds an attribute of a resource too; `res.` is for who means only those.
    let plain: Vec<String> = found
        .iter()
        .filter_map(|name| name.strip_prefix("res."))
        .map(|name| Key::Attribute(name.to_owned()).to_string())
        .collect();
    if !prefix.starts_with("res.") {
        found.retain(|name| !name.starts_with("res."));
        found.extend(plain);
    }
    found.retain(|name| name.starts_with(prefix));
    found.sort_unstable();
    found.dedup();
    names.extend(found.into_iter().filter(|name| Key::known_name(name).is_none()));
    names.truncate(limit);
    Ok(names)
}

/// Values of a column.
fn column_of(inputs: &Inputs<'_>, column: &str, signal: Signal, time: Option<&str>) -> Sql {
    let since = inputs.now.minus(BACK);
    let relation = match signal {
        Signal::Resources => inputs.conn.resources(),
        _ => inputs.conn.relation(signal, since, Time::MAX),
    };
    let sql = Sql::new(format!("SELECT DISTINCT {column} AS value FROM {relation} WHERE true"));
    match time {
        Some(time) => sql.then(&format!(" AND {time} >= ")).time(since),
        None => sql,
    }
}

/// Values of an attribute: of resources, and of the newest rows of every signal where `own` ones count.
fn attribute(inputs: &Inputs<'_>, name: &str, own: bool) -> Sql {
    let since = inputs.now.minus(BACK);
    let mut sql = Sql::new("SELECT attributes[")
        .bind(name.to_owned())
        .then(&format!("] AS value FROM {}", inputs.conn.resources()));
    for (signal, time) in ATTRIBUTED.into_iter().filter(|_| own) {
        sql = sql
            .then(" UNION ALL SELECT value FROM (SELECT attributes[")
            .bind(name.to_owned())
            .then(&format!(
                "] AS value FROM {} WHERE {time} >= ",
                inputs.conn.relation(signal, since, Time::MAX)
            ))
            .time(since)
            .then(&format!(" ORDER BY {time} DESC LIMIT {VALUED})"));
    }
    sql
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

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, Span, ago};
    use super::super::source::StoreOnly;
    use super::*;

    fn filled() -> Fixture {
        let fixture = Fixture::default();
        fixture.resource(1, "shop", ["i1", "web-1", "v41"], ago(500));
        let mut span = Span::new(1, 1, 0, ago(100), 5).of("shop", "GET /");
        span.attributes =
            vec![("http.method".into(), "GET".into()), ("service".into(), "x".into())];
        fixture.spans(&[span]);
        let logs = Fixture::table(Signal::Logs);
        fixture.run(&format!(
            "INSERT INTO {logs} VALUES ({}, 0, 'shop', 9, 'hello', 0, 0, 0, 1, map(['thread.name'], ['worker-3']))",
            ago(90).0
        ));
        let metrics = Fixture::table(Signal::Metrics);
        fixture.run(&format!(
            "INSERT INTO {metrics} (time_ns, metric, kind, service, resource, attributes, value) VALUES \
             ({}, 'queue.length', 'gauge', 'shop', 1, map(['queue'], ['orders']), 3)",
            ago(80).0
        ));
        let events = Fixture::table(Signal::Events);
        fixture.run(&format!(
            "INSERT INTO {events} VALUES ({}, 0, 'deploy', 'shop', NULL, 'v42', 'colony', map(['commit'], ['1a2b3c']))",
            ago(70).0
        ));
        fixture
    }

    #[test]
    fn names_and_values_of_every_signal_are_completed() {
        let fixture = filled();
        let inputs = fixture.inputs(&StoreOnly);
        let ask = |key: &str, prefix: &str| complete(&inputs, key, prefix, 100).unwrap();
        for name in ["http.method", "thread.name", "queue", "commit", "k8s.pod.name"] {
            let found = ask("", name.get(..3).unwrap());
            assert!(found.contains(&name.to_owned()), "{name}: {found:?}");
        }
        // Known names first; an attribute whose name reads as one is written as a filter needs it.
        assert!(ask("", "attr.").contains(&"attr.service".to_owned()), "{:?}", ask("", "attr."));
        assert_eq!(ask("", "res.k8s"), ["res.k8s.pod.name"]);
        for (key, value) in [
            ("http.method", "GET"),
            ("thread.name", "worker-3"),
            ("queue", "orders"),
            ("commit", "1a2b3c"),
            ("k8s.pod.name", "pod-1"),
            ("res.k8s.pod.name", "pod-1"),
            ("attr.service", "x"),
            ("name", "queue.length"),
            ("metric", "queue.length"),
            ("host", "web-1"),
        ] {
            assert!(ask(key, "").contains(&value.to_owned()), "{key}: {:?}", ask(key, ""));
            assert!(ask(key, "zzz").is_empty());
        }
        assert_eq!(ask("kind", "gau"), ["gauge"]);
        assert!(ask("kind", "").contains(&"new_pattern".to_owned()));
        // What is completed is a filter that can be asked.
        for name in ask("", "") {
            let text = format!("{name}=x");
            let parsed = coral_model::filter::parse(&text);
            let typed = ["duration", "error", "level", "kind", "trace", "span"];
            assert!(parsed.is_ok() || typed.contains(&name.as_str()), "{text}: {parsed:?}");
        }
    }
}

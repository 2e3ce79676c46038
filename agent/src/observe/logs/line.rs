//! What a line says: when, how bad, and what.
//!
//! A line may be wrapped by a container runtime ([`unwrap_docker`], [`unwrap_cri`]); inside it is text
//! or a JSON object. Of text only what is certain is taken: a leading RFC 3339 time with its zone, and
//! a level that stands where levels stand. Everything else stays in the body, which is never changed.

use std::collections::BTreeMap;

use coral_model::Time;
use coral_model::id::{SpanId, TraceId};
use coral_model::severity::severity_of;
use serde::Deserialize;
use serde_json::Value;

/// Fields of a JSON line that are kept as attributes, at most.
const MAX_FIELDS: usize = 48;
/// A level is looked for within so many bytes.
const HEAD: usize = 96;

/// Where a container wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "stdout" => Some(Self::Out),
            "stderr" => Some(Self::Err),
            _ => None,
        }
    }

    /// As `log.iostream` says it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }
}

/// A line without its wrapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwrapped {
    /// What the application wrote.
    pub text: String,
    /// When, as the runtime says.
    pub time: Option<Time>,
    /// Where to.
    pub stream: Option<Stream>,
    /// The runtime cut the line: the next of this stream goes on.
    pub partial: bool,
    /// Labels that the runtime adds.
    pub labels: BTreeMap<String, String>,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Said {
    /// When, where the line itself says so.
    pub time: Option<Time>,
    /// OpenTelemetry's severity number; 0 is unspecified.
    pub severity: u8,
    /// The line.
    pub body: String,
    /// Fields of a JSON line.
    pub attributes: BTreeMap<String, String>,
    /// Its trace.
    pub trace: Option<TraceId>,
    /// Its span.
    pub span: Option<SpanId>,
}

/// A line of Docker's `json-file` driver.
#[must_use]
pub fn unwrap_docker(line: &str) -> Option<Unwrapped> {
    #[derive(Deserialize)]
    struct Entry {
        log: String,
        stream: Option<String>,
        time: Option<String>,
        #[serde(default)]
        attrs: BTreeMap<String, Value>,
    }
    let entry: Entry = serde_json::from_str(line).ok()?;
    // A line longer than 16 KiB comes in pieces, of which only the last ends.
    let partial = !entry.log.ends_with('\n');
    Some(Unwrapped {
        text: entry.log.strip_suffix('\n').unwrap_or(&entry.log).to_owned(),
        time: entry.time.as_deref().and_then(time),
        stream: entry.stream.as_deref().and_then(Stream::parse),
        partial,
        labels: entry.attrs.into_iter().take(MAX_FIELDS).map(|(k, v)| (k, plain(&v))).collect(),
    })
}

/// A line of a CRI runtime: `time stream F|P text` (Kubernetes, "CRI logging format").
#[must_use]
pub fn unwrap_cri(line: &str) -> Option<Unwrapped> {
    let mut parts = line.splitn(4, ' ');
    let time = time(parts.next()?)?;
    let stream = Stream::parse(parts.next()?)?;
    let tags = parts.next()?;
    let partial = match tags.split(':').next()? {
        "P" => true,
        "F" => false,
        _ => return None,
    };
    Some(Unwrapped {
        text: parts.next().unwrap_or_default().to_owned(),
        time: Some(time),
        stream: Some(stream),
        partial,
        labels: BTreeMap::new(),
    })
}

/// What an application's line says.
#[must_use]
pub fn said(text: &str) -> Said {
    if text.trim_start().starts_with('{')
        && let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(text)
    {
        return of_json(fields, text);
    }
    let (time, rest) = leading_time(text);
    Said {
        time,
        severity: level_in(rest).unwrap_or_default(),
        body: text.to_owned(),
        ..Said::default()
    }
}

/// Which names JSON loggers give to what everybody has, most common first.
const TIMES: [&str; 6] = ["time", "timestamp", "@timestamp", "ts", "t", "date"];
const LEVELS: [&str; 6] = ["level", "severity", "lvl", "log.level", "levelname", "loglevel"];
const BODIES: [&str; 5] = ["msg", "message", "body", "event", "log"];
const TRACES: [&str; 4] = ["trace_id", "traceId", "traceid", "trace.id"];
const SPANS: [&str; 4] = ["span_id", "spanId", "spanid", "span.id"];

fn of_json(mut fields: serde_json::Map<String, Value>, text: &str) -> Said {
    let time = take(&mut fields, &TIMES, |value| match value {
        Value::String(text) => time(text),
        Value::Number(n) => epoch(n.as_f64()?),
        _ => None,
    });
    let severity = take(&mut fields, &LEVELS, |value| match value {
        Value::String(word) => severity_of(word),
        Value::Number(n) => bunyan(n.as_u64()?),
        _ => None,
    });
    let mut said = Said {
        time,
        severity: severity.unwrap_or_default(),
        trace: take(&mut fields, &TRACES, |v| v.as_str()?.parse().ok()),
        span: take(&mut fields, &SPANS, |v| v.as_str()?.parse().ok()),
        body: take(&mut fields, &BODIES, |v| v.as_str().map(str::to_owned))
            .unwrap_or_else(|| text.to_owned()),
        attributes: BTreeMap::new(),
    };
    for (key, value) in fields.into_iter().take(MAX_FIELDS) {
        said.attributes.insert(key, plain(&value));
    }
    said
}

fn take<T>(
    fields: &mut serde_json::Map<String, Value>,
    names: &[&str],
    read: impl Fn(&Value) -> Option<T>,
) -> Option<T> {
    for name in names {
        if let Some(found) = fields.get(*name).and_then(&read) {
            fields.remove(*name);
            return Some(found);
        }
    }
    None
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970: which, the size tells.
fn epoch(n: f64) -> Option<Time> {
    let scale = match n {
        n if !(1e8..1e20).contains(&n) => return None,
        n if n < 1e11 => 1e9,
        n if n < 1e14 => 1e6,
        n if n < 1e17 => 1e3,
        _ => 1.0,
    };
    crate::observe::prometheus::text::from_f64(n * scale).map(Time)
}

/// An RFC 3339 time; one without a zone is nobody's, and not guessed.
#[must_use]
pub fn time(text: &str) -> Option<Time> {
    let text = text.trim();
    let found: jiff::Timestamp = text.replacen(',', ".", 1).parse().ok()?;
    u64::try_from(found.as_nanosecond()).ok().map(Time)
}

/// A time without a zone that stands at the beginning of a line, read as UTC: for files whose writer
/// cannot be asked.
#[must_use]
pub fn zoneless(text: &str) -> Option<Time> {
    let bare = text.trim_start_matches(['[', ' ', '"']);
    // `2026-11-22 14:02:31,123`, `2026-11-22T14:02:31.123`, `2026/11/22 14:02:31`.
    let head = bare.get(..bare.floor_char_boundary(30)).unwrap_or(bare);
    let (date, rest) = head.split_once(['T', ' '])?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || [':', '.', ','].contains(&c)));
    let clock = rest.get(..end.unwrap_or(rest.len()))?.trim_end_matches([':', ',', '.']);
    let civil = format!("{}T{}", date.replace('/', "-"), clock.replace(',', "."));
    let civil: jiff::civil::DateTime = civil.parse().ok()?;
    let at = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    u64::try_from(at.as_nanosecond()).ok().map(Time)
}

/// The time a line begins with, and the rest of it.
fn leading_time(text: &str) -> (Option<Time>, &str) {
    let bare = text.trim_start_matches(['[', ' ']);
    if !bare.starts_with(|c: char| c.is_ascii_digit()) {
        return (None, text);
    }
    let end = bare.find([' ', ']', '\t']).unwrap_or(bare.len());
    let (word, rest) = bare.split_at(end);
    match time(word) {
        Some(found) => (Some(found), rest),
        None => (None, text),
    }
}

/// The level a text line names: `level=…`, or a word of the head in capitals, brackets or alone
/// before a colon.
fn level_in(text: &str) -> Option<u8> {
    let head = text.get(..text.floor_char_boundary(HEAD)).unwrap_or(text);
    for key in ["level=", "lvl=", "severity="] {
        if let Some((_, rest)) = head.split_once(key) {
            let word = rest.trim_start_matches('"');
            let end = word.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(word.len());
            return word.get(..end).and_then(severity_of);
        }
    }
    let words = head.split(|c: char| c.is_whitespace() || c == '|').filter(|w| !w.is_empty());
    for word in words.take(8) {
        let wrapped = word.starts_with(['[', '<', '(']) || word.ends_with([':', ']', '>', ')']);
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphabetic());
        let capitals = bare.len() > 1 && bare.bytes().all(|b| b.is_ascii_uppercase());
        if (wrapped || capitals)
            && let Some(level) = severity_of(bare)
        {
            return Some(level);
        }
    }
    None
}

/// bunyan's and pino's numbers.
fn bunyan(n: u64) -> Option<u8> {
    Some(match n {
        10..20 => 1,
        20..30 => 5,
        30..40 => 9,
        40..50 => 13,
        50..60 => 17,
        60..70 => 21,
        _ => return None,
    })
}

/// syslog's PRIORITY (RFC 5424, 6.2.1; the data model's mapping).
#[must_use]
pub fn priority(n: u8) -> u8 {
    match n {
        0 => 21,
        1 => 19,
        2 => 18,
        3 => 17,
        4 => 13,
        5 => 10,
        6 => 9,
        7 => 5,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_found_where_they_stand() {
        for (line, level) in [
            ("2026-11-22T14:02:31Z ERROR payments: pool exhausted", 17),
            ("[2026-11-22T14:02:31+01:00] WARN slow", 13),
            ("time=\"x\" level=error msg=\"no\"", 17),
            ("2026/11/22 14:02:31 [error] 7#7: *1 upstream", 17),
            ("14:02:31.123 [main] DEBUG org.x.Y - hi", 5),
            ("INFO:root:hello", 0),
            ("error: cannot open", 17),
            ("an error happened to the info desk", 0),
            ("GET /error 200", 0),
            ("| WARN | x", 13),
            ("", 0),
        ] {
            assert_eq!(said(line).severity, level, "{line}");
        }
    }

    #[test]
    fn a_time_is_taken_only_with_its_zone() {
        let at = |line: &str| said(line).time.map(|t| t.0 / 1_000_000);
        assert_eq!(at("2026-11-22T14:02:31.5Z hello"), Some(1_795_356_151_500));
        assert_eq!(at("[2026-11-22T15:02:31.5+01:00] hello"), Some(1_795_356_151_500));
        assert_eq!(at("2026-11-22 14:02:31,5 hello"), None);
        assert_eq!(at("2026-11-22T14:02:31 hello"), None);
        assert_eq!(at("123 hello"), None);
    }

    #[test]
    fn times_without_a_zone_are_read_only_when_asked_for() {
        let at = |line: &str| zoneless(line).map(|t| t.0 / 1_000_000);
        assert_eq!(at("2026-11-22 14:02:31,5 INFO hello"), Some(1_795_356_151_500));
        assert_eq!(at("[2026-11-22T14:02:31.5] hello"), Some(1_795_356_151_500));
        assert_eq!(at("2026/11/22 14:02:31 [error]"), Some(1_795_356_151_000));
        assert_eq!(at("hello 2026"), None);
        assert_eq!(at(""), None);
    }

    #[test]
    fn json_lines_are_read_by_their_usual_names() {
        let line = r#"{"level":"warn","ts":1795356151.5,"msg":"slow","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","user":{"id":7},"n":3}"#;
        let said = said(line);
        assert_eq!((said.severity, said.body.as_str()), (13, "slow"));
        assert_eq!(said.time.map(|t| t.0 / 1_000_000), Some(1_795_356_151_500));
        assert!(said.trace.is_some() && said.span.is_some());
        assert_eq!(said.attributes["user"], r#"{"id":7}"#);
        assert_eq!(super::said(r#"{"level":50,"msg":"x"}"#).severity, 17);
        let odd = super::said(r#"{"a":1}"#);
        assert_eq!((odd.body.as_str(), odd.severity), (r#"{"a":1}"#, 0));
        assert_eq!(super::said("{not json").body, "{not json");
    }

    #[test]
    fn runtimes_wrappings_come_off() {
        let docker = unwrap_docker(
            r#"{"log":"hello\n","stream":"stderr","attrs":{"com.docker.compose.service":"web"},"time":"2026-11-22T14:02:31.5Z"}"#,
        )
        .unwrap();
        assert_eq!((docker.text.as_str(), docker.partial), ("hello", false));
        assert_eq!(docker.stream, Some(Stream::Err));
        assert_eq!(docker.labels["com.docker.compose.service"], "web");
        assert!(unwrap_docker(r#"{"log":"half"}"#).unwrap().partial);
        assert!(unwrap_docker(r#"{"msg":"x"}"#).is_none());
        let cri = unwrap_cri("2016-10-06T00:17:09.669794202Z stdout P log content 1").unwrap();
        assert_eq!((cri.text.as_str(), cri.partial), ("log content 1", true));
        assert!(unwrap_cri("2016-10-06T00:17:09.669794202Z stdout F ").unwrap().text.is_empty());
        assert!(!unwrap_cri("2016-10-06T00:17:09Z stderr F:x a b").unwrap().partial);
        assert!(unwrap_cri("hello stdout F x").is_none());
    }
}

//! A file of OTLP/JSON, cut into requests that an export could have been.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use bytes::Bytes;
use coral_proto::otlp::logs::resource_logs;
use coral_proto::otlp::trace::resource_spans;
use coral_proto::otlp::wire::Fields;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{ImportError, Summary};
use crate::agent::Agent;
use crate::receive::{Form, Refused, Signal, json};

/// Largest object, in bytes of JSON: a line, or the whole file.
const OBJECT: u64 = 512 << 20;
/// A request is cut where it would be larger, in bytes of protobuf.
const REQUEST: usize = 4 << 20;
/// What is looked at to tell what a file is, in bytes.
const HEAD: u64 = 64 << 10;

/// The one key an export's object has.
#[derive(Deserialize)]
struct Keys {
    #[serde(alias = "resourceSpans", alias = "resource_spans")]
    spans: Option<IgnoredAny>,
    #[serde(alias = "resourceLogs", alias = "resource_logs")]
    logs: Option<IgnoredAny>,
    #[serde(alias = "resourceMetrics", alias = "resource_metrics")]
    metrics: Option<IgnoredAny>,
}

/// Whether a file is OTLP/JSON rather than a log.
///
/// # Errors
/// When it cannot be read, is empty, or is neither.
pub fn is_otlp(plain: &Path, path: &Path) -> Result<bool, ImportError> {
    let io = |source| ImportError::Io { path: path.to_owned(), source };
    let mut head = Vec::new();
    let file = File::open(plain).map_err(io)?;
    file.take(HEAD).read_to_end(&mut head).map_err(io)?;
    if head.trim_ascii().is_empty() {
        return Err(ImportError::Empty(path.to_owned()));
    }
    // Terminals' escapes and form feeds are in logs; other control bytes are in none.
    let odd = |b: &u8| *b < 0x20 && !matches!(*b, b'\n' | b'\r' | b'\t' | 0x0c | 0x1b | 0x08);
    if let Some(at) = head.iter().position(odd) {
        let byte = head.get(at).copied().unwrap_or_default();
        return Err(ImportError::Binary { path: path.to_owned(), at, byte });
    }
    let start = head.trim_ascii_start();
    let keys = ["resourceSpans", "resourceLogs", "resourceMetrics"];
    let snake = ["resource_spans", "resource_logs", "resource_metrics"];
    let names = |text: &str| {
        let first = text.strip_prefix('{')?.trim_start().strip_prefix('"')?;
        keys.iter().chain(&snake).any(|key| first.starts_with(key)).then_some(())
    };
    Ok(names(&String::from_utf8_lossy(start)).is_some())
}

/// Reads every object of the file.
///
/// # Errors
/// At the first that is none, by its line.
pub async fn read(
    agent: &Agent,
    plain: &Path,
    path: &Path,
    summary: &mut Summary,
) -> Result<(), ImportError> {
    let io = |source| ImportError::Io { path: path.to_owned(), source };
    let mut file = BufReader::with_capacity(1 << 20, File::open(plain).map_err(io)?);
    let mut line = 0;
    let mut text = Vec::new();
    loop {
        text.clear();
        let got = (&mut file).take(OBJECT).read_until(b'\n', &mut text).map_err(io)?;
        if got == 0 {
            return Ok(());
        }
        line += 1;
        if text.trim_ascii().is_empty() {
            continue;
        }
        let begins = line;
        let at = |why: String| ImportError::Line { path: path.to_owned(), line: begins, why };
        let mut keys = serde_json::from_slice::<Keys>(&text);
        if keys.as_ref().is_err_and(serde_json::Error::is_eof) {
            // One object over many lines: the rest of the file is part of it.
            let room = OBJECT.saturating_sub(text.len() as u64);
            let before = text.len();
            (&mut file).take(room).read_to_end(&mut text).map_err(io)?;
            let more = text.get(before..).unwrap_or_default().iter().filter(|&&b| b == b'\n');
            line += more.count() as u64;
            keys = serde_json::from_slice(&text);
        }
        let keys = keys.map_err(|e| {
            let (down, column) = (e.line() as u64, e.column());
            let line = begins + down.saturating_sub(1);
            let why = format!("column {column}: expected OTLP/JSON: {e}");
            ImportError::Line { path: path.to_owned(), line, why }
        })?;
        let signals = [
            (Signal::Traces, keys.spans.is_some()),
            (Signal::Logs, keys.logs.is_some()),
            (Signal::Metrics, keys.metrics.is_some()),
        ];
        if signals.iter().all(|(_, there)| !there) {
            return Err(at("expected resourceSpans, resourceLogs or resourceMetrics".to_owned()));
        }
        for (signal, _) in signals.into_iter().filter(|(_, there)| *there) {
            let message = json::to_protobuf(signal, &text).map_err(|e| at(e.to_string()))?;
            for part in parts(&message) {
                look(signal, &part, summary);
                let taken = agent.take(signal, Form::Protobuf, Bytes::from(part)).await;
                let taken = taken.map_err(|refused: Refused| at(refused.to_string()))?;
                summary.rejected += taken.rejected;
                if !taken.message.is_empty() && summary.notes.len() < 5 {
                    summary.notes.push(format!("line {begins}: {}", taken.message));
                }
            }
        }
    }
}

/// Whole resources (field 1), as many as fit into a request.
fn parts(message: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut part: Vec<u8> = Vec::new();
    for (number, field) in Fields::new(message).map_while(Result::ok) {
        let Ok(bytes) = field.bytes(number) else { continue };
        if number != 1 {
            continue;
        }
        if !part.is_empty() && part.len() + bytes.len() > REQUEST {
            out.push(std::mem::take(&mut part));
        }
        prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut part);
        prost::encoding::encode_varint(bytes.len() as u64, &mut part);
        part.extend_from_slice(bytes);
    }
    out.push(part);
    out
}

/// Notes what a request holds, and when.
fn look(signal: Signal, message: &[u8], summary: &mut Summary) {
    match signal {
        Signal::Traces => {
            for span in resource_spans(message)
                .flatten()
                .flat_map(|r| r.spans().flatten().collect::<Vec<_>>())
            {
                summary.spans += 1;
                summary.at(span.start_ns);
                summary.at(span.end_ns);
            }
        }
        Signal::Logs => {
            for record in resource_logs(message)
                .flatten()
                .flat_map(|r| r.records().flatten().collect::<Vec<_>>())
            {
                summary.logs += 1;
                let times = [record.time_ns, record.observed_ns];
                summary.at(times.into_iter().find(|t| *t > 0).unwrap_or_default());
            }
        }
        Signal::Metrics => {
            let Ok(request) = ExportMetricsServiceRequest::decode(message) else { return };
            let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics);
            for metric in metrics.flat_map(|scope| &scope.metrics) {
                let times: Vec<u64> = match &metric.data {
                    Some(Data::Gauge(d)) => {
                        d.data_points.iter().map(|p| p.time_unix_nano).collect()
                    }
                    Some(Data::Sum(d)) => d.data_points.iter().map(|p| p.time_unix_nano).collect(),
                    Some(Data::Histogram(d)) => {
                        d.data_points.iter().map(|p| p.time_unix_nano).collect()
                    }
                    Some(Data::ExponentialHistogram(d)) => {
                        d.data_points.iter().map(|p| p.time_unix_nano).collect()
                    }
                    Some(Data::Summary(d)) => {
                        d.data_points.iter().map(|p| p.time_unix_nano).collect()
                    }
                    None => Vec::new(),
                };
                for at in times {
                    summary.points += 1;
                    summary.at(at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn files_are_told_apart_by_what_they_begin_with() {
        let of = |text: &[u8]| {
            let file = file(text);
            is_otlp(file.path(), file.path())
        };
        assert!(of(b" {\n \"resourceSpans\": [").unwrap());
        assert!(of(b"{\"resource_logs\":[]}").unwrap());
        assert!(!of(b"{\"level\":\"info\"}\n").unwrap());
        assert!(!of(b"\x1b[31mred\x1b[0m\n").unwrap());
        assert!(matches!(of(b" \n"), Err(ImportError::Empty(_))));
        assert!(matches!(of(b"ab\0c"), Err(ImportError::Binary { at: 2, byte: 0, .. })));
    }

    #[test]
    fn large_objects_are_cut_between_resources() {
        let resource = vec![7u8; 1 << 20];
        let mut message = Vec::new();
        for _ in 0..10 {
            prost::encoding::encode_key(
                1,
                prost::encoding::WireType::LengthDelimited,
                &mut message,
            );
            prost::encoding::encode_varint(resource.len() as u64, &mut message);
            message.extend_from_slice(&resource);
        }
        let parts = parts(&message);
        assert_eq!(parts.len(), 4);
        assert_eq!(parts.concat(), message);
    }
}

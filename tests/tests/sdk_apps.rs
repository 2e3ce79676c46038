//! Real applications with the official Python and Node SDKs: traces, logs and metrics arrive complete
//! and correct over every protocol, counted against what the application says it sent.

use std::path::PathBuf;
use std::process::Command;

use coral_model::view::{MetricKind, MetricRow, Row};
use coral_tests::{Colony, until};
use serde_json::Value;

fn apps() -> PathBuf {
    let cache = std::env::var_os("CORAL_CACHE").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(PathBuf::from).expect("HOME is set");
    let apps = cache.unwrap_or_else(|| home.join(".cache/coral")).join("apps");
    assert!(apps.join("python").exists(), "no {}: run tools/apps.sh first", apps.display());
    apps
}

/// Runs an application; gives what it says it sent.
fn sent_by(language: &str, colony: &Colony, protocol: &str, extra: &[&str]) -> Value {
    let address = if protocol == "grpc" { &colony.otlp_grpc } else { &colony.otlp_http };
    let mut command = match language {
        "python" => {
            let mut command = Command::new(apps().join("python/bin/python"));
            command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/apps/python/app.py"));
            command
        }
        _ => {
            let mut command = Command::new("node");
            command.arg(apps().join("node/app.mjs"));
            command
        }
    };
    let output = command
        .args(["--endpoint", &format!("http://{address}"), "--protocol", protocol])
        .args(["--traces", "60", "--logs", "90", "--metrics", "50"])
        .args(extra)
        .output()
        .expect("the application runs");
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(out.lines().last().expect("a line")).expect("JSON")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a count: {value}"))
}

fn check_spans(colony: &Colony, sent: &Value, filter: &str) {
    let wanted = number(&sent["spans"]);
    let traces = until("every span", || {
        let rows = colony.query(&["traces", filter, "--since", "10m", "--limit", "1000"])?;
        let spans: u64 = rows.iter().map(|r| if let Row::Trace(t) = r { t.spans } else { 0 }).sum();
        if spans == wanted { Ok(rows) } else { Err(format!("{spans} of {wanted} spans")) }
    });
    assert_eq!(traces.len() as u64, number(&sent["traces"]));
    let by_operation = sent["requests_by_operation"].as_object().expect("an object");
    until("RED to agree, operation by operation", || {
        let rows = colony.query(&["red", filter, "--since", "10m"])?;
        let mut errors = 0;
        for (operation, requests) in by_operation {
            let row = rows.iter().find_map(|row| match row {
                Row::Red(red) if red.operation.as_deref() == Some(operation) => Some(red),
                _ => None,
            });
            let row = row.ok_or_else(|| format!("no {operation} in {rows:?}"))?;
            if row.red.requests != number(requests) {
                return Err(format!("{operation}: {} of {requests}", row.red.requests));
            }
            errors += row.red.errors;
        }
        let wanted = number(&sent["error_spans"]);
        if errors == wanted { Ok(()) } else { Err(format!("{errors} of {wanted} errors")) }
    });

    // One trace, whole: three spans, the server's attributes as sent.
    let id = sent["trace_ids"][0].as_str().expect("an id");
    let mut spans = colony.query(&["trace", id, "--since", "10m"]).unwrap();
    assert!(matches!(spans.first(), Some(Row::TraceHead(_))), "{spans:?}");
    spans.retain(|row| matches!(row, Row::Span(_)));
    assert_eq!(spans.len(), 3, "{spans:?}");
    let Some(Row::Span(root)) = spans.first() else { panic!("{spans:?}") };
    assert_eq!((root.depth, root.parent_id), (0, None));
    assert_eq!(root.attributes.get("http.response.status_code").map(String::as_str), Some("500"));
    assert_eq!(
        root.attributes.get("app.text").map(String::as_str),
        Some("süß 海 \u{202e}\u{1b}[31m")
    );
}

fn check_logs(colony: &Colony, sent: &Value, filter: &str) {
    let rows = until("every log record", || {
        let rows = colony.query(&["logs", filter, "--since", "10m", "--limit", "1000"])?;
        let wanted = number(&sent["logs"]);
        if rows.len() as u64 == wanted {
            Ok(rows)
        } else {
            Err(format!("{} of {wanted}", rows.len()))
        }
    });
    let logs: Vec<_> =
        rows.iter().filter_map(|r| if let Row::Log(log) = r { Some(log) } else { None }).collect();
    for (severity, wanted) in sent["logs_by_severity"].as_object().expect("an object") {
        let found = logs.iter().filter(|log| log.level.eq_ignore_ascii_case(severity)).count();
        assert_eq!(found as u64, number(wanted), "{severity}");
    }
    let correlated = logs.iter().filter(|log| log.trace_id.is_some()).count();
    assert_eq!(correlated as u64, number(&sent["logs_with_trace"]));
}

fn check_metrics(colony: &Colony, sent: &Value, filter: &str) {
    for (name, wanted) in sent["metrics"].as_object().expect("an object") {
        let points: Vec<MetricRow> = until(&format!("the points of {name}"), || {
            let rows = colony.query(&["metrics", name, filter, "--since", "10m"])?;
            let points: Vec<_> = rows
                .into_iter()
                .filter_map(|r| if let Row::Metric(m) = r { Some(*m) } else { None })
                .collect();
            let n = number(&wanted["points"]);
            if points.len() as u64 == n {
                Ok(points)
            } else {
                Err(format!("{} of {n}: {points:?}", points.len()))
            }
        });
        let sum: f64 = points.iter().filter_map(|p| p.value).sum();
        match wanted["type"].as_str() {
            Some("sum" | "gauge") => {
                let value = wanted["value"].as_f64().expect("a value");
                assert!((sum - value).abs() < 1e-9, "{name}: {sum}, not {value}: {points:?}");
            }
            Some(kind @ ("histogram" | "exponential_histogram")) => {
                let point = points.first().expect("a point");
                let is = if kind == "histogram" {
                    MetricKind::Histogram
                } else {
                    MetricKind::ExponentialHistogram
                };
                assert_eq!(point.kind, is, "{name}");
                assert_eq!(point.count, wanted["count"].as_u64(), "{name}: {point:?}");
                assert_eq!(point.sum, wanted["sum"].as_f64(), "{name}: {point:?}");
            }
            other => panic!("a metric of type {other:?}"),
        }
    }
}

fn everything_arrives(language: &str, runs: &[(&str, &[&str])]) {
    let colony = Colony::start();
    for (n, (protocol, extra)) in runs.iter().enumerate() {
        let service = format!("{language}-{n}");
        let mut args = vec!["--service", service.as_str()];
        args.extend(*extra);
        let sent = sent_by(language, &colony, protocol, &args);
        let filter = format!("service={service}");
        check_spans(&colony, &sent, &filter);
        check_logs(&colony, &sent, &filter);
        check_metrics(&colony, &sent, &filter);
    }
}

#[test]
fn python_arrives_complete_and_correct() {
    everything_arrives(
        "python",
        &[
            ("grpc", &[]),
            ("grpc", &["--gzip"]),
            ("http/protobuf", &[]),
            ("http/protobuf", &["--gzip"]),
        ],
    );
}

#[test]
fn node_arrives_complete_and_correct() {
    everything_arrives("node", &[("grpc", &[]), ("http/protobuf", &[]), ("http/json", &[])]);
}

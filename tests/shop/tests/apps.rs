//! The Python and Node applications of `tests/apps` say exactly what they sent: counted here by a receiver that is
//! none of Coral's, so that the end-to-end tests may trust their word.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test stops where something is not as it should be"
)]

mod sink;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use sink::{Kept, Receiver, text};

/// Starts an application as `tools/apps.sh` set it up, and reads what it says that it sent.
fn app(language: &str, receiver: &Receiver, protocol: &str, words: &[&str]) -> Value {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let cache = std::env::var_os("CORAL_CACHE").map_or(home.join(".cache/coral"), PathBuf::from);
    let apps = cache.join("apps").join(language);
    assert!(apps.exists(), "{} is not there: tools/apps.sh makes it", apps.display());
    let mut command = if language == "python" {
        let mut python = Command::new(apps.join("bin/python"));
        python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../apps/python/app.py"));
        python
    } else {
        let mut node = Command::new("node");
        node.arg(apps.join("app.mjs"));
        node
    };
    let endpoint = if protocol == "grpc" { &receiver.grpc } else { &receiver.http };
    let output = command
        .args(["--endpoint", endpoint, "--protocol", protocol, "--service", language])
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{language} {protocol} {words:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Holds what arrived against what the application said.
fn counts(said: &Value, kept: &Kept) {
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let what = format!("{} {} gzip={}", said["language"], said["protocol"], said["gzip"]);
    assert_eq!(kept.spans.len(), number(&said["spans"]), "{what}");
    for (kind, code) in [("server", 2), ("internal", 1), ("client", 3)] {
        let arrived = kept.spans.iter().filter(|seen| seen.span.kind == code).count();
        assert_eq!(arrived, number(&said["spans_by_kind"][kind]), "{what} {kind}");
    }
    let failed = kept.spans.iter().filter(|seen| seen.failed()).count();
    assert_eq!(failed, number(&said["error_spans"]), "{what}");
    for id in said["trace_ids"].as_array().unwrap() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let spans = kept.spans.iter().filter(|s| hex(&s.span.trace_id) == id.as_str().unwrap());
        assert_eq!(spans.count(), 3, "{what} {id}");
    }
    for (operation, requests) in said["requests_by_operation"].as_object().unwrap() {
        let arrived = kept.spans.iter().filter(|seen| seen.span.name == *operation).count();
        assert_eq!(arrived, number(requests), "{what} {operation}");
    }
    for seen in &kept.spans {
        assert_eq!(
            text(&seen.resource, "service.instance.id").as_deref(),
            said["instance"].as_str()
        );
        assert_eq!(text(&seen.resource, "process.pid"), Some(said["pid"].to_string()));
    }

    assert_eq!(kept.logs.len(), number(&said["logs"]), "{what}");
    for (severity, code) in [("INFO", 9), ("WARN", 13), ("ERROR", 17)] {
        let arrived = kept.logs.iter().filter(|line| line.severity == code).count();
        assert_eq!(arrived, number(&said["logs_by_severity"][severity]), "{what} {severity}");
    }
    let with_trace = kept.logs.iter().filter(|line| !line.trace.is_empty()).count();
    assert_eq!(with_trace, number(&said["logs_with_trace"]), "{what}");

    let metrics = said["metrics"].as_object().unwrap();
    assert_eq!(kept.points.len(), number(&said["metric_points"]), "{what}");
    for (name, metric) in metrics {
        let points: Vec<_> = kept.points.iter().filter(|point| point.metric == *name).collect();
        assert_eq!(points.len(), number(&metric["points"]), "{what} {name}");
        assert!(points.iter().all(|p| p.kind == metric["type"].as_str().unwrap()), "{what} {name}");
        let total: f64 = points.iter().map(|point| point.value).sum();
        let wanted = metric.get("value").or_else(|| metric.get("sum")).unwrap().as_f64().unwrap();
        assert!((total - wanted).abs() < 1e-6, "{what} {name}: {total} instead of {wanted}");
        if let Some(count) = metric.get("count") {
            let arrived: u64 = points.iter().map(|point| point.count).sum();
            assert_eq!(Some(arrived), count.as_u64(), "{what} {name}");
        }
    }
    assert_eq!(metrics.len(), 6, "{what}");
}

fn holds(language: &str, protocol: &str, words: &[&str]) {
    let receiver = Receiver::start();
    let said = app(language, &receiver, protocol, words);
    counts(&said, &receiver.kept.lock().unwrap());
}

#[test]
fn python_says_what_it_sent() {
    holds("python", "grpc", &["--traces", "700", "--logs", "1300"]);
    holds("python", "grpc", &["--gzip"]);
    holds("python", "http/protobuf", &[]);
    holds("python", "http/protobuf", &["--gzip", "--traces", "700"]);
}

#[test]
fn node_says_what_it_sent() {
    holds("node", "grpc", &["--traces", "700", "--logs", "1300"]);
    holds("node", "grpc", &["--gzip"]);
    holds("node", "http/protobuf", &[]);
    holds("node", "http/json", &["--traces", "700"]);
    holds("node", "http/json", &["--gzip"]);
}

#[test]
fn an_export_that_fails_is_said() {
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let cache = std::env::var_os("CORAL_CACHE").map_or(home.join(".cache/coral"), PathBuf::from);
    let output = Command::new("node")
        .arg(cache.join("apps/node/app.mjs"))
        .args(["--endpoint", &format!("http://127.0.0.1:{port}"), "--protocol", "http/json"])
        .args(["--traces", "1", "--logs", "0", "--metrics", "0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

//! What is asked in an incident, of a small shop whose payments got worse with v42.

use coral_model::view::Row;
use coral_tests::otlp::{self, now_ns};
use coral_tests::{Colony, until};

const MS: u64 = 1_000_000;
/// How far the clock of payments' host is ahead.
const AHEAD: u64 = 3_000 * MS;

fn attributes(pairs: &[(&str, &str)]) -> String {
    let all: Vec<String> = pairs
        .iter()
        .map(|(k, v)| format!("{{\"key\":\"{k}\",\"value\":{{\"stringValue\":\"{v}\"}}}}"))
        .collect();
    format!("[{}]", all.join(","))
}

fn resource(service: &str, host: &str, version: &str) -> String {
    let instance = format!("{service}-{version}");
    let pairs = [
        ("service.name", service),
        ("host.name", host),
        ("service.version", version),
        ("service.instance.id", &instance),
    ];
    format!("{{\"attributes\":{}}}", attributes(&pairs))
}

struct Planned {
    trace: u32,
    version: &'static str,
    /// What payments took.
    took: u64,
    failed: bool,
    /// Payments was called at all.
    paid: bool,
}

fn id(trace: u32) -> String {
    format!("{:032x}", 0xabcd_0000_0000_0000_0000_0000_0000_0000_u128 + u128::from(trace))
}

/// A request to the gateway, which calls payments on a host whose clock is ahead.
fn traces(planned: &[Planned]) -> String {
    let now = now_ns();
    let (mut gateway, mut payments) = (Vec::new(), Vec::new());
    for p in planned {
        let start = now - 20_000 * MS + u64::from(p.trace) * MS;
        let span = |span: u8,
                    parent: u8,
                    name: &str,
                    kind: u8,
                    start: u64,
                    took: u64,
                    failed: bool| {
            let code = if failed { 2 } else { 0 };
            let parent = if parent == 0 { String::new() } else { format!("{parent:016x}") };
            format!(
                "{{\"traceId\":\"{}\",\"spanId\":\"{span:016x}\",\"parentSpanId\":\"{parent}\",\"name\":\"{name}\",\
                 \"kind\":{kind},\"startTimeUnixNano\":\"{start}\",\"endTimeUnixNano\":\"{}\",\"status\":{{\"code\":{code}}}}}",
                id(p.trace),
                start + took
            )
        };
        let whole = p.took + 4 * MS;
        gateway.push(span(1, 0, "POST /buy", 2, start, whole, p.failed));
        if p.paid {
            gateway.push(span(2, 1, "POST", 3, start + MS, p.took + 2 * MS, p.failed));
            let there = start + 2 * MS + AHEAD;
            payments.push(span(3, 2, "POST /charge", 2, there, p.took, p.failed));
        }
    }
    let version = planned.first().map_or("v41", |p| p.version);
    let part = |resource: String, spans: &[String]| {
        format!("{{\"resource\":{resource},\"scopeSpans\":[{{\"spans\":[{}]}}]}}", spans.join(","))
    };
    format!(
        "{{\"resourceSpans\":[{},{}]}}",
        part(resource("gateway", "web-1", "v7"), &gateway),
        part(resource("payments", "web-2", version), &payments)
    )
}

fn post(colony: &Colony, path: &str, body: &str) {
    let headers = [("content-type", "application/json")];
    let posted = otlp::post(&colony.otlp_http, path, &headers, body.as_bytes()).unwrap();
    assert_eq!(posted.status, 200, "{}", posted.body);
}

fn logs(lines: u32) -> String {
    let now = now_ns();
    let records: Vec<String> = (0..lines)
        .map(|n| {
            format!(
                "{{\"timeUnixNano\":\"{}\",\"severityNumber\":{},\"body\":{{\"stringValue\":\"line {n} of payments\"}},\
                 \"attributes\":{},\"traceId\":\"{}\",\"spanId\":\"{:016x}\"}}",
                now - 10_000 * MS + u64::from(n) * MS,
                if n == 7 { 17 } else { 9 },
                attributes(&[("thread.name", "worker-3")]),
                id(n),
                3
            )
        })
        .collect();
    format!(
        "{{\"resourceLogs\":[{{\"resource\":{},\"scopeLogs\":[{{\"logRecords\":[{}]}}]}}]}}",
        resource("payments", "web-2", "v42"),
        records.join(",")
    )
}

fn hits(value: u64) -> String {
    let now = now_ns();
    let points: Vec<String> = ["/cart", "/pay"]
        .iter()
        .map(|route| {
            format!(
                "{{\"attributes\":{},\"startTimeUnixNano\":\"{}\",\"timeUnixNano\":\"{now}\",\"asInt\":\"{value}\"}}",
                attributes(&[("http.route", route)]),
                now - 3_600_000 * MS
            )
        })
        .collect();
    format!(
        "{{\"resourceMetrics\":[{{\"resource\":{},\"scopeMetrics\":[{{\"metrics\":[{{\"name\":\"shop.hits\",\
         \"unit\":\"1\",\"sum\":{{\"aggregationTemporality\":2,\"isMonotonic\":true,\"dataPoints\":[{}]}}}}]}}]}}]}}",
        resource("gateway", "web-1", "v7"),
        points.join(",")
    )
}

fn shop() -> Colony {
    let colony = Colony::start();
    let plan = |version, from: u32, took: u64, every: u32| -> Vec<Planned> {
        (from..from + 60)
            .map(|trace| Planned {
                trace,
                version,
                took: took + u64::from(trace % 7) * MS,
                failed: every > 0 && trace.is_multiple_of(every),
                paid: true,
            })
            .collect()
    };
    post(&colony, "/v1/traces", &traces(&plan("v41", 0, 40 * MS, 0)));
    until("the first build", || match colony.query(&["red", "service=payments"])?.len() {
        1 => Ok(()),
        n => Err(format!("{n} rows")),
    });
    let mut second = plan("v42", 100, 60 * MS, 3);
    // One that takes far longer, and one that never pays.
    second.push(Planned {
        trace: 300,
        version: "v42",
        took: 5_000 * MS,
        failed: false,
        paid: true,
    });
    second.push(Planned { trace: 301, version: "v42", took: 60 * MS, failed: false, paid: false });
    post(&colony, "/v1/traces", &traces(&second));
    post(&colony, "/v1/logs", &logs(20));
    post(&colony, "/v1/metrics", &hits(100));
    post(&colony, "/v1/metrics", &hits(130));
    until("everything", || {
        let traces = colony.query(&["traces", "--limit", "500"])?.len();
        let logs = colony.query(&["logs"])?.len();
        let points = colony.query(&["metrics", "shop.hits"])?.len();
        match (traces, logs, points) {
            (122, 20, 4) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    colony
}

/// Every file below a folder.
fn files_below(dir: &std::path::Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => files_below(&path, found),
            path => found.push(path.display().to_string()),
        }
    }
}

#[test]
fn the_questions_of_an_incident_are_answered() {
    let colony = shop();
    // Which build is worse, and is that chance?
    let row = until("the requests of both builds", || {
        let rows = colony.query(&["red", "service=payments", "--compare", "build"])?;
        match rows.as_slice() {
            [Row::Red(row)] if row.red.requests == 61 => Ok(row.clone()),
            other => Err(format!("{other:?}")),
        }
    });
    let baseline = row.baseline.as_ref().unwrap();
    let versions = baseline.versions.as_ref().unwrap();
    assert_eq!((versions.from.as_str(), versions.to.as_str()), ("v41", "v42"));
    let marked: Vec<&str> =
        baseline.shifts.iter().filter(|s| s.significant).map(|s| s.what.word()).collect();
    assert_eq!(marked, ["errors", "p50"], "{baseline:?}");
    let table =
        colony.coral(&["query", "red", "service=payments", "--compare=build:v41..v42"]).ok();
    assert!(table.out.contains("v41→v42") && table.out.contains("pt*"), "{}", table.out);

    // What is unusual?
    let rows = colony.query(&["traces", "--rank", "unusual"]).unwrap();
    let told: Vec<String> = rows
        .iter()
        .filter_map(|r| if let Row::Trace(t) = r { Some(t) } else { None })
        .map(|t| format!("{} {}", t.trace_id, t.unusual.join("; ")))
        .collect();
    let about =
        |trace: u32, text: &str| told.iter().any(|t| t.starts_with(&id(trace)) && t.contains(text));
    assert!(about(300, "payments POST /charge took 5"), "{told:?}");
    assert!(about(301, "does not call"), "{told:?}");

    // One trace: the clock of payments' host is put right, the time is accounted for, its log is there.
    let rows = colony.query(&["trace", &id(7)]).unwrap();
    let Some(Row::TraceHead(head)) = rows.first() else { panic!("{rows:?}") };
    let clock = &head.clocks[0];
    assert_eq!((clock.host.as_str(), clock.shift_ns, clock.spans), ("web-2", -(AHEAD as i64), 1));
    let spans: Vec<_> =
        rows.iter().filter_map(|r| if let Row::Span(s) = r { Some(s) } else { None }).collect();
    let critical: u64 = spans.iter().map(|s| s.critical_ns).sum();
    assert_eq!((spans.len(), critical, head.duration_ns), (3, 44 * MS, 44 * MS));
    assert_eq!(head.critical[0].operation, "POST /charge");
    let logs = rows.iter().filter(|r| matches!(r, Row::Log(_))).count();
    assert_eq!((head.logs, logs), (1, 1));
    let text = colony.coral(&["query", "trace", &id(7)]).ok().out;
    assert!(text.contains("clock of web-2 was 3.00s ahead") && text.contains("█"), "{text}");

    // Who calls payments?
    let rows = until("the edge", || {
        let rows = colony.query(&["topology", "--of", "payments", "--upstream", "--depth", "1"])?;
        if rows.iter().any(|r| matches!(r, Row::Edge(_))) {
            Ok(rows)
        } else {
            Err(format!("{rows:?}"))
        }
    });
    let hops: Vec<(String, Option<i32>)> = rows
        .iter()
        .filter_map(|r| if let Row::Node(n) = r { Some((n.name.clone(), n.hop)) } else { None })
        .collect();
    assert_eq!(hops, [("payments".to_owned(), Some(0)), ("gateway".to_owned(), Some(-1))]);

    // What did payments log around its error?
    let error = colony.query(&["logs", "level=error"]).unwrap();
    let [Row::Log(error)] = error.as_slice() else { panic!("{error:?}") };
    let record = error.id.to_string();
    let rows = colony.query(&["logs", "--around", &record, "--lines", "2"]).unwrap();
    let around: Vec<(Option<i64>, &str)> = rows
        .iter()
        .filter_map(|r| if let Row::Log(l) = r { Some((l.offset, l.body.as_str())) } else { None })
        .collect();
    assert_eq!(around.len(), 5, "{around:?}");
    assert_eq!(around[2], (Some(0), "line 7 of payments"));
    assert_eq!((around[0], around[4].0), ((Some(-2), "line 5 of payments"), Some(2)));
    let gone = colony.coral(&[
        "query",
        "logs",
        "--around",
        "1795356151123000000-00000000",
        "--lines",
        "2",
    ]);
    assert!(gone.err.contains("there is no log record") && gone.code == 6, "{gone:?}");

    // Metrics by label, restarts and all.
    let rows =
        colony.query(&["metrics", "shop.hits", "--measure", "sum", "--by", "http.route"]).unwrap();
    let sums: Vec<Option<f64>> = rows
        .iter()
        .filter_map(|r| if let Row::Metric(m) = r { Some(m.value) } else { None })
        .collect();
    assert_eq!(sums, [Some(30.0), Some(30.0)], "{rows:?}");
    let labels = colony.coral(&["query", "metrics", "shop.hits", "--measure", "labels"]).ok().out;
    assert!(labels.contains("http.route") && labels.contains("/cart (1)"), "{labels}");

    // Names of every signal complete.
    let words = colony.coral(&["complete-filter", "thread"]).ok().out;
    assert_eq!(words, "thread.name=\n");

    // The records themselves, and nothing left behind.
    let file = colony.dir().join("spans.parquet");
    let path = file.display().to_string();
    let saved = colony.coral(&["query", "traces", "error=true", "--parquet", &path]).ok();
    assert!(saved.err.contains("of spans"), "{}", saved.err);
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    let piped = colony.command(&["query", "logs", "--parquet", "-"]).output().unwrap();
    assert!(piped.status.success() && piped.stdout.starts_with(b"PAR1"));
    let mut left = Vec::new();
    files_below(&colony.data(), &mut left);
    assert!(left.iter().any(|f| f.contains("telemetry.duckdb")), "{left:?}");
    left.retain(|file| file.contains("export-"));
    assert!(left.is_empty(), "{left:?}");
    let refused = colony.coral(&["query", "hosts", "--parquet", &path]);
    assert_eq!(refused.code, 2, "{refused:?}");
    // What is there already stays, unless somebody says otherwise.
    let again = colony.coral(&["query", "traces", "--parquet", &path]);
    assert_eq!(again.code, 2, "{again:?}");
    assert!(
        again.err.contains("is there already") && again.err.contains("--force"),
        "{}",
        again.err
    );
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "a refusal leaves the file alone");
    _ = colony.coral(&["query", "traces", "--parquet", &path, "--force"]).ok();
    assert_ne!(std::fs::read(&file).unwrap(), bytes);
}

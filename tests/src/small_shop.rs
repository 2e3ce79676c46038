//! A small shop told over OTLP, without any program that runs: a gateway calls payments, on a host whose
//! clock is ahead, and payments got worse with v42.

use crate::otlp::{self, now_ns};
use crate::{Colony, until};

/// A millisecond, in ns.
pub const MS: u64 = 1_000_000;
/// How far the clock of payments' host is ahead, in ns.
pub const AHEAD: u64 = 3_000 * MS;

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

/// The id of a trace, by its number: 0 to 59 are of v41, 100 to 159 of v42; 300 took far longer, 301 never
/// paid.
#[must_use]
pub fn id(trace: u32) -> String {
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
    let posted = otlp::post(&colony.otlp_http, path, &headers, body.as_bytes()).expect("an answer");
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

/// A colony that has all of it: 122 traces, 20 log records, two readings of a counter by route.
///
/// # Panics
/// When a colony cannot be had.
#[must_use]
pub fn open() -> Colony {
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

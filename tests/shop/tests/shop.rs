//! The shop as it really runs: every process, its databases, its customers, and each fault switch.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test stops where something is not as it should be"
)]

mod sink;

use std::collections::BTreeMap;

use rustix::process::Signal;
use sink::{Kept, Seen, Shop, alive, text};

/// Span kinds of OTLP.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

/// Whether the trace of `leaf` leads, parent by parent, through these (service, kind) pairs up to a root.
fn leads(kept: &Kept, leaf: &Seen, path: &[(&str, i32)]) -> bool {
    let by_id: BTreeMap<&[u8], &Seen> = kept
        .spans
        .iter()
        .filter(|seen| seen.span.trace_id == leaf.span.trace_id)
        .map(|seen| (seen.span.span_id.as_slice(), seen))
        .collect();
    let mut at = Some(&leaf);
    for (service, kind) in path {
        let Some(seen) = at else { return false };
        if seen.service != *service || seen.span.kind != *kind {
            return false;
        }
        at = by_id.get(seen.span.parent_span_id.as_slice());
        if at.is_none() && !seen.span.parent_span_id.is_empty() {
            return false;
        }
    }
    at.is_none()
}

fn any(kept: &Kept, wanted: impl Fn(&Seen) -> bool) -> bool {
    kept.spans.iter().any(wanted)
}

fn logged(kept: &Kept, service: &str, start: &str) -> bool {
    kept.logs.iter().any(|line| line.service == service && line.text.starts_with(start))
}

#[test]
fn one_purchase_is_one_trace_through_all_services() {
    let shop = Shop::start(40);
    let to_postgres = [
        ("payments", CLIENT),
        ("payments", SERVER),
        ("checkout", CLIENT),
        ("checkout", SERVER),
        ("gateway", CLIENT),
        ("gateway", SERVER),
    ];
    let to_shipping = [
        ("shipping", CONSUMER),
        ("checkout", PRODUCER),
        ("checkout", SERVER),
        ("gateway", CLIENT),
        ("gateway", SERVER),
    ];
    let to_redis =
        [("catalog", CLIENT), ("catalog", SERVER), ("gateway", CLIENT), ("gateway", SERVER)];
    shop.wait("a trace from the gateway to PostgreSQL and to shipping", |kept| {
        kept.spans.iter().any(|seen| {
            seen.has("db.system.name", "postgresql") && leads(kept, seen, &to_postgres) && {
                let same = |other: &&Seen| other.span.trace_id == seen.span.trace_id;
                kept.spans.iter().filter(same).any(|other| leads(kept, other, &to_shipping))
            }
        })
    });
    shop.wait("a trace from the gateway to the cache", |kept| {
        kept.spans.iter().any(|s| s.has("db.system.name", "redis") && leads(kept, s, &to_redis))
    });
    shop.wait("a log record of a checkout with its trace", |kept| {
        kept.logs.iter().any(|line| {
            line.text == "checkout accepted"
                && line.severity == 9
                && any(kept, |s| s.service == "gateway" && s.span.trace_id == line.trace)
        })
    });
    for metric in [
        ("gateway", "http.server.request.duration"),
        ("gateway", "rpc.client.duration"),
        ("checkout", "rpc.server.duration"),
        ("checkout", "messaging.client.sent.messages"),
        ("catalog", "db.client.operation.duration"),
        ("payments", "db.client.connection.count"),
        ("payments", "db.client.connection.pending_requests"),
        ("payments", "process.memory.usage"),
        ("shipping", "messaging.process.duration"),
        ("shipping", "shop.orders.queued"),
    ] {
        shop.wait(&format!("{metric:?}"), |kept| {
            kept.points.iter().any(|p| (p.service.as_str(), p.metric.as_str()) == metric)
        });
    }

    let kept = shop.kept.lock().unwrap();
    for seen in &kept.spans {
        let pid = u32::try_from(shop.service(&seen.service)["pid"].as_u64().unwrap()).unwrap();
        assert_eq!(text(&seen.resource, "process.pid"), Some(pid.to_string()));
        assert_eq!(text(&seen.resource, "service.version").as_deref(), Some("v41"));
        assert_eq!(text(&seen.resource, "service.namespace").as_deref(), Some("shop"));
        assert!(text(&seen.resource, "service.instance.id").is_some_and(|id| id.len() == 36));
        assert!(text(&seen.resource, "host.name").is_some());
        match (seen.service.as_str(), seen.span.kind) {
            ("checkout", SERVER) => assert!(seen.has("rpc.method", "PlaceOrder")),
            (_, SERVER) => assert!(text(&seen.span.attributes, "http.route").is_some()),
            (_, INTERNAL | CLIENT | PRODUCER | CONSUMER) => {}
            (_, other) => panic!("a span of kind {other}"),
        }
        assert!(!seen.failed(), "{} {:?}", seen.span.name, seen.span.status);
    }
}

/// Asks for a purchase under a trace of its own and hangs up when its last query is done.
fn buy_and_leave(shop: &Shop) {
    use std::io::Write as _;
    let gateway = shop.state()["gateway"].as_str().unwrap().replace("http://", "");
    let mut stream = std::net::TcpStream::connect(&gateway).unwrap();
    let body = r#"{"user":"impatient","product":"p-1","quantity":1}"#;
    let request = format!(
        "POST /checkout HTTP/1.1\r\nhost: {gateway}\r\ncontent-type: application/json\r\n\
         traceparent: 00-{IMPATIENT}-00f067aa0ba902b7-01\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    shop.wait("its last query", |kept| {
        let last = |s: &Seen| s.has("db.query.summary", "INSERT accounts");
        any(kept, |s| impatient(s) && last(s))
    });
}

const IMPATIENT: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn impatient(seen: &Seen) -> bool {
    let id = seen.span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    id == IMPATIENT
}

#[test]
fn each_fault_really_happens_and_heals() {
    let shop = Shop::start(40);
    let served = |seen: &Seen, service: &str| seen.service == service && seen.span.kind == SERVER;
    let heal = || {
        assert!(shop.does(&["heal"]));
        shop.wait("a purchase that goes well", |kept| logged(kept, "gateway", "checkout accepted"));
        shop.forget();
    };

    assert!(shop.does(&["fault", "catalog", "latency", "300"]));
    shop.wait("slow catalog", |kept| any(kept, |s| served(s, "catalog") && s.millis() >= 270));
    shop.wait("slow gateway", |kept| any(kept, |s| served(s, "gateway") && s.millis() >= 270));
    heal();

    assert!(shop.does(&["fault", "checkout", "errors", "100"]));
    shop.wait("failing checkout", |kept| {
        any(kept, |s| {
            served(s, "checkout") && s.failed() && s.has("error.type", "ProcessorUnavailable")
        }) && logged(kept, "checkout", "tax calculator rejected")
    });
    shop.wait("failing gateway", |kept| {
        any(kept, |s| {
            served(s, "gateway") && s.failed() && s.has("http.response.status_code", "502")
        })
    });
    heal();

    assert!(shop.does(&["fault", "payments", "hang"]));
    shop.wait("a request whose query is done and which nobody answers", |kept| {
        let query = |s: &&Seen| s.has("db.system.name", "postgresql");
        kept.spans.iter().filter(query).any(|query| {
            let traced = |s: &Seen| s.span.span_id == query.span.parent_span_id;
            !any(kept, traced)
        })
    });
    // A customer who gives up ends the request everywhere but where it hangs.
    buy_and_leave(&shop);
    shop.wait("a request that ended with its client", |kept| {
        ["gateway", "checkout"]
            .iter()
            .all(|service| any(kept, |s| served(s, service) && s.has("error.type", "cancelled")))
            && !any(kept, |s| served(s, "payments") && s.has("error.type", "cancelled"))
    });
    shop.wait("requests that stay active", |kept| {
        kept.points.iter().any(|p| {
            p.service == "payments" && p.metric == "http.server.active_requests" && p.value >= 10.0
        })
    });
    heal();

    shop.wait("requests that are no longer active", |kept| {
        let active =
            |p: &&sink::Point| p.service == "payments" && p.metric == "http.server.active_requests";
        kept.points.iter().rev().find(active).is_some_and(|p| p.value < 5.0)
    });

    assert!(shop.does(&["fault", "payments", "pool", "1"]));
    shop.wait("an exhausted pool", |kept| {
        logged(kept, "payments", "pool exhausted: waited 2s for a connection")
            && any(kept, |s| served(s, "payments") && s.has("error.type", "PoolTimeout"))
    });
    shop.wait("the pool's gauges", |kept| {
        let has = |metric: &str, holds: fn(f64) -> bool| {
            kept.points.iter().any(|p| p.metric == metric && holds(p.value))
        };
        has("db.client.connection.max", |n| n == 1.0)
            && has("db.client.connection.pending_requests", |n| n >= 1.0)
    });
    heal();

    assert!(shop.does(&["fault", "checkout", "dns"]));
    shop.wait("a name that does not resolve", |kept| {
        let name = |s: &Seen| s.has("dns.question.name", "paymets.shop.invalid");
        any(kept, |s| name(s) && s.failed() && s.has("error.type", "nxdomain"))
            && any(kept, |s| {
                s.span.kind == CLIENT
                    && s.has("server.address", "paymets.shop.invalid")
                    && s.failed()
            })
    });
    heal();

    let rss = |shop: &Shop| {
        let statm = format!("/proc/{}/statm", shop.service("catalog")["pid"]);
        let text = std::fs::read_to_string(statm).unwrap_or_default();
        text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4 / 1024
    };
    let before = rss(&shop);
    assert!(shop.does(&["fault", "catalog", "leak", "60"]));
    shop.wait_for("memory that grows", || rss(&shop) >= before + 50);
    heal();
    shop.wait_for("memory that is given back", || rss(&shop) < before + 20);

    let first = shop.service("shipping");
    assert!(shop.does(&["fault", "shipping", "crash", "200"]));
    shop.wait_for("two crashes", || shop.service("shipping")["restarts"].as_u64() >= Some(2));
    assert_ne!(shop.service("shipping")["instance"], first["instance"]);
    shop.wait("last words", |kept| logged(kept, "shipping", "invariant violated"));
    heal();

    assert!(shop.does(&["fault", "payments", "deploy", "v42-bad"]));
    shop.wait("a new version that is slow and fails", |kept| {
        let new = |s: &Seen| text(&s.resource, "service.version").as_deref() == Some("v42-bad");
        any(kept, |s| new(s) && served(s, "payments") && s.millis() >= 270)
            && any(kept, |s| new(s) && served(s, "payments") && s.failed())
    });
    heal();
    shop.wait_for("the old version again", || shop.service("payments")["version"] == "v41");

    let ticks = |shop: &Shop| {
        let stat = format!("/proc/{}/stat", shop.service("catalog")["pid"]);
        let text = std::fs::read_to_string(stat).unwrap_or_default();
        text.rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(11)?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let before = ticks(&shop);
    assert!(shop.does(&["fault", "catalog", "cpu", "1"]));
    shop.wait_for("two seconds of processor time burnt", || ticks(&shop) >= before + 200);
    heal();
}

#[test]
fn wrong_switches_are_refused() {
    let nowhere = tempfile::tempdir().unwrap();
    let fails = |words: &[&str], said: &str| {
        let output = std::process::Command::new(sink::EXE)
            .args(words)
            .env("CORAL_SHOP_DIR", nowhere.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(said), "{words:?}: {text}");
    };
    fails(&["fault", "payments", "flood"], "fault list");
    fails(&["fault", "paymets", "hang"], "there are gateway");
    fails(&["fault", "catalog", "pool"], "only payments has one");
    fails(&["fault", "catalog", "errors", "200"], "0..100");
    fails(&["fault", "catalog", "errors", "20"], "no shop runs in");
    fails(&["heal"], "no shop runs in");
    fails(&["status"], "no shop runs in");
    fails(&["load", "--url", "http://192.0.2.1:80"], "loopback addresses only");
}

#[test]
fn nothing_is_left_behind_however_it_ends() {
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let mut shop = Shop::start(5);
        let pids = shop.pids();
        assert!(pids.iter().all(|pid| alive(*pid)), "{pids:?}");
        assert!(pids.len() >= 9);
        shop.signal_run(signal);
        let status = shop.wait_run();
        assert_eq!(status.success(), signal != Signal::KILL);
        shop.wait_for("every process gone", || !pids.iter().any(|pid| alive(*pid)));
        assert_eq!(shop.dir.join("shop.json").exists(), signal == Signal::KILL);
    }
}

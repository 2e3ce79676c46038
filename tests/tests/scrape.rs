//! Metrics that a service publishes for Prometheus: what the application says it counted is what
//! `coral query metrics` shows; a target that goes away is named, and so is one that comes back.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use coral_model::view::{EventKind, MetricKind, MetricRow, Row, SenseState};
use coral_tests::{Colony, Running, until};
use serde_json::Value;

/// The application of `tests/apps/python/metrics.py`.
struct App {
    _child: Running,
    stdin: ChildStdin,
    out: BufReader<ChildStdout>,
    port: u64,
}

impl App {
    fn start() -> Self {
        let cache = std::env::var_os("CORAL_CACHE").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(PathBuf::from).expect("HOME is set");
        let python =
            cache.unwrap_or_else(|| home.join(".cache/coral")).join("apps/python/bin/python");
        assert!(python.exists(), "no {}: run tools/apps.sh first", python.display());
        let mut child = Running::start(
            Command::new(python)
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/apps/python/metrics.py"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
        );
        let stdin = child.stdin.take().expect("its input");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        let mut app = Self { _child: child, stdin, out, port: 0 };
        app.port = app.line()["port"].as_u64().expect("a port");
        app
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        _ = self.out.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line:?}"))
    }

    /// Says something; gives every sample the application has then.
    fn say(&mut self, words: &str) -> Value {
        writeln!(self.stdin, "{words}").expect("it listens");
        self.line()
    }
}

fn configure(colony: &Colony, text: &str) {
    let dir = colony.dir().join("config/coral");
    std::fs::create_dir_all(&dir).expect("a folder");
    std::fs::write(dir.join("agent.toml"), text).expect("a file");
}

/// The newest point of each series of a metric.
fn newest(colony: &Colony, metric: &str) -> Result<Vec<MetricRow>, String> {
    let rows = colony.query(&["metrics", metric, "--since", "10m", "--limit", "10000"])?;
    let mut all: Vec<MetricRow> = Vec::new();
    for row in rows {
        let Row::Metric(row) = row else { continue };
        match all.iter_mut().find(|r| r.attributes == row.attributes && r.instance == row.instance)
        {
            Some(older) => *older = *row,
            None => all.push(*row),
        }
    }
    Ok(all)
}

fn value(truth: &Value, sample: &str) -> f64 {
    truth[sample].as_f64().unwrap_or_else(|| panic!("no {sample} in {truth}"))
}

#[test]
fn what_an_application_counted_is_what_is_shown() {
    let mut app = App::start();
    let colony = Colony::start();
    let truth = app.say("work 40");
    configure(
        &colony,
        &format!(
            "[[scrape]]\nservice = \"payments\"\nurl = \"http://127.0.0.1:{}/metrics\"\nevery = \"1s\"\n",
            app.port
        ),
    );
    until("the counter", || {
        let rows = newest(&colony, "shop_requests_total")?;
        let of = |method: &str| {
            rows.iter().find(|r| r.attributes.get("method").is_some_and(|m| m == method))
        };
        let (get, post) = of("GET").zip(of("POST")).ok_or_else(|| format!("{rows:?}"))?;
        assert_eq!(get.value, Some(value(&truth, "shop_requests_total{method=GET}")));
        assert_eq!(post.value, Some(value(&truth, "shop_requests_total{method=POST}")));
        assert_eq!((get.kind, get.service.as_deref()), (MetricKind::Counter, Some("payments")));
        assert_eq!(get.temporality.as_deref(), Some("cumulative"));
        Ok(())
    });
    let one = |metric: &str| newest(&colony, metric).unwrap().remove(0);
    let queue = one("shop_queue_depth");
    assert_eq!((queue.kind, queue.value), (MetricKind::Gauge, Some(20.0)));
    let seconds = one("shop_request_seconds");
    assert_eq!((seconds.kind, seconds.unit.as_str()), (MetricKind::Histogram, "s"));
    assert_eq!(
        (seconds.count, seconds.sum),
        (Some(40), Some(value(&truth, "shop_request_seconds_sum{}")))
    );
    let size = one("shop_body_bytes");
    assert_eq!((size.kind, size.count), (MetricKind::Summary, Some(40)));
    assert_eq!(one("shop_build_info").attributes["version"], "v42");
    assert_eq!(one("up").value, Some(1.0));

    // A counter's growth is a rate, from the second scrape on.
    let truth = app.say("work 40");
    until("the counter to grow", || {
        let rows = newest(&colony, "shop_requests_total")?;
        let sum: f64 = rows.iter().filter_map(|r| r.value).sum();
        let wanted = value(&truth, "shop_requests_total{method=GET}")
            + value(&truth, "shop_requests_total{method=POST}");
        if sum == wanted { Ok(()) } else { Err(format!("{sum} of {wanted}")) }
    });

    // Series beyond the bound are one, and counted.
    _ = app.say("many 2500");
    until("the bound to bite", || {
        let rows = newest(&colony, "shop_many_total")?;
        let other = rows.iter().any(|r| r.attributes.contains_key("__other__"));
        let folded = colony.status()?.agents[0].counters["folded_scrape_series"];
        if rows.len() == 2001 && other && folded >= 500 {
            Ok(())
        } else {
            Err(format!("{} series, other: {other}, folded {folded}", rows.len()))
        }
    });

    // The target goes away and is named; doctor says how to look.
    let port = app.port;
    drop(app);
    until("the target to be missed", || {
        let status = colony.status()?;
        let sense = status.agents[0].senses.iter().find(|s| s.name == "scrape/payments");
        let sense = sense.ok_or("no sense")?;
        if sense.state == SenseState::Off { Ok(()) } else { Err(sense.why.clone()) }
    });
    let events = until("the event", || {
        let rows = colony.query(&["events", "--since", "10m"])?;
        let lost =
            rows.iter().any(|r| matches!(r, Row::Event(e) if e.kind == EventKind::SourceLost));
        if lost { Ok(rows) } else { Err(format!("{rows:?}")) }
    });
    assert_eq!(
        events
            .iter()
            .filter(|r| matches!(r, Row::Event(e) if e.kind == EventKind::SourceLost))
            .count(),
        1,
        "only the first failure is told"
    );
    let doctor = colony.coral(&["doctor"]).out;
    assert!(
        doctor.contains("scrape/payments")
            && doctor.contains(&format!("curl http://127.0.0.1:{port}")),
        "{doctor}"
    );
    until("up to be 0", || {
        let up = newest(&colony, "up")?;
        if up[0].value == Some(0.0) { Ok(()) } else { Err(format!("{up:?}")) }
    });
}

#[test]
fn other_machines_and_wrong_files_are_refused_with_a_reason() {
    let colony = Colony::start();
    // TEST-NET-1 (RFC 5737) is nobody's; nothing is sent there.
    configure(
        &colony,
        "[[scrape]]\nservice = \"db\"\nurl = \"http://192.0.2.7:9100/\"\nevery = \"1s\"\n",
    );
    let why = |name: &str| {
        let status = colony.status()?;
        let sense = status.agents[0].senses.iter().find(|s| s.name == name).cloned();
        sense.map(|s| s.why).ok_or_else(|| format!("{:?}", status.agents[0].senses))
    };
    until("the refusal", || {
        let why = why("scrape/db")?;
        if why.contains("allow_host = \"192.0.2.7\"") { Ok(()) } else { Err(why) }
    });
    configure(&colony, "[[scrape]]\nservice = \"db\"\n");
    until("the mistake to be named", || {
        let why = why("agent.toml")?;
        if why.contains("url") { Ok(()) } else { Err(why) }
    });
    configure(&colony, "");
    until("the file to be read again", || match (why("agent.toml"), why("scrape/db")) {
        (Err(_), Err(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

//! The store at size: questions about a day of a thousand services, beside ClickHouse's engine (chdb)
//! over the same files, and against a tenth of the data; ingest of three hundred agents meanwhile.
//!
//! `tools/bench.sh` writes the two stores once (`cargo run --example store`) and keeps them. What is
//! asked here is asked of a real daemon over its socket, after two answers that do not count.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use coral_tests::colony::bin_dir;

use crate::ask::{Asked, House, Told};
use crate::figure::{Goal, Peer, Report, quantile};
use crate::process::{cpu_seconds, rss_mib};

/// Answers of each kind.
const SAMPLES: u64 = 41;
const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
/// Spans a second of the ingest that questions compete with.
const RATE: &str = "20000";

/// What `facts.json` says of a store.
#[derive(serde::Deserialize)]
struct Facts {
    spans: u64,
    services: usize,
    from_ns: u64,
    to_ns: u64,
    busy: Vec<String>,
    traces: Vec<String>,
    needle: String,
    bytes: BTreeMap<String, u64>,
    otlp_zstd_bytes_per_span: f64,
}

impl Facts {
    fn of(store: &Path) -> anyhow::Result<Self> {
        let path = store.join("facts.json");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Bytes of the files whose kinds begin so, per span.
    fn per_span(&self, kinds: &[&str]) -> f64 {
        let of = self.bytes.iter().filter(|(kind, _)| kinds.iter().any(|k| kind.starts_with(k)));
        of.map(|(_, bytes)| *bytes as f64).sum::<f64>() / self.spans as f64
    }
}

/// A kind of question: the same for the colony and for the peer.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Hour,
    Day,
    Trace,
    Log,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Trace, Self::Log];

    fn figure(self) -> (&'static str, f64) {
        match self {
            Self::Hour => ("store_red_1h_100_services_p95_ms", 50.0),
            Self::Day => ("store_red_24h_1000_services_p95_ms", 250.0),
            Self::Trace => ("store_trace_by_id_p95_ms", 50.0),
            Self::Log => ("store_log_substring_1gb_ms", 500.0),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Trace => "trace",
            Self::Log => "log",
        }
    }

    /// The question number `n`. No two are the same, so that none is answered from a memory of it.
    fn question(self, facts: &Facts, n: u64) -> Asked<'static> {
        let mut asked = Asked {
            view: "red",
            window: (facts.from_ns, facts.to_ns),
            filter: String::new(),
            subject: None,
        };
        match self {
            Self::Hour => {
                // Begins anywhere on a whole 10 s.
                let room = (facts.to_ns - facts.from_ns - HOUR) / (10 * SECOND);
                let from = facts.from_ns + n.wrapping_mul(2_654_435_761) % room * 10 * SECOND;
                asked.window = (from, from + HOUR);
                asked.filter = format!("service={}", facts.busy.join(","));
            }
            Self::Day => asked.window.0 += n * 10 * SECOND,
            Self::Trace => {
                asked.view = "trace";
                asked.subject = facts.traces.get(n as usize * 7 % facts.traces.len()).cloned();
            }
            Self::Log => {
                asked.view = "logs";
                asked.filter = format!("\"{}\"", facts.needle);
                asked.window.0 += n;
            }
        }
        asked
    }

    /// Whether an answer is one: a fast wrong answer is no figure.
    fn check(self, facts: &Facts, told: &Told) -> anyhow::Result<()> {
        let least = match self {
            Self::Hour => facts.busy.len(),
            Self::Day => facts.services * 9,
            Self::Trace => 10,
            Self::Log => 1,
        };
        let rows = told.rows;
        anyhow::ensure!(rows >= least, "{}: {rows} rows, not {least}: {}", self.word(), told.end);
        Ok(())
    }
}

/// Milliseconds of each answer.
fn samples(house: &House, facts: &Facts, kind: Kind, first: u64) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for n in 0..SAMPLES + 2 {
        let told = house.ask(&kind.question(facts, first + n))?;
        kind.check(facts, &told)?;
        if n >= 2 {
            times.push(told.seconds * 1e3);
        }
    }
    Ok(times)
}

/// Where everything is.
pub struct Places {
    /// The store.
    pub store: PathBuf,
    /// One of a tenth of its size.
    pub tenth: Option<PathBuf>,
    /// A Python that has chdb.
    pub chdb: Option<PathBuf>,
    /// How long the fleet sends, in seconds.
    pub ingest: u64,
}

/// Every figure of the store.
pub fn figures(report: &mut Report, places: &Places) -> anyhow::Result<()> {
    let facts = Facts::of(&places.store)?;
    println!("  ({} spans of {} services in 24 h)", facts.spans, facts.services);
    let peers = match &places.chdb {
        Some(python) => peer(python, &places.store)?,
        None => BTreeMap::new(),
    };
    let house = House::over(Some(&places.store))?;
    let mut idle = BTreeMap::new();
    for kind in Kind::ALL {
        let before = cpu_seconds(house.daemon.pid())?;
        let mut times = samples(&house, &facts, kind, 0)?;
        let spent = cpu_seconds(house.daemon.pid())? - before;
        let p95 = quantile(&mut times, 0.95);
        let (name, goal) = kind.figure();
        let peer = peers.get(kind.word()).map(|&value| Peer { name: "chdb", value });
        println!(
            "  (p50 {:.1} ms; {:.1} ms of CPU each)",
            quantile(&mut times, 0.5),
            spent * 1e3 / (SAMPLES + 2) as f64
        );
        report.add(name, p95, "ms", Goal::AtMost(goal), peer.as_ref())?;
        idle.insert(kind.word(), p95);
    }
    if let Some(tenth) = &places.tenth {
        growth(report, tenth, &idle)?;
    }
    let own = facts.per_span(&["spans-"]);
    println!(
        "  (requests and edges in three resolutions: {:.1} bytes a span more)",
        facts.per_span(&["red-", "edges-"])
    );
    let otlp = Peer { name: "OTLP, zstd", value: facts.otlp_zstd_bytes_per_span };
    report.add("store_bytes_per_span", own, "bytes", Goal::AtMost(otlp.value), Some(&otlp))?;
    ingesting(report, &house, &facts, &idle, places.ingest)
}

/// The same questions of a tenth of the data.
fn growth(
    report: &mut Report,
    tenth: &Path,
    whole: &BTreeMap<&'static str, f64>,
) -> anyhow::Result<()> {
    let facts = Facts::of(tenth)?;
    let house = House::over(Some(tenth))?;
    for kind in Kind::ALL {
        let mut times = samples(&house, &facts, kind, 0)?;
        let ratio = whole.get(kind.word()).copied().unwrap_or_default()
            / quantile(&mut times, 0.95).max(0.001);
        // Ten times the data should cost no more than ten times as much.
        let name = format!("store_growth_{}_ratio", kind.word());
        report.add(&name, ratio, "×", Goal::AtMost(10.0), None)?;
    }
    Ok(())
}

/// Questions while three hundred agents send, and what the daemon then weighs.
fn ingesting(
    report: &mut Report,
    house: &House,
    facts: &Facts,
    idle: &BTreeMap<&'static str, f64>,
    seconds: u64,
) -> anyhow::Result<()> {
    let mut fleet = Command::new(bin_dir().join("coral-fleet"))
        .args(["--colony", &house.uplink(), "--rate", RATE, "--for", &seconds.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .context("coral-fleet")?;
    // Until every service has exported.
    std::thread::sleep(std::time::Duration::from_secs(10));
    let (mut worst, mut asked): (f64, usize) = (0.0, 0);
    for kind in Kind::ALL {
        if fleet.try_wait()?.is_some() {
            println!("  (the ingest ended before {} was asked: give it longer)", kind.word());
            break;
        }
        let mut times = samples(house, facts, kind, 1000)?;
        let p95 = quantile(&mut times, 0.95);
        let ratio = p95 / idle.get(kind.word()).copied().unwrap_or(p95);
        println!("  ({} while ingesting: p95 {p95:.1} ms, ×{ratio:.2})", kind.word());
        worst = worst.max(ratio);
        asked += 1;
    }
    let out = fleet.wait_with_output()?;
    anyhow::ensure!(out.status.success(), "the fleet failed");
    let sent: serde_json::Value = serde_json::from_slice(&out.stdout)?;
    let committed = house.counter("spans_committed")?;
    println!("  (sent {sent}; committed {committed})");
    anyhow::ensure!(Some(committed) == sent["spans"].as_u64(), "sent and committed differ");
    if asked == Kind::ALL.len() {
        report.add("store_query_while_ingesting_ratio", worst, "×", Goal::AtMost(2.0), None)?;
    }
    let (peak, now) = rss_mib(house.daemon.pid())?;
    println!("  (now {now:.0} MiB, {} MiB on disk)", house.bytes()? >> 20);
    report.add("daemon_rss_1000_services_mb", peak, "MiB", Goal::AtMost(1024.0), None)
}

/// What the peer needs for the same questions over the same files, ms, by kind.
fn peer(python: &Path, store: &Path) -> anyhow::Result<BTreeMap<String, f64>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/chdb_store.py");
    let out = Command::new(python)
        .arg(script)
        .arg(store)
        .stderr(Stdio::inherit())
        .output()
        .context("chdb's Python")?;
    anyhow::ensure!(out.status.success(), "the peer failed");
    Ok(serde_json::from_slice(&out.stdout)?)
}

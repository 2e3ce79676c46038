//! `make bench`: every figure Coral promises, each beside a peer or a limit of the same run.
//!
//! Prints a table and appends one JSON line per figure to `target/bench/figures.jsonl`. The machine
//! is shared and noisy: throughput is per second of the *servers'* CPU time, latencies are
//! percentiles of many samples, and peers are measured within the same run under the same load.

mod ask;
mod eyes;
mod figure;
mod ingest;
mod load;
mod process;
mod screen;
mod store;

use clap::Parser;

use figure::Report;

/// Measures Coral against its goals.
#[derive(Parser)]
struct Options {
    /// Only figures whose name contains this.
    #[arg(default_value = "")]
    only: String,
    /// Where `rotel` is; without it the peer's column stays empty.
    #[arg(long, env = "CORAL_BENCH_ROTEL")]
    rotel: Option<std::path::PathBuf>,
    /// Where `otelite` is; without it the peer's column stays empty.
    #[arg(long, env = "CORAL_BENCH_OTELITE")]
    otelite: Option<std::path::PathBuf>,
    /// A store that the example `store` of coral-daemon wrote; without it the store is not measured.
    #[arg(long, env = "CORAL_BENCH_STORE")]
    store: Option<std::path::PathBuf>,
    /// One of a tenth of its size.
    #[arg(long, env = "CORAL_BENCH_STORE_TENTH")]
    store_tenth: Option<std::path::PathBuf>,
    /// A Python with chdb; without it the peer's column stays empty.
    #[arg(long, env = "CORAL_BENCH_CHDB")]
    chdb: Option<std::path::PathBuf>,
    /// How long three hundred agents send, in seconds.
    #[arg(long, default_value_t = 120)]
    ingest: u64,
}

/// Measures one figure.
type Measure = fn(&mut Report) -> anyhow::Result<()>;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut report = Report::open()?;
    let wanted = |name: &str| name.contains(options.only.as_str());
    if wanted("accept") {
        ingest::accept(&mut report, options.rotel.as_deref())?;
    }
    if wanted("commit") {
        ingest::commit(&mut report, options.otelite.as_deref())?;
    }
    if wanted("agent_rss") {
        ingest::agent_rss(&mut report)?;
    }
    let screens: [(&str, Measure); 5] = [
        ("screen_first_frame_p50", screen::first_frame),
        ("screen_idle_bytes_5s", screen::idle),
        ("screen_draw_p99", screen::draw),
        ("screen_export_to_visible_p99", screen::visible),
        ("screen_key_to_bytes_p99", screen::keys),
    ];
    for (name, measure) in screens {
        if wanted(name) {
            measure(&mut report)?;
        }
    }
    if wanted("eyes") {
        eyes::figures(&mut report)?;
    }
    match options.store {
        Some(store) if wanted("store") => {
            let (tenth, chdb) = (options.store_tenth, options.chdb);
            let places = store::Places { store, tenth, chdb, ingest: options.ingest };
            store::figures(&mut report, &places)?;
        }
        None if wanted("store") => println!("  (no store to measure: see tools/bench.sh)"),
        _ => {}
    }
    report.finish()
}

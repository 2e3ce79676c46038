//! Writes a store of a given size, as a colony would have after 24 hours of a thousand services.
//!
//! `cargo run --release -p coral-daemon --example store -- DIR [--spans N]` (100 million unless
//! said) sends made-up spans, requests, edges and log records through the store's own columns,
//! tables, sealing and merging, and writes beside them `facts.json`: what is in it, and what a
//! question about it may ask. The day is always the same one, so a store can be kept and used again.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::too_many_arguments,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a made-up day that cannot be made ends with a panic"
)]

mod otlp;
mod past;
mod shape;
mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use clap::Parser;
use coral_daemon::counters::Counters;
use coral_daemon::store::schema::{HOUR, Signal, Slice};
use coral_daemon::store::{Bulk, Desk, Options};
use coral_model::time::{SECOND, Time};

use otlp::Sample;
use past::{COMMIT, Past, SPANS, TOGETHER};
use world::{BUSY, World};

/// 2026-03-02T06:00:00Z: the day lies in two days of the calendar.
const BEGAN: u64 = 1_772_431_200 * SECOND;
const HOURS: u64 = 24;
/// Signals that are cut into parts, and those that are not.
const PARTED: [Signal; 2] = [Signal::Spans, Signal::Logs];
const WHOLE: [Signal; 2] = [Signal::Red, Signal::Edges];
/// Writes a store.
#[derive(Parser)]
struct Args {
    /// Where: an empty folder, or none yet.
    dir: PathBuf,
    /// Spans.
    #[arg(long, default_value_t = 100_000_000)]
    spans: u64,
    /// Services.
    #[arg(long, default_value_t = 1_000)]
    services: usize,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: u32,
    /// Memory of pieces that are being written, in MiB.
    #[arg(long, default_value_t = 6_144)]
    memory: u64,
    /// Spans that are also written as OTLP, to compare sizes.
    #[arg(long, default_value_t = 1_000_000)]
    otlp: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let unfinished = args.dir.with_extension("unfinished");
    anyhow::ensure!(!args.dir.exists(), "{} is there already", args.dir.display());
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
    }
    let world = World::new(args.services);
    let bulk = Bulk::begin(&unfinished, args.memory << 20, args.threads)?;
    let traces = args.spans / SPANS / HOURS;
    let (next, began) = (AtomicU64::new(0), std::time::Instant::now());
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let work = || -> anyhow::Result<()> {
            let desk = bulk.desk()?;
            loop {
                let hour = next.fetch_add(1, Ordering::Relaxed);
                if hour >= HOURS {
                    return Ok(());
                }
                write_hour(&bulk, &desk, &world, hour, traces)?;
                eprintln!("hour {hour}: {:.0} s", began.elapsed().as_secs_f64());
            }
        };
        let threads: Vec<_> = (0..args.threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a thread ends"))
    })?;
    let end = Time(BEGAN + HOURS * HOUR);
    let mut options = Options::new(Arc::new(Counters::default()));
    // The day after, when days are over and everything is merged.
    options.clock = Arc::new(move || end.plus(24 * HOUR));
    options.memory_bytes = args.memory << 20;
    bulk.finish(&options, &world.resources, Time(BEGAN))?;
    write_facts(&args, &unfinished, &world, traces)?;
    std::fs::rename(&unfinished, &args.dir)?;
    eprintln!("{}: {:.0} s", args.dir.display(), began.elapsed().as_secs_f64());
    Ok(())
}

fn write_hour(
    bulk: &Bulk,
    desk: &Desk,
    world: &World,
    hour: u64,
    traces: u64,
) -> anyhow::Result<()> {
    let start = BEGAN + hour * HOUR;
    let first = Slice::of(Time(start));
    let mut past = Past::new(world, Time(start + HOUR));
    let part_rows = Options::new(Arc::new(Counters::default())).part_rows;
    let (mut part, mut rows, mut flushed) = (first, 0u64, start / COMMIT);
    desk.open(first, &[PARTED, WHOLE].concat())?;
    for n in 0..=traces {
        let over = n == traces;
        let at = start + u64::try_from(u128::from(n) * u128::from(HOUR) / u128::from(traces))?;
        // What no later trace adds to.
        let settled = if over { u64::MAX } else { at / COMMIT };
        if over || settled >= flushed + TOGETHER {
            flushed = settled;
            let batches = past.take_before(settled);
            rows += batches.iter().map(|(batch, _)| batch.spans.rows() as u64).sum::<u64>();
            let slice_of = |signal| if PARTED.contains(&signal) { part } else { first };
            for (batch, stamps) in batches {
                desk.append(batch, &stamps, slice_of)?;
            }
            if over {
                break;
            }
            if rows >= part_rows {
                bulk.seal(desk, part, &PARTED)?;
                (part, rows) = (part.next_part(), 0);
                desk.open(part, &PARTED)?;
            }
        }
        past.trace(hour * traces + n, at, &mut |_, _| {});
    }
    bulk.seal(desk, part, &PARTED)?;
    bulk.seal(desk, first, &WHOLE)?;
    Ok(())
}

/// Spans of the first minutes as OTLP.
fn sample(world: &World, spans: u64, traces: u64) -> anyhow::Result<(f64, f64)> {
    let mut sample = Sample::new(spans);
    let mut past = Past::new(world, Time(BEGAN + HOUR));
    for n in 0..(spans / SPANS).min(traces) {
        let at = BEGAN + u64::try_from(u128::from(n) * u128::from(HOUR) / u128::from(traces))?;
        past.trace(n, at, &mut |made, commit| sample.take(made, commit));
        past.open.clear();
    }
    let packed = sample.packed(world)? as f64;
    let spans = sample.spans as f64;
    Ok((packed / spans, sample.plain as f64 / spans))
}

fn write_facts(args: &Args, dir: &Path, world: &World, traces: u64) -> anyhow::Result<()> {
    let (packed, plain) = sample(world, args.otlp, traces)?;
    let mut bytes = std::collections::BTreeMap::<String, u64>::new();
    for entry in std::fs::read_dir(dir.join("segments"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind: Vec<&str> = name.splitn(3, '-').take(2).collect();
        *bytes.entry(kind.join("-")).or_default() += entry.metadata()?.len();
    }
    let names = |n: usize| -> Vec<&str> {
        world.services.iter().take(n).map(|service| &*service.name).collect()
    };
    let all = traces * HOURS;
    let ids: Vec<String> =
        (0..400).map(|n| past::trace_id(n * (all / 400) + n % 7).to_string()).collect();
    let facts = serde_json::json!({
        "spans": all * SPANS,
        "services": world.services.len(),
        "from_ns": BEGAN,
        "to_ns": BEGAN + HOURS * HOUR,
        "busy": names(BUSY),
        "traces": ids,
        "needle": past::NEEDLE,
        "bytes": bytes,
        "otlp_zstd_bytes_per_span": packed,
        "otlp_bytes_per_span": plain,
    });
    std::fs::write(dir.join("facts.json"), serde_json::to_string_pretty(&facts)?)
        .context("facts.json")
}

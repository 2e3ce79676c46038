//! Many hosts in one process: a thousand services on three hundred agents, each with its own id,
//! spool, reducer and session, made of the agent's own parts. What the colony hears is what it would
//! hear of so many machines; only the sockets their applications would export to are missing.
//!
//! `coral-fleet --colony unix:/path/colony.sock --rate 20000 --for 180` sends so many spans a second for
//! so long, waits until the colony has acknowledged everything, and prints one JSON line of what was
//! sent.

mod member;
mod traffic;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use tokio_util::sync::CancellationToken;

use member::{Member, Tally};
use traffic::Traffic;

/// Sends spans of many services over many agents.
#[derive(Parser)]
struct Args {
    /// The colony: unix:/path/to/colony.sock
    #[arg(long)]
    colony: String,
    /// Agents.
    #[arg(long, default_value_t = 300)]
    agents: u32,
    /// Services, dealt out to the agents in turn.
    #[arg(long, default_value_t = 1000)]
    services: u32,
    /// Spans a second, of all.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Seconds.
    #[arg(long = "for", default_value_t = 60)]
    seconds: u64,
    /// How often each service's SDK exports, in ms.
    #[arg(long, default_value_t = 5_000)]
    export_ms: u64,
    /// Where spools lie, in a folder of their own; in memory where there is /dev/shm, since one disk is
    /// not the disks of so many hosts.
    #[arg(long)]
    spool: Option<PathBuf>,
    /// Longest wait for the last acknowledgement, in seconds.
    #[arg(long, default_value_t = 120)]
    patience: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let memory = PathBuf::from("/dev/shm");
    let below = args
        .spool
        .clone()
        .unwrap_or_else(|| if memory.is_dir() { memory } else { std::env::temp_dir() });
    let dir = tempfile::Builder::new().prefix("coral-fleet-").tempdir_in(below)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&args, dir.path()))
}

async fn run(args: &Args, dir: &std::path::Path) -> anyhow::Result<()> {
    let (stop, out) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let mut members = Vec::new();
    for n in 0..args.agents {
        members.push(Member::start(n, &args.colony, &dir.join(n.to_string()), &out)?);
    }
    let export = Duration::from_millis(args.export_ms.max(1));
    let each = args.rate as f64 * export.as_secs_f64() / f64::from(args.services.max(1));
    let mut sending = tokio::task::JoinSet::new();
    let started = Instant::now();
    for (n, member) in members.iter().enumerate() {
        let own = (0..args.services)
            .filter(|service| (*service % args.agents) as usize == n)
            .map(|service| Traffic::new(service, args.services, each))
            .collect();
        let (member, stop) = (Arc::clone(member), Arc::clone(&stop));
        sending.spawn(member.send(own, export, stop));
    }
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let mut sent = Tally::default();
    while let Some(done) = sending.join_next().await {
        sent.add(&done?);
    }
    let seconds = started.elapsed().as_secs_f64();
    // Nothing is unacknowledged when every spool says so.
    let until = Instant::now() + Duration::from_secs(args.patience);
    loop {
        let waiting = members.iter().filter(|member| !member.is_done()).count();
        if waiting == 0 {
            break;
        }
        anyhow::ensure!(Instant::now() < until, "{waiting} agents still wait to be acknowledged");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = serde_json::json!({
        "spans": sent.spans, "server_spans": sent.servers, "refused": sent.refused,
        "exports": sent.exports, "seconds": seconds, "sessions": members.len(),
    });
    out.cancel();
    println!("{told}");
    drop(members);
    std::fs::read_dir(dir).context("the spools are where they were")?;
    Ok(())
}

//! Taking spans in: at the agent alone, through to committed rows, and in how much memory.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use coral_tests::colony::{Colony, bin_dir};
use coral_tests::until;

use crate::figure::{Goal, Peer, Report};
use crate::load::{self, Sent};
use crate::process::{Server, cpu_seconds, free_address, rss_mib, wait_listening};

/// The protocol's own port for gRPC.
const OTLP_GRPC: &str = "127.0.0.1:4317";

fn run<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(future)
}

/// Spans per CPU second of `pid` while `total` spans are sent to it.
fn per_cpu_second(address: &str, pid: u32, total: u64) -> anyhow::Result<f64> {
    // Warm up: connections, allocations, caches.
    run(load::send(address, total / 10, 8, None))?;
    let before = cpu_seconds(pid)?;
    let Sent { spans, refused } = run(load::send(address, total, 8, None))?;
    let used = cpu_seconds(pid)? - before;
    if refused > 0 {
        println!("  ({refused} requests were refused with back-pressure and sent again)");
    }
    Ok(spans as f64 / used)
}

/// Accept + reduce + spool, per CPU second of the agent; beside rotel into its blackhole.
pub fn accept(report: &mut Report, rotel: Option<&Path>) -> anyhow::Result<()> {
    const TOTAL: u64 = 4_000_000;
    let dir = tempfile::Builder::new().prefix("coral-bench-").tempdir()?;
    let address = free_address()?;
    let value = {
        let agent = Server::start(
            Command::new(bin_dir().join("coral-agent"))
                .args(["--colony", &format!("unix:{}", dir.path().join("none.sock").display())])
                .arg("--data")
                .arg(dir.path().join("agent"))
                .args([
                    "--otlp-grpc",
                    &address,
                    "--otlp-http",
                    "127.0.0.1:0",
                    "--spool-cap",
                    "8GiB",
                ]),
        )?;
        wait_listening(&address)?;
        let value = per_cpu_second(&address, agent.pid(), TOTAL)?;
        println!("  (agent peak RSS {:.0} MiB)", rss_mib(agent.pid())?.0);
        value
    };
    let peer = rotel
        .map(|rotel| -> anyhow::Result<f64> {
            let (grpc, http) = (free_address()?, free_address()?);
            let server = Server::start(Command::new(rotel).args([
                "start",
                "--exporter",
                "blackhole",
                "--otlp-grpc-endpoint",
                &grpc,
                "--otlp-http-endpoint",
                &http,
            ]))?;
            wait_listening(&grpc)?;
            per_cpu_second(&grpc, server.pid(), TOTAL)
        })
        .transpose()?;
    let peer = peer.map(|value| Peer { name: "rotel blackhole", value });
    report.add("accept_spans_per_cpu_s", value, "spans/s", Goal::AtLeast(300_000.0), peer.as_ref())
}

/// End to end to committed rows, per CPU second of agent and daemon together; beside otelite.
pub fn commit(report: &mut Report, otelite: Option<&Path>) -> anyhow::Result<()> {
    const TOTAL: u64 = 1_000_000;
    let colony = Colony::start();
    let status = colony.status().map_err(anyhow::Error::msg)?;
    let agent = status.agents.first().map(|agent| agent.pid).unwrap_or_default();
    let committed = || -> Result<u64, String> {
        let status = colony.status()?;
        Ok(status.counters.get("spans_committed").copied().unwrap_or_default())
    };
    let used = || -> anyhow::Result<f64> { Ok(cpu_seconds(agent)? + cpu_seconds(status.pid)?) };
    run(load::send(&colony.otlp_grpc, TOTAL / 10, 4, None))?;
    let warm = until("the warm-up to be committed", || {
        let n = committed()?;
        if n >= TOTAL / 10 { Ok(n) } else { Err(n.to_string()) }
    });
    let before = used()?;
    let sent = run(load::send(&colony.otlp_grpc, TOTAL, 4, None))?;
    _ = until("every span to be committed", || {
        let n = committed()?;
        if n >= warm + sent.spans { Ok(n) } else { Err(n.to_string()) }
    });
    let value = sent.spans as f64 / (used()? - before);
    println!("  (daemon RSS {:.0} MiB)", rss_mib(status.pid)?.1);
    drop(colony);

    let peer = otelite
        .map(|otelite| -> anyhow::Result<f64> {
            let dir = tempfile::Builder::new().prefix("coral-bench-").tempdir()?;
            // It has no flag for its OTLP ports: they are the protocol's own.
            anyhow::ensure!(
                std::net::TcpStream::connect(OTLP_GRPC).is_err(),
                "{OTLP_GRPC} is taken, and otelite listens nowhere else; stop what holds it"
            );
            let server = Server::start(
                Command::new(otelite)
                    .args(["serve", "--addr", &free_address()?, "--storage-path"])
                    .arg(dir.path())
                    .env("HOME", dir.path()),
            )?;
            wait_listening(OTLP_GRPC)?;
            // It acknowledges after its insert; fewer spans, because it is slower.
            per_cpu_second(OTLP_GRPC, server.pid(), TOTAL / 20)
        })
        .transpose()?;
    let peer = peer.map(|value| Peer { name: "otelite", value });
    report.add("commit_spans_per_cpu_s", value, "spans/s", Goal::AtLeast(50_000.0), peer.as_ref())
}

/// The agent's memory at 20,000 spans/s with 1,000 open connections.
pub fn agent_rss(report: &mut Report) -> anyhow::Result<()> {
    let colony = Colony::start();
    let status = colony.status().map_err(anyhow::Error::msg)?;
    let agent = status.agents.first().map(|agent| agent.pid).unwrap_or_default();
    let idle: Vec<_> = (0..990)
        .map(|_| std::net::TcpStream::connect(&colony.otlp_grpc))
        .collect::<Result<_, _>>()?;
    run(load::send(&colony.otlp_grpc, 20 * 20_000, 10, Some(20_000)))?;
    std::thread::sleep(Duration::from_secs(1));
    let (peak, now) = rss_mib(agent)?;
    drop(idle);
    println!("  (now {now:.0} MiB)");
    report.add("agent_rss_peak", peak, "MiB", Goal::AtMost(60.0), None)
}

//! What the agent's eyes cost: an nginx that nobody instrumented, with and without them.
//!
//! Time in the kernel's programs is the kernel's own figure (`kernel.bpf_stats_enabled`), read from the
//! descriptors the agent holds. Throughput is compared in pairs, with and without in turn, so that what
//! else the machine does meets both; the mean comes with its 95 % interval.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use coral_tests::nginx::{Nginx, Programs};
use coral_tests::{Colony, bin_dir};

use crate::figure::{Goal, Peer, Report};
use crate::process::{Server, cpu_seconds, rss_mib};

/// Pairs of runs, and how long one lasts.
const PAIRS: usize = 10;
const SECONDS: u64 = 4;
/// Switches the kernel's own figures on and off.
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// What bpftrace is asked for: how long every call of nginx takes.
const BPFTRACE: &str = "tracepoint:raw_syscalls:sys_enter /comm == \"nginx\"/ { @at[tid] = nsecs; } \
                        tracepoint:raw_syscalls:sys_exit /@at[tid]/ { @ns = hist(nsecs - @at[tid]); delete(@at[tid]); }";
/// Runs a peer with the kernel's tracefs, which both need; where it is not mounted it is for the peer alone.
const WITH_TRACEFS: &str = "mountpoint -q /sys/kernel/tracing || \
                            mount -t tracefs tracefs /sys/kernel/tracing; exec \"$@\"";

/// The kernel counts the time of programs while this lives.
struct Stats(String);

impl Stats {
    fn on() -> anyhow::Result<Self> {
        let before = std::fs::read_to_string(STATS).context(STATS)?;
        std::fs::write(STATS, "1").context("figures of eBPF programs take root")?;
        Ok(Self(before))
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        _ = std::fs::write(STATS, &self.0);
    }
}

/// Nanoseconds and runs of all programs that a process holds.
fn programs_of(pid: u32) -> anyhow::Result<(f64, f64)> {
    let mut by_id = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<f64>().ok()
        };
        if let (Some(id), Some(ns), Some(runs)) =
            (field("prog_id:"), field("run_time_ns:"), field("run_cnt:"))
        {
            by_id.insert(id as u64, (ns, runs));
        }
    }
    ensure!(!by_id.is_empty(), "process {pid} holds no eBPF programs");
    Ok(by_id.values().fold((0.0, 0.0), |(ns, runs), of| (ns + of.0, runs + of.1)))
}

/// An agent alone: without a colony, without OTLP.
fn agent(dir: &Path, watch: &str) -> anyhow::Result<Server> {
    let data = tempfile::tempdir_in(dir)?.keep();
    let mut command = Command::new(bin_dir().join("coral-agent"));
    command.arg("--data").arg(data).args(["--otlp-grpc", "off", "--otlp-http", "off"]);
    // What is measured here is what they cost while they are open.
    let agent = Server::start(command.args(["--watch", watch, "--cpu-limit", "0"]))?;
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(50));
        // Tracepoints are attached last, all at once.
        if programs_of(agent.pid()).is_ok()
            && std::fs::read_dir(format!("/proc/{}/fdinfo", agent.pid()))?
                .flatten()
                .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
                .any(|text| text.contains("tp_name:\tsock_send_length"))
        {
            std::thread::sleep(Duration::from_millis(300));
            return Ok(agent);
        }
    }
    bail!("the agent hung no program onto sock_send_length within 10 s: see coral doctor")
}

/// Requests a second that h2load reached with HTTP/1.1 kept alive.
fn saturate(programs: &Programs, nginx: &Nginx, seconds: u64) -> anyhow::Result<f64> {
    let seconds = seconds.to_string();
    let args = ["--h1", "-c", "16", "-D", &seconds, "--warm-up-time", "1"];
    let text = programs.run("h2load", &args, &nginx.url("/small.html"));
    let line = text.lines().find(|line| line.starts_with("finished in")).context("h2load's end")?;
    let rate = line.split(", ").nth(1).and_then(|part| part.strip_suffix(" req/s"));
    Ok(rate.context("h2load's rate")?.parse()?)
}

/// So many requests a second for so long; how many there were.
fn steadily(programs: &Programs, nginx: &Nginx, rate: u64, seconds: u64) -> anyhow::Result<f64> {
    let (rate, seconds) = ((rate / 10).to_string(), seconds.to_string());
    let args = ["--h1", "-c", "10", "--rps", &rate, "-D", &seconds];
    let text = programs.run("h2load", &args, &nginx.url("/small.html"));
    let line = text.lines().find(|line| line.starts_with("requests:")).context("h2load's count")?;
    let done = line.split(", ").find_map(|part| part.strip_suffix(" succeeded"));
    Ok(done.context("h2load's count")?.trim().parse()?)
}

/// CPU seconds of a program and what it forked.
fn family(nginx: &Nginx) -> anyhow::Result<f64> {
    let mut sum = cpu_seconds(nginx.pid())?;
    for worker in nginx.workers() {
        sum += cpu_seconds(worker)?;
    }
    Ok(sum)
}

/// Mean of samples, and half the width of its 95 % interval.
fn interval(samples: &[f64]) -> (f64, f64) {
    let n = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / n;
    let variance = samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    // Student's t for nine degrees of freedom.
    (mean, 2.262 * (variance / n).sqrt())
}

/// Percent of throughput lost to something, in pairs with and without.
fn loss<T>(
    programs: &Programs,
    nginx: &Nginx,
    mut start: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<(f64, f64)> {
    let mut lost = Vec::new();
    for pair in 0..PAIRS {
        let mut rate = [0.0; 2];
        // Who is first changes, lest the first be favoured.
        for turn in [pair % 2, (pair + 1) % 2] {
            let with = (turn == 1).then(&mut start).transpose()?;
            rate[turn] = saturate(programs, nginx, SECONDS)?;
            drop(with);
        }
        lost.push(100.0 * (1.0 - rate[1] / rate[0]));
    }
    Ok(interval(&lost))
}

/// A peer that traces nginx's calls, where it is there; it is given two seconds to begin.
fn tracer(program: &str, args: &[String]) -> anyhow::Result<Option<Server>> {
    let found = Command::new("which").arg(program).stdout(Stdio::null()).status()?.success();
    if !found {
        return Ok(None);
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", WITH_TRACEFS, "sh", program]);
    let tracer = Server::start(command.args(args))?;
    std::thread::sleep(Duration::from_secs(2));
    let runs = Path::new(&format!("/proc/{}/exe", tracer.pid())).exists();
    ensure!(runs, "{program} ended at once: try {program} {}", args.join(" "));
    Ok(Some(tracer))
}

/// A watched nginx, and what asks it.
struct Bench {
    dir: tempfile::TempDir,
    programs: Programs,
    nginx: Nginx,
    watch: String,
}

/// All of them.
pub fn figures(report: &mut Report) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let programs =
        Programs::copied(dir.path(), &["/usr/sbin/nginx", "/usr/bin/ab", "/usr/bin/h2load"]);
    let nginx = Nginx::start(&programs);
    let watch = programs.path("nginx");
    let bench = Bench { dir, programs, nginx, watch };
    kernel_time(report, &bench)?;
    own(report, &bench)?;
    throughput(report, &bench)?;
    drop(bench);
    visible(report)
}

/// What a busy nginx loses to the agent, and to its peers.
fn throughput(report: &mut Report, bench: &Bench) -> anyhow::Result<()> {
    let Bench { dir, programs, nginx, watch } = bench;
    let (mean, half) = loss(programs, nginx, || agent(dir.path(), watch))?;
    println!("  (throughput lost: {mean:.2} % ± {half:.2}, {PAIRS} pairs of {SECONDS} s)");
    let workers: Vec<String> = nginx.workers().iter().map(u32::to_string).collect();
    let peer = |name, program, args: &[&str]| -> anyhow::Result<Option<Peer>> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        match tracer(program, &args) {
            Ok(Some(_)) => {}
            Ok(None) => {
                println!("  (no peer: {program} is not installed)");
                return Ok(None);
            }
            // Not every kernel has what they need.
            Err(why) => {
                println!("  (no peer: {why})");
                return Ok(None);
            }
        }
        let (value, half) = loss(programs, nginx, || tracer(program, &args))?;
        println!("  (throughput lost to {name}: {value:.2} % ± {half:.2})");
        Ok(Some(Peer { name, value }))
    };
    let bpftrace = peer("bpftrace, calls of nginx", "bpftrace", &["-e", BPFTRACE])?;
    report.add("eyes_throughput_lost", mean, "%", Goal::AtMost(1.0), bpftrace.as_ref())?;
    let pids = workers.join(",");
    let perf = peer("perf trace", "perf", &["trace", "--summary", "--pid", &pids])?;
    report.add("eyes_throughput_lost_upper95", mean + half, "%", Goal::AtMost(1.0), perf.as_ref())
}

/// Time in the kernel's programs.
fn kernel_time(report: &mut Report, bench: &Bench) -> anyhow::Result<()> {
    let Bench { dir, programs, nginx, watch } = bench;
    let _stats = Stats::on()?;
    let measure = |watch: &str| -> anyhow::Result<(f64, f64, f64)> {
        let agent = agent(dir.path(), watch)?;
        // Everybody is known by now.
        _ = steadily(programs, nginx, 5_000, 2)?;
        std::thread::sleep(Duration::from_millis(500));
        let (ns, runs) = programs_of(agent.pid())?;
        let requests = steadily(programs, nginx, 5_000, 8)?;
        let (ns_after, runs_after) = programs_of(agent.pid())?;
        Ok((ns_after - ns, runs_after - runs, requests))
    };
    let (ns, _, requests) = measure(watch)?;
    report.add("eyes_bpf_ns_per_request", ns / requests, "ns", Goal::AtMost(600.0), None)?;
    let (ns, runs, _) = measure("/nowhere/nothing")?;
    report.add("eyes_bpf_ns_per_unwatched_call", ns / runs, "ns", Goal::AtMost(100.0), None)
}

/// The agent's own CPU and memory.
fn own(report: &mut Report, bench: &Bench) -> anyhow::Result<()> {
    let Bench { dir, programs, nginx, watch } = bench;
    let mut extra = Vec::new();
    for _ in 0..3 {
        let mut cost = [0.0; 2];
        for with in [false, true] {
            let agent = with.then(|| agent(dir.path(), watch)).transpose()?;
            let of = || {
                Ok::<_, anyhow::Error>(
                    family(nginx)? + agent.as_ref().map_or(Ok(0.0), |a| cpu_seconds(a.pid()))?,
                )
            };
            let before = of()?;
            let requests = steadily(programs, nginx, 5_000, 8)?;
            cost[usize::from(with)] = (of()? - before) / requests * 1e6;
        }
        extra.push(cost[1] - cost[0]);
    }
    let mean = extra.iter().sum::<f64>() / extra.len() as f64;
    report.add("eyes_cpu_us_per_request_5000_s", mean, "µs", Goal::None, None)?;

    let agent = agent(dir.path(), watch)?;
    let share = |of: &dyn Fn() -> anyhow::Result<()>| -> anyhow::Result<f64> {
        let (before, began) = (cpu_seconds(agent.pid())?, Instant::now());
        of()?;
        Ok(100.0 * (cpu_seconds(agent.pid())? - before) / began.elapsed().as_secs_f64())
    };
    let busy = share(&|| steadily(programs, nginx, 1_000, 20).map(drop))?;
    let idle = share(&|| {
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    })?;
    report.add("eyes_agent_cpu_idle", idle, "% of core", Goal::AtMost(0.5), None)?;
    report.add("eyes_agent_cpu_1000_s", busy, "% of core", Goal::AtMost(2.0), None)?;
    let (peak, now) = rss_mib(agent.pid())?;
    report.add("eyes_agent_rss", now, "MiB", Goal::AtMost(80.0), None)?;
    report.add("eyes_agent_peak_rss", peak, "MiB", Goal::AtMost(100.0), None)
}

/// From a service's first request until a question tells of it.
fn visible(report: &mut Report) -> anyhow::Result<()> {
    let colony = Colony::prepare();
    let nginx = PathBuf::from("/usr/sbin/nginx");
    let programs =
        Programs::copied(colony.dir(), &["/usr/sbin/nginx", "/usr/bin/ab", "/usr/bin/h2load"]);
    let names: Vec<String> = (0..8).map(|n| format!("edge{n}")).collect();
    for name in &names {
        std::fs::copy(&nginx, colony.dir().join(name))?;
    }
    let watch = names.iter().map(|name| programs.path(name)).collect::<Vec<_>>().join(",");
    let mut colony = colony.with_env("CORAL_WATCH", watch);
    colony.up();
    ensure!(coral_tests::may_look(&colony), "this kernel does not let the agent look");
    let mut slowest: f64 = 0.0;
    for name in &names {
        let nginx = Nginx::with(&programs, name, "", "root {at}/www;");
        // Nginx itself was asked when it began to listen, without a request.
        let began = Instant::now();
        _ = programs.run("ab", &["-q", "-n", "1"], &nginx.url("/small.html"));
        let service = format!("service={name}");
        while colony.query(&["red", &service, "--since", "5m"]).is_ok_and(|rows| rows.is_empty()) {
            ensure!(began.elapsed() < Duration::from_secs(60), "{name} is not to be seen");
            std::thread::sleep(Duration::from_millis(20));
        }
        slowest = slowest.max(began.elapsed().as_secs_f64() * 1e3);
    }
    report.add("eyes_first_request_visible_worst", slowest, "ms", Goal::AtMost(2_000.0), None)
}

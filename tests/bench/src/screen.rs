//! The screen, measured from outside through a real terminal.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use coral_tests::{Colony, Terminal, otlp};

use crate::figure::{Goal, Peer, Report, quantile};

/// Polls as fast as is kind to the other core.
fn wait_until(limit: Duration, mut check: impl FnMut() -> bool) -> anyhow::Result<f64> {
    let started = Instant::now();
    while !check() {
        anyhow::ensure!(started.elapsed() < limit, "nothing within {limit:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

/// From exec to the first frame, with a colony running.
pub fn first_frame(report: &mut Report) -> anyhow::Result<()> {
    let colony = Colony::start();
    let mut samples = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        let mut terminal = Terminal::coral(&colony, &[], 80, 24);
        wait_until(Duration::from_secs(10), || terminal.text().contains("? keys"))?;
        samples.push(started.elapsed().as_secs_f64() * 1e3);
        terminal.keys("q");
        _ = terminal.wait_exit();
    }
    report.add(
        "screen_first_frame_p50",
        quantile(&mut samples, 0.5),
        "ms",
        Goal::AtMost(50.0),
        None,
    )
}

/// Bytes written in five seconds in which nothing new arrives.
pub fn idle(report: &mut Report) -> anyhow::Result<()> {
    let colony = Colony::start();
    let request = otlp::server_spans("quiet", 1, 0, 50);
    _ = otlp::post_spans(&colony.otlp_http, &request).map_err(anyhow::Error::msg)?;
    // What a new service makes the agent and the colony find out has arrived after some seconds;
    // and that it is silent is told after 15 s and after 30 s.
    let terminal = Terminal::coral(&colony, &["open", "services"], 80, 24);
    _ = terminal.wait_for("quiet");
    std::thread::sleep(Duration::from_secs(20));
    let before = terminal.bytes().len();
    std::thread::sleep(Duration::from_secs(5));
    let written = terminal.bytes().len() - before;
    report.add("screen_idle_bytes_5s", written as f64, "bytes", Goal::AtMost(0.0), None)
}

/// Exports whose way to the screen is timed: a 99th percentile needs its hundred.
const VISIBLE: u32 = 120;
/// Frames drawn.
const DRAWS: &str = "2500";

/// From export to visible on the screen.
pub fn visible(report: &mut Report) -> anyhow::Result<()> {
    let colony = Colony::start();
    // Tall enough for every service in the upper half, wherever the order puts it.
    let rows = 2 * u16::try_from(VISIBLE)? + 30;
    let terminal = Terminal::coral(&colony, &["open", "services"], 120, rows);
    let mut samples = Vec::new();
    for n in 0..VISIBLE {
        let name = format!("new-{n:03}");
        let request = otlp::server_spans(&name, 100 + n, 0, 10);
        let started = Instant::now();
        _ = otlp::post_spans(&colony.otlp_http, &request).map_err(anyhow::Error::msg)?;
        wait_until(Duration::from_secs(20), || terminal.text().contains(&name))
            .with_context(|| format!("{name} is not on the screen:\n{}", terminal.text()))?;
        samples.push(started.elapsed().as_secs_f64() * 1e3);
    }
    report.add(
        "screen_export_to_visible_p99",
        quantile(&mut samples, 0.99),
        "ms",
        Goal::AtMost(1000.0),
        None,
    )
}

/// What a frame takes at 250×80, everything on it changing; beside it what of that is processor time.
pub fn draw(report: &mut Report) -> anyhow::Result<()> {
    let program = coral_tests::bin_dir().join("examples/timing");
    let output = std::process::Command::new(&program).args(["--draws", DRAWS]).output();
    let output = output.with_context(|| {
        format!("{}; cargo build --release -p coral-tui --example timing", program.display())
    })?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    for line in String::from_utf8(output.stdout)?.lines() {
        let (a, b) = line.split_once(' ').context("a frame is two numbers")?;
        wall.push(a.parse::<f64>()? / 1e6);
        cpu.push(b.parse::<f64>()? / 1e6);
    }
    let p99 = quantile(&mut cpu, 0.99);
    report.add(
        "screen_draw_p99",
        quantile(&mut wall, 0.99),
        "ms",
        Goal::AtMost(4.0),
        Some(&Peer { name: "processor time", value: p99 }),
    )
}

/// From a key to the bytes it causes, while 50,000 log lines arrive per second.
pub fn keys(report: &mut Report) -> anyhow::Result<()> {
    let colony = Colony::start();
    let mut terminal = Terminal::coral(&colony, &["open", "logs"], 120, 40);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let sender = std::thread::spawn({
        let (address, stop) = (colony.otlp_http.clone(), std::sync::Arc::clone(&stop));
        move || {
            let started = Instant::now();
            let mut sent = 0u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let body = otlp::log_lines("chatty", sent, 1000);
                let headers = [("content-type", "application/x-protobuf")];
                if otlp::post(&address, "/v1/logs", &headers, &body).is_ok_and(|a| a.status == 200)
                {
                    sent += 1000;
                }
                let due = Duration::from_secs_f64(sent as f64 / 50_000.0);
                std::thread::sleep(due.saturating_sub(started.elapsed()));
            }
            sent as f64 / started.elapsed().as_secs_f64()
        }
    });
    _ = terminal.wait_for("chatty");
    let mut samples = Vec::new();
    for n in 0..300 {
        // The palette opens and closes: a change that only this key makes.
        let (key, shown) = if n % 2 == 0 { (":", true) } else { ("\x1b", false) };
        let before = terminal.text().contains(" commands ");
        anyhow::ensure!(before != shown, "the palette did not change before key {n}");
        let started = Instant::now();
        terminal.keys(key);
        wait_until(Duration::from_secs(5), || terminal.text().contains(" commands ") == shown)?;
        samples.push(started.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(20));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let rate = sender.join().map_err(|_| anyhow::anyhow!("the sender failed"))?;
    println!("  ({rate:.0} log lines/s were accepted meanwhile)");
    report.add(
        "screen_key_to_bytes_p99",
        quantile(&mut samples, 0.99),
        "ms",
        Goal::AtMost(16.0),
        None,
    )
}

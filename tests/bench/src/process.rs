//! A server under measurement: its CPU time and memory, from `/proc`.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

/// CPU seconds a process has used so far, all threads, user and system.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Fields after the command name, which may hold spaces: proc(5), utime 14 and stime 15.
    let (_, rest) = stat.rsplit_once(')').context("a /proc/pid/stat line")?;
    let ticks = |n: usize| -> anyhow::Result<f64> {
        Ok(rest.split_whitespace().nth(n).context("a field")?.parse()?)
    };
    // USER_HZ is 100 on every Linux architecture Coral builds for.
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// Peak and current resident memory in MiB.
pub fn rss_mib(pid: u32) -> anyhow::Result<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> anyhow::Result<f64> {
        let line = status.lines().find(|line| line.starts_with(name)).context("a field")?;
        Ok(line.split_whitespace().nth(1).context("a value")?.parse::<f64>()? / 1024.0)
    };
    Ok((field("VmHWM:")?, field("VmRSS:")?))
}

/// A program that is stopped when dropped.
pub struct Server(Child);

impl Server {
    /// Starts it, its output thrown away.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("starting {command:?}"))?))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A free port of loopback, as `127.0.0.1:port`.
pub fn free_address() -> anyhow::Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Waits until something listens.
pub fn wait_listening(address: &str) -> anyhow::Result<()> {
    for _ in 0..600 {
        if std::net::TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("nothing listens at {address} after 30 s")
}

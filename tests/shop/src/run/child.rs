//! One process that `run` owns: started in a process group of its own, stopped gently and then surely.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const STOP_WITHIN: Duration = Duration::from_secs(4);
/// A log file larger than this starts over.
const LOG_CAP: u64 = 8 << 20;

/// A child process. Dropping it kills its whole group.
pub struct Child {
    inner: std::process::Child,
    gentle: Signal,
    status: Option<ExitStatus>,
}

impl Child {
    /// Starts it with stdout and stderr going to `log`, and `stdin` written to it first.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(
        command: &mut Command,
        log: &Path,
        stdin: &str,
        gentle: Signal,
    ) -> anyhow::Result<Self> {
        let out = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("log {}", log.display()))?;
        let mut inner = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("{} cannot be started", command.get_program().display()))?;
        if let Some(pipe) = inner.stdin.as_mut() {
            // One that ended at once says why in its log, not here.
            let _ = pipe.write_all(stdin.as_bytes());
        }
        Ok(Self { inner, gentle, status: None })
    }

    pub fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// Writes a line to its stdin; one that is gone does not matter here.
    pub fn tell(&mut self, line: &str) {
        if let Some(pipe) = self.inner.stdin.as_mut() {
            let _ = pipe.write_all(line.as_bytes());
            let _ = pipe.write_all(b"\n");
        }
    }

    /// Tells it that no more words will come.
    pub fn close_stdin(&mut self) {
        self.inner.stdin = None;
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.inner.try_wait().ok().flatten();
        }
        self.status
    }

    fn os_pid(&self) -> Option<Pid> {
        i32::try_from(self.inner.id()).ok().and_then(Pid::from_raw)
    }

    /// Asks it to stop.
    pub fn ask_to_stop(&mut self) {
        if self.exited().is_none()
            && let Some(pid) = self.os_pid()
        {
            let _ = kill_process(pid, self.gentle);
        }
    }

    /// Ends it and its group now.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            if let Some(pid) = self.os_pid() {
                let _ = kill_process_group(pid, Signal::KILL);
            }
            self.status = self.inner.wait().ok();
        }
    }

    /// Asks it to stop, waits a while, then ends it.
    pub async fn stop(&mut self) {
        self.ask_to_stop();
        let until = Instant::now() + STOP_WITHIN;
        while self.exited().is_none() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.kill();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lets a log file start over when it is too large. The writers append, so they don't notice.
pub fn bound_log(log: &Path) {
    if std::fs::metadata(log).is_ok_and(|data| data.len() > LOG_CAP)
        && let Ok(file) = std::fs::File::options().write(true).open(log)
    {
        let _ = file.set_len(0);
    }
}

/// Starts the load generator as a process of its own.
///
/// # Errors
/// When this executable cannot be started again.
pub fn load(gateway: u16, rps: f64, seed: u64, dir: &Path) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe().context("own path")?);
    command
        .arg0("coral-shop-load")
        .args(["load", "--url", &format!("http://127.0.0.1:{gateway}")])
        .args(["--rps", &rps.to_string(), "--seed", &seed.to_string()])
        .args(["--parent", &std::process::id().to_string()]);
    Child::start(&mut command, &dir.join("load.log"), "", Signal::TERM)
}

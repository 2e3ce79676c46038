//! One service's place in the shop: which version runs there, what is broken in it, and when it is started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::http::Request;
use bytes::Bytes;
use http_body_util::Full;
use rustix::process::Signal;

use super::child::{self, Child};
use super::state::ServiceState;
use crate::fault::{Fault, FaultSet};
use crate::http_client::HttpClient;
use crate::service::ServiceConfig;

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LAST_BACKOFF: Duration = Duration::from_secs(8);
/// Who stayed up this long starts afresh with the waiting.
const STEADY: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(4);

/// The place with its process.
pub struct Slot {
    config: ServiceConfig,
    /// What was switched on by hand; the version may add to it.
    faults: FaultSet,
    log: PathBuf,
    child: Option<Child>,
    started: Instant,
    start_at: Option<Instant>,
    stopping_since: Option<Instant>,
    backoff: Duration,
    restarts: u32,
}

impl Slot {
    pub fn new(config: ServiceConfig, dir: &Path) -> Self {
        Self {
            log: dir.join(format!("{}.log", config.service)),
            config,
            faults: FaultSet::default(),
            child: None,
            started: Instant::now(),
            start_at: None,
            stopping_since: None,
            backoff: FIRST_BACKOFF,
            restarts: 0,
        }
    }

    pub fn name(&self) -> &str {
        &self.config.service
    }

    pub fn port(&self) -> u16 {
        self.config.port
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::pid)
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    fn effective(&self) -> FaultSet {
        self.faults.with_version(&self.config.service, &self.config.version)
    }

    /// Starts the process under a new instance id.
    ///
    /// # Errors
    /// When this executable cannot be started again.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.config.instance = instance_id()?;
        self.config.faults = self.effective();
        let mut line = serde_json::to_string(&self.config)?;
        line.push('\n');
        let mut command = Command::new(std::env::current_exe().context("own path")?);
        command
            .arg0(format!("coral-shop-{}", self.config.service))
            .args(["service", &self.config.service])
            // As one would deploy it: who looks from outside knows its name too.
            .env("OTEL_SERVICE_NAME", &self.config.service);
        self.start_at = None;
        self.stopping_since = None;
        self.child = Some(Child::start(&mut command, &self.log, &line, Signal::TERM)?);
        self.started = Instant::now();
        Ok(())
    }

    /// Looks after the process; the lines are for the person who watches.
    pub fn tick(&mut self, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        child::bound_log(&self.log);
        if let Some(child) = self.child.as_mut()
            && let Some(status) = child.exited()
        {
            self.child = None;
            if self.stopping_since.take().is_some() {
                self.start_at = Some(now);
            } else {
                if now.duration_since(self.started) > STEADY {
                    self.backoff = FIRST_BACKOFF;
                }
                lines.push(format!(
                    "{} ended ({}), starts again in {} ms",
                    self.config.service,
                    how(status),
                    self.backoff.as_millis()
                ));
                self.start_at = Some(now + self.backoff);
                self.backoff = next_backoff(self.backoff);
            }
            self.restarts = self.restarts.saturating_add(1);
        }
        if self.stopping_since.is_some_and(|since| now.duration_since(since) > STOP_WITHIN)
            && let Some(child) = self.child.as_mut()
        {
            child.kill();
        }
        if self.start_at.is_some_and(|at| at <= now) {
            match self.start() {
                Ok(()) => lines.push(format!(
                    "{} {} started, pid {}",
                    self.config.service,
                    self.config.version,
                    self.pid()
                )),
                Err(error) => {
                    lines.push(format!("{}: {error:#}", self.config.service));
                    self.start_at = Some(now + self.backoff);
                }
            }
        }
        lines
    }

    /// Switches a fault on and says what was done.
    pub fn apply(&mut self, fault: &Fault) -> String {
        if let Fault::Deploy { version } = fault {
            self.deploy(version);
            return format!("{} is being replaced by {version}", self.config.service);
        }
        self.faults.apply(fault);
        self.tell();
        format!("{}: {}", self.config.service, self.effective())
    }

    /// Switches everything off; a version that was deployed is rolled back.
    pub fn heal(&mut self, version: &str) {
        self.faults = FaultSet::default();
        self.backoff = FIRST_BACKOFF;
        if self.config.version == version {
            self.tell();
        } else {
            self.deploy(version);
        }
        if self.start_at.is_some() {
            self.start_at = Some(Instant::now());
        }
    }

    fn deploy(&mut self, version: &str) {
        version.clone_into(&mut self.config.version);
        if let Some(child) = self.child.as_mut() {
            child.ask_to_stop();
            self.stopping_since = Some(Instant::now());
        }
    }

    fn tell(&mut self) {
        let Ok(line) = serde_json::to_string(&self.effective()) else { return };
        if let Some(child) = self.child.as_mut() {
            child.tell(&line);
        }
    }

    pub fn state(&self) -> ServiceState {
        ServiceState {
            name: self.config.service.clone(),
            pid: self.pid(),
            port: self.config.port,
            version: self.config.version.clone(),
            instance: self.config.instance.clone(),
            restarts: self.restarts,
            faults: self.effective(),
        }
    }

    /// Whether the service says that it is ready.
    pub async fn healthy(&self, client: &HttpClient) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.config.port));
        let request =
            Request::get("/healthz").header("host", "localhost").body(Full::new(Bytes::new()));
        let Ok(request) = request else { return false };
        client.send(address, request).await.is_ok_and(|(status, _)| status.is_success())
    }

    pub fn ask_to_stop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            child.ask_to_stop();
        }
    }

    pub async fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.stop().await;
        }
    }
}

fn next_backoff(now: Duration) -> Duration {
    now.saturating_mul(2).min(LAST_BACKOFF)
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(6)) => "SIGABRT".to_owned(),
        (None, Some(9)) => "SIGKILL".to_owned(),
        (None, signal) => format!("signal {}", signal.unwrap_or(0)),
    }
}

/// A random (version 4) UUID, as `service.instance.id` asks for.
fn instance_id() -> anyhow::Result<String> {
    let bits = (getrandom::u64().context("randomness")?, getrandom::u64().context("randomness")?);
    Ok(uuid_v4(bits.0, bits.1))
}

fn uuid_v4(high: u64, low: u64) -> String {
    // RFC 9562 section 5.4: version 4 and variant 10.
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    let (h, l) = (format!("{high:016x}"), format!("{low:016x}"));
    let part =
        |text: &str, from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
    [part(&h, 0, 8), part(&h, 8, 12), part(&h, 12, 16), part(&l, 0, 4), part(&l, 4, 16)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_grows_to_its_end() {
        let mut wait = FIRST_BACKOFF;
        let steps: Vec<u128> = (0..7)
            .map(|_| {
                wait = next_backoff(wait);
                wait.as_millis()
            })
            .collect();
        assert_eq!(steps, [500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
    }

    #[test]
    fn instance_ids_are_uuids() {
        assert_eq!(uuid_v4(u64::MAX, u64::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid_v4(0, 0), "00000000-0000-4000-8000-000000000000");
    }
}

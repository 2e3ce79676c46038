//! The sample shop under a colony of the test's own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::colony::{Colony, bin_dir};
use crate::wait::until;

/// A running shop. Dropping it stops every process it started.
pub struct Shop {
    run: Child,
    dir: PathBuf,
}

impl Shop {
    /// Starts the shop with `rps` requests per second, sending to the colony's agent.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    #[track_caller]
    pub fn start(colony: &Colony, rps: u32) -> Self {
        Self::telling(colony, rps, &format!("http://{}", colony.otlp_grpc))
    }

    /// The same without any telemetry of its own.
    ///
    /// # Panics
    /// Likewise.
    #[must_use]
    #[track_caller]
    pub fn silent(colony: &Colony, rps: u32) -> Self {
        Self::telling(colony, rps, "off")
    }

    #[track_caller]
    fn telling(colony: &Colony, rps: u32, otlp: &str) -> Self {
        let dir = colony.dir().join("shop");
        std::fs::create_dir_all(&dir).expect("a folder");
        let log = std::fs::File::create(dir.join("run.log")).expect("a log");
        let run = Command::new(bin_dir().join("coral-shop"))
            .args(["run", "--rps", &rps.to_string(), "--otlp", otlp])
            .arg("--dir")
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("coral-shop runs");
        let mut shop = Self { run, dir };
        until("the shop to be ready", || {
            if let Ok(Some(status)) = shop.run.try_wait() {
                panic!("the shop ended: {status}\n{}", shop.log());
            }
            if shop.dir.join("shop.json").exists() { Ok(()) } else { Err(shop.log()) }
        });
        shop
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("run.log")).unwrap_or_default()
    }

    /// Switches a fault on: `["payments", "latency", "800"]`.
    ///
    /// # Panics
    /// When the shop refuses.
    #[track_caller]
    pub fn fault(&self, words: &[&str]) {
        self.control("fault", words);
    }

    /// Switches every fault off.
    ///
    /// # Panics
    /// When the shop refuses.
    #[track_caller]
    pub fn heal(&self) {
        self.control("heal", &[]);
    }

    #[track_caller]
    fn control(&self, verb: &str, words: &[&str]) {
        let output = Command::new(bin_dir().join("coral-shop"))
            .arg(verb)
            .args(words)
            .arg("--dir")
            .arg(&self.dir)
            .output()
            .expect("coral-shop runs");
        assert!(
            output.status.success(),
            "{verb} {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let pid = i32::try_from(self.run.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // Gone already is as good.
            _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        _ = self.run.wait();
    }
}

//! A colony of a test's own, and the `coral` program to ask it with.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use coral_model::view::{End, Row, State};
use tempfile::TempDir;

use crate::wait::until;

/// Where the programs under test were built: beside this test's own executable.
///
/// # Panics
/// When the test runs from outside a Cargo target folder.
#[must_use]
pub fn bin_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows its own path");
    let deps = exe.parent().expect("a test lies in deps/");
    let dir =
        if deps.ends_with("deps") { deps.parent().expect("deps/ has a parent") } else { deps };
    assert!(
        dir.join("coral").exists(),
        "no coral program in {}: run `make build` first",
        dir.display()
    );
    dir.to_owned()
}

/// What a run of `coral` gave.
#[derive(Debug)]
pub struct Answer {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    fn from(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless the program exited with 0.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// The rows of a `--json` answer and its end record.
    ///
    /// # Errors
    /// When a line is not a row, or the end record is missing.
    pub fn rows(&self) -> Result<(Vec<Row>, End), String> {
        let mut rows = Vec::new();
        for line in self.out.lines() {
            match serde_json::from_str(line).map_err(|e| format!("{e} in {line}"))? {
                Row::End(end) => return Ok((rows, *end)),
                row => rows.push(row),
            }
        }
        Err(format!("no end record in: {} {}", self.out, self.err))
    }
}

/// A running colony with its agent. Dropping it stops both and removes what they wrote.
#[derive(Debug)]
pub struct Colony {
    dir: TempDir,
    more: Vec<(&'static str, String)>,
    /// `host:port` of OTLP over gRPC.
    pub otlp_grpc: String,
    /// `host:port` of OTLP over HTTP.
    pub otlp_http: String,
}

impl Colony {
    /// Starts a colony and its agent on free ports.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    #[must_use]
    pub fn start() -> Self {
        let mut colony = Self::prepare();
        colony.up();
        colony
    }

    /// A colony that is not started yet; [`Colony::up`] does.
    ///
    /// # Panics
    /// When there is no room for it.
    #[must_use]
    pub fn prepare() -> Self {
        let dir = tempfile::Builder::new().prefix("coral-test-").tempdir().expect("a folder");
        let (otlp_grpc, otlp_http) = (String::new(), String::new());
        Self { dir, more: Vec::new(), otlp_grpc, otlp_http }
    }

    /// The same with one more environment variable for every program of it.
    #[must_use]
    pub fn with_env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.more.push((name, value.into()));
        self
    }

    /// Where its data are.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data/test")
    }

    /// `coral up`, and waits until the agent listens. Also brings a killed colony back.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn up(&mut self) {
        _ = self.coral(&["up"]).ok();
        (self.otlp_grpc, self.otlp_http) = until("the agent to listen", || self.endpoints());
    }

    /// Where the agent listens for OTLP now: gRPC, HTTP. A restarted agent may listen elsewhere.
    ///
    /// # Errors
    /// While no agent listens.
    pub fn endpoints(&self) -> Result<(String, String), String> {
        let status = self.coral(&["status", "--json"]);
        let first = status.out.lines().next().unwrap_or_default().to_owned();
        let Ok(Row::Status(row)) = serde_json::from_str(&first) else {
            return Err(format!("{} {}", status.out, status.err));
        };
        let find = |name: &str| {
            row.agents
                .iter()
                .filter(|agent| agent.state == State::Active)
                .flat_map(|agent| &agent.senses)
                .find(|sense| sense.name == name)
                .map(|sense| sense.why.clone())
                .filter(|address| address.parse::<std::net::SocketAddr>().is_ok())
        };
        find("otlp/grpc").zip(find("otlp/http")).ok_or(first)
    }

    /// The folder that holds everything of this colony.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its environment: what a person would have set to reach it.
    #[must_use]
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let mut env = vec![
            ("CORAL_SOCKET", path("colony.sock")),
            ("CORAL_DATA_DIR", path("data")),
            ("XDG_CONFIG_HOME", path("config")),
            ("XDG_STATE_HOME", path("state")),
            ("CORAL_COLONY", "test".to_owned()),
            ("CORAL_OTLP_GRPC", "127.0.0.1:0".to_owned()),
            ("CORAL_OTLP_HTTP", "127.0.0.1:0".to_owned()),
            ("TZ", "UTC".to_owned()),
            // Other tests' programs would be seen too; who wants to see some names them.
            ("CORAL_WATCH", "none".to_owned()),
            // Whatever that costs here.
            ("CORAL_TLS", "always".to_owned()),
        ];
        env.extend(self.more.iter().cloned());
        env
    }

    /// A `coral` command set up for this colony, not yet run.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(bin_dir().join("coral"));
        command.args(args).envs(self.env()).stdin(Stdio::null());
        command
    }

    /// Runs `coral` and waits for it.
    ///
    /// # Panics
    /// When it cannot be run at all.
    #[must_use]
    pub fn coral(&self, args: &[&str]) -> Answer {
        Answer::from(&self.command(args).output().expect("coral runs"))
    }

    /// Runs `coral query … --json` and gives its rows.
    ///
    /// # Errors
    /// When the answer is cut or not JSON Lines.
    pub fn query(&self, args: &[&str]) -> Result<Vec<Row>, String> {
        let mut all = vec!["query"];
        all.extend(args);
        all.push("--json");
        self.coral(&all).rows().map(|(rows, _)| rows)
    }

    /// Process id of the daemon, from its own word.
    ///
    /// # Errors
    /// When the colony does not answer.
    pub fn daemon_pid(&self) -> Result<u32, String> {
        self.status().map(|row| row.pid)
    }

    /// The colony's status row.
    ///
    /// # Errors
    /// When the colony does not answer.
    pub fn status(&self) -> Result<coral_model::view::StatusRow, String> {
        let answer = self.coral(&["status", "--json"]);
        let line = answer.out.lines().next().unwrap_or_default();
        match serde_json::from_str(line) {
            Ok(Row::Status(row)) => Ok(*row),
            _ => Err(format!("{} {}", answer.out, answer.err)),
        }
    }

    /// Sends SIGKILL.
    ///
    /// # Panics
    /// When there is no such process.
    #[track_caller]
    pub fn kill(pid: u32) {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a pid"), rustix::process::Signal::KILL)
            .expect("the process is there");
    }
}

impl Drop for Colony {
    fn drop(&mut self) {
        let down = self.command(&["down"]).output();
        // A colony that was killed leaves its agent behind; its data folder names it.
        let left = Command::new("pkill").args(["-KILL", "-f"]).arg(self.dir.path()).status();
        crate::namespace::unmount_under(self.dir.path());
        if down.is_err() || left.is_err() {
            _ = writeln!(
                std::io::stderr(),
                "could not stop the colony in {}",
                self.dir.path().display()
            );
        }
    }
}

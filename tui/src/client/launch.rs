//! Starting a colony's daemon when none runs.
//!
//! The daemon decides who is the one (it holds a lock); whoever loses that race simply finds the
//! winner's socket. So starting is: spawn, then try to connect until it works, the spawned process
//! has failed, or the deadline is over.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coral_model::paths::make_private_dir;

use super::{Client, ClientError, Target};

/// How a daemon is started, when one must be.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Stay when unused (`coral up`).
    pub stay: bool,
    /// Where its agent listens for OTLP over gRPC, if asked for.
    pub otlp_grpc: Option<String>,
    /// Where its agent listens for OTLP over HTTP, if asked for.
    pub otlp_http: Option<String>,
    /// More arguments for `coral-daemon`.
    pub more: Vec<String>,
    /// How long to wait for it.
    pub deadline: Duration,
}

impl Default for Launch {
    fn default() -> Self {
        Self {
            stay: false,
            otlp_grpc: None,
            otlp_http: None,
            more: Vec::new(),
            deadline: Duration::from_secs(20),
        }
    }
}

/// Between two looks at the socket.
const LOOK: Duration = Duration::from_millis(15);
/// A daemon that ended may have lost the race to one that is still opening its store.
const AFTER_EXIT: Duration = Duration::from_secs(5);

impl Launch {
    pub(super) async fn start(
        &self,
        target: &Target,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Client, ClientError> {
        let target = &owner_of_socket(target);
        let log = target.paths.daemon_log(&target.colony);
        let failed = |why: String| ClientError::Start { why, log: log.clone() };
        progress(&format!("starting colony {}", target.colony));
        target.paths.prepare_runtime_dir()?;
        let mut child = self.spawn(target, &log).map_err(failed)?;
        let wait = async {
            let mut ended: Option<tokio::time::Instant> = None;
            loop {
                match Client::connect(target).await {
                    Err(ClientError::NotRunning { .. } | ClientError::Lost(_)) => {}
                    other => return other,
                }
                if ended.is_none() && matches!(child.try_wait(), Ok(Some(_))) {
                    ended = Some(tokio::time::Instant::now());
                }
                if ended.is_some_and(|at| at.elapsed() > AFTER_EXIT) {
                    return Err(failed(last_line(&log)));
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let waited = tokio::time::timeout(self.deadline, wait).await;
        reap(child);
        waited.unwrap_or_else(|_| {
            let seconds = self.deadline.as_secs();
            Err(failed(format!("it does not answer after {seconds} s: {}", last_line(&log))))
        })
    }

    fn spawn(&self, target: &Target, log: &Path) -> Result<Child, String> {
        let program = find_program("coral-daemon").ok_or_else(|| {
            "there is no coral-daemon beside coral nor on PATH; install it, or run make build"
                .to_owned()
        })?;
        let socket = target.paths.socket(&target.colony).map_err(|e| e.to_string())?;
        make_private_dir(&target.paths.colony_dir(&target.colony), target.paths.uid)
            .map_err(|e| e.to_string())?;
        let logs = target.paths.logs_dir(&target.colony);
        fs::create_dir_all(&logs).map_err(|e| format!("{}: {e}", logs.display()))?;
        // What fails before the daemon has opened its own log is found in the same file.
        let stderr = OpenOptions::new()
            .append(true)
            .create(true)
            .open(log)
            .map_err(|e| format!("{}: {e}", log.display()))?;
        let mut command = Command::new(&program);
        command
            .arg("--colony")
            .arg(target.colony.as_str())
            .arg("--data")
            .arg(&target.paths.data_dir)
            .arg("--socket")
            .arg(socket)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        if self.stay {
            command.arg("--stay");
        }
        for (flag, value) in [("--otlp-grpc", &self.otlp_grpc), ("--otlp-http", &self.otlp_http)] {
            if let Some(value) = value {
                command.arg(flag).arg(value);
            }
        }
        command.args(&self.more);
        command.spawn().map_err(|e| format!("{}: {e}", program.display()))
    }
}

/// The colony that a socket somebody named belongs to, as its daemon left word in the lock beside it:
/// who sees one colony there and finds its daemon gone wants that one again.
fn owner_of_socket(target: &Target) -> Target {
    let mut owner = target.clone();
    let Some(socket) = &target.paths.socket_override else { return owner };
    let mut lock = socket.as_os_str().to_owned();
    lock.push(".lock");
    let text = fs::read_to_string(lock).unwrap_or_default();
    let mut words = text.lines().skip(1);
    if let (Some(Ok(colony)), Some(data)) = (words.next().map(str::parse), words.next()) {
        owner.colony = colony;
        owner.paths.data_dir = PathBuf::from(data);
    }
    owner
}

/// Takes the process's end off our hands whenever it comes, without waiting for it here.
fn reap(mut child: Child) {
    // Should there be no thread to be had, init takes it when this program is gone.
    _ = std::thread::Builder::new().name("reap".to_owned()).spawn(move || child.wait());
}

/// A program of Coral's: beside this one, else on `PATH`.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| {
        let dir = exe.parent()?;
        // A test's own executable lies one below what it tests.
        let dir = if dir.ends_with("deps") { dir.parent()? } else { dir };
        Some(dir.join(name))
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path).map(|dir| dir.join(name)))
        .find(|file| fs::metadata(file).is_ok_and(|m| m.is_file()))
}

/// The last thing a log says; only its end is read.
fn last_line(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut bytes = Vec::new();
        file.take(4096).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().rfind(|l| !l.trim().is_empty());
        Ok(coral_model::text::fit(line.unwrap_or("its log is empty"), 300))
    };
    read().unwrap_or_else(|e| format!("its log cannot be read: {e}"))
}

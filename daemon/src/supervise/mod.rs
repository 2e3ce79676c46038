//! The local agent: started, restarted when it dies, stopped with the colony.
//!
//! An agent outlives a crashed daemon on purpose: it goes on accepting into its spool and reconnects.
//! The next daemon adopts it rather than starting a second one. In: what processes do. Out: a running
//! agent, and [`Supervised`], what can be said about it.

mod backoff;
mod process;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use backoff::Backoff;
use process::{Note, Process};

/// Exit code of an agent that found another one holding its data directory.
const ANOTHER_HOLDS_THE_LOCK: i32 = 75;
/// How long an agent has to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether a foreign agent has left.
const FOREIGN: Duration = Duration::from_secs(60);
/// The agent's own output file is emptied at a start that finds it longer than this.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// How to start the agent.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its data directory; made when missing.
    pub data: PathBuf,
    /// Where its standard output and error go.
    pub output: PathBuf,
    /// Where it is noted which process it is, for the next daemon.
    pub note: PathBuf,
}

/// What can be said about the local agent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Supervised {
    /// Nobody asked for one.
    #[default]
    Off,
    /// It is being started.
    Starting,
    /// It runs, started by this daemon or adopted.
    Running {
        /// Its process.
        pid: u32,
    },
    /// An agent that this daemon did not start holds the data directory.
    Foreign,
    /// It ended by itself, or cannot be started; it will be tried again.
    Failing {
        /// What happened.
        why: String,
    },
}

/// The agent's supervisor. Ends, and ends the agent, when its token is cancelled.
#[derive(Debug)]
pub struct Supervisor {
    plan: Plan,
    state: Arc<Mutex<Supervised>>,
}

/// Reads what the supervisor knows.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<Supervised>>);

impl Watch {
    /// The local agent as it is now.
    #[must_use]
    pub fn state(&self) -> Supervised {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

enum Ended {
    /// The colony ends.
    Stopped,
    /// The agent ended with that code, or by a signal.
    Code(Option<i32>),
}

impl Supervisor {
    /// For an agent to be started by that plan.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self { plan, state: Arc::default() }
    }

    /// For whoever wants to know.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.state))
    }

    fn say(&self, state: Supervised) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Keeps an agent running until `stop`; then ends it and waits until it is gone.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        if let Some(process) = Note::read(&self.plan.note).and_then(|note| Process::of(&note)) {
            tracing::info!("adopted the agent that already runs, process {}", process.pid());
            self.say(Supervised::Running { pid: process.pid() });
            if self.mind_adopted(process, &stop).await {
                return;
            }
        }
        while !stop.is_cancelled() {
            self.say(Supervised::Starting);
            let begun = Instant::now();
            let pause = match self.start_and_mind(&stop).await {
                Ok(Ended::Stopped) => return,
                Ok(Ended::Code(Some(ANOTHER_HOLDS_THE_LOCK))) => {
                    tracing::info!("another agent holds {}", self.plan.data.display());
                    self.say(Supervised::Foreign);
                    FOREIGN
                }
                Ok(Ended::Code(code)) => {
                    let why = match code {
                        Some(code) => format!("the agent ended with code {code}"),
                        None => "the agent was killed".to_owned(),
                    };
                    self.failed(why, backoff.after(begun.elapsed()))
                }
                Err(e) => {
                    let why = format!("{} cannot be started: {e}", self.plan.program.display());
                    self.failed(why, backoff.after(begun.elapsed()))
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn failed(&self, why: String, pause: Duration) -> Duration {
        tracing::warn!("{why}; see {}; again in {pause:?}", self.plan.output.display());
        self.say(Supervised::Failing { why });
        pause
    }

    async fn start_and_mind(&self, stop: &CancellationToken) -> std::io::Result<Ended> {
        std::fs::create_dir_all(&self.plan.data)?;
        let output = output(&self.plan.output)?;
        let mut child = tokio::process::Command::new(&self.plan.program)
            .args(&self.plan.args)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A Ctrl-C meant for the daemon's terminal is the daemon's to pass on.
            .process_group(0)
            .kill_on_drop(false)
            .spawn()?;
        let pid = child.id().unwrap_or_default();
        tracing::info!("started the agent, process {pid}");
        if let Some(note) = Note::of_running(pid) {
            note.write(&self.plan.note)?;
        }
        self.say(Supervised::Running { pid });
        tokio::select! {
            ended = child.wait() => {
                Note::remove(&self.plan.note);
                return Ok(Ended::Code(ended?.code()));
            }
            () = stop.cancelled() => {}
        }
        if let Some(process) = Process::from_pid(pid) {
            process.terminate();
        }
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            tracing::warn!("the agent, process {pid}, does not end: killing it");
            child.kill().await?;
        }
        tracing::info!("the agent has ended");
        Note::remove(&self.plan.note);
        Ok(Ended::Stopped)
    }

    /// True when the colony ends, false when the agent did.
    async fn mind_adopted(&self, process: Process, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = process.gone() => {
                tracing::warn!("the adopted agent, process {}, has ended", process.pid());
                Note::remove(&self.plan.note);
                return false;
            }
            () = stop.cancelled() => {}
        }
        process.terminate();
        if tokio::time::timeout(GRACE, process.gone()).await.is_err() {
            tracing::warn!("the agent, process {}, does not end: killing it", process.pid());
            process.kill();
            process.gone().await;
        }
        Note::remove(&self.plan.note);
        true
    }
}

fn output(path: &Path) -> std::io::Result<std::fs::File> {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    if file.metadata()?.len() > OUTPUT_LIMIT {
        file.set_len(0)?;
    }
    Ok(file)
}

/// A program of Coral's: beside the one that runs, else wherever PATH finds it.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| name.into())
}

//! What a person named in `agent.toml`, kept going.
//!
//! Comes in: the file, read again whenever it changes. Goes out: a task for each thing that is named
//! ([`super::prometheus`], [`super::logs`]), ended and begun anew with the file. A file that cannot be read stops
//! nothing: what was named before goes on, and the sense `agent.toml` says what is wrong where.

mod settings;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use settings::{Settings, SettingsError};

use super::logs::{self, What};
use super::prometheus::task;
use super::task::Sink;
use crate::counters::Counters;
use crate::senses::Senses;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Answers of scrapes read at a time: reading is the part that costs.
const TURNS: usize = 2;
/// The sense that tells of the file.
const SENSE: &str = "agent.toml";

/// What [`run`] needs.
pub struct Setup {
    /// The file; it need not exist.
    pub file: PathBuf,
    /// `host.name`.
    pub host: String,
    /// Takes what is read, encoded.
    pub sink: Arc<dyn Sink>,
    /// Told how everything named is.
    pub senses: Senses,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// For logs, which wait rather than drop.
    pub logs: logs::task::Shared,
}

/// When a file was written and how long it is: enough to see that it changed.
type Stamp = Option<(SystemTime, u64)>;

/// Keeps what the file names going, until cancelled.
pub async fn run(setup: Setup, cancel: CancellationToken) {
    let turns = Arc::new(Semaphore::new(TURNS));
    let mut known: Option<Stamp> = None;
    let mut running = Running::default();
    loop {
        let stamp = stamp(&setup.file);
        if known != Some(stamp) {
            known = Some(stamp);
            match Settings::read(&setup.file) {
                Ok(settings) => {
                    setup.senses.remove(SENSE);
                    running.stop().await;
                    running.start(&setup, settings, &turns);
                }
                Err(error) => {
                    tracing::warn!(%error, "agent.toml");
                    let remedy = format!("correct {}", setup.file.display());
                    setup.senses.off(SENSE, error.to_string(), Some(&remedy));
                }
            }
        }
        tokio::select! {
            () = cancel.cancelled() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    running.stop().await;
}

fn stamp(file: &std::path::Path) -> Stamp {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// The tasks of one reading of the file.
#[derive(Default)]
struct Running {
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    fn start(&mut self, setup: &Setup, settings: Settings, turns: &Arc<Semaphore>) {
        for scrape in settings.scrape {
            let of_target = task::Setup {
                scrape,
                host: setup.host.clone(),
                sink: setup.sink.clone(),
                senses: setup.senses.clone(),
                counters: setup.counters.clone(),
                turns: turns.clone(),
            };
            self.tasks.spawn(task::run(of_target, self.cancel.clone()));
        }
        let (files, journals): (Vec<_>, Vec<_>) =
            settings.logs.into_iter().partition(|s| matches!(s.what, What::Files { .. }));
        if !files.is_empty() {
            let following = logs::task::run(setup.logs.clone(), files, self.cancel.clone());
            self.tasks.spawn(following);
        }
        for journal in journals {
            let following = logs::journal::run(setup.logs.clone(), journal, self.cancel.clone());
            self.tasks.spawn(following);
        }
    }

    async fn stop(&mut self) {
        let Self { cancel, tasks } = std::mem::take(self);
        cancel.cancel();
        tasks.close();
        tasks.wait().await;
    }
}

//! Settings that hold while the daemon runs: how long what is kept. The files they stand in are
//! looked at every few seconds, so that `coral config set` takes effect without a restart.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coral_model::config::{Config, ConfigError, Retention, Sources};
use coral_model::paths::{ColonyName, Paths};
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The files, as last seen.
pub(super) struct Settings {
    paths: Paths,
    colony: ColonyName,
    files: [PathBuf; 2],
    seen: Option<[Option<SystemTime>; 2]>,
}

impl Settings {
    pub(super) fn new(paths: Paths, colony: ColonyName) -> Self {
        let files = [paths.config_file(), paths.colony_file(&colony)];
        Self { paths, colony, files, seen: None }
    }

    /// What the files say, when they changed since the last look.
    pub(super) fn look(&mut self) -> Option<Result<Retention, ConfigError>> {
        let changed =
            |file: &PathBuf| std::fs::metadata(file).and_then(|meta| meta.modified()).ok();
        let now = self.files.each_ref().map(changed);
        if self.seen.replace(now) == Some(now) {
            return None;
        }
        let sources = Sources {
            flags: vec![("colony", "--colony", self.colony.to_string())],
            env: &|name| std::env::var(name).ok(),
            project: None,
            paths: &self.paths,
        };
        Some(Config::load(&sources).map(|config| config.retention))
    }

    /// Tells the store of every change until the end.
    pub(super) async fn follow(mut self, store: Arc<Store>, end: CancellationToken) {
        let mut beat = tokio::time::interval(LOOK);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = beat.tick() => {}
            }
            match self.look() {
                None => {}
                Some(Ok(retention)) => store.retain(retention),
                Some(Err(error)) => {
                    tracing::warn!("settings stay as they were: {error}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths {
            config_dir: dir.path().to_owned(),
            data_dir: "/d".into(),
            state_dir: "/s".into(),
            runtime_dir: "/r".into(),
            socket_override: None,
            uid: 0,
        };
        let mut settings = Settings::new(paths.clone(), ColonyName::default());
        assert_eq!(settings.look().unwrap().unwrap(), Retention::default());
        assert!(settings.look().is_none());
        std::fs::write(
            paths.config_file(),
            "[retention]\nspans = \"3h\"\n[disk]\nmax = \"1GiB\"\n",
        )
        .unwrap();
        let kept = settings.look().unwrap().unwrap();
        assert_eq!((kept.spans, kept.disk_max), (3 * 3_600_000_000_000, Some(1 << 30)));
        assert!(settings.look().is_none());
        std::fs::remove_file(paths.config_file()).unwrap();
        std::fs::write(paths.config_file(), "retention.spans = \"soon\"\n").unwrap();
        std::fs::File::open(paths.config_file())
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        assert!(settings.look().unwrap().is_err());
    }
}

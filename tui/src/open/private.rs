//! A colony for one file.

use std::path::Path;
use std::time::Duration;

use coral_model::paths::{ColonyName, Paths};
use tempfile::TempDir;

use super::OpenError;
use crate::client::{Client, Launch, Target};

/// How its folder is called; the daemon deletes no other.
const PREFIX: &str = "coral-open-";
/// It leaves by itself this long after its last viewer, should whoever opened it be killed.
const LEAVE_AFTER: &str = "60s";
/// How long its daemon has to go.
const GONE: Duration = Duration::from_secs(10);

/// A colony that is gone when this is.
#[derive(Debug)]
pub struct Private {
    /// How it is reached.
    pub target: Target,
    /// How its daemon is started.
    pub launch: Launch,
    /// What is shown as its name.
    pub name: String,
    dir: TempDir,
}

impl Private {
    /// Makes its folder, which only this user may enter.
    ///
    /// # Errors
    /// When there is no room for one.
    pub fn new(file: &Path, paths: &Paths) -> Result<Self, OpenError> {
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir();
        let base = std::env::temp_dir();
        let dir = dir.map_err(|source| OpenError::Io { path: base, source })?;
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned());
        let name = coral_model::text::clean(&name.unwrap_or_default()).into_owned();
        let paths = Paths {
            data_dir: dir.path().join("data"),
            socket_override: Some(dir.path().join("colony.sock")),
            ..paths.clone()
        };
        let target = Target { colony: ColonyName::default(), paths };
        let more = ["--file", &name, "--leave-after", LEAVE_AFTER];
        let launch = Launch { more: more.map(str::to_owned).to_vec(), ..Launch::default() };
        Ok(Self { target, launch, name: format!("FILE {name}"), dir })
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends its daemon and waits until it is gone.
    pub async fn end(&self, client: Client) {
        _ = client.shutdown().await;
        let socket = client.socket.clone();
        drop(client);
        let gone = async {
            while socket.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        _ = tokio::time::timeout(GONE, gone).await;
    }
}

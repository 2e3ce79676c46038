//! The agent's data folder: its lock, its id, and where others find its ports.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use coral_model::AgentId;
use serde::Serialize;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another agent has it.
    #[error("another agent already uses {} (pid {pid}); one agent per data folder", dir.display())]
    Taken {
        /// The folder.
        dir: PathBuf,
        /// Whose it is, as the lock file says.
        pid: String,
    },
    /// The system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// An open, locked data folder.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    /// The agent's id.
    pub agent: AgentId,
    _lock: File,
}

/// What others find in `agent.json`.
#[derive(Debug, Serialize)]
pub struct Ports {
    /// The agent's process.
    pub pid: u32,
    /// Where OTLP/gRPC is taken.
    pub otlp_grpc: Option<SocketAddr>,
    /// Where OTLP/HTTP is taken.
    pub otlp_http: Option<SocketAddr>,
    /// Its log file.
    pub log: PathBuf,
}

impl Home {
    /// Opens and locks a folder, creating it if need be (0700).
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| HomeError::Io { path, source }
        };
        let builder = {
            use std::os::unix::fs::DirBuilderExt as _;
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder
        };
        builder.create(dir).map_err(io(dir))?;
        let path = dir.join("lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io(&path))?;
        let how = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        match rustix::fs::flock(&lock, how) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
                return Err(HomeError::Taken { dir: dir.to_owned(), pid });
            }
            Err(error) => return Err(HomeError::Io { path, source: error.into() }),
        }
        lock.set_len(0).map_err(io(&path))?;
        writeln!(lock, "{}", std::process::id()).map_err(io(&path))?;
        let agent = agent_id(&dir.join("agent-id"))?;
        Ok(Self { dir: dir.to_owned(), agent, _lock: lock })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Folder of the spool.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.dir.join("spool")
    }

    /// The log file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Where logs were read up to.
    #[must_use]
    pub fn log_places(&self) -> PathBuf {
        self.dir.join("logs.json")
    }

    /// There while somebody wants the agent's eyes to be closed.
    #[must_use]
    pub fn eyes_closed(&self) -> PathBuf {
        self.dir.join("eyes-closed.json")
    }

    /// Writes `agent.json`, and the same to `also`.
    pub fn write_ports(&self, ports: &Ports, also: Option<&Path>) -> Result<(), HomeError> {
        let own = self.dir.join("agent.json");
        for path in [Some(own.as_path()), also].into_iter().flatten() {
            let text = serde_json::to_string(ports).unwrap_or_default();
            replace(path, text.as_bytes())
                .map_err(|source| HomeError::Io { path: path.to_owned(), source })?;
        }
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Nobody should look for ports of an agent that is gone. The lock file stays: removing it
        // would let two agents lock two different files of the same name.
        _ = fs::remove_file(self.dir.join("agent.json"));
    }
}

/// Reads the agent's id, or makes it once.
fn agent_id(path: &Path) -> Result<AgentId, HomeError> {
    let io = |source| HomeError::Io { path: path.to_owned(), source };
    match fs::read_to_string(path) {
        Ok(text) => {
            if let Ok(id) = text.trim().parse() {
                return Ok(id);
            }
            tracing::warn!(path = %path.display(), "the agent's id is unreadable; making a new one");
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let id = AgentId(crate::random_bytes());
    replace(path, format!("{id}\n").as_bytes()).map_err(io)?;
    Ok(id)
}

/// Replaces a file whole: whoever reads it sees the old text or the new one.
pub(crate) fn replace(path: &Path, text: &[u8]) -> Result<(), std::io::Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::create(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_per_folder_and_the_id_stays() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let id = home.agent;
        let error = Home::open(dir.path()).unwrap_err();
        assert!(
            matches!(&error, HomeError::Taken { pid, .. } if *pid == std::process::id().to_string())
        );
        drop(home);
        assert_eq!(Home::open(dir.path()).unwrap().agent, id);
    }
}

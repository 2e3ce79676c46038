//! The state directory: `shop.json` tells the fault switches and the tests where everything is; a lock keeps a
//! second shop out.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::fault::FaultSet;

/// What `shop.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub run_pid: u32,
    /// Address of the fault switches.
    pub control: String,
    pub gateway: String,
    pub load_pid: u32,
    pub redis_pid: u32,
    pub redis_port: u16,
    pub postgres_pid: u32,
    pub postgres_port: u16,
    pub services: Vec<ServiceState>,
}

/// One service in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    pub name: String,
    /// 0 while it is down.
    pub pid: u32,
    pub port: u16,
    pub version: String,
    pub instance: String,
    pub restarts: u32,
    pub faults: FaultSet,
}

/// The directory, locked for this process.
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// Where the shop lives when nobody says otherwise.
pub fn default_dir() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    home.join(".cache/coral/shop")
}

impl StateDir {
    /// Makes the directory if need be and takes its lock.
    ///
    /// # Errors
    /// When another shop runs there, or it cannot be written.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .with_context(|| format!("state directory {}", path.display()))?;
        let path = path.canonicalize()?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(path.join("lock"))?;
        let alone = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        alone.map_err(|_| {
            anyhow::anyhow!("another shop runs in {} (see shop.json there)", path.display())
        })?;
        Ok(Self { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces `shop.json` in one step.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, state: &State) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(state)?;
        let fresh = self.path.join("shop.json.new");
        std::fs::write(&fresh, text)?;
        std::fs::rename(fresh, self.path.join("shop.json"))?;
        Ok(())
    }

    /// Takes `shop.json` away: nothing runs any more.
    pub fn forget(&self) {
        let _ = std::fs::remove_file(self.path.join("shop.json"));
    }

    /// A password of this directory, made at its first use.
    ///
    /// # Errors
    /// When it can neither be read nor written.
    pub fn password(&self) -> anyhow::Result<String> {
        let path = self.path.join("password");
        if let Ok(text) = std::fs::read_to_string(&path)
            && text.len() == 32
        {
            return Ok(text);
        }
        let random = |_| getrandom::u64().context("randomness");
        let text = format!("{:016x}{:016x}", random(())?, random(())?);
        let mut file =
            File::options().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(text)
    }
}

/// Reads what a running shop says about itself.
///
/// # Errors
/// When none runs there.
pub fn read(dir: &Path) -> anyhow::Result<State> {
    let path = dir.join("shop.json");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("no shop runs in {} (start one: coral-shop run)", dir.display())
    })?;
    serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
}

//! `daemon.json`: where the running daemon is, for whoever cannot ask it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What a running daemon says about itself, in its data directory and on its standard output.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Beacon {
    /// Its colony.
    pub colony: String,
    /// Its process.
    pub pid: u32,
    /// The socket it serves on.
    pub socket: PathBuf,
    /// Its log file.
    pub log: PathBuf,
    /// Its build.
    pub build: String,
}

impl Beacon {
    const FILE: &str = "daemon.json";

    /// Writes it into the colony's directory; a reader sees the old or the new one, never half.
    pub fn write(&self, colony_dir: &Path) -> std::io::Result<()> {
        let new = colony_dir.join(".daemon.json.new");
        let mut file = std::fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.write_all(b"\n")?;
        std::fs::rename(new, colony_dir.join(Self::FILE))
    }

    /// The one in that directory, if there is one that can be read.
    #[must_use]
    pub fn read(colony_dir: &Path) -> Option<Self> {
        let bytes = std::fs::read(colony_dir.join(Self::FILE)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Takes it away.
    pub fn remove(colony_dir: &Path) {
        _ = std::fs::remove_file(colony_dir.join(Self::FILE));
    }
}

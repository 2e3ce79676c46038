//! Records that could not be read, set aside for whoever wants to know why.
//!
//! They are acknowledged: sending them again would not make them better. The folder is bounded;
//! beyond the bound records are only counted.

use std::path::{Path, PathBuf};

use coral_model::id::{AgentId, SegmentId};

use super::decode::Damaged;

/// Bytes kept in the folder.
const MAX_BYTES: u64 = 16 << 20;
/// Files kept in the folder.
const MAX_FILES: usize = 256;

/// The folder.
#[derive(Debug)]
pub struct Quarantine {
    dir: PathBuf,
}

impl Quarantine {
    /// In the data directory.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self { dir: data.join("quarantine") }
    }

    /// Where the files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a record and the reason why it could not be read; `None` when the folder is full or
    /// cannot be written. Blocks.
    pub fn put(&self, agent: AgentId, segment: SegmentId, damaged: &Damaged) -> Option<PathBuf> {
        std::fs::create_dir_all(&self.dir).ok()?;
        let (files, bytes) = std::fs::read_dir(&self.dir)
            .ok()?
            .filter_map(|entry| entry.ok()?.metadata().ok())
            .fold((0usize, 0u64), |(n, sum), meta| (n + 1, sum.saturating_add(meta.len())));
        let size = coral_model::num::u64_sat(damaged.bytes.len());
        if files >= MAX_FILES || bytes.saturating_add(size) > MAX_BYTES {
            return None;
        }
        let name = format!("{agent}-{segment}-{}", damaged.seq);
        let path = self.dir.join(format!("{name}.bin"));
        std::fs::write(&path, &damaged.bytes).ok()?;
        std::fs::write(self.dir.join(format!("{name}.txt")), &damaged.why).ok()?;
        Some(path)
    }
}

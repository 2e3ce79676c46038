//! A segment's file: created, appended to, never rewritten while it is active.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coral_model::SegmentId;
use coral_proto::record::{FILE_HEADER, FILE_MAGIC};

/// Where a segment lies.
pub(super) fn path(dir: &Path, id: SegmentId) -> PathBuf {
    dir.join(format!("{id}.seg"))
}

/// The active segment.
pub(super) struct Writer {
    file: Arc<File>,
    bytes: u64,
    usable: bool,
}

impl Writer {
    /// Creates a segment file with its header, and makes its name durable.
    pub(super) fn create(dir: &Path, id: SegmentId) -> Result<Self, std::io::Error> {
        let path = path(dir, id);
        let file = OpenOptions::new().append(true).create_new(true).open(&path)?;
        let mut header = [0u8; FILE_HEADER];
        for (slot, byte) in header.iter_mut().zip(FILE_MAGIC.iter().chain(&id.0)) {
            *slot = *byte;
        }
        let named = (&file).write_all(&header).and_then(|()| File::open(dir)?.sync_all());
        if let Err(error) = named {
            // A file without records is nothing to keep.
            _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self { file: Arc::new(file), bytes: FILE_HEADER as u64, usable: true })
    }

    /// Appends; on failure cuts the file back to what it was.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), std::io::Error> {
        if let Err(error) = (&*self.file).write_all(bytes) {
            self.usable = self.file.set_len(self.bytes).is_ok();
            return Err(error);
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Whether it can still be appended to after a failure.
    pub(super) fn usable(&self) -> bool {
        self.usable
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }
}

/// Bytes an unprivileged user may still write to the file system of `dir`.
pub(super) fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether the file system of `dir` is more than 90 % full for an unprivileged user.
pub(super) fn is_nearly_full(dir: &Path) -> Option<bool> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let usable = used.saturating_add(stat.f_bavail);
    Some(stat.f_bavail.saturating_mul(10) < usable)
}

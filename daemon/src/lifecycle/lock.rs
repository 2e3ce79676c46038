//! One daemon per colony: a lock the kernel gives back when its holder is gone, however it went.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Why the lock is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is held by process {}", file.display(), holder.as_deref().unwrap_or("?"))]
    Held {
        /// The lock.
        file: PathBuf,
        /// What the holder wrote into it, its process id.
        holder: Option<String>,
    },
    /// The file cannot be opened or locked at all.
    #[error("{}: {source}; the directory must be on a local file system and writable", file.display())]
    Io {
        /// The lock.
        file: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
}

/// A held lock. Its file stays when the lock is dropped: removing it would let two processes hold
/// two files of one name.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, or says at once who has it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { file: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                _ = file.take(32).read_to_string(&mut text);
                let holder = text.lines().next().map(|h| h.trim().to_owned());
                let holder = holder.filter(|h| !h.is_empty());
                return Err(LockError::Held { file: path.to_owned(), holder });
            }
            Err(errno) => return Err(io(errno.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { file })
    }

    /// Adds lines for whoever finds the file, also when its holder is gone.
    pub fn note(&mut self, lines: &[&str]) -> std::io::Result<()> {
        lines.iter().try_for_each(|line| writeln!(self.file, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_freed_by_its_holders_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.lock");
        let first = Lock::take(&path).unwrap();
        let Err(LockError::Held { holder, .. }) = Lock::take(&path) else {
            panic!("locked twice");
        };
        assert_eq!(holder, Some(std::process::id().to_string()));
        drop(first);
        Lock::take(&path).unwrap();
    }
}

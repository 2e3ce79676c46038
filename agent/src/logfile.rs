//! The agent's own log: one bounded file and the one before it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes after which a new file is begun.
const BOUND: u64 = 4 << 20;

/// A writer that begins a new file when the current one is full and keeps one old one.
#[derive(Debug, Clone)]
pub struct LogFile {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    bytes: u64,
    bound: u64,
}

impl LogFile {
    /// Opens or continues a log.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::bounded(path, BOUND)
    }

    fn bounded(path: &Path, bound: u64) -> io::Result<Self> {
        let file = File::options().append(true).create(true).open(path)?;
        let bytes = file.metadata()?.len();
        let inner = Inner { path: path.to_owned(), file, bytes, bound };
        Ok(Self { inner: Arc::new(Mutex::new(inner)) })
    }
}

impl Inner {
    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, self.path.with_extension("log.1"))?;
        self.file = File::options().append(true).create(true).open(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

impl Write for &LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let length = line.len() as u64;
        if inner.bytes > 0 && inner.bytes + length > inner.bound {
            // A log that cannot be rotated (full disk) is better overlong than silent.
            _ = inner.rotate();
        }
        // A full disk must not take the agent down with its log: told of an error, the subscriber
        // would print it to standard error, and that panics when it lies on the same disk.
        if inner.file.write_all(line).is_ok() {
            inner.bytes += length;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for LogFile {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_never_grows_beyond_two_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.log");
        let log = LogFile::bounded(&path, 100).unwrap();
        for _ in 0..50 {
            (&log).write_all(&[b'x'; 30]).unwrap();
        }
        let sizes: Vec<_> = [&path, &path.with_extension("log.1")]
            .iter()
            .map(|p| fs::metadata(p).unwrap().len())
            .collect();
        assert!(sizes.iter().all(|&n| n <= 100), "{sizes:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_full_disk_is_no_error_of_whoever_logs() {
        let log = LogFile::bounded(Path::new("/dev/full"), 100).unwrap();
        for _ in 0..10 {
            (&log).write_all(&[b'x'; 30]).unwrap();
        }
    }
}

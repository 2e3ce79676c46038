//! The daemon's own log: a bounded file, its predecessor beside it, both named by `coral doctor`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Largest log file; with its predecessor twice this on disk.
const LIMIT: u64 = 4 << 20;

struct Inner {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
    echo: bool,
}

/// A log file that is moved to `<name>.1` when it is full.
#[derive(Clone)]
pub(super) struct LogFile(Arc<Mutex<Inner>>);

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl LogFile {
    fn new(path: &Path, limit: u64, echo: bool) -> io::Result<Self> {
        let file = open(path)?;
        let written = file.metadata()?.len();
        let inner = Inner { path: path.to_owned(), file, written, limit, echo };
        Ok(Self(Arc::new(Mutex::new(inner))))
    }
}

impl Inner {
    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.path, old)?;
        self.file = open(&self.path)?;
        self.written = 0;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let length = coral_model::num::u64_sat(line.len());
        if inner.written > 0 && inner.written + length > inner.limit {
            // A log that cannot be rotated (full disk) is better overlong than silent.
            _ = inner.rotate();
        }
        inner.written += length;
        if inner.echo {
            _ = io::stderr().write_all(line);
        }
        // A full disk must not take the colony down with its log.
        _ = inner.file.write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Sends everything the daemon says about itself to `path`, and to standard error when `echo`.
/// `CORAL_LOG` chooses what (`info` by default).
pub(super) fn start(path: &Path, echo: bool) -> io::Result<()> {
    let filter = EnvFilter::try_from_env("CORAL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let writer = LogFile::new(path, LIMIT, echo)?;
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(writer);
    // Fails only where a test of this process has installed one already.
    _ = subscriber.try_init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_makes_room_and_keeps_its_predecessor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let mut log = LogFile::new(&path, 100, false).unwrap();
        for n in 0..10 {
            log.write_all(format!("{n}{}\n", "x".repeat(30)).as_bytes()).unwrap();
        }
        let now = std::fs::read_to_string(&path).unwrap();
        let before = std::fs::read_to_string(dir.path().join("daemon.log.1")).unwrap();
        assert!(now.len() <= 100 && before.len() <= 100);
        assert!(now.contains("9xxx") && before.contains("8xxx"), "{before}{now}");
    }
}

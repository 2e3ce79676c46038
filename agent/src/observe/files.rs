//! The one place that opens the kernel's text files.
//!
//! Reads are bounded, so that no file, however odd the container, costs more than its cap, and are
//! relative to a base folder, so that tests hand in recorded kernels.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Longest text that is read; `/proc/stat` of a machine with thousands of interrupts fits.
const MAX_TEXT: u64 = 1 << 20;

/// Reader of files below a base folder.
#[derive(Debug)]
pub struct Files {
    base: PathBuf,
    buffer: Vec<u8>,
}

impl Files {
    /// Below `base`; `/` is the machine itself.
    #[must_use]
    pub fn below(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into(), buffer: Vec::new() }
    }

    /// Another reader of the same files.
    #[must_use]
    pub fn twin(&self) -> Self {
        Self::below(&self.base)
    }

    /// Where `path` (absolute) really lies.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.base.join(path.trim_start_matches('/'))
    }

    /// The text of a file, up to the cap, bytes that are not UTF-8 replaced.
    pub fn read(&mut self, path: &str) -> io::Result<Cow<'_, str>> {
        self.buffer.clear();
        let file = File::open(self.base.join(path.trim_start_matches('/')))?;
        file.take(MAX_TEXT).read_to_end(&mut self.buffer)?;
        Ok(String::from_utf8_lossy(&self.buffer))
    }

    /// What `parse` makes of a file; a file it can make nothing of is an error too.
    pub fn parse<T>(&mut self, path: &str, parse: impl FnOnce(&str) -> Option<T>) -> io::Result<T> {
        let text = self.read(path)?;
        parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown format"))
    }

    /// Hands each line to `see` until it says stop or `max_bytes` are read; `false` when that was
    /// not all.
    pub fn lines(
        &mut self,
        path: &str,
        max_bytes: u64,
        mut see: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<bool> {
        let file = File::open(self.path(path))?;
        let mut file = BufReader::with_capacity(64 << 10, file.take(max_bytes));
        loop {
            self.buffer.clear();
            if file.read_until(b'\n', &mut self.buffer)? == 0 {
                return Ok(file.get_ref().limit() > 0);
            }
            if !see(&self.buffer) {
                return Ok(false);
            }
        }
    }

    /// Whether a file is there.
    #[must_use]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.base.join(path.as_ref().strip_prefix("/").unwrap_or(path.as_ref())).exists()
    }
}

/// Why a file could not be read, in the words a person can act on.
#[must_use]
pub fn reason(path: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("{path} is absent"),
        io::ErrorKind::PermissionDenied => format!("{path} may not be read by this user"),
        io::ErrorKind::InvalidData => format!("{path} has an unknown format"),
        _ => format!("{path}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_bounded_and_say_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("big"), "0123456789\n".repeat(1000)).unwrap();
        let mut files = Files::below(dir.path());
        let mut seen = 0;
        assert!(
            !files
                .lines("/big", 110, |_| {
                    seen += 1;
                    true
                })
                .unwrap()
        );
        assert_eq!(seen, 10);
        assert!(files.lines("/big", 1 << 20, |_| true).unwrap());
        let missing = files.read("/nothing").unwrap_err();
        assert_eq!(reason("/nothing", &missing), "/nothing is absent");
        assert!(files.exists("/big") && !files.exists("/nothing"));
    }
}

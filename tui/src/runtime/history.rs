//! Statements of earlier sessions: one JSON text a line, the newest last, readable by its owner only.
//!
//! Sessions append; the file is cut to its newest lines when one opens it and it has grown past its
//! bound. Remembering is a comfort: where it fails, nothing else does.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::app::REMEMBERED;

/// Bytes the file may grow to; of a larger one only the end is read.
const LARGEST: u64 = 1 << 20;

/// Where statements are remembered.
#[derive(Debug, Clone)]
pub struct History {
    file: PathBuf,
}

impl History {
    /// In this folder, which is made when something is remembered.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { file: dir.join("sql-history.jsonl") }
    }

    /// What is remembered, oldest first. Nothing where nothing can be read.
    #[must_use]
    pub fn read(&self) -> Vec<String> {
        let Ok((text, size)) = self.end() else { return Vec::new() };
        // A line that was cut, or that somebody else wrote, is passed over.
        let mut all: Vec<String> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let over = all.len().saturating_sub(REMEMBERED);
        all.drain(..over);
        if over > REMEMBERED || size > LARGEST {
            _ = self.rewrite(&all);
        }
        all
    }

    fn end(&self) -> io::Result<(String, u64)> {
        let mut file = fs::File::open(&self.file)?;
        let size = file.metadata()?.len();
        file.seek(io::SeekFrom::Start(size.saturating_sub(LARGEST)))?;
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes)?;
        Ok((String::from_utf8_lossy(&bytes).into_owned(), size))
    }

    /// Remembers one more.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&self, statement: &str) -> io::Result<()> {
        if let Some(dir) = self.file.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut line = serde_json::to_string(statement).map_err(io::Error::other)?;
        line.push('\n');
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.file)?;
        // In one piece, so that two sessions never mix their lines.
        file.write_all(line.as_bytes())
    }

    fn rewrite(&self, all: &[String]) -> io::Result<()> {
        let dir = self.file.parent().unwrap_or_else(|| Path::new("."));
        let mut new = tempfile::NamedTempFile::new_in(dir)?;
        for statement in all {
            serde_json::to_writer(&mut new, statement).map_err(io::Error::other)?;
            new.write_all(b"\n")?;
        }
        new.persist(&self.file).map(drop).map_err(|e| e.error)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn statements_outlive_sessions_and_the_file_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::new(&dir.path().join("state"));
        assert!(history.read().is_empty());
        history.add("SELECT 1\n-- two lines").unwrap();
        history.add("SELECT 'ü'").unwrap();
        assert_eq!(history.read(), ["SELECT 1\n-- two lines", "SELECT 'ü'"]);
        let mode = fs::metadata(&history.file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for n in 0..2 * REMEMBERED {
            history.add(&format!("SELECT {n}")).unwrap();
        }
        let all = history.read();
        assert_eq!((all.len(), all.last().unwrap().as_str()), (REMEMBERED, "SELECT 999"));
        let text = fs::read_to_string(&history.file).unwrap();
        assert_eq!(text.lines().count(), REMEMBERED);
    }

    #[test]
    fn a_damaged_or_vast_file_is_read_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::new(dir.path());
        fs::write(&history.file, b"\"SELECT 1\"\n\xff\xfe\n{\"a\":1}\n\"SELECT 2\"\n\"SEL")
            .unwrap();
        assert_eq!(history.read(), ["SELECT 1", "SELECT 2"]);
        let line = format!("\"{}\"\n", "x".repeat(1_000));
        fs::write(&history.file, line.repeat(2_000)).unwrap();
        assert_eq!(history.read().len(), REMEMBERED);
        assert!(fs::metadata(&history.file).unwrap().len() < LARGEST);
    }
}

//! A file that is saved piece by piece: whole, or not at all, and readable for its owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::exit::Failure;

/// A path that cannot be written.
pub fn target_failed(path: &str, error: &io::Error) -> Failure {
    Failure::other(format!("{path} cannot be written: {error}"))
}

/// What becomes of a file that is there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// The new one takes its place.
    Written,
    /// It stays, and nothing is written.
    Refused,
}

impl Over {
    /// By `--force`.
    #[must_use]
    pub const fn of(force: bool) -> Self {
        if force { Self::Written } else { Self::Refused }
    }
}

/// Where the file goes: beside its name until it is whole, readable for its owner only.
pub struct Target {
    /// Takes the pieces.
    pub out: Box<dyn Write>,
    rename: Option<(PathBuf, PathBuf)>,
}

impl Target {
    /// For a path; `-` is standard output.
    ///
    /// # Errors
    /// It cannot be written there, or something is there that is to stay.
    pub fn of(path: &str, example: &str, over: Over) -> Result<Self, Failure> {
        if path == "-" {
            return Ok(Self { out: Box::new(io::stdout().lock()), rename: None });
        }
        let whole = PathBuf::from(path);
        if whole.is_dir() {
            return Err(Failure::usage(format!("{path} is a folder"))
                .next(format!("name a file in it: {}", whole.join(example).display())));
        }
        if over == Over::Refused && whole.symlink_metadata().is_ok() {
            return Err(Failure::usage(format!("{path} is there already"))
                .next("another name, or --force to write over it"));
        }
        let mut part = whole.clone().into_os_string();
        part.push(format!(".part-{}", std::process::id()));
        let part = PathBuf::from(part);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        let file = file.map_err(|e| target_failed(path, &e))?;
        Ok(Self { out: Box::new(io::BufWriter::new(file)), rename: Some((part, whole)) })
    }

    /// All pieces are there.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        self.out.flush()?;
        if let Some((part, whole)) = self.rename.take() {
            fs::rename(part, whole)?;
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Half a file is none.
        if let Some((part, _)) = &self.rename {
            _ = fs::remove_file(Path::new(part));
        }
    }
}

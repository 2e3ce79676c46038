//! Python under another name: a program of a test's own, which alone is watched.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter that the tests bring.
pub struct Python {
    program: PathBuf,
    home: String,
    libraries: String,
}

impl Python {
    /// Where it is.
    ///
    /// # Panics
    /// When `tools/apps.sh` has not brought it.
    #[must_use]
    pub fn find() -> Self {
        let cache = std::env::var_os("CORAL_CACHE").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap();
        let python =
            cache.unwrap_or_else(|| home.join(".cache/coral")).join("apps/python/bin/python");
        assert!(python.exists(), "no {}: run tools/apps.sh first", python.display());
        let say = "import os, sys, sysconfig; \
                   print(os.path.realpath(sys.executable)); \
                   print(sys.base_prefix); print(sysconfig.get_path('purelib'))";
        let output = Command::new(python).args(["-c", say]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let [program, home, libraries] = text.lines().collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        Self { program: program.into(), home: home.to_owned(), libraries: libraries.to_owned() }
    }

    /// A copy of it in `dir` that is called `name`.
    #[must_use]
    pub fn called(&self, dir: &Path, name: &str) -> Command {
        let program = dir.join(name);
        if !program.exists() {
            std::fs::copy(&self.program, &program).unwrap();
        }
        let mut command = Command::new(program);
        command.env("PYTHONHOME", &self.home).env("PYTHONPATH", &self.libraries);
        command
    }
}

//! A bound on a program's memory: a cgroup of a test's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A cgroup with a bound. Dropping it takes it away; whoever was in it must have ended.
pub struct MemoryLimit(PathBuf);

/// Where this process is in a hierarchy: the first whose line of `/proc/self/cgroup` says `word`.
fn own(word: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut lines = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    });
    let found = lines.find(|(controllers, _)| controllers.split(',').any(|one| one == word));
    found.map(|(_, path)| path.trim_start_matches('/').to_owned())
}

impl MemoryLimit {
    /// A group that may use so many bytes; `None`, said aloud, where this machine lets nobody make one.
    #[must_use]
    pub fn of(bytes: u64) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let n = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("coral-test-{}-{n}", std::process::id());
        let places = [
            ("/sys/fs/cgroup/memory", own("memory"), "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", own(""), "memory.max"),
        ];
        for (base, path, limit) in places {
            let Some(path) = path else { continue };
            let group = Path::new(base).join(path).join(&name);
            if std::fs::create_dir(&group).is_err() {
                continue;
            }
            let made = Self(group);
            if std::fs::write(made.0.join(limit), bytes.to_string()).is_ok() {
                return Some(made);
            }
        }
        eprintln!("skipped: no cgroup with a bound on memory may be made here");
        None
    }

    /// Runs a program in it.
    #[must_use]
    pub fn around(&self, inner: &Command) -> Command {
        let mut command = Command::new("sh");
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", self.0.display());
        command.arg("-c").arg(enter).arg(inner.get_program()).args(inner.get_args());
        let set = inner.get_envs().filter_map(|(key, value)| Some((key, value?)));
        command.envs(set);
        if let Some(dir) = inner.get_current_dir() {
            command.current_dir(dir);
        }
        command
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // The kernel takes a moment to let go of who was in it.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        eprintln!("{} could not be removed", self.0.display());
    }
}

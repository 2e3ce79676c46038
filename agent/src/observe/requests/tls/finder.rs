//! The files that have been found, and what is said of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coral_model::text::clean;
use coral_model::view::{Sense, SenseState};

use super::{FUNCTIONS, Met, NEEDED, elf, maps};
use crate::counters::Counters;
use crate::observe::files::Files;
use crate::observe::requests::watch::Watch;

/// The name of the sense.
pub const SENSE: &str = "tls";
/// Files that programs are put into; more are not, counted.
const FILES: usize = 128;
/// Files remembered that are not OpenSSL; beyond it all are looked at anew.
const PASSED: usize = 8_192;
/// Files that are named one by one.
const NAMED: usize = 8;
/// Processes that are looked at when the agent starts.
const PROCESSES: usize = 8_192;
/// Bytes of what a process maps that are read.
const MAPS: u64 = 4 << 20;
/// Where OpenSSL usually is: so that who uses it for the first time is seen from the beginning.
const USUAL: [&str; 11] = [
    "/usr/lib/*/libssl.so.*",
    "/usr/lib/libssl.so.*",
    "/usr/lib64/libssl.so.*",
    "/lib/*/libssl.so.*",
    "/lib/libssl.so.*",
    "/lib64/libssl.so.*",
    "/usr/local/lib/libssl.so.*",
    "/usr/local/lib64/libssl.so.*",
    "/usr/bin/node",
    "/usr/bin/nodejs",
    "/usr/local/bin/node",
];

/// Puts programs into files.
pub trait Hook {
    /// What takes them out again.
    type Held;

    /// Puts them to where functions are in a file, by their place in [`FUNCTIONS`].
    ///
    /// # Errors
    /// Why the kernel refuses it; then none is in it.
    fn hook(&mut self, file: &Path, places: &[(usize, u64)]) -> Result<Self::Held, String>;

    /// Takes them out.
    fn let_go(&mut self, held: Self::Held);
}

/// Which file, whatever it is called.
type Id = (u64, u64);

struct Hooked<T> {
    held: T,
    name: String,
    /// Processes that use it, where it is not of the agent's own file system but a container's: that goes
    /// away when they do. `None`: it stays.
    users: Option<HashSet<u32>>,
}

/// See the module.
pub struct Finder<H: Hook> {
    hook: H,
    files: Files,
    watch: Watch,
    counters: Arc<Counters>,
    hooked: HashMap<Id, Hooked<H::Held>>,
    passed: HashSet<Id>,
    refused: BTreeMap<String, String>,
}

impl<H: Hook> Finder<H> {
    /// One that looks below `files`.
    #[must_use]
    pub fn new(hook: H, files: Files, watch: Watch, counters: Arc<Counters>) -> Self {
        let (hooked, passed, refused) = (HashMap::new(), HashSet::new(), BTreeMap::new());
        Self { hook, files, watch, counters, hooked, passed, refused }
    }

    /// Looks where OpenSSL usually is, and at every process that is watched.
    pub fn start(&mut self) {
        for pattern in USUAL {
            let pattern = self.files.path(pattern);
            let found = glob::glob(&pattern.to_string_lossy()).into_iter().flatten().flatten();
            for path in found {
                self.consider(&path, &path.to_string_lossy(), None);
            }
        }
        let entries = std::fs::read_dir(self.files.path("/proc")).into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        for pid in pids.take(PROCESSES).collect::<Vec<u32>>() {
            if self.executable(pid).is_some_and(|path| self.watch.rule(&path).is_some()) {
                self.look(Met { pid, speaks: true });
            }
        }
    }

    fn executable(&self, pid: u32) -> Option<String> {
        let path = std::fs::read_link(self.files.path(&format!("/proc/{pid}/exe"))).ok()?;
        Some(path.to_string_lossy().into_owned())
    }

    /// Looks at a process: at its executable, and at what it maps once it speaks TLS.
    pub fn look(&mut self, met: Met) {
        let Met { pid, speaks } = met;
        // One that is over by now needs nothing any more.
        let Some(executable) = self.executable(pid) else { return };
        if !speaks && self.watch.rule(&executable).is_none() {
            return;
        }
        let file = self.files.path(&format!("/proc/{pid}/exe"));
        self.consider(&file, &executable, Some(pid));
        if !speaks {
            return;
        }
        let mut mapped = Vec::new();
        _ = self.files.lines(&format!("/proc/{pid}/maps"), MAPS, |line| {
            if let Some(path) = std::str::from_utf8(line).ok().and_then(maps::library)
                && mapped.last().is_none_or(|last| last != path)
            {
                mapped.push(path.to_owned());
            }
            true
        });
        for path in mapped {
            let file = self.files.path(&format!("/proc/{pid}/root{path}"));
            self.consider(&file, &path, Some(pid));
        }
    }

    fn consider(&mut self, file: &Path, name: &str, pid: Option<u32>) {
        let Some((opened, id)) = open(file) else { return };
        if let Some(hooked) = self.hooked.get_mut(&id) {
            if let (Some(users), Some(pid)) = (&mut hooked.users, pid) {
                users.insert(pid);
            }
            return;
        }
        if self.passed.contains(&id) {
            return;
        }
        let names = FUNCTIONS.map(|(name, _)| name);
        let found = elf::exported(opened, &names).unwrap_or_default();
        let places: Vec<(usize, u64)> =
            found.into_iter().enumerate().filter_map(|(n, at)| Some((n, at?))).collect();
        let has = |needed: &&str| places.iter().any(|(n, _)| names.get(*n) == Some(needed));
        if !NEEDED.iter().all(has) {
            return self.pass(id);
        }
        let name = clean(name).into_owned();
        if self.hooked.len() >= FILES {
            self.counters.requests_tls_files_refused.add(1);
            self.refuse(name, format!("there are {FILES} already"));
            return self.pass(id);
        }
        match self.hook.hook(file, &places) {
            Ok(held) => {
                let own = open(&self.files.path(&name)).is_some_and(|(_, own)| own == id);
                let users = pid.filter(|_| !own).map(|pid| HashSet::from([pid]));
                tracing::info!(name, "what OpenSSL is given and gives here is read");
                self.hooked.insert(id, Hooked { held, name, users });
            }
            Err(why) => {
                self.counters.requests_tls_files_refused.add(1);
                self.refuse(name, why);
                self.pass(id);
            }
        }
        self.counters.requests_tls_files.set(self.hooked.len() as u64);
    }

    fn pass(&mut self, id: Id) {
        if self.passed.len() >= PASSED {
            self.passed.clear();
        }
        self.passed.insert(id);
    }

    fn refuse(&mut self, name: String, why: String) {
        tracing::warn!(name, why, "what OpenSSL is given and gives here cannot be read");
        if self.refused.len() < NAMED {
            self.refused.insert(name, why);
        }
    }

    /// Takes programs out of containers' files that nobody uses any more: they would keep the container's
    /// file system from going away.
    pub fn sweep(&mut self) {
        let mut gone = Vec::new();
        for (id, hooked) in &mut self.hooked {
            let Some(users) = &mut hooked.users else { continue };
            users.retain(|pid| self.files.exists(format!("/proc/{pid}/exe")));
            if users.is_empty() {
                gone.push(*id);
            }
        }
        for id in gone {
            if let Some(hooked) = self.hooked.remove(&id) {
                self.hook.let_go(hooked.held);
            }
        }
        self.counters.requests_tls_files.set(self.hooked.len() as u64);
    }

    /// What is said of it.
    #[must_use]
    pub fn sense(&self) -> Sense {
        let mut names: Vec<&str> = self.hooked.values().map(|h| h.name.as_str()).collect();
        names.sort_unstable();
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        let functions = FUNCTIONS.map(|(name, _)| name).join(", ");
        let mut why = match names.is_empty() {
            true => format!("OpenSSL: uprobes on {functions}, as soon as a program uses it"),
            false => format!("OpenSSL: uprobes on {functions} in {}", names.join(", ")),
        };
        if more > 0 {
            why.push_str(&format!(" and {more} more"));
        }
        let mut missing = self.refused.iter().map(|(name, why)| format!("{name}: {why}"));
        let missing = missing.by_ref().collect::<Vec<_>>().join(" · ");
        let state = if missing.is_empty() { SenseState::On } else { SenseState::Partial };
        if !missing.is_empty() {
            why = format!("{why} · missing {missing}");
        }
        Sense { name: SENSE.to_owned(), state, why, remedy: None }
    }
}

/// Opens a regular file.
fn open(path: &Path) -> Option<(File, Id)> {
    // What is no file must not hold anybody up.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file =
        OpenOptions::new().read(true).custom_flags(flags).open::<PathBuf>(path.into()).ok()?;
    let about = file.metadata().ok()?;
    about.is_file().then(|| (file, (about.dev(), about.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kernel {
        hooked: Vec<PathBuf>,
        let_go: usize,
        refuses: bool,
    }

    impl Hook for Kernel {
        type Held = ();

        fn hook(&mut self, file: &Path, places: &[(usize, u64)]) -> Result<(), String> {
            assert!(places.len() >= NEEDED.len());
            if self.refuses {
                return Err("no".to_owned());
            }
            self.hooked.push(file.to_owned());
            Ok(())
        }

        fn let_go(&mut self, (): ()) {
            self.let_go += 1;
        }
    }

    /// Any library that exports what is looked for: OpenSSL's of this machine.
    fn library() -> PathBuf {
        let found = USUAL.iter().flat_map(|pattern| glob::glob(pattern).unwrap().flatten());
        let mut found = found.filter(|path| maps::is_library(&path.to_string_lossy()));
        found.next().expect("OpenSSL's library: run tools/services.sh first")
    }

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(dir.path().join("proc")).unwrap();
            Self { dir }
        }

        /// A process whose file system has an OpenSSL of its own.
        fn process(&self, pid: u32, executable: &str) {
            let proc = self.dir.path().join(format!("proc/{pid}"));
            let lib = proc.join("root/opt/lib");
            std::fs::create_dir_all(&lib).unwrap();
            std::fs::copy(library(), lib.join("libssl.so.3")).unwrap();
            std::os::unix::fs::symlink(executable, proc.join("exe")).unwrap();
            let line = "7f-80 r-xp 0001f000 fe:00 39 /opt/lib/libssl.so.3\n";
            std::fs::write(proc.join("maps"), line.repeat(3)).unwrap();
        }

        fn finder(&self, kernel: Kernel, watch: &str) -> Finder<Kernel> {
            let files = Files::below(self.dir.path());
            Finder::new(kernel, files, watch.parse().unwrap(), Arc::default())
        }
    }

    #[test]
    fn a_file_is_hooked_once_and_let_go_when_nobody_uses_it() {
        let place = Place::new();
        place.process(7, "/bin/true");
        place.process(8, "/usr/bin/sleep");
        let lib = place.dir.path().join("usr/lib/x");
        std::fs::create_dir_all(&lib).unwrap();
        std::fs::copy(library(), lib.join("libssl.so.3")).unwrap();
        let mut finder = place.finder(Kernel::default(), "true");
        finder.start();
        // The usual one, and that of the process that is watched.
        assert_eq!(finder.hook.hooked.len(), 2, "{:?}", finder.hook.hooked);
        finder.start();
        finder.look(Met { pid: 7, speaks: true });
        assert_eq!((finder.hook.hooked.len(), finder.counters.requests_tls_files.get()), (2, 2));
        let sense = finder.sense();
        assert_eq!(sense.state, SenseState::On);
        assert!(
            sense.why.contains("SSL_read, ") && sense.why.contains("/opt/lib/libssl.so.3"),
            "{sense:?}"
        );
        finder.sweep();
        assert_eq!(finder.hook.let_go, 0);
        std::fs::remove_dir_all(place.dir.path().join("proc/7")).unwrap();
        finder.sweep();
        assert_eq!((finder.hook.let_go, finder.counters.requests_tls_files.get()), (1, 1));
        // One that began is looked at for its executable alone; one that is gone not at all.
        finder.look(Met { pid: 8, speaks: false });
        finder.look(Met { pid: 9, speaks: true });
        assert_eq!(finder.hook.hooked.len(), 2);
        finder.look(Met { pid: 8, speaks: true });
        assert_eq!(finder.hook.hooked.len(), 3);
    }

    #[test]
    fn what_the_kernel_refuses_is_said() {
        let place = Place::new();
        place.process(7, "/bin/true");
        let mut finder = place.finder(Kernel { refuses: true, ..Kernel::default() }, "all");
        finder.start();
        finder.look(Met { pid: 7, speaks: true });
        let sense = finder.sense();
        assert_eq!(sense.state, SenseState::Partial);
        assert!(sense.why.ends_with("missing /opt/lib/libssl.so.3: no"), "{sense:?}");
        assert_eq!(finder.counters.requests_tls_files_refused.get(), 1);
    }
}

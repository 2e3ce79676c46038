//! What a process was started as, so that the next one can be held against it.
//!
//! A deploy shows although nobody labels it: another build of the program, other arguments, variables
//! of the environment, files that its arguments name. Values never leave the agent, nor are they kept:
//! only numbers made of them with a key that this run of the agent chose.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{Read as _, Seek as _};
use std::path::PathBuf;

use coral_model::text::clean;
use object::Object as _;
use object::read::ReadCache;

use crate::observe::files::Files;

/// Variables compared.
const VARIABLES: usize = 512;
/// Arguments looked at, and files among them.
const ARGUMENTS: usize = 64;
const FILES: usize = 16;
/// A longer file is known by its length and its last change.
const FILE: u64 = 1 << 20;
/// Names told one by one.
const NAMED: usize = 8;
/// Variables that differ between any two starts, and say nothing.
const PASSING: [&str; 17] = [
    "_",
    "SHLVL",
    "OLDPWD",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
    "MAINPID",
    "NOTIFY_SOCKET",
    "LISTEN_PID",
    "LISTEN_FDS",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_TTY",
    "XDG_SESSION_ID",
    "WINDOWID",
];

/// Makes numbers of values; another run of the agent makes others.
#[derive(Debug, Clone, Default)]
pub struct Key(RandomState);

/// What a process was started as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Likeness {
    /// Build id of its program, or a number for its file; `None` where it may not be looked at.
    program: Option<String>,
    arguments: Option<u64>,
    environment: BTreeMap<String, u64>,
    files: BTreeMap<String, u64>,
}

/// How one process differs from the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// What its program was and is.
    pub program: Option<(String, String)>,
    /// Its arguments are others.
    pub arguments: bool,
    /// Names of variables, with what became of them.
    pub environment: Vec<(String, Change)>,
    /// Files that its arguments name, likewise.
    pub files: Vec<(String, Change)>,
}

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Changed,
}

impl Likeness {
    /// Looks at a process. What may not be looked at is not known, and is then no change.
    #[must_use]
    pub fn of(files: &mut Files, pid: u32, key: &Key) -> Self {
        let number = |bytes: &[u8]| key.0.hash_one(bytes);
        let program = program(files, pid, key);
        let line = files.read(&format!("/proc/{pid}/cmdline")).map(|line| line.into_owned());
        let line = line.ok().filter(|line| !line.is_empty());
        let environment = files.read(&format!("/proc/{pid}/environ")).map(|all| {
            let entries = all.split('\0').filter_map(|entry| entry.split_once('='));
            let entries = entries.filter(|(name, _)| !name.is_empty() && !PASSING.contains(name));
            let entries =
                entries.map(|(name, value)| (clean(name).into_owned(), number(value.as_bytes())));
            entries.take(VARIABLES).collect()
        });
        let named = line.as_deref().map(|line| named_files(files, pid, line, key));
        Self {
            program,
            arguments: line.map(|line| number(line.as_bytes())),
            environment: environment.unwrap_or_default(),
            files: named.unwrap_or_default(),
        }
    }

    /// What is different in `to`; `None`: nothing that is known of both.
    #[must_use]
    pub fn changes(&self, to: &Self) -> Option<Changes> {
        let program = self.program.clone().zip(to.program.clone()).filter(|(from, to)| from != to);
        let arguments = self.arguments.zip(to.arguments).is_some_and(|(from, to)| from != to);
        let known = !self.environment.is_empty() && !to.environment.is_empty();
        let environment =
            if known { differences(&self.environment, &to.environment) } else { Vec::new() };
        // Other arguments name other files.
        let files = differences(&self.files, &to.files);
        let files = files.into_iter().filter(|(_, change)| *change == Change::Changed).collect();
        Some(Changes { program, arguments, environment, files })
            .filter(|c| *c != Changes::default())
    }
}

fn differences(from: &BTreeMap<String, u64>, to: &BTreeMap<String, u64>) -> Vec<(String, Change)> {
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let changes = names.into_iter().filter_map(|name| {
        let change = match (from.get(name), to.get(name)) {
            (Some(from), Some(to)) if from == to => return None,
            (Some(_), Some(_)) => Change::Changed,
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
        };
        Some((name.clone(), change))
    });
    changes.collect()
}

/// The build id that the linker wrote, else a number for the file.
fn program(files: &Files, pid: u32, key: &Key) -> Option<String> {
    let file = std::fs::File::open(files.path(&format!("/proc/{pid}/exe"))).ok()?;
    let cache = ReadCache::new(&file);
    let id = object::File::parse(&cache).ok().and_then(|elf| Some(elf.build_id().ok()??.to_vec()));
    if let Some(id) = id.filter(|id| !id.is_empty()) {
        let digits = id.iter().take(20).map(|byte| format!("{byte:02x}"));
        return Some(format!("build id {}", digits.collect::<String>()));
    }
    drop(cache);
    // It was read from here and there.
    (&file).rewind().ok()?;
    Some(format!("file {:016x}", number_of_file(&file, key)?))
}

fn number_of_file(file: &std::fs::File, key: &Key) -> Option<u64> {
    let meta = file.metadata().ok()?;
    if meta.len() > FILE {
        return Some(key.0.hash_one((meta.len(), meta.modified().ok())));
    }
    let mut bytes = Vec::new();
    file.take(FILE).read_to_end(&mut bytes).ok()?;
    Some(key.0.hash_one(bytes))
}

/// Files that arguments name: `app.py`, `-c /etc/x.conf`, `--config=x.toml`; as the process sees them.
fn named_files(files: &Files, pid: u32, line: &str, key: &Key) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let root = files.path(&format!("/proc/{pid}/root"));
    let folder = std::fs::read_link(files.path(&format!("/proc/{pid}/cwd"))).unwrap_or_default();
    // A title that a program wrote over its arguments has blanks between them.
    let line = line.trim_end_matches('\0');
    let between = if line.contains('\0') { '\0' } else { ' ' };
    for argument in line.split(between).skip(1).take(ARGUMENTS) {
        let name = argument.split_once('=').map_or(argument, |(_, value)| value);
        if found.len() >= FILES || name.is_empty() || name.starts_with('-') {
            continue;
        }
        let path: PathBuf = folder.join(name);
        let Ok(inside) = path.strip_prefix("/") else { continue };
        let path = root.join(inside);
        // Asked before it is opened: a pipe or a device would do something.
        if !std::fs::metadata(&path).is_ok_and(|meta| meta.is_file()) {
            continue;
        }
        let number = std::fs::File::open(&path).ok().and_then(|file| number_of_file(&file, key));
        if let Some(number) = number {
            found.insert(clean(name).into_owned(), number);
        }
    }
    found
}

/// As in "cart came back with *another build of its program, DB_HOST changed*".
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.program.is_some() {
            parts.push("another build of its program".to_owned());
        }
        if self.arguments {
            parts.push("other arguments".to_owned());
        }
        let all = self.environment.iter().chain(&self.files);
        parts.extend(all.clone().take(NAMED).map(|(name, change)| format!("{name} {change}")));
        let more = all.count().saturating_sub(NAMED);
        if more > 0 {
            parts.push(format!("{more} more changes"));
        }
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "new",
            Self::Removed => "gone",
            Self::Changed => "changed",
        })
    }
}

impl Changes {
    /// Particulars for an event.
    #[must_use]
    pub fn attributes(&self) -> Vec<(String, String)> {
        let list = |of: &[(String, Change)]| {
            let names = of.iter().take(64).map(|(name, change)| format!("{name} {change}"));
            names.collect::<Vec<_>>().join(", ")
        };
        let mut out = Vec::new();
        if let Some((from, to)) = &self.program {
            out.push(("program.from".to_owned(), from.clone()));
            out.push(("program.to".to_owned(), to.clone()));
        }
        if self.arguments {
            out.push(("arguments".to_owned(), "changed".to_owned()));
        }
        if !self.environment.is_empty() {
            out.push(("environment".to_owned(), list(&self.environment)));
        }
        if !self.files.is_empty() {
            out.push(("files".to_owned(), list(&self.files)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    /// A recorded process: its program's bytes, its arguments, its environment.
    fn process(base: &Path, pid: u32, program: &[u8], arguments: &str, environment: &str) {
        let at = base.join(format!("proc/{pid}"));
        _ = fs::remove_dir_all(&at);
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("exe"), program).unwrap();
        fs::write(at.join("cmdline"), arguments.replace(' ', "\0")).unwrap();
        fs::write(at.join("environ"), environment.replace(' ', "\0")).unwrap();
        symlink(base.join("root"), at.join("root")).unwrap();
        symlink("/srv", at.join("cwd")).unwrap();
    }

    #[test]
    fn what_is_different_is_told_and_no_value_is() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        for folder in ["root/etc", "root/srv"] {
            fs::create_dir_all(base.join(folder)).unwrap();
        }
        fs::write(base.join("root/etc/cart.toml"), "timeout = 1").unwrap();
        fs::write(base.join("root/srv/app.py"), "print(1)").unwrap();
        let line = "python3 app.py -v --config=/etc/cart.toml /dev/null";
        process(base, 1, b"one", line, "DB_HOST=a OLD=1 PATH=/bin INVOCATION_ID=7 SECRET=hunter2");
        let (mut files, key) = (Files::below(base), Key::default());
        let first = Likeness::of(&mut files, 1, &key);
        assert_eq!(first.files.keys().collect::<Vec<_>>(), ["/etc/cart.toml", "app.py"]);
        assert_eq!(first.changes(&Likeness::of(&mut files, 1, &key)), None);

        fs::write(base.join("root/etc/cart.toml"), "timeout = 9").unwrap();
        process(base, 2, b"two", line, "DB_HOST=b NEW=1 PATH=/bin INVOCATION_ID=8 SECRET=hunter3");
        let changes = first.changes(&Likeness::of(&mut files, 2, &key)).unwrap();
        let told = "another build of its program, DB_HOST changed, NEW new, OLD gone, SECRET changed, \
                    /etc/cart.toml changed";
        assert_eq!(changes.to_string(), told);
        let all = format!("{changes:?} {:?}", changes.attributes());
        assert!(!all.contains("hunter"), "{all}");

        process(base, 3, b"one", "python3 app.py -vv", "DB_HOST=a OLD=1 PATH=/bin SECRET=hunter2");
        let changes = first.changes(&Likeness::of(&mut files, 3, &key)).unwrap();
        assert_eq!(changes.to_string(), "other arguments");
    }

    #[test]
    fn what_may_not_be_seen_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        process(dir.path(), 1, b"one", "cart -v", "A=1");
        let (mut files, key) = (Files::below(dir.path()), Key::default());
        let seen = Likeness::of(&mut files, 1, &key);
        let hidden = Likeness::of(&mut files, 9, &key);
        assert_eq!((seen.changes(&hidden), hidden.changes(&seen)), (None, None));
    }

    #[test]
    fn much_is_told_in_part_and_a_build_id_is_read() {
        let environment = |n: u64| (0..30).map(|i| (format!("V{i:02}"), n)).collect();
        let of = |n| Likeness { environment: environment(n), ..Likeness::default() };
        let changes = of(1).changes(&of(2)).unwrap();
        assert!(changes.to_string().ends_with("V07 changed, 22 more changes"), "{changes}");
        // This very program has whatever the linker gave it; the same each time.
        let (mut files, key) = (Files::below("/"), Key::default());
        let me = Likeness::of(&mut files, std::process::id(), &key);
        assert!(me.program.is_some());
        assert_eq!(me.changes(&Likeness::of(&mut files, std::process::id(), &key)), None);
    }
}

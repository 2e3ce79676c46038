//! Looks at one process through `/proc/<pid>`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use coral_model::num::u64_sat;

use crate::observe::files::Files;
use crate::observe::parse::process::{self, ProcessStat};

/// Descriptors counted one by one, where the kernel has no count (before 6.2).
const MAX_COUNTED: usize = 65_536;

pub(super) fn stat(files: &mut Files, pid: u32) -> io::Result<ProcessStat> {
    files.parse(&format!("/proc/{pid}/stat"), process::stat)
}

/// Whether the error means that there is no such process (any more).
pub(super) fn is_gone(error: &io::Error) -> bool {
    // A process that ends while its file is open gives ESRCH.
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// Whether a process of this pid exists, be it hidden from us.
pub(super) fn exists(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Whether the process can be the executable a service says it is; `true` where nothing speaks
/// against it. Interpreters rename themselves (`node` calls itself `MainThread`), so any of its
/// names will do.
pub(super) fn may_be(files: &mut Files, pid: u32, executable: &str) -> bool {
    let names = names(files, pid);
    let wanted = last_part(executable);
    names.is_empty()
        || names.iter().any(|name| {
            // The kernel cuts its own name for a process after 15 bytes.
            name == wanted || (name.len() == 15 && wanted.starts_with(name.as_str()))
        })
}

/// What a process is called: its comm, its executable's file, its first argument.
pub(super) fn names(files: &mut Files, pid: u32) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(comm) = files.read(&format!("/proc/{pid}/comm")) {
        names.push(comm.trim_end().to_owned());
    }
    if let Ok(exe) = fs::read_link(files.path(&format!("/proc/{pid}/exe"))) {
        let exe = exe.to_string_lossy().into_owned();
        names.push(last_part(exe.strip_suffix(" (deleted)").unwrap_or(&exe)).to_owned());
    }
    if let Ok(line) = files.read(&format!("/proc/{pid}/cmdline")) {
        names.extend(line.split('\0').next().map(|argument| last_part(argument).to_owned()));
    }
    names.retain(|name| !name.is_empty());
    names
}

pub(super) fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The pid by which the process knows itself, in the innermost pid namespace it is in (since 4.1).
pub(in crate::observe) fn own_pid(files: &mut Files, pid: u32) -> Option<u32> {
    let status = files.read(&format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().last()?.parse().ok()
}

/// Open descriptors. Since 6.2 the kernel tells the number to anyone (`proc.rst`: the size of the
/// directory), before they are counted, which takes the same user or `CAP_SYS_PTRACE`.
pub(super) fn open_files(files: &Files, pid: u32) -> io::Result<u64> {
    let dir = files.path(&format!("/proc/{pid}/fd"));
    let size = fs::metadata(&dir)?.size();
    if size > 0 {
        return Ok(size);
    }
    Ok(u64_sat(fs::read_dir(dir)?.take(MAX_COUNTED).count()))
}

pub(super) fn open_files_limit(files: &mut Files, pid: u32) -> io::Result<u64> {
    files.parse(&format!("/proc/{pid}/limits"), process::open_files_limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let mut files = Files::below("/");
        let pid = std::process::id();
        let me = stat(&mut files, pid).unwrap();
        assert!(!me.dead && !me.kernel && me.threads >= 1 && me.rss_pages > 0);
        let before = open_files(&files, pid).unwrap();
        let _open: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        // Other tests of this process open and close files too; fifty are not noise.
        assert!(open_files(&files, pid).unwrap() >= before.saturating_sub(25) + 50);
        assert!(open_files_limit(&mut files, pid).unwrap() > 50);
        assert!(exists(pid));
        assert!(own_pid(&mut files, pid).is_some());
    }

    #[test]
    fn an_executable_is_recognised_by_any_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("proc/9");
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("comm"), "a-rather-long-n\n").unwrap();
        fs::write(at.join("cmdline"), "/usr/bin/node\0server.js\0").unwrap();
        let mut files = Files::below(dir.path());
        assert!(may_be(&mut files, 9, "a-rather-long-name"));
        assert!(may_be(&mut files, 9, "/opt/x/node"));
        assert!(!may_be(&mut files, 9, "python3"));
        assert!(may_be(&mut files, 10, "python3"));
    }
}

//! Where a process's standard output and standard error go.
//!
//! Told by the links below `/proc/<pid>/fd` alone, without asking of what they lead to: that may be on a file
//! system that does not answer.

use std::fs;
use std::path::{Path, PathBuf};

use crate::observe::files::Files;
use crate::observe::logs::Format;

/// Where Docker's `json-file` driver writes what a container says; `{}` stands for its id.
const DOCKER: &str = "/var/lib/docker/containers/{}/{}-json.log";
/// How terminals are called.
const TERMINALS: [&str; 3] = ["/dev/pts/", "/dev/tty", "/dev/console"];

/// Where something is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sink {
    /// A file, of which the end can be read, with its number, if that is still it.
    File(PathBuf, u64),
    /// What a container says, as Docker writes it.
    Docker(PathBuf),
    /// systemd's journal, which whoever may can ask for this process.
    Journal,
    /// A pipe, a terminal, a file of another mount namespace: what is not captured while it is written is
    /// gone.
    Unreadable,
    /// Nowhere, or to somebody through a socket.
    Elsewhere,
}

impl Sink {
    /// How the lines of a file are wrapped.
    pub(super) fn format(&self) -> Format {
        if matches!(self, Self::Docker(_)) { Format::Docker } else { Format::Text }
    }
}

/// Where a process writes, by descriptor; nothing where it may not be looked at, or is gone.
pub(super) fn of(files: &mut Files, pid: u32, container: Option<&str>) -> [Option<Sink>; 2] {
    [1, 2].map(|fd| of_descriptor(files, pid, fd, container))
}

/// Whether a person sits at a process's standard input.
pub(in crate::observe) fn is_at_terminal(files: &Files, pid: u32) -> bool {
    let input = fs::read_link(files.path(&format!("/proc/{pid}/fd/0")));
    input.is_ok_and(|target| is_terminal(&target.to_string_lossy()))
}

fn is_terminal(target: &str) -> bool {
    TERMINALS.iter().any(|name| target.starts_with(name))
}

fn of_descriptor(files: &mut Files, pid: u32, fd: u32, container: Option<&str>) -> Option<Sink> {
    let target = fs::read_link(files.path(&format!("/proc/{pid}/fd/{fd}"))).ok()?;
    let target = target.to_string_lossy();
    if target.starts_with("socket:") {
        return Some(if is_journal(files, pid) { Sink::Journal } else { Sink::Elsewhere });
    }
    if target.starts_with("pipe:") || is_terminal(&target) {
        let docker = container.map(|id| files.path(&DOCKER.replace("{}", id)));
        let docker = docker.filter(|log| log.exists());
        return Some(docker.map_or(Sink::Unreadable, Sink::Docker));
    }
    if !target.starts_with('/') || target.starts_with("/dev/") {
        return Some(Sink::Elsewhere);
    }
    // What has no name any more, or one in another namespace, cannot be read by it.
    let is_here = !target.ends_with(" (deleted)") && is_of_our_mounts(files, pid);
    let number = inode(files, pid, fd).filter(|_| is_here);
    let file = |number| Sink::File(files.path(&target), number);
    Some(number.map_or(Sink::Unreadable, file))
}

/// Number of what a descriptor leads to (since Linux 5.14).
fn inode(files: &mut Files, pid: u32, fd: u32) -> Option<u64> {
    let text = files.read(&format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("ino:"))?.trim().parse().ok()
}

fn is_of_our_mounts(files: &Files, pid: u32) -> bool {
    let of = |whose: &Path| fs::read_link(whose).ok();
    let theirs = of(&files.path(&format!("/proc/{pid}/ns/mnt")));
    theirs.is_some() && theirs == of(&files.path("/proc/self/ns/mnt"))
}

/// Whether systemd says so to the process (`systemd.exec(5)`, `$JOURNAL_STREAM`).
fn is_journal(files: &mut Files, pid: u32) -> bool {
    let environment = files.read(&format!("/proc/{pid}/environ"));
    environment.is_ok_and(|all| all.split('\0').any(|entry| entry.starts_with("JOURNAL_STREAM=")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;
    use std::process::{Child, Command, Stdio};

    fn child(out: Stdio, error: Stdio) -> Child {
        let mut command = Command::new("sleep");
        command.arg("600").stdin(Stdio::null()).stdout(out).stderr(error).spawn().unwrap()
    }

    #[test]
    fn every_kind_of_place_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().canonicalize().unwrap().join("out.log");
        let file = fs::File::create(&log).unwrap();
        let number = file.metadata().unwrap().ino();
        let mut files = Files::below("/");
        let mut one = child(file.into(), Stdio::null());
        let mut two = child(Stdio::piped(), Stdio::piped());
        let to_file = Some(Sink::File(log.clone(), number));
        assert_eq!(of(&mut files, one.id(), None), [to_file, Some(Sink::Elsewhere)]);
        let unreadable = Some(Sink::Unreadable);
        assert_eq!(of(&mut files, two.id(), None), [unreadable.clone(), unreadable.clone()]);
        fs::remove_file(&log).unwrap();
        assert_eq!(of(&mut files, one.id(), None)[0], unreadable);
        assert!(!is_at_terminal(&files, one.id()));
        for child in [&mut one, &mut two] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(of(&mut files, u32::MAX, None), [None, None]);
    }

    /// Recorded, for neither Docker nor systemd need be here.
    #[test]
    fn what_docker_and_the_journal_have_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let link = |pid: u32, target: &str, environment: &str| {
            let at = dir.path().join(format!("proc/{pid}"));
            fs::create_dir_all(at.join("fd")).unwrap();
            fs::write(at.join("environ"), environment).unwrap();
            for fd in [0, 1, 2] {
                let at = at.join(format!("fd/{fd}"));
                std::os::unix::fs::symlink(target, at).unwrap();
            }
        };
        link(7, "pipe:[5]", "");
        link(8, "socket:[6]", "A=b\0JOURNAL_STREAM=8:6\0");
        link(9, "socket:[6]", "A=b\0");
        link(10, "/dev/pts/3", "");
        let id = "f".repeat(64);
        let log = dir.path().join(format!("var/lib/docker/containers/{id}/{id}-json.log"));
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        fs::write(&log, "").unwrap();
        let mut files = Files::below(dir.path());
        assert_eq!(of(&mut files, 7, Some(&id))[0], Some(Sink::Docker(log)));
        assert_eq!(of(&mut files, 7, Some(&"0".repeat(64)))[0], Some(Sink::Unreadable));
        assert_eq!(of(&mut files, 8, None)[1], Some(Sink::Journal));
        assert_eq!(of(&mut files, 9, None)[1], Some(Sink::Elsewhere));
        assert_eq!(of(&mut files, 10, None)[0], Some(Sink::Unreadable));
        assert!(is_at_terminal(&files, 10) && !is_at_terminal(&files, 7));
    }
}

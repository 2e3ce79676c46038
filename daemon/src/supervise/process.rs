//! A process that is not our child: which one it is, when it is gone, how to end it.
//!
//! A process id alone may mean another process by now. The note therefore holds when the process was
//! started as well, and on Linux a pidfd is opened before that is compared, so that no signal can
//! reach anybody else.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// How often it is looked whether a process has ended. Tokio's `AsyncFd` would wake us instead, but
/// takes `unsafe`.
const LOOK: Duration = Duration::from_millis(100);

/// A process, as it is remembered in a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Note {
    pid: u32,
    /// Start time in clock ticks since boot; `null` where the platform has no /proc.
    started: Option<u64>,
}

impl Note {
    pub(super) fn of_running(pid: u32) -> Option<Self> {
        (pid != 0).then(|| Self { pid, started: started(pid) })
    }

    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    pub(super) fn write(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, serde_json::to_vec(self)?)
    }

    pub(super) fn remove(path: &Path) {
        _ = std::fs::remove_file(path);
    }
}

/// Field 22 of `/proc/<pid>/stat` (proc_pid_stat(5)); fields are counted after the command's `)`.
/// A zombie has ended for our purposes.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    #[cfg(target_os = "linux")]
    fd: Option<std::os::fd::OwnedFd>,
}

impl Process {
    /// The process of the note, if it is still that one.
    pub(super) fn of(note: &Note) -> Option<Self> {
        let process = Self::from_pid(note.pid)?;
        let now = started(note.pid);
        (now == note.started && (now.is_some() || !cfg!(target_os = "linux"))).then_some(process)
    }

    /// The process with that id, if there is one.
    pub(super) fn from_pid(pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
        rustix::process::test_kill_process(pid).ok()?;
        Some(Self {
            pid,
            #[cfg(target_os = "linux")]
            fd: rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        u32::try_from(self.pid.as_raw_nonzero().get()).unwrap_or_default()
    }

    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        #[cfg(target_os = "linux")]
        if let Some(fd) = &self.fd {
            _ = rustix::process::pidfd_send_signal(fd, signal);
            return;
        }
        _ = rustix::process::kill_process(self.pid, signal);
    }

    /// Returns when it has ended.
    pub(super) async fn gone(&self) {
        while self.runs() {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn runs(&self) -> bool {
        #[cfg(target_os = "linux")]
        if let Some(fd) = &self.fd {
            // A pidfd becomes readable when its process ends (pidfd_open(2)).
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let mut fds = [PollFd::new(fd, PollFlags::IN)];
            return poll(&mut fds, Some(&Timespec::default())) == Ok(0);
        }
        rustix::process::test_kill_process(self.pid).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_known_by_its_start_not_its_number() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let note = Note::of_running(child.id()).unwrap();
        let other = Note { started: note.started.map(|s| s + 1), ..note.clone() };
        assert!(Process::of(&other).is_none(), "another process of the same number");
        let process = Process::of(&note).unwrap();
        process.terminate();
        process.gone().await;
        child.wait().unwrap();
        assert!(Process::of(&note).is_none());
    }
}

//! Use of the local file systems.
//!
//! `statvfs` can sleep for ever: below a dead NFS server, on a disk that stopped answering. Only
//! local file systems are asked, and by a thread of their own; when it does not come back in time
//! the mount it hangs on is named and left out, and a fresh thread asks about the others. Few
//! threads may hang at once, so a broken host costs a few sleeping threads and no more.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coral_model::view::Filesystem;

/// How the operating system is asked; replaced in tests.
pub type Ask = Arc<dyn Fn(&str) -> Option<Filesystem> + Send + Sync>;

/// How long all mounts together may take.
const DEADLINE: Duration = Duration::from_millis(300);
/// Threads that may hang.
const MAX_HUNG: usize = 4;

struct Worker {
    ask: Sender<Vec<String>>,
    answers: Receiver<Vec<Filesystem>>,
    /// What it is asking about now; also the mount a hung one hangs on.
    at: Arc<Mutex<Option<String>>>,
}

/// Reader of the file systems' use.
pub struct Filesystems {
    how: Ask,
    deadline: Duration,
    worker: Option<Worker>,
    hung: Vec<Worker>,
}

impl Filesystems {
    /// Asks the operating system.
    #[must_use]
    pub fn new() -> Self {
        Self::asking(Arc::new(statvfs), DEADLINE)
    }

    /// Asks `how`.
    #[must_use]
    pub fn asking(how: Ask, deadline: Duration) -> Self {
        Self { how, deadline, worker: None, hung: Vec::new() }
    }

    /// The use of `mounts`, and a sentence for each that does not answer.
    pub fn read(&mut self, mounts: &[String]) -> (Vec<Filesystem>, Vec<String>) {
        // A thread that came back frees its mount.
        self.hung
            .retain(|w| matches!(w.answers.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)));
        let stuck: Vec<String> = self.hung.iter().filter_map(Worker::at).collect();
        let ask: Vec<String> = mounts.iter().filter(|m| !stuck.contains(m)).cloned().collect();
        let mut blind: Vec<String> = stuck.iter().map(|mount| silent(mount)).collect();
        if self.hung.len() >= MAX_HUNG {
            blind.push("file systems: too many do not answer; the rest is not asked".into());
            return (Vec::new(), blind);
        }
        let Some(worker) = self.worker.take().or_else(|| Worker::start(&self.how)) else {
            blind.push("file systems: no thread could be started; raise the limit of tasks".into());
            return (Vec::new(), blind);
        };
        // The worker only ends when its sender is dropped, so this cannot fail.
        let _ = worker.ask.send(ask);
        match worker.answers.recv_timeout(self.deadline) {
            Ok(rows) => {
                self.worker = Some(worker);
                (rows, blind)
            }
            Err(RecvTimeoutError::Timeout) => {
                blind.extend(worker.at().map(|mount| silent(&mount)));
                self.hung.push(worker);
                (Vec::new(), blind)
            }
            Err(RecvTimeoutError::Disconnected) => (Vec::new(), blind),
        }
    }
}

fn silent(mount: &str) -> String {
    format!(
        "file system {mount} does not answer; check its disk or server, or unmount it (umount -l)"
    )
}

impl Worker {
    fn start(how: &Ask) -> Option<Self> {
        let (ask, asked) = channel::<Vec<String>>();
        let (answer, answers) = channel();
        let at = Arc::new(Mutex::new(None));
        let (how, now) = (Arc::clone(how), Arc::clone(&at));
        let set = move |mount: Option<String>| {
            *now.lock().unwrap_or_else(PoisonError::into_inner) = mount;
        };
        let run = move || {
            for mounts in asked {
                let one = |mount: &String| {
                    set(Some(mount.clone()));
                    how(mount)
                };
                let rows = mounts.iter().filter_map(one).collect();
                set(None);
                if answer.send(rows).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("coral-statvfs".into()).spawn(run).ok()?;
        Some(Self { ask, answers, at })
    }

    fn at(&self) -> Option<String> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn statvfs(mount: &str) -> Option<Filesystem> {
    let stat = rustix::fs::statvfs(mount).ok()?;
    // What is kept for root (ext's 5 %, a quota) is no room that files could fill: as `df` has it,
    // 100 % is when nothing is left for anybody else. Sizes count in fragments.
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let total = used.saturating_add(stat.f_bavail);
    (total > 0).then(|| Filesystem {
        mount: mount.to_owned(),
        total_bytes: total.saturating_mul(stat.f_frsize),
        available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_has_a_size() {
        let (rows, blind) = Filesystems::new().read(&["/".into(), "/no/such/place".into()]);
        assert_eq!((rows.len(), blind.len()), (1, 0));
        assert!(rows[0].total_bytes >= rows[0].available_bytes && rows[0].total_bytes > 0);
    }

    #[test]
    fn a_mount_that_never_answers_is_named_and_the_others_are_still_read() {
        // `/dead` answers once the test opens the gate: a server that came back.
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().unwrap();
        let door = Arc::clone(&gate);
        let how: Ask = Arc::new(move |mount| {
            if mount == "/dead" {
                drop(door.lock());
            }
            Some(Filesystem { mount: mount.to_owned(), ..Filesystem::default() })
        });
        let mut filesystems = Filesystems::asking(how, Duration::from_millis(50));
        let mounts = ["/".to_owned(), "/dead".to_owned(), "/var".to_owned()];
        let (rows, blind) = filesystems.read(&mounts);
        assert!(rows.is_empty() && blind.len() == 1 && blind[0].contains("/dead"), "{blind:?}");
        for _ in 0..3 {
            let (rows, blind) = filesystems.read(&mounts);
            assert_eq!(rows.iter().map(|r| r.mount.as_str()).collect::<Vec<_>>(), ["/", "/var"]);
            assert!(blind.len() == 1 && blind[0].contains("/dead"));
        }
        drop(closed);
        while filesystems.read(&mounts).0.len() < 3 {
            std::thread::yield_now();
        }
        assert!(filesystems.read(&mounts).1.is_empty());
    }
}

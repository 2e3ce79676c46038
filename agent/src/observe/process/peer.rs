//! Which process is at the other end of a connection on this machine.
//!
//! `/proc/net/tcp` tells the socket's inode, a link in some `/proc/<pid>/fd` tells who holds it.
//! Looking into every process is dear, so it is only done while there is a connection to explain,
//! a few links per tick, newest processes first, and what was found is kept.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;

use coral_model::time::SECOND;

use crate::observe::files::Files;
use crate::observe::parse::sockets;

/// Links looked at in one tick: about a millisecond.
const LINKS_PER_TICK: u32 = 1_000;
/// Bytes of each socket table.
const MAX_BYTES: u64 = 16 << 20;
/// A connection that could not be explained is tried again after this, in nanoseconds.
const RETRY: u64 = 60 * SECOND;

/// A connection through which telemetry came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    client: SocketAddr,
    server: SocketAddr,
}

impl Peer {
    /// `client` is the exporter's end, `server` the agent's.
    #[must_use]
    pub fn new(client: SocketAddr, server: SocketAddr) -> Self {
        let plain = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
        Self { client: plain(client), server: plain(server) }
    }

    /// Both ends are on this machine.
    #[must_use]
    pub fn is_local(self) -> bool {
        self.client.ip().is_loopback() || self.client.ip() == self.server.ip()
    }
}

/// What is known of a connection's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is this one.
    Pid(u32),
    /// Still looking.
    Looking,
    /// It cannot be told, for this reason.
    Unknown(String),
}

#[derive(Debug)]
struct Case {
    answer: Answer,
    inode: Option<u64>,
    uid: u32,
    /// Steady time of the last look.
    at: u64,
    wanted: bool,
}

/// Finds processes of connections.
#[derive(Debug, Default)]
pub(super) struct PeerFinder {
    cases: HashMap<Peer, Case>,
    /// Processes still to look into in this pass, newest last.
    pass: Vec<u32>,
    /// Processes that could not be looked into in this pass.
    denied: u32,
}

impl PeerFinder {
    /// What is known of a connection; a new one is looked for from the next [`Self::step`] on.
    pub(super) fn ask(&mut self, peer: Peer, now: u64) -> Answer {
        let fresh = || Case { answer: Answer::Looking, inode: None, uid: 0, at: now, wanted: true };
        let case = self.cases.entry(peer).or_insert_with(fresh);
        if matches!(case.answer, Answer::Unknown(_)) && now.saturating_sub(case.at) >= RETRY {
            *case = fresh();
        }
        case.wanted = true;
        case.answer.clone()
    }

    /// Looks on for a while. Connections that nobody asked about since the last step are dropped.
    /// `hidden`: `/proc` does not even list other users' processes.
    pub(super) fn step(&mut self, files: &mut Files, now: u64, hidden: bool) {
        self.cases.retain(|_, case| std::mem::take(&mut case.wanted));
        if !self.cases.values().any(|case| case.answer == Answer::Looking) {
            self.pass.clear();
            return;
        }
        if self.pass.is_empty() {
            self.begin(files, now);
        }
        let mut left = LINKS_PER_TICK;
        while left > 0 && self.open_cases() > 0 {
            let Some(pid) = self.pass.pop() else { break };
            self.look_into(files, pid, &mut left);
        }
        if self.pass.is_empty() {
            self.end(now, hidden);
        }
    }

    /// Cases whose inode is known and whose process is not.
    fn open_cases(&self) -> usize {
        self.cases.values().filter(|c| c.answer == Answer::Looking && c.inode.is_some()).count()
    }

    fn begin(&mut self, files: &mut Files, now: u64) {
        self.denied = 0;
        for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let cases = &mut self.cases;
            // A missing table (no IPv6) leaves its cases without inode, which `end` explains.
            let _ = files.lines(path, MAX_BYTES, |line| {
                let socket = std::str::from_utf8(line).ok().and_then(sockets::socket);
                let Some(socket) = socket.filter(|s| s.inode > 0) else { return true };
                let peer = Peer { client: socket.local, server: socket.remote };
                if let Some(case) = cases.get_mut(&peer) {
                    (case.inode, case.uid) = (Some(socket.inode), socket.uid);
                }
                true
            });
        }
        for case in self.cases.values_mut() {
            if case.answer == Answer::Looking && case.inode.is_none() {
                let why = "its connection is closed, or comes from another network namespace";
                (case.answer, case.at) = (Answer::Unknown(why.into()), now);
            }
        }
        if self.open_cases() > 0 {
            let entries = fs::read_dir(files.path("/proc")).into_iter().flatten().flatten();
            self.pass = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
            self.pass.sort_unstable();
        }
    }

    fn look_into(&mut self, files: &Files, pid: u32, left: &mut u32) {
        *left = left.saturating_sub(1);
        let Ok(links) = fs::read_dir(files.path(&format!("/proc/{pid}/fd"))) else {
            self.denied = self.denied.saturating_add(1);
            return;
        };
        // A process is looked through to its end, for its descriptors may have moved by the next
        // tick; but one with endless descriptors must not hold up the others.
        for link in links.flatten().take(65_536) {
            *left = left.saturating_sub(1);
            let Ok(target) = fs::read_link(link.path()) else { continue };
            let target = target.to_string_lossy();
            let inode = target.strip_prefix("socket:[").and_then(|t| t.strip_suffix(']'));
            let Some(inode) = inode.and_then(|digits| digits.parse::<u64>().ok()) else { continue };
            for case in self.cases.values_mut().filter(|c| c.inode == Some(inode)) {
                case.answer = Answer::Pid(pid);
            }
        }
    }

    fn end(&mut self, now: u64, hidden: bool) {
        let denied = hidden || self.denied > 0;
        for case in self.cases.values_mut().filter(|c| c.answer == Answer::Looking) {
            // Cases that came during the pass have no inode yet; they wait for the next one.
            if case.inode.is_none() {
                continue;
            }
            let why = if denied {
                let uid = case.uid;
                format!(
                    "its connection belongs to a process of uid {uid} that this user may not look \
                     into; set process.pid, or give the agent CAP_SYS_PTRACE"
                )
            } else {
                "no process in the agent's pid namespace holds its connection; share the pid \
                 namespace (hostPID, --pid=host)"
                    .into()
            };
            (case.answer, case.at) = (Answer::Unknown(why), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn look(finder: &mut PeerFinder, files: &mut Files, peer: Peer) -> Answer {
        // Ends: each step looks into at least one process more, or says it cannot be told.
        loop {
            match finder.ask(peer, 0) {
                Answer::Looking => finder.step(files, 0, false),
                answer => return answer,
            }
        }
    }

    #[test]
    fn a_real_connections_process_is_found() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else {
                assert!(bind.starts_with('['), "no loopback");
                eprintln!("no IPv6 loopback on this machine: only IPv4 is tried");
                continue;
            };
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, from) = listener.accept().unwrap();
            client.write_all(b"x").unwrap();
            server.read_exact(&mut [0]).unwrap();
            let peer = Peer::new(from, server.local_addr().unwrap());
            assert!(peer.is_local());
            let mut files = Files::below("/");
            let found = look(&mut PeerFinder::default(), &mut files, peer);
            assert_eq!(found, Answer::Pid(std::process::id()));
            // Closed: it says so.
            drop((client, server));
            let found = look(&mut PeerFinder::default(), &mut files, peer);
            assert!(matches!(found, Answer::Unknown(why) if why.contains("closed")));
        }
    }

    /// A host whose one connection is held by process 3, among others.
    fn host(dir: &std::path::Path) -> (Files, Peer) {
        fs::create_dir_all(dir.join("proc/net")).unwrap();
        let line = "0: 0100007F:C001 0100007F:10DD 01 0:0 00:0 0 1000 0 42 1 0\n";
        fs::write(dir.join("proc/net/tcp"), line).unwrap();
        for pid in 1..=20_u32 {
            let fds = dir.join(format!("proc/{pid}/fd"));
            fs::create_dir_all(&fds).unwrap();
            for fd in 0..100_u32 {
                let inode = if pid == 3 && fd == 99 { 42 } else { 1000 + pid * 100 + fd };
                std::os::unix::fs::symlink(format!("socket:[{inode}]"), fds.join(fd.to_string()))
                    .unwrap();
            }
        }
        let ends = ("127.0.0.1:49153".parse().unwrap(), "127.0.0.1:4317".parse().unwrap());
        (Files::below(dir), Peer::new(ends.0, ends.1))
    }

    #[test]
    fn looking_takes_several_ticks_and_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let (mut files, peer) = host(dir.path());
        let mut finder = PeerFinder::default();
        finder.ask(peer, 0);
        finder.step(&mut files, 0, false);
        // Twenty processes of a hundred links: not in one tick.
        assert_eq!(finder.ask(peer, 0), Answer::Looking);
        assert_eq!(look(&mut finder, &mut files, peer), Answer::Pid(3));
        fs::remove_dir_all(dir.path()).unwrap();
        finder.step(&mut files, 1, false);
        assert_eq!(finder.ask(peer, 1), Answer::Pid(3));
        // Nobody asks any more: forgotten.
        finder.step(&mut files, 1, false);
        finder.step(&mut files, 1, false);
        assert!(finder.cases.is_empty());
    }

    #[test]
    fn what_is_not_found_is_explained_and_tried_again_later() {
        let dir = tempfile::tempdir().unwrap();
        let (mut files, peer) = host(dir.path());
        fs::remove_dir_all(dir.path().join("proc/3")).unwrap();
        let mut finder = PeerFinder::default();
        let found = look(&mut finder, &mut files, peer);
        assert!(matches!(&found, Answer::Unknown(why) if why.contains("pid namespace")));
        fs::create_dir_all(dir.path().join("proc/3")).unwrap();
        assert_eq!(finder.ask(peer, RETRY - 1), found);
        assert_eq!(finder.ask(peer, RETRY), Answer::Looking);
        let found = look(&mut finder, &mut files, peer);
        assert!(matches!(&found, Answer::Unknown(why) if why.contains("uid 1000")), "{found:?}");
    }
}

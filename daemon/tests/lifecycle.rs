//! The real binary: starting many at once, crashing, adopting an agent, ending.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coral_daemon::lifecycle::{ALREADY_RUNNING, Beacon};
use coral_proto::v1;
use coral_proto::v1::colony_client::ColonyClient;
use tonic::transport::{Channel, Endpoint};

/// A daemon started by a test; killed with it.
struct Daemon {
    child: Child,
    beacon: Beacon,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A colony's directory; whatever agent was started in it is killed with it.
struct Colony {
    dir: tempfile::TempDir,
}

impl Drop for Colony {
    fn drop(&mut self) {
        for pid in self.agents_started() {
            if alive(pid) {
                kill(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

fn pid_of(pid: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

fn kill(pid: u32, signal: rustix::process::Signal) {
    _ = rustix::process::kill_process(pid_of(pid), signal);
}

/// Runs and is no zombie.
fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[track_caller]
fn until<T>(what: &str, mut met: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = met() {
            return found;
        }
        assert!(Instant::now() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Colony {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coral-daemon"));
        command.args(["--colony", "t", "--data"]).arg(self.dir.path());
        command.arg("--socket").arg(self.path("t.sock")).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in ["CORAL_SOCKET", "CORAL_DATA_DIR", "CORAL_COLONY", "CORAL_LOG"] {
            command.env_remove(name);
        }
        command
    }

    fn start(&self, more: &[&str]) -> Daemon {
        let mut child = self.command(more).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(beacon) = serde_json::from_str(&line) else {
            let mut why = String::new();
            child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            panic!("it did not start: {why}");
        };
        Daemon { child, beacon }
    }

    /// An agent that only notes that it was started, and ends when it is told to.
    fn fake_agent(&self, body: &str) -> String {
        let path = self.path("fake-agent");
        let started = self.path("agents");
        let script = format!("#!/bin/sh\necho $$ >> {}\n{body}\n", started.display());
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    fn agents_started(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.path("agents")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("t/logs/daemon.log")).unwrap_or_default()
    }
}

const PATIENT_AGENT: &str = "exec sleep 600";

async fn client(socket: &Path) -> ColonyClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
    ColonyClient::new(endpoint.connect().await.unwrap())
}

#[test]
fn of_many_started_at_once_exactly_one_serves() {
    let colony = Colony::new();
    let mut racers: Vec<Child> =
        (0..12).map(|_| colony.command(&["--no-agent"]).spawn().unwrap()).collect();
    let losers = until("all but one have given up", || {
        let codes: Vec<_> =
            racers.iter_mut().filter_map(|r| r.try_wait().unwrap()).map(|s| s.code()).collect();
        (codes.len() == 11).then_some(codes)
    });
    assert!(losers.iter().all(|code| *code == Some(i32::from(ALREADY_RUNNING))), "{losers:?}");
    until("the winner serves", || UnixStream::connect(colony.path("t.sock")).ok());
    // The socket is there a moment before the beacon that names who listens.
    let winner = until("the winner's beacon", || Beacon::read(&colony.path("t"))).pid;
    for racer in &mut racers {
        if racer.id() == winner {
            assert!(racer.try_wait().unwrap().is_none());
        }
        _ = racer.kill();
        let mut said = String::new();
        racer.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        _ = racer.wait();
        if racer.id() != winner {
            assert!(said.contains("already running"), "{said}");
        }
    }
}

#[test]
fn it_ends_cleanly_when_told_to() {
    let colony = Colony::new();
    let mut daemon = colony.start(&["--no-agent"]);
    let socket = daemon.beacon.socket.clone();
    let meta = fs::symlink_metadata(&socket).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    let data = fs::metadata(colony.path("t")).unwrap();
    assert_eq!(data.permissions().mode() & 0o777, 0o700);
    kill(daemon.beacon.pid, rustix::process::Signal::TERM);
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0), "{}", colony.log());
    assert!(!socket.exists());
    assert_eq!(Beacon::read(&colony.path("t")), None);
}

#[tokio::test]
async fn shutdown_over_the_socket_ends_it_with_its_agent() {
    let colony = Colony::new();
    let agent = colony.fake_agent(PATIENT_AGENT);
    let mut daemon = colony.start(&["--agent", &agent]);
    let pid = until("the agent is started", || colony.agents_started().first().copied());
    let mut client = client(&daemon.beacon.socket).await;
    client.shutdown(v1::ShutdownRequest {}).await.unwrap();
    drop(client);
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0), "{}", colony.log());
    assert!(!alive(pid), "the agent still runs");
    assert_eq!(colony.agents_started().len(), 1);
}

#[test]
fn after_a_crash_the_next_one_serves_and_adopts_the_agent() {
    let colony = Colony::new();
    let agent = colony.fake_agent(PATIENT_AGENT);
    let mut first = colony.start(&["--agent", &agent]);
    let pid = until("the agent is started", || colony.agents_started().first().copied());
    until("it is noted", || colony.path("t/agent.json").exists().then_some(()));
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert!(alive(pid), "the agent went down with the daemon");
    assert!(colony.path("t.sock").exists(), "nobody was there to remove it");
    let mut second = colony.start(&["--agent", &agent]);
    until("the agent is adopted", || colony.log().contains("adopted").then_some(()));
    assert_eq!(colony.agents_started(), [pid]);
    kill(second.beacon.pid, rustix::process::Signal::TERM);
    assert_eq!(second.child.wait().unwrap().code(), Some(0), "{}", colony.log());
    assert!(!alive(pid), "the adopted agent still runs");
}

#[test]
fn an_agent_that_dies_is_started_again_a_foreign_one_is_left_alone() {
    let colony = Colony::new();
    let agent = colony.fake_agent("exit 3");
    let daemon = colony.start(&["--agent", &agent]);
    until("it was started again", || (colony.agents_started().len() >= 3).then_some(()));
    drop(daemon);
    let colony = Colony::new();
    let agent = colony.fake_agent("exit 75");
    let _daemon = colony.start(&["--agent", &agent]);
    until("it says so", || colony.log().contains("another agent holds").then_some(()));
    assert_eq!(colony.agents_started().len(), 1);
}

#[test]
fn an_agent_that_does_not_listen_is_killed() {
    let colony = Colony::new();
    let agent = colony.fake_agent("trap '' TERM\nwhile :; do sleep 0.1; done");
    let mut daemon = colony.start(&["--agent", &agent]);
    let pid = until("the agent is started", || colony.agents_started().first().copied());
    kill(daemon.beacon.pid, rustix::process::Signal::TERM);
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0), "{}", colony.log());
    assert!(!alive(pid));
}

#[tokio::test]
async fn unused_it_leaves_unless_it_is_told_to_stay() {
    let colony = Colony::new();
    let mut leaves = colony.start(&["--no-agent", "--leave-after", "1s"]);
    assert_eq!(leaves.child.wait().unwrap().code(), Some(0));
    assert!(colony.log().contains("leaving"), "{}", colony.log());

    let stays = colony.start(&["--no-agent", "--leave-after", "1s"]);
    let mut client = client(&stays.beacon.socket).await;
    client.stay(v1::StayRequest { stay: true }).await.unwrap();
    drop(client);
    drop(stays);
    // It was killed, not asked to go: the next one still stays.
    let mut again = colony.start(&["--no-agent", "--leave-after", "500ms"]);
    let beats = Instant::now() + Duration::from_secs(3);
    while Instant::now() < beats {
        assert!(again.child.try_wait().unwrap().is_none(), "it left: {}", colony.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_socket_served_by_another_colony_is_not_taken() {
    let colony = Colony::new();
    let first = colony.start(&["--no-agent"]);
    let other = Colony::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_coral-daemon"));
    command.args(["--colony", "u", "--no-agent", "--data"]).arg(other.dir.path());
    command.arg("--socket").arg(&first.beacon.socket);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("choose another --socket"), "{said}");
    assert!(UnixStream::connect(&first.beacon.socket).is_ok());
}

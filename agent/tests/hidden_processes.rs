//! The senses of an agent without any privilege, where `/proc` hides other users' processes.
//!
//! The test runs itself again as user 65534, in a mount namespace of its own whose `/proc` is mounted
//! with `hidepid=2`. (A fresh mount: remounting would change the one the whole machine uses.)

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on panics")]

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use coral_agent::observe::{Observer, Peer, ServiceProcesses, Sighting, Witness};
use coral_model::Time;
use coral_model::view::SenseState;

/// Set for the second run: the pid of a process of root, and both ports of a connection of root's.
const INSIDE: &str = "CORAL_TEST_HIDDEN";
const NAME: &str = "without_privilege_under_hidepid_it_works_and_says_what_it_cannot_see";

#[test]
fn without_privilege_under_hidepid_it_works_and_says_what_it_cannot_see() {
    match std::env::var(INSIDE) {
        Ok(words) => inside(&words),
        Err(_) => outside(),
    }
}

/// Ends a child when the test ends.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn outside() {
    let probe = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid=65534 --regid=65534 --clear-groups true"])
        .output();
    match probe {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            eprintln!(
                "SKIPPED: mounting a /proc of its own and becoming another user needs CAP_SYS_ADMIN, \
                 CAP_SETUID and CAP_SETGID: {said}"
            );
            return;
        }
        Err(error) => {
            eprintln!("SKIPPED: `unshare` and `setpriv` (util-linux) are missing: {error}");
            return;
        }
    }
    // Where this test lies may be a folder that only root enters.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();

    let roots = Kill(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ports = (client.local_addr().unwrap().port(), listener.local_addr().unwrap().port());
    let script = "mount -t proc -o hidepid=2 proc /proc && cd / && exec setpriv --reuid=65534 \
                  --regid=65534 --clear-groups \"$0\" --exact \"$1\" --nocapture";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(&copy)
        .arg(NAME)
        .env(INSIDE, format!("{} {} {}", roots.0.id(), ports.0, ports.1))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("INSIDE WAS HERE"), "{said}");
}

fn inside(words: &str) {
    let numbers: Vec<u32> = words.split(' ').map(|word| word.parse().unwrap()).collect();
    let port = |n: usize| u16::try_from(numbers[n]).unwrap();
    assert_eq!(rustix::process::getuid().as_raw(), 65_534);
    assert!(std::fs::metadata("/proc/1").is_err(), "processes are not hidden here");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let own = Peer::new(client.local_addr().unwrap(), listener.local_addr().unwrap());
    let roots = Peer::new(([127, 0, 0, 1], port(1)).into(), ([127, 0, 0, 1], port(2)).into());

    let services = Arc::new(ServiceProcesses::new("here"));
    let note = |service: &str, pid: Option<u32>, peer: Option<Peer>| {
        services.note(Sighting {
            service: service.into(),
            instance: None,
            host: Some("here".into()),
            pid,
            executable: None,
            peer,
            at: Time::now(),
            witness: Witness::Service,
        });
    };
    note("mine", Some(std::process::id()), None);
    note("mine-by-connection", None, Some(own));
    note("roots", Some(numbers[0]), None);
    note("roots-by-connection", None, Some(roots));

    let mut observer = Observer::new("here", Arc::clone(&services), Arc::default(), Arc::default());
    let row = loop {
        let tick = observer.tick(None);
        let blind = tick.row.blind.join("\n");
        // Looking for connections takes some readings; clock ticks are 10 ms.
        if tick.row.cpu.is_none() || !blind.contains("roots-by-connection") {
            continue;
        }
        let sense = tick.senses.iter().find(|s| s.name == "process").unwrap();
        assert_eq!(sense.state, SenseState::Partial, "{sense:?}");
        assert!(sense.remedy.as_ref().unwrap().contains("cap_sys_ptrace"), "{sense:?}");
        break tick.row;
    };
    // The host is seen whole.
    assert!(row.memory.is_some() && row.network.is_some() && row.fds.is_some(), "{row:?}");
    assert!(!row.filesystems.is_empty(), "{row:?}");
    // So is what is this user's own.
    let mine: Vec<_> = row.processes.iter().map(|p| (p.service.as_str(), p.pid)).collect();
    let me = std::process::id();
    assert_eq!(mine, [("mine", me), ("mine-by-connection", me)], "{row:?}");
    assert!(row.processes.iter().all(|p| p.rss_bytes.is_some() && p.fds.is_some()), "{row:?}");
    // What is not, is said.
    let blind = row.blind.join("\n");
    for part in [
        "/proc is mounted with hidepid=invisible",
        "CAP_SYS_PTRACE",
        &format!("process of roots: process {} is hidden from this user", numbers[0]),
        "process of roots-by-connection: its connection belongs to a process of uid 0",
    ] {
        assert!(blind.contains(part), "{part}\nin\n{blind}");
    }
    println!("INSIDE WAS HERE");
}

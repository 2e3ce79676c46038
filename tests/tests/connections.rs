//! Connections seen through eBPF, whatever is spoken on them: who opens how many to whom, which do not
//! come about and why, what passes over them, and how much of their time they are in use. Skipped only
//! where the kernel does not let the agent look, and then the reason is printed.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use coral_model::view::{Connections, EdgeRow, NodeKind};
use coral_tests::nginx::{Nginx, Programs, free_port};
use coral_tests::{Colony, Running, asks, edge, may_look, nothing_lost, until};

/// A client that keeps connections to an HTTP server, under a name of its own; its threads ask as `ask`
/// says. It ends when its input does.
const POOL: &str = r"
import http.client, os, socket, sys, threading
port, count, path, times = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
def hold():
    connection = http.client.HTTPConnection('127.0.0.1', port)
    while connection is not None:
        for _ in range(times):
            connection.request('GET', path)
            connection.getresponse().read()
        if times < 1000:
            threading.Event().wait()
for _ in range(count):
    threading.Thread(target=hold, daemon=True).start()
sys.stdin.read()
os._exit(0)
";

fn python(program: &str, code: &str, args: &[&str]) -> Running {
    let command = &mut Command::new(program);
    let command = command.args(["-c", code]).args(args).stdin(Stdio::piped());
    Running::start(command.stdout(Stdio::null()))
}

struct Bench {
    colony: Colony,
    programs: Programs,
}

/// Curl and Python, each under names of their own, so that nobody else's are counted; `None` where the
/// kernel does not let the agent look.
fn bench(names: &[&str]) -> Option<Bench> {
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir(), &["/usr/sbin/nginx", "/usr/bin/curl"]);
    let python = until("a real python3", || {
        std::fs::canonicalize("/usr/bin/python3").map_err(|e| e.to_string())
    });
    let mut watch = vec![format!("{}=nginx", programs.path("nginx"))];
    for name in names {
        let from =
            if name.starts_with("pool") { python.clone() } else { PathBuf::from("/usr/bin/curl") };
        std::fs::copy(from, colony.dir().join(name)).unwrap();
        watch.push(format!("{}={name}", programs.path(name)));
    }
    let mut colony = colony.with_env("CORAL_WATCH", watch.join(","));
    colony.up();
    may_look(&colony).then_some(Bench { colony, programs })
}

impl Bench {
    /// The connections of an edge, once they are as wanted.
    fn connections(
        &self,
        from: &str,
        to: &str,
        wanted: impl Fn(&Connections) -> bool,
    ) -> (Connections, EdgeRow) {
        until("the connections of an edge", || {
            let row = edge(&self.colony, from, to)?;
            let connections = row.connections.ok_or_else(|| format!("none: {row:?}"))?;
            if wanted(&connections) { Ok((connections, row)) } else { Err(format!("{row:?}")) }
        })
    }
}

#[test]
fn bytes_and_connections_of_real_requests_are_counted_exactly() {
    let Some(bench) = bench(&["getter"]) else { return };
    let nginx = Nginx::with(&bench.programs, "nginx", "", "root {at}/www;");
    // Several requests a connection, and one.
    let url = nginx.url("/large.bin");
    let (mut sent, mut received) = (0, 0);
    for urls in [&[&url, &url, &url][..], &[&url]] {
        let output = Command::new(bench.programs.path("getter"))
            .args(["-s", "-w", "%{size_header} %{size_request} %{size_download}\n"])
            .args(urls.iter().flat_map(|url| ["-o", "/dev/null", url.as_str()]))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let sizes: Vec<u64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
            sent += sizes[1];
            received += sizes[0] + sizes[2];
        }
    }
    let (connections, row) =
        bench.connections("getter", "nginx", |c| c.opened == 2 && c.received_bytes >= received);
    assert_eq!((connections.failed, connections.reset), (0, 0), "{row:?}");
    // The end of each connection counts as one.
    let received = received + connections.opened;
    assert_eq!((connections.sent_bytes, connections.received_bytes), (sent, received), "{row:?}");
    assert_eq!(row.red.requests, 4, "{row:?}");
}

#[test]
fn connections_that_do_not_come_about_say_why() {
    let Some(bench) = bench(&["refused", "unheard", "broken"]) else { return };
    let port = free_port();
    for _ in 0..5 {
        let url = format!("http://127.0.0.1:{port}/");
        let output = Command::new(bench.programs.path("refused")).args(["-s", &url]).output();
        assert_eq!(output.unwrap().status.code(), Some(7), "could connect");
    }
    let to = format!("127.0.0.1:{port}");
    let (connections, row) = bench.connections("refused", &to, |c| c.failed == 5);
    assert_eq!((connections.refused, connections.opened), (5, 0), "{row:?}");
    assert_eq!((row.to_kind, row.red.requests), (NodeKind::External, 0), "{row:?}");

    // A server whose queue is full does not answer: the client tries again, and gives up.
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let to = full.local_addr().unwrap();
    let waiting: Vec<_> =
        (0..3).map(|_| TcpStream::connect_timeout(&to, Duration::from_millis(300))).collect();
    let url = format!("http://{to}/");
    let args = ["-s", "--connect-timeout", "3", &url];
    let output = Command::new(bench.programs.path("unheard")).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(28), "no timeout: {output:?}");
    let (connections, row) = bench.connections("unheard", &to.to_string(), |c| c.failed == 1);
    assert_eq!((connections.refused, connections.opened), (0, 0), "{row:?}");
    assert!(connections.retransmits >= 1, "{row:?}");
    drop(waiting);

    // A server that breaks off what it was asked.
    let rude = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = rude.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = rude.accept().unwrap();
            let mut asked = [0; 16];
            stream.read_exact(&mut asked).unwrap();
            // What was not read makes closing it a reset.
            drop(stream);
        }
    });
    for _ in 0..3 {
        let url = format!("http://{to}/");
        let output = Command::new(bench.programs.path("broken")).args(["-s", &url]).output();
        assert!(!output.unwrap().status.success(), "an answer");
    }
    server.join().unwrap();
    let row = asks(&bench.colony, "broken", &to.to_string(), 3);
    assert_eq!((row.red.requests, row.red.no_answer), (3, 3), "{row:?}");
    let (connections, row) = bench.connections("broken", &to.to_string(), |c| c.reset == 3);
    assert_eq!((connections.opened, connections.failed), (3, 0), "{row:?}");
    nothing_lost(&bench.colony, &["requests_sockets_refused"]);
}

#[test]
fn an_exhausted_pool_is_seen_and_an_idle_one_told_apart() {
    let Some(bench) = bench(&["pool-busy", "pool-idle"]) else { return };
    let nginx = Nginx::with(&bench.programs, "nginx", "", "root {at}/www; limit_rate $arg_rate;");
    let port = nginx.port.to_string();
    // Five connections on which one request follows another, each of seconds since a second is allowed less
    // than the file has; and five that were asked on once.
    let busy = ["5", "/slow.bin?rate=60k", "1000000"];
    let pool = |name: &str, args: [&str; 3]| {
        let args = [&[port.as_str()][..], &args].concat();
        python(&bench.programs.path(name), POOL, &args)
    };
    let _busy = pool("pool-busy", busy);
    let _idle = pool("pool-idle", ["5", "/small.html", "1"]);
    // Numbers of the kernel's come every ten seconds, and tell of time that may lie before an edge was first seen: the
    // average comes to what it is.
    let enough =
        |c: &Connections| c.opened == 5 && c.rtt_ns.is_some() && (3.0..=5.5).contains(&c.open);
    let (busy, row) = bench.connections("pool-busy", "nginx", enough);
    let share = busy.busy_share.unwrap();
    assert!(share > 0.9 && share <= 1.0, "busy {share}: {row:?}");
    assert!(busy.sent_bytes > 500 && busy.received_bytes > 150_000, "{row:?}");
    let (idle, row) = bench.connections("pool-idle", "nginx", enough);
    let share = idle.busy_share.unwrap();
    assert!(share < 0.2, "busy {share}: {row:?}");
    assert_eq!(row.red.requests, 5, "{row:?}");
}

#[test]
fn connections_of_a_protocol_that_nobody_reads_are_an_edge_too() {
    let Some(bench) = bench(&["pool-mute"]) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let port = to.port().to_string();
    let code = "import socket,sys\n\
                s=socket.create_connection(('127.0.0.1',int(sys.argv[1])))\n\
                s.sendall(b'\\x00\\x01gruss')\nassert s.recv(99)==b'dank'\nsys.stdin.read()";
    let client = python(&bench.programs.path("pool-mute"), code, &[&port]);
    let (mut stream, _) = listener.accept().unwrap();
    let mut asked = [0; 7];
    stream.read_exact(&mut asked).unwrap();
    stream.write_all(b"dank").unwrap();
    let (connections, row) =
        bench.connections("pool-mute", &to.to_string(), |c| c.received_bytes > 0);
    assert_eq!((connections.opened, connections.sent_bytes), (1, 7), "{row:?}");
    assert_eq!((connections.received_bytes, connections.busy_share), (4, None), "{row:?}");
    assert_eq!((row.protocol.as_deref(), row.red.requests), (Some("tcp"), 0), "{row:?}");
    drop(client);
}

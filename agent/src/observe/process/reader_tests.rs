use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::observe::process::Peer;

/// Ends a child when a test ends.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sleeper() -> Kill {
    Kill(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
}

fn sighting(service: &str, pid: Option<u32>, at: Time) -> Sighting {
    Sighting {
        service: service.into(),
        instance: Some("i".into()),
        host: Some("here".into()),
        pid,
        executable: None,
        peer: None,
        at,
        witness: Witness::Service,
    }
}

/// A host with recorded processes; `at` its clocks.
struct Host {
    dir: tempfile::TempDir,
    table: Arc<ServiceProcesses>,
    reader: ProcessReader,
    at: Clocks,
}

const BOOT_S: u64 = 1_700_000_000;

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("proc/net")).unwrap();
        let stat = format!("cpu 1 1 1 1\ncpu0 1 1 1 1\nbtime {BOOT_S}\n");
        fs::write(dir.path().join("proc/stat"), stat).unwrap();
        let table = Arc::new(ServiceProcesses::new("here"));
        let files = Files::below(dir.path());
        let reader = ProcessReader::with(files, Arc::clone(&table), |pid| pid == 77);
        let boot_ns = 1000 * SECOND;
        let at = Clocks { wall_ns: BOOT_S * SECOND + boot_ns, boot_ns };
        Self { dir, table, reader, at }
    }

    fn process(&self, pid: u32, ticks: u64, start: u64) {
        let at = self.dir.path().join(format!("proc/{pid}"));
        fs::create_dir_all(at.join("fd")).unwrap();
        let stat =
            format!("{pid} (x) S 1 1 1 0 -1 0 1 2 3 4 {ticks} 0 0 0 20 0 3 0 {start} 1 10 0");
        fs::write(at.join("stat"), stat).unwrap();
        fs::write(at.join("limits"), "Max open files 1024 4096 files\n").unwrap();
    }

    fn own_pid(&self, pid: u32, own: u32) {
        let status = format!("Name:\tx\nNSpid:\t{pid}\t{own}\n");
        fs::write(self.dir.path().join(format!("proc/{pid}/status")), status).unwrap();
    }

    fn named(&self, pid: u32, comm: &str) {
        fs::write(self.dir.path().join(format!("proc/{pid}/comm")), format!("{comm}\n")).unwrap();
    }

    /// A connection that `pid` holds.
    fn connection(&self, pid: u32, port: u16) -> Peer {
        let tcp = self.dir.path().join("proc/net/tcp");
        let mut text = fs::read_to_string(&tcp).unwrap_or_default();
        text += &format!("0: 0100007F:{port:04X} 0100007F:10DD 01 0:0 00:0 0 0 0 {port} 1 0\n");
        fs::write(tcp, text).unwrap();
        let link = self.dir.path().join(format!("proc/{pid}/fd/{port}"));
        std::os::unix::fs::symlink(format!("socket:[{port}]"), link).unwrap();
        Peer::new(([127, 0, 0, 1], port).into(), ([127, 0, 0, 1], 4317).into())
    }

    fn note(&self, service: &str, pid: Option<u32>, peer: Option<Peer>) {
        let at = Time(self.at.wall_ns);
        self.table.note(Sighting { peer, ..sighting(service, pid, at) });
    }

    fn end(&self, pid: u32) {
        fs::remove_dir_all(Path::new(self.dir.path()).join(format!("proc/{pid}"))).unwrap();
    }

    fn read(&mut self) -> ProcessReading {
        let reading = self.reader.read(self.at);
        self.at.boot_ns += 2 * SECOND;
        self.at.wall_ns += 2 * SECOND;
        reading
    }
}

#[test]
fn a_services_process_is_followed_until_it_ends() {
    let mut host = Host::new();
    host.process(5, 100, 500);
    host.note("cart", Some(5), None);
    let first = host.read();
    assert_eq!(first.came.len(), 1);
    assert_eq!((first.rows[0].cpu, first.rows[0].threads), (None, Some(3)));
    assert_eq!(first.rows[0].fds.map(|f| f.1), Some(1024));
    host.process(5, 300, 500);
    let second = host.read();
    assert!(second.came.is_empty() && second.went.is_empty() && second.blind.is_empty());
    // 200 ticks of 10 ms in 2 s: one core.
    assert!((second.rows[0].cpu.unwrap() - 1.0).abs() < 1e-9, "{second:?}");
    assert_eq!(second.rows[0].blind, None);
    host.end(5);
    let third = host.read();
    assert_eq!((third.went.len(), third.rows.len()), (1, 0));
    assert!(host.read().went.is_empty());
}

#[test]
fn a_recycled_pid_is_not_mistaken_for_the_service() {
    let mut host = Host::new();
    host.process(5, 1, 500);
    host.note("cart", Some(5), None);
    assert_eq!(host.read().rows.len(), 1);
    // The same pid, begun later than the service was ever seen.
    host.process(5, 1, 100_900);
    let reading = host.read();
    assert_eq!((reading.rows.len(), reading.went.len(), reading.came.len()), (0, 1, 0));
    // Before anything was bound it is not taken either.
    host.process(6, 1, 200_000);
    host.note("late", Some(6), None);
    let blind = host.read().blind;
    assert!(blind.iter().any(|b| b.contains("began after the service was seen")), "{blind:?}");
    // The service reports again from there: it is the service that came back under its pid.
    host.at.boot_ns += 2000 * SECOND;
    host.at.wall_ns += 2000 * SECOND;
    host.note("cart", Some(5), None);
    assert_eq!(host.read().came.len(), 1);
}

#[test]
fn a_pid_that_cannot_be_is_explained() {
    let mut host = Host::new();
    host.note("contained", Some(9), None);
    host.note("hidden", Some(77), None);
    host.note(
        "silent",
        None,
        Some(Peer::new(([127, 0, 0, 1], 9).into(), ([127, 0, 0, 1], 4317).into())),
    );
    host.process(2, 1, 1);
    host.note("kernel", Some(2), None);
    host.read();
    let blind = host.read().blind.join("\n");
    for part in [
        "process of contained: its process.pid 9 is no process of the agent's pid namespace",
        "process of hidden: process 77 is hidden from this user",
        "process of silent: its connection is closed",
        "process of kernel: its process.pid 2 is the kernel's here",
    ] {
        assert!(blind.contains(part), "{part}\nin\n{blind}");
    }
}

#[test]
fn the_connection_tells_where_the_pid_does_not() {
    let mut host = Host::new();
    host.process(5, 1, 500);
    let peer = host.connection(5, 50_000);
    host.note("cart", None, Some(peer));
    host.read();
    assert_eq!(host.read().rows[0].pid, 5);
}

#[test]
fn a_containers_own_pid_is_translated_through_its_connection() {
    let mut host = Host::new();
    host.process(900, 1, 500);
    host.own_pid(900, 7);
    let peer = host.connection(900, 50_000);
    // Pid 7 exists here too, and is somebody else.
    host.process(7, 1, 100);
    host.note("cart", Some(7), Some(peer));
    host.read();
    assert_eq!(host.read().rows[0].pid, 900);
}

#[test]
fn who_passes_on_for_others_is_not_taken_for_them() {
    let mut host = Host::new();
    host.process(5, 1, 500);
    let (a, b) = (host.connection(5, 50_000), host.connection(5, 50_001));
    host.note("cart", None, Some(a));
    host.note("stock", None, Some(b));
    host.process(6, 1, 500);
    host.named(6, "otelcol-contrib");
    let c = host.connection(6, 50_002);
    host.note("mail", None, Some(c));
    host.read();
    let reading = host.read();
    assert!(reading.rows.is_empty(), "{reading:?}");
    let blind = reading.blind.join("\n");
    assert!(blind.contains("process 5 sends for several services"), "{blind}");
    assert!(blind.contains("comes through otelcol-contrib"), "{blind}");
}

/// Between fork and exec a child is still this test, and while it is being loaded its memory is not
/// yet counted: it is itself once it sleeps under its own name.
fn wait_asleep(pid: u32) {
    let asleep = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
    };
    while !(look::may_be(&mut Files::below("/"), pid, "sleep") && asleep()) {
        std::thread::yield_now();
    }
}

#[test]
fn real_processes_are_followed() {
    let table = Arc::new(ServiceProcesses::new("here"));
    let mut reader = ProcessReader::new(Files::below("/"), Arc::clone(&table));
    let child = sleeper();
    let pid = child.0.id();
    let seen =
        Sighting { executable: Some("sleep".into()), ..sighting("nap", Some(pid), Time::now()) };
    wait_asleep(pid);
    table.note(seen);
    let reading = reader.read(Clocks::now());
    assert_eq!((reading.rows.len(), reading.came.len()), (1, 1), "{reading:?}");
    let row = &reading.rows[0];
    assert!(row.rss_bytes.unwrap() > 0 && row.fds.unwrap().0 >= 2 && row.threads == Some(1));
    drop(child);
    assert_eq!(reader.read(Clocks::now()).went.len(), 1);
    // A claim to be something else is not believed.
    let other = sleeper();
    let pid = other.0.id();
    let seen =
        Sighting { executable: Some("java".into()), ..sighting("nap", Some(pid), Time::now()) };
    wait_asleep(pid);
    table.note(seen);
    let blind = reader.read(Clocks::now()).blind.join("\n");
    assert!(blind.contains("is another program here"), "{blind}");
}

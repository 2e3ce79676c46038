//! What the receiving side knows of services' processes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coral_model::time::{SECOND, Time};

use super::peer::Peer;
use super::unit::Run;
use crate::observe::kernel::Ended;

/// Processes one agent follows. A host with more gets the ones seen last, and a count of the others.
const MAX_ENTRIES: usize = 512;
/// An entry that was not seen for this long makes room for a new one, or goes by itself when no
/// process was found for it.
const OLD: u64 = 900 * SECOND;

/// Workers remembered; beyond it the ends of new ones are nobody's.
const MAX_WORKERS: usize = 8_192;
/// Beginnings of units' processes that nobody has asked for yet; beyond it the oldest are forgotten.
const MAX_RUNS: usize = 256;

/// Who says that a process is a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Witness {
    /// The service itself, in its telemetry.
    Service,
    /// The kernel saw it serve. Where its own telemetry says otherwise, that counts.
    Kernel,
}

/// A process that a service forked for its work; or its first one, before it was seen to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its service.
    pub service: String,
    /// The first process of that.
    pub first: u32,
    /// When the worker began, in clock ticks since boot.
    pub start_ticks: u64,
    /// It was seen to serve, or to report.
    pub served: bool,
    /// What systemd started it as, if it did.
    pub run: Option<Run>,
}

/// A service as it was seen to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// `service.name`.
    pub service: String,
    /// `service.instance.id`.
    pub instance: Option<String>,
    /// `host.name`.
    pub host: Option<String>,
    /// `process.pid`.
    pub pid: Option<u32>,
    /// `process.executable.name`, or the last part of `process.executable.path`.
    pub executable: Option<String>,
    /// The connection it came through.
    pub peer: Option<Peer>,
    /// When.
    pub at: Time,
    /// Who says so.
    pub witness: Witness,
}

/// What tells one process of a service from another.
pub(in crate::observe) type Key = (String, Option<String>, Option<u32>);

impl Worker {
    /// Whether it is the first of its service.
    #[must_use]
    pub fn is_first(&self, pid: u32) -> bool {
        self.first == pid
    }
}

impl Sighting {
    pub(super) fn key(&self) -> Key {
        (self.service.clone(), self.instance.clone(), self.pid)
    }
}

/// The bounded table between the receiving side, which writes it, and the process reader.
#[derive(Debug)]
pub struct ServiceProcesses {
    host: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Key, Arc<Sighting>>,
    turned_away: u64,
    /// Services by the process that was found for them.
    found: HashMap<u32, String>,
    workers: HashMap<u32, Worker>,
    /// What systemd started, and when, ns since boot; the oldest first.
    runs: VecDeque<(Run, u64)>,
}

impl ServiceProcesses {
    /// For services of the host that calls itself `host`.
    #[must_use]
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into(), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A service reported. Cheap; to be called for every new resource, and again now and then while
    /// it reports, so that a process that came back under the same pid is found.
    ///
    /// Services of other hosts, and ones that may be of another host, are left out: their pids mean
    /// nothing here.
    pub fn note(&self, sighting: Sighting) {
        if !self.is_local(&sighting) || (sighting.pid.is_none() && sighting.peer.is_none()) {
            return;
        }
        let mut inner = self.lock();
        let key = sighting.key();
        if sighting.witness == Witness::Kernel {
            if inner.entries.get(&key).is_some_and(|known| known.witness == Witness::Service) {
                return;
            }
            // What the same process was called before it was known better.
            inner.entries.retain(|other, known| {
                known.witness != Witness::Kernel || known.pid != sighting.pid || *other == key
            });
        }
        if let Some(worker) = sighting.pid.and_then(|pid| inner.workers.get_mut(&pid)) {
            worker.served = true;
        }
        if !inner.entries.contains_key(&key) && inner.entries.len() >= MAX_ENTRIES {
            let oldest = inner.entries.iter().min_by_key(|(_, s)| s.at);
            match oldest.map(|(key, s)| (key.clone(), s.at)) {
                Some((oldest, at)) if sighting.at.since(at) >= OLD => {
                    inner.entries.remove(&oldest);
                }
                _ => {
                    inner.turned_away += 1;
                    return;
                }
            }
        }
        inner.entries.insert(key, Arc::new(sighting));
    }

    fn is_local(&self, sighting: &Sighting) -> bool {
        match &sighting.host {
            Some(host) => same_host(host, &self.host),
            None => sighting.peer.is_some_and(Peer::is_local),
        }
    }

    /// Sightings turned away because the table was full.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.lock().turned_away
    }

    /// The kernel saw a process serve that is not the first of its service; or one begin that is, and has not
    /// served yet.
    pub fn note_worker(&self, pid: u32, worker: Worker) {
        let mut inner = self.lock();
        if inner.workers.len() < MAX_WORKERS || inner.workers.contains_key(&pid) {
            inner.workers.insert(pid, worker);
        }
    }

    /// A process is another program from now on: what it was noted as, it is no more.
    pub fn forget_worker(&self, pid: u32) {
        self.lock().workers.remove(&pid);
    }

    /// A process began that systemd started for a unit, `at_ns` since boot. False where an earlier one had to be
    /// forgotten for it.
    #[must_use]
    pub fn note_run(&self, run: Run, at_ns: u64) -> bool {
        let mut inner = self.lock();
        let full = inner.runs.len() >= MAX_RUNS;
        if full {
            inner.runs.pop_front();
        }
        inner.runs.push_back((run, at_ns));
        !full
    }

    /// All that began of units since the last call, as far as it is remembered, with its time since boot, ns.
    #[must_use]
    pub fn take_runs(&self) -> Vec<(Run, u64)> {
        self.lock().runs.drain(..).collect()
    }

    /// Whether a service forked a process for its work.
    #[must_use]
    pub fn is_worker(&self, pid: u32) -> bool {
        self.lock().workers.get(&pid).is_some_and(|worker| !worker.is_first(pid))
    }

    /// Which of those that ended were workers, with what they were; they are forgotten. A service's own process is
    /// told of elsewhere.
    #[must_use]
    pub fn of_workers(&self, ended: Vec<Ended>) -> Vec<(Worker, Ended)> {
        let mut inner = self.lock();
        let tick_ns = SECOND / rustix::param::clock_ticks_per_second().clamp(1, SECOND);
        let mut out = Vec::new();
        for ended in ended {
            let Some(worker) = inner.workers.remove(&ended.pid) else { continue };
            let same = (ended.start_ns / tick_ns).abs_diff(worker.start_ticks) <= 1;
            if same && !inner.found.contains_key(&ended.pid) {
                out.push((worker, ended));
            }
        }
        out
    }

    /// The service that a process was found to be.
    #[must_use]
    pub fn service_of(&self, pid: u32) -> Option<String> {
        self.lock().found.get(&pid).cloned()
    }

    /// All processes that were found, by pid.
    pub(super) fn set_found(&self, found: HashMap<u32, String>) {
        self.lock().found = found;
    }

    /// Processes that are followed themselves from now on: their ends are told of elsewhere.
    pub(super) fn set_followed(&self, pids: impl Iterator<Item = u32>) {
        let mut inner = self.lock();
        for pid in pids {
            inner.workers.remove(&pid);
        }
    }

    /// Entries now, in a fixed order.
    pub(in crate::observe) fn entries(&self) -> Vec<(Key, Arc<Sighting>)> {
        let mut all: Vec<_> =
            self.lock().entries.iter().map(|(k, s)| (k.clone(), Arc::clone(s))).collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Drops an entry whose process is gone; unless it was seen again since `at`.
    pub(super) fn forget(&self, key: &Key, at: Time) {
        let mut inner = self.lock();
        if inner.entries.get(key).is_some_and(|s| s.at <= at) {
            inner.entries.remove(key);
        }
    }
}

/// Whether an entry no process was found for may go.
pub(super) fn is_old(sighting: &Sighting, now: Time) -> bool {
    now.since(sighting.at) >= OLD
}

/// `web-3` and `web-3.example.org` are one host: SDKs disagree about which of them to report.
fn same_host(a: &str, b: &str) -> bool {
    let short = |name: &str| name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    a.eq_ignore_ascii_case(b) || (short(a) == short(b) && !(a.contains('.') && b.contains('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(service: &str, at: u64) -> Sighting {
        Sighting {
            service: service.into(),
            instance: None,
            host: Some("web-3".into()),
            pid: Some(7),
            executable: None,
            peer: None,
            at: Time(at),
            witness: Witness::Service,
        }
    }

    #[test]
    fn other_hosts_are_left_out() {
        let table = ServiceProcesses::new("web-3");
        let foreign = |host: Option<&str>| Sighting { host: host.map(Into::into), ..seen("x", 1) };
        table.note(foreign(Some("web-4")));
        table.note(foreign(None));
        assert!(table.entries().is_empty());
        table.note(foreign(Some("WEB-3.example.org")));
        assert_eq!(table.entries().len(), 1);
        assert!(!same_host("web-3.a.org", "web-3.b.org"));
        let near = Peer::new("127.0.0.1:5".parse().unwrap(), "127.0.0.1:4317".parse().unwrap());
        let far = Peer::new("10.0.0.9:5".parse().unwrap(), "10.0.0.1:4317".parse().unwrap());
        table.note(Sighting { host: None, peer: Some(near), service: "y".into(), ..seen("x", 1) });
        table.note(Sighting { host: None, peer: Some(far), service: "z".into(), ..seen("x", 1) });
        assert_eq!(table.entries().len(), 2);
    }

    #[test]
    fn the_table_is_bounded_and_counts_what_it_turns_away() {
        let table = ServiceProcesses::new("web-3");
        for n in 0..MAX_ENTRIES as u64 + 10 {
            table.note(seen(&format!("s{n}"), n));
        }
        assert_eq!((table.entries().len(), table.turned_away()), (MAX_ENTRIES, 10));
        // Old ones make room.
        table.note(seen("new", OLD));
        assert_eq!((table.entries().len(), table.turned_away()), (MAX_ENTRIES, 10));
        assert!(table.entries().iter().any(|(key, _)| key.0 == "new"));
    }

    #[test]
    fn a_process_that_is_seen_to_serve_has_one_name_and_gives_way_to_its_own() {
        let table = ServiceProcesses::new("web-3");
        let kernel = |service: &str| Sighting { witness: Witness::Kernel, ..seen(service, 1) };
        let names = |table: &ServiceProcesses| {
            let entries = table.entries().into_iter();
            entries.map(|(key, s)| (key.0, s.witness)).collect::<Vec<_>>()
        };
        table.note(kernel("python3:80"));
        table.note(kernel("cart"));
        assert_eq!(names(&table), [("cart".to_owned(), Witness::Kernel)]);
        table.note(seen("cart", 2));
        table.note(kernel("cart"));
        assert_eq!(names(&table), [("cart".to_owned(), Witness::Service)]);
    }

    #[test]
    fn a_worker_is_known_by_its_number_and_its_beginning() {
        let table = ServiceProcesses::new("web-3");
        let worker = |start_ticks| {
            let (service, first, served) = ("web".into(), 7, true);
            Worker { service, first, start_ticks, served, run: None }
        };
        table.note_worker(9, worker(5));
        table.note_worker(10, worker(5));
        let tick_ns = SECOND / rustix::param::clock_ticks_per_second();
        let ended = |pid, ticks: u64| Ended {
            pid,
            start_ns: ticks * tick_ns,
            at_ns: 0,
            name: "web".into(),
            parent: None,
            code: Some(1),
            signal: None,
            by: None,
            core: false,
        };
        let told = table.of_workers(vec![ended(8, 5), ended(9, 5), ended(10, 700)]);
        assert_eq!(told.iter().map(|(_, e)| e.pid).collect::<Vec<_>>(), [9]);
        assert!(table.of_workers(vec![ended(9, 5)]).is_empty(), "told once");
        table.note_worker(9, worker(5));
        table.forget_worker(9);
        assert!(table.of_workers(vec![ended(9, 5)]).is_empty(), "it is another program");
    }

    #[test]
    fn what_began_of_units_is_handed_over_once_and_the_oldest_is_forgotten() {
        let table = ServiceProcesses::new("web-3");
        let run = |unit: &str| Run {
            unit: unit.into(),
            cgroup: format!("/system.slice/{unit}.service"),
            invocation: None,
            executable: "/bin/web".into(),
        };
        for n in 0..MAX_RUNS as u64 + 10 {
            assert_eq!(table.note_run(run(&format!("u{n}")), n), n < MAX_RUNS as u64);
        }
        let taken = table.take_runs();
        assert_eq!((taken.len(), taken[0].1, taken[0].0.unit.as_str()), (MAX_RUNS, 10, "u10"));
        assert!(table.take_runs().is_empty());
    }

    #[test]
    fn a_process_seen_again_is_not_forgotten() {
        let table = ServiceProcesses::new("web-3");
        table.note(seen("x", 5));
        table.forget(&seen("x", 5).key(), Time(4));
        assert_eq!(table.entries().len(), 1);
        table.forget(&seen("x", 5).key(), Time(5));
        assert!(table.entries().is_empty());
    }
}

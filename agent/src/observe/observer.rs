//! All senses in one reading.

use std::sync::Arc;

use coral_model::time::Time;
use coral_model::view::{HostRow, Sense, SenseState};
use coral_proto::v1::{AgentEvent, HostReading};
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;

use super::clock::Clocks;
use super::events::{BoundWatch, ClockWatch, KillWatch, Noticed, ProcessWatch, WorkerWatch};
use super::files::Files;
use super::host::{self, HostReader, Reading};
use super::kernel::Ends;
use super::process::{ProcessReader, ProcessReading, ServiceProcesses};
use super::remains::Remains;
use super::remains::told::Whose;
use super::requests::names::container_of;

/// Reads the host and its services' processes, and notices what happened between readings.
pub struct Observer {
    name: String,
    host: HostReader,
    processes: ProcessReader,
    previous: Option<Reading>,
    clock: ClockWatch,
    kills: KillWatch,
    bounds: BoundWatch,
    restarts: ProcessWatch,
    workers: WorkerWatch,
    services: Arc<ServiceProcesses>,
    ends: Arc<Ends>,
    remains: Arc<Remains>,
    files: Files,
}

/// What one reading gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// The host now.
    pub row: HostRow,
    /// Without rates yet: the first reading, which is not worth keeping.
    pub first: bool,
    /// What happened since the previous one.
    pub events: Vec<AgentEvent>,
    /// What processes said last that ended badly since.
    pub words: Vec<ResourceLogs>,
    /// The senses `host` and `process`.
    pub senses: Vec<Sense>,
}

impl Tick {
    /// The row as it is kept.
    #[must_use]
    pub fn reading(&self) -> Option<HostReading> {
        let row_json = serde_json::to_vec(&self.row).ok()?;
        Some(HostReading { at_ns: self.row.time.0, host: self.row.host.clone(), row_json })
    }
}

impl Observer {
    /// Observes this machine, which calls itself `host`.
    #[must_use]
    pub fn new(
        host: impl Into<String>,
        services: Arc<ServiceProcesses>,
        ends: Arc<Ends>,
        remains: Arc<Remains>,
    ) -> Self {
        Self { ends, remains, ..Self::below("/", host, services) }
    }

    /// Observes what is recorded below a folder.
    #[must_use]
    pub fn below(base: &str, host: impl Into<String>, services: Arc<ServiceProcesses>) -> Self {
        Self {
            name: host.into(),
            host: HostReader::new(Files::below(base)),
            processes: ProcessReader::new(Files::below(base), Arc::clone(&services)),
            previous: None,
            clock: ClockWatch::default(),
            kills: KillWatch::default(),
            bounds: BoundWatch::default(),
            restarts: ProcessWatch::default(),
            workers: WorkerWatch::default(),
            services,
            ends: Arc::default(),
            remains: Arc::default(),
            files: Files::below(base),
        }
    }

    /// One reading; `spool` is the bytes in the spool and its bound. Blocks a little: not for a
    /// thread that serves connections.
    pub fn tick(&mut self, spool: Option<(u64, u64)>) -> Tick {
        let reading = self.host.read();
        let clocks = reading.clocks;
        let mut row = host::row(&self.name, self.previous.as_ref(), &reading);
        let first = self.previous.replace(reading).is_none();
        let processes = self.processes.read(clocks);
        let senses = vec![host_sense(&row), process_sense(&processes)];
        row.processes.clone_from(&processes.rows);
        row.blind.extend(processes.blind.iter().cloned());
        match self.ends.short_lived(clocks.boot_ns) {
            Ok(short_lived) => row.short_lived = Some(short_lived),
            // No lack of the sense `host`: `ebpf` says it of its own.
            Err(why) => row.blind.push(format!("short-lived processes: {why}")),
        }
        let noticed = self.notice(clocks, &row, &processes, spool);
        let words = noticed.iter().filter_map(|n| self.words(n, clocks)).collect();
        let events = noticed.into_iter().map(|n| n.on(&self.name)).collect();
        Tick { row, first, events, words, senses }
    }

    fn notice(
        &mut self,
        clocks: Clocks,
        row: &HostRow,
        processes: &ProcessReading,
        spool: Option<(u64, u64)>,
    ) -> Vec<Noticed> {
        let wall = Time(clocks.wall_ns);
        let kills = row.memory.and_then(|m| m.oom_kills);
        let mut out = Vec::new();
        out.extend(self.clock.step(clocks));
        let victims = self.ends.take_victims();
        out.extend(self.kills.step(wall, kills, row.cgroup.get("oom_kill").copied(), &victims));
        out.extend(self.bounds.step(row, spool));
        let now = clocks.boot_ns;
        if !processes.went.is_empty() || self.ends.is_any_new() {
            let heard = || processes.went.iter().all(|was| self.ends.of(was).is_some());
            self.remains.settle(now, heard);
        }
        let kept = |pid, start, how: &_| self.remains.of(pid, start, how);
        let mut workers = self.services.of_workers(self.ends.take_new());
        // Those that were followed themselves are among those that went.
        workers.retain(|(_, ended)| processes.went.iter().all(|was| was.pid != ended.pid));
        let (early, workers) = workers.into_iter().partition(|(w, ended)| w.is_first(ended.pid));
        // After the ends: what comes next may be known too early, not too late.
        self.restarts.began(self.services.take_runs());
        out.extend(self.restarts.step(now, wall, processes, early, &self.ends, &kept));
        out.extend(self.workers.step(now, wall, workers, &kept));
        self.meet(now, processes);
        out
    }

    /// Notes where processes write that are followed from now on, and forgets those of others that are gone.
    fn meet(&mut self, now_ns: u64, processes: &ProcessReading) {
        for new in &processes.came {
            let container = container_of(&mut self.files, new.pid);
            let container = container.as_deref();
            self.remains.meet(&mut self.files, new.pid, new.start_ticks, container, now_ns);
        }
        let processes = &mut self.processes;
        self.remains.sweep(now_ns, |pid, start| processes.is_alive(pid, start));
    }

    /// What a process said last, as log records.
    fn words(&self, noticed: &Noticed, clocks: Clocks) -> Option<ResourceLogs> {
        let (words, service) = (noticed.words.as_deref()?, noticed.service.as_deref()?);
        let (instance, host, pid) = (words.instance.as_deref(), &self.name, words.pid);
        let epoch_ns = clocks.wall_ns.saturating_sub(clocks.boot_ns);
        words.last.records(Whose { service, instance, host, pid }, noticed.at, epoch_ns)
    }
}

fn host_sense(row: &HostRow) -> Sense {
    // The first reading has no rates; that alone is no lack.
    let state = match (row.memory.is_some() || row.fds.is_some(), row.blind.is_empty()) {
        (false, _) => SenseState::Off,
        (true, true) => SenseState::On,
        (true, false) => SenseState::Partial,
    };
    let why =
        if row.blind.is_empty() { "/proc and /sys".to_owned() } else { row.blind.join(" · ") };
    let remedy = (state == SenseState::Off).then(|| "run the agent on Linux with /proc".to_owned());
    sense("host", state, why, remedy)
}

fn process_sense(processes: &ProcessReading) -> Sense {
    let followed = processes.rows.len();
    let blind = processes.blind.iter().cloned();
    // Another user's process, of which only a part is told.
    let partly = processes.rows.iter().find(|r| r.fds.is_none()).and_then(|r| r.blind.clone());
    let blind: Vec<String> = blind.chain(partly).collect();
    let noun = if followed == 1 { "process" } else { "processes" };
    let why = match (processes.services, blind.is_empty()) {
        (0, true) => "no service of this host has reported yet".to_owned(),
        (_, true) => format!("{followed} {noun}"),
        (_, false) => format!("{followed} {noun} · {}", blind.join(" · ")),
    };
    let state = match (blind.is_empty(), followed) {
        (true, _) => SenseState::On,
        (false, 0) if processes.services > 0 => SenseState::Off,
        (false, _) => SenseState::Partial,
    };
    let sees_less = blind.iter().any(|b| b.contains("CAP_SYS_PTRACE"));
    let remedy = "setcap cap_sys_ptrace=ep \"$(command -v coral-agent)\"";
    sense("process", state, why, sees_less.then(|| remedy.to_owned()))
}

fn sense(name: &str, state: SenseState, why: String, remedy: Option<String>) -> Sense {
    Sense { name: name.to_owned(), state, why, remedy }
}

#[cfg(test)]
mod tests {
    use coral_bpf_types::ProcessEnd;
    use coral_model::time::SECOND;

    use super::*;
    use crate::observe::kernel::Ended;

    #[test]
    fn a_recorded_host_gives_a_row_that_survives_the_wire() {
        let at = format!("{}/src/observe/fixtures/linux-6.18", env!("CARGO_MANIFEST_DIR"));
        let services = Arc::new(ServiceProcesses::new("web-3"));
        let mut observer = Observer::below(&at, "web-3", services);
        assert!(observer.tick(None).first);
        let tick = observer.tick(Some((1, 100)));
        assert!(!tick.first);
        let reading = tick.reading().unwrap();
        let row: HostRow = serde_json::from_slice(&reading.row_json).unwrap();
        assert_eq!((row, reading.host.as_str()), (tick.row.clone(), "web-3"));
        // The clock is this machine's, and may be forbidden in a container.
        let mut blind = tick.row.blind.iter().filter(|b| !b.starts_with("clock: "));
        assert!(blind.next().unwrap().starts_with("short-lived processes: "));
        assert_eq!(blind.next(), None, "{:?}", tick.senses);
        assert!(!tick.senses[0].why.contains("short-lived"), "{:?}", tick.senses);
        assert_ne!(tick.senses[0].state, SenseState::Off);
        assert_eq!(tick.senses[1].why, "no service of this host has reported yet");
    }

    #[test]
    fn without_proc_the_senses_are_off_and_say_so() {
        let empty = tempfile::tempdir().unwrap();
        let services = Arc::new(ServiceProcesses::new("h"));
        let tick = Observer::below(empty.path().to_str().unwrap(), "h", services).tick(None);
        assert_eq!(tick.senses[0].state, SenseState::Off);
        assert!(tick.senses[0].remedy.is_some() && tick.senses[0].why.contains("/proc/stat"));
        assert!(tick.row.cpu.is_none() && tick.row.memory.is_none() && tick.row.fds.is_none());
    }

    #[test]
    fn processes_that_lived_too_short_are_in_the_row_once_ends_are_told() {
        let (services, ends) = (Arc::new(ServiceProcesses::new("h")), Arc::new(Ends::default()));
        let mut observer = Observer::new("h", services, Arc::clone(&ends), Arc::default());
        // A minute ago, by the machine's own clock.
        let now_ns = Clocks::now().boot_ns;
        ends.begin(now_ns.saturating_sub(60 * SECOND));
        let (at_ns, status) = (now_ns.saturating_sub(30 * SECOND), 7 << 8);
        let mut end = ProcessEnd { at_ns, start_ns: at_ns, status, ..ProcessEnd::default() };
        end.comm[..4].copy_from_slice(b"curl");
        ends.heard(Ended::from(&end));
        let tick = observer.tick(None);
        assert!(tick.row.blind.iter().all(|b| !b.contains("short-lived")), "{:?}", tick.row);
        let reading = tick.reading().unwrap();
        let row: HostRow = serde_json::from_slice(&reading.row_json).unwrap();
        let short_lived = row.short_lived.clone().unwrap();
        let [one] = &short_lived.programs[..] else { panic!("{short_lived:?}") };
        assert_eq!((one.program.as_str(), one.count, one.failed), ("curl", 1, 1));
        assert_eq!(
            (one.parent.as_ref(), one.last_failure.as_deref()),
            (None, Some("exited with 7"))
        );
        // An older agent says nothing of them.
        let mut value = serde_json::to_value(&row).unwrap();
        assert!(value.as_object_mut().unwrap().remove("short_lived").is_some());
        let older: HostRow = serde_json::from_value(value).unwrap();
        assert_eq!(older, HostRow { short_lived: None, ..row });
        ends.end();
        assert_eq!(observer.tick(None).row.short_lived, None);
    }

    #[test]
    fn a_full_spool_becomes_an_event() {
        let services = Arc::new(ServiceProcesses::new("h"));
        let mut observer = Observer::new("h", services, Arc::default(), Arc::default());
        assert!(observer.tick(Some((1, 100))).events.iter().all(|e| !e.text.contains("spool")));
        let events = observer.tick(Some((81, 100))).events;
        let event = events.iter().find(|e| e.text.contains("spool")).unwrap();
        assert_eq!((event.kind.as_str(), event.host.as_str()), ("near_bound", "h"));
    }
}

//! Follows the processes of services.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use coral_model::num::{f64_from, u64_sat};
use coral_model::time::{SECOND, Time};
use coral_model::view::ProcessRow;

use super::likeness::{Key as Seed, Likeness};
use super::look;
use super::peer::{Answer, PeerFinder};
use super::table::{Key, ServiceProcesses, Sighting, Witness, is_old};
use crate::observe::clock::Clocks;
use crate::observe::files::{Files, reason};
use crate::observe::parse::cpu;
use crate::observe::parse::mounts::hidden_processes;
use crate::observe::parse::process::ProcessStat;

/// Processes in one reading.
const MAX_ROWS: usize = 256;
/// Services whose process could not be told that are named one by one.
const MAX_NAMED: usize = 8;
/// The limit on descriptors and the options of `/proc` are read anew this often.
const ANEW: u64 = 30 * SECOND;
/// A process for which nothing was found is looked for again after this.
const AGAIN: u64 = 10 * SECOND;
/// `btime` counts whole seconds, and exporters' clocks are the same machine's.
const START_SLACK: u64 = 2 * SECOND;
/// Programs that pass on others' telemetry: their connection says nothing about a service.
const FORWARDERS: &[&str] = &[
    "otelcol",
    "otelcol-contrib",
    "otelcol-k8s",
    "otelcol-otlp",
    "rotel",
    "alloy",
    "grafana-agent",
    "fluent-bit",
    "fluentd",
    "vector",
    "telegraf",
    "datadog-agent",
    "envoy",
    "coral-agent",
    "docker-proxy",
    "sshd",
    "socat",
    "haproxy",
    "nginx",
];

/// A process of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Known {
    /// `service.name`.
    pub service: String,
    /// `service.instance.id`.
    pub instance: Option<String>,
    /// The process.
    pub pid: u32,
    /// When it began, in clock ticks since boot.
    pub start_ticks: u64,
}

impl Known {
    /// What tells it from every other process since boot.
    #[must_use]
    pub fn identity(&self) -> (u32, u64) {
        (self.pid, self.start_ticks)
    }
}

/// One reading of all of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProcessReading {
    /// A row for each process.
    pub rows: Vec<ProcessRow>,
    /// Processes followed from now on.
    pub came: Vec<Known>,
    /// What those were started as, by [`Known::identity`].
    pub likenesses: HashMap<(u32, u64), Arc<Likeness>>,
    /// Processes that ended since the previous reading.
    pub went: Vec<Known>,
    /// What could not be told.
    pub blind: Vec<String>,
    /// Services of this host that report at all.
    pub services: usize,
}

/// Which service each process says it is; one that is several is none.
fn services_by_pid<'a>(bound: impl Iterator<Item = &'a Known>) -> HashMap<u32, String> {
    let mut found: HashMap<u32, Option<&str>> = HashMap::new();
    for known in bound {
        let service = found.entry(known.pid).or_insert(Some(&known.service));
        if *service != Some(known.service.as_str()) {
            *service = None;
        }
    }
    found.into_iter().filter_map(|(pid, service)| Some((pid, service?.to_owned()))).collect()
}

/// Each process once, by service and identity: one that was noted with an instance and without is that
/// instance.
fn one_each<'a>(bound: impl Iterator<Item = &'a Bound>) -> BTreeMap<(String, u32, u64), Known> {
    let mut out: BTreeMap<(String, u32, u64), Known> = BTreeMap::new();
    for Bound { known, .. } in bound {
        let (pid, start_ticks) = known.identity();
        let entry = out.entry((known.service.clone(), pid, start_ticks));
        let one = entry.or_insert_with(|| known.clone());
        one.instance = one.instance.take().max(known.instance.clone());
    }
    out
}

struct Bound {
    known: Known,
    witness: Witness,
    /// Steady time and clock ticks used at the previous reading.
    previous: Option<(u64, u64)>,
    limit: Option<u64>,
    limit_at: Option<u64>,
}

/// Why a service has no process, and when to look again.
struct Unknown {
    why: String,
    again: u64,
}

enum Found {
    Process(u32, ProcessStat),
    NotYet,
    No(String),
}

/// Reads the processes of the services in a [`ServiceProcesses`].
pub struct ProcessReader {
    files: Files,
    table: Arc<ServiceProcesses>,
    exists: fn(u32) -> bool,
    finder: PeerFinder,
    bound: HashMap<Key, Bound>,
    unknown: HashMap<Key, Unknown>,
    page_bytes: u64,
    ticks_per_s: u64,
    boot_s: u64,
    hidden: Option<String>,
    anew: Option<u64>,
    seed: Seed,
}

impl ProcessReader {
    /// Reads below `files`.
    #[must_use]
    pub fn new(files: Files, table: Arc<ServiceProcesses>) -> Self {
        Self::with(files, table, look::exists)
    }

    fn with(files: Files, table: Arc<ServiceProcesses>, exists: fn(u32) -> bool) -> Self {
        Self {
            files,
            table,
            exists,
            finder: PeerFinder::default(),
            bound: HashMap::new(),
            unknown: HashMap::new(),
            page_bytes: u64_sat(rustix::param::page_size()),
            ticks_per_s: rustix::param::clock_ticks_per_second().max(1),
            boot_s: 0,
            hidden: None,
            anew: None,
            seed: Seed::default(),
        }
    }

    /// One reading. Two small files for each process; more only while a process is looked for.
    pub fn read(&mut self, clocks: Clocks) -> ProcessReading {
        let now = clocks.boot_ns;
        let wall = Time(clocks.wall_ns);
        self.look_anew(now);
        let entries = self.table.entries();
        let mut out = ProcessReading::default();
        let services: BTreeSet<&str> = entries.iter().map(|(key, _)| key.0.as_str()).collect();
        out.services = services.len();
        let before = one_each(self.bound.values());

        let mut stats = HashMap::new();
        for (key, sighting) in &entries {
            if let Some((pid, start)) = self.bound.get(key).map(|bound| bound.known.identity()) {
                if let Some(stat) = self.alive(pid, start) {
                    stats.insert(pid, stat);
                    continue;
                }
                self.bound.remove(key);
                // Unless it was seen just now: then somebody has the pid already.
                self.table.forget(key, wall.minus(START_SLACK));
            }
            self.bind(key, sighting, clocks, &mut stats);
            if is_old(sighting, wall) && !self.bound.contains_key(key) {
                self.table.forget(key, wall);
            }
        }
        self.finder.step(&mut self.files, now, self.hidden.is_some());
        self.suspect_forwarders(&entries, now);
        self.believe_services();
        let here: BTreeSet<&Key> = entries.iter().map(|(key, _)| key).collect();
        self.bound.retain(|key, _| here.contains(key));
        self.unknown.retain(|key, _| here.contains(key));

        let after = one_each(self.bound.values());
        let said = self.bound.values().filter(|bound| bound.witness == Witness::Service);
        self.table.set_found(services_by_pid(said.map(|bound| &bound.known)));
        self.table.set_followed(after.values().map(|known| known.pid));
        for (key, known) in &after {
            if !before.contains_key(key) {
                out.came.push(known.clone());
                let likeness = Likeness::of(&mut self.files, known.pid, &self.seed);
                out.likenesses.insert(known.identity(), Arc::new(likeness));
            }
        }
        // Only what really ended: an entry that was dropped for room is not a process that went.
        for (key, known) in before {
            if !after.contains_key(&key) && self.alive(known.pid, known.start_ticks).is_none() {
                out.went.push(known);
            }
        }
        self.rows(&stats, now, &mut out);
        self.explain(&entries, &mut out);
        out
    }

    fn look_anew(&mut self, now: u64) {
        if self.anew.is_some_and(|at| now.saturating_sub(at) < ANEW) {
            return;
        }
        self.anew = Some(now);
        self.boot_s = self.files.parse("/proc/stat", cpu::stat).map_or(0, |s| s.boot_s);
        let hidepid = self.files.parse("/proc/self/mountinfo", |t| Some(hidden_processes(t)));
        // Root, or a member of the mount's gid=, sees all the same: pid 1 is somebody else's.
        let blocked = look::stat(&mut self.files, 1).is_err();
        self.hidden = hidepid.ok().flatten().filter(|_| blocked);
    }

    /// Whether the process with this pid that began then is there, in clock ticks since boot.
    pub fn is_alive(&mut self, pid: u32, start_ticks: u64) -> bool {
        self.alive(pid, start_ticks).is_some()
    }

    fn alive(&mut self, pid: u32, start_ticks: u64) -> Option<ProcessStat> {
        let stat = look::stat(&mut self.files, pid).ok()?;
        (!stat.dead && stat.start_ticks == start_ticks).then_some(stat)
    }

    /// Finds the process of an entry that has none.
    fn bind(
        &mut self,
        key: &Key,
        sighting: &Sighting,
        clocks: Clocks,
        stats: &mut HashMap<u32, ProcessStat>,
    ) {
        let now = clocks.boot_ns;
        if self.unknown.get(key).is_some_and(|u| now < u.again) {
            return;
        }
        match self.find(sighting, now) {
            Found::Process(pid, stat) => {
                let known = Known {
                    service: sighting.service.clone(),
                    instance: sighting.instance.clone(),
                    pid,
                    start_ticks: stat.start_ticks,
                };
                stats.insert(pid, stat);
                self.unknown.remove(key);
                let witness = sighting.witness;
                let bound = Bound { known, witness, previous: None, limit: None, limit_at: None };
                self.bound.insert(key.clone(), bound);
            }
            Found::NotYet => {}
            // It ended; of a service that says nothing itself nothing is missing then.
            Found::No(_) if sighting.witness == Witness::Kernel => {
                self.table.forget(key, Time(clocks.wall_ns));
            }
            Found::No(why) => {
                let again = now.saturating_add(AGAIN);
                self.unknown.insert(key.clone(), Unknown { why, again });
            }
        }
    }

    fn find(&mut self, sighting: &Sighting, now: u64) -> Found {
        let claimed = sighting.pid.map(|pid| (pid, self.claim(pid, sighting)));
        if let (Some((pid, Ok(stat))), true) = (&claimed, sighting.executable.is_some()) {
            return Found::Process(*pid, *stat);
        }
        let Some(peer) = sighting.peer.filter(|p| p.is_local()) else {
            return match claimed {
                Some((pid, Ok(stat))) => Found::Process(pid, stat),
                Some((_, Err(why))) => Found::No(why),
                None => Found::No("it sends no process.pid; set it as a resource attribute".into()),
            };
        };
        match (self.finder.ask(peer, now), claimed) {
            (Answer::Looking, _) => Found::NotYet,
            // A process that knows itself by the pid it claims, though we know it by another.
            (Answer::Pid(holder), Some((pid, Ok(stat)))) => {
                let inside = holder != pid && look::own_pid(&mut self.files, holder) == Some(pid);
                match look::stat(&mut self.files, holder) {
                    Ok(stat) if inside => Found::Process(holder, stat),
                    _ => Found::Process(pid, stat),
                }
            }
            (Answer::Unknown(_), Some((pid, Ok(stat)))) => Found::Process(pid, stat),
            (Answer::Pid(holder), claimed) => self.holder(holder, claimed.map(|c| c.0)),
            (Answer::Unknown(why), Some((_, Err(claim)))) => Found::No(format!("{claim}; {why}")),
            (Answer::Unknown(why), None) => Found::No(why),
        }
    }

    /// Whether the process a service claims to be can be it.
    fn claim(&mut self, pid: u32, sighting: &Sighting) -> Result<ProcessStat, String> {
        let stat = match look::stat(&mut self.files, pid) {
            Ok(stat) => stat,
            Err(error) if !look::is_gone(&error) => {
                return Err(reason(&format!("/proc/{pid}/stat"), &error));
            }
            Err(_) if (self.exists)(pid) => {
                return Err(format!("process {pid} is hidden from this user (hidepid on /proc)"));
            }
            Err(_) => {
                return Err(format!(
                    "its process.pid {pid} is no process of the agent's pid namespace (ended, or a \
                     container's own number)"
                ));
            }
        };
        let started = self.started(&stat);
        let wrong = if stat.dead {
            "has ended"
        } else if stat.kernel {
            "is the kernel's here"
        } else if started > sighting.at.plus(START_SLACK) {
            "began after the service was seen"
        } else if sighting
            .executable
            .as_ref()
            .is_some_and(|e| !look::may_be(&mut self.files, pid, e))
        {
            "is another program here (a container's own number?)"
        } else {
            return Ok(stat);
        };
        Err(format!("its process.pid {pid} {wrong}"))
    }

    fn started(&self, stat: &ProcessStat) -> Time {
        let nanos =
            u128::from(stat.start_ticks) * u128::from(SECOND) / u128::from(self.ticks_per_s);
        Time(self.boot_s.saturating_mul(SECOND)).plus(u64_sat(nanos))
    }

    /// The process at the other end of the connection, unless it only passes things on.
    fn holder(&mut self, pid: u32, claimed: Option<u32>) -> Found {
        let Ok(stat) = look::stat(&mut self.files, pid) else {
            return Found::No(format!("process {pid}, from which its telemetry came, has ended"));
        };
        let own = look::own_pid(&mut self.files, pid);
        if claimed.is_some() && claimed == own {
            return Found::Process(pid, stat);
        }
        let names = look::names(&mut self.files, pid);
        if let Some(name) = names.iter().find(|name| FORWARDERS.contains(&name.as_str())) {
            return Found::No(format!(
                "its telemetry comes through {name} (process {pid}); set process.pid and host.name"
            ));
        }
        Found::Process(pid, stat)
    }

    /// What the kernel saw of a process that says itself which service it is, is known better.
    fn believe_services(&mut self) {
        let said = self.bound.values().filter(|bound| bound.witness == Witness::Service);
        let said: BTreeSet<u32> = said.map(|bound| bound.known.pid).collect();
        let (table, seen) = (&self.table, Witness::Kernel);
        self.bound.retain(|key, bound| {
            let better = bound.witness == seen && said.contains(&bound.known.pid);
            if better {
                table.forget(key, Time(u64::MAX));
            }
            !better
        });
    }

    /// A process that was found by its connection and sends for several services is none of them.
    fn suspect_forwarders(&mut self, entries: &[(Key, Arc<Sighting>)], now: u64) {
        let mut by_process: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
        let by_connection = |key: &Key, pid: u32| key.2 != Some(pid);
        for (key, _) in entries {
            if let Some(bound) = self.bound.get(key).filter(|b| by_connection(key, b.known.pid)) {
                by_process.entry(bound.known.pid).or_default().insert(&key.0);
            }
        }
        for (pid, _) in by_process.into_iter().filter(|(_, services)| services.len() > 1) {
            for (key, _) in entries.iter().filter(|(key, _)| by_connection(key, pid)) {
                if self.bound.get(key).is_some_and(|b| b.known.pid == pid) {
                    self.bound.remove(key);
                    let why = format!(
                        "process {pid} sends for several services; set process.pid and host.name"
                    );
                    let again = now.saturating_add(ANEW);
                    self.unknown.insert(key.clone(), Unknown { why, again });
                }
            }
        }
    }

    fn rows(&mut self, stats: &HashMap<u32, ProcessStat>, now: u64, out: &mut ProcessReading) {
        let mut bound: Vec<&mut Bound> = self.bound.values_mut().collect();
        bound.sort_unstable_by(|a, b| a.known.cmp(&b.known));
        // One process may be noted with and without an instance.
        bound.dedup_by(|a, b| a.known.pid == b.known.pid && a.known.service == b.known.service);
        let beyond = bound.len().saturating_sub(MAX_ROWS);
        if beyond > 0 {
            out.blind.push(format!("processes: {beyond} more than the {MAX_ROWS} that are shown"));
        }
        for bound in bound.into_iter().take(MAX_ROWS) {
            let Some(stat) = stats.get(&bound.known.pid) else { continue };
            let mut blind = Vec::new();
            let pid = bound.known.pid;
            if bound.limit_at.is_none_or(|at| now.saturating_sub(at) >= ANEW) {
                bound.limit = look::open_files_limit(&mut self.files, pid).ok();
                bound.limit_at = Some(now);
            }
            let fds = match look::open_files(&self.files, pid) {
                Ok(fds) => bound.limit.map(|limit| (fds, limit)),
                Err(_) => None,
            };
            if fds.is_none() {
                blind.push("descriptors: another user's process; give the agent CAP_SYS_PTRACE");
            }
            let cpu = bound.previous.and_then(|(at, ticks)| {
                let seconds = f64_from(now.checked_sub(at).filter(|ns| *ns > 0)?) / 1e9;
                let used = f64_from(stat.cpu_ticks.checked_sub(ticks)?);
                Some(used / f64_from(self.ticks_per_s) / seconds)
            });
            if cpu.is_none() {
                blind.push("cpu: first reading; wait 2 s");
            }
            bound.previous = Some((now, stat.cpu_ticks));
            out.rows.push(ProcessRow {
                service: bound.known.service.clone(),
                instance: bound.known.instance.clone(),
                pid,
                cpu,
                rss_bytes: Some(stat.rss_pages.saturating_mul(self.page_bytes)),
                fds,
                threads: Some(stat.threads),
                blind: (!blind.is_empty()).then(|| blind.join("; ")),
            });
        }
    }

    fn explain(&self, entries: &[(Key, Arc<Sighting>)], out: &mut ProcessReading) {
        if let Some(hidepid) = &self.hidden {
            out.blind.push(format!(
                "processes: /proc is mounted with hidepid={hidepid}, so other users' processes are \
                 hidden; add the agent's user to the group of the mount's gid=, or give the agent \
                 CAP_SYS_PTRACE"
            ));
        }
        let followed: BTreeSet<&str> =
            self.bound.values().map(|b| b.known.service.as_str()).collect();
        // A service of which some process is followed is seen; an old entry of it is no news.
        let unknown: BTreeMap<&str, &str> = entries
            .iter()
            .filter(|(key, _)| !followed.contains(key.0.as_str()))
            .filter_map(|(key, _)| Some((key.0.as_str(), self.unknown.get(key)?.why.as_str())))
            .collect();
        let named = unknown.iter().take(MAX_NAMED);
        out.blind.extend(named.map(|(service, why)| format!("process of {service}: {why}")));
        if let Some(more @ 1..) = unknown.len().checked_sub(MAX_NAMED) {
            out.blind.push(format!("processes of {more} more services are not known"));
        }
        let turned_away = self.table.turned_away();
        if turned_away > 0 {
            out.blind.push(format!("processes: {turned_away} sightings turned away, table full"));
        }
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;

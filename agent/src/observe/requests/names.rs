//! Whose process it is: which service, on which host. A pid is looked up and forgotten, never kept.
//!
//! A service is called, in this order: what a person's rule says, what its environment says
//! (`OTEL_SERVICE_NAME`, `service.name` in `OTEL_RESOURCE_ATTRIBUTES`), what it calls itself in the
//! telemetry it sends, what its container's labels say (Compose, Swarm, Kubernetes), its systemd unit, the name it was started by, its executable; an interpreter's by
//! its port too, for `python3` says nothing. So an nginx and its workers are one service.

use std::collections::HashMap;
use std::sync::Arc;

use coral_model::text::clean;
use coral_model::time::{SECOND, Time};
use coral_model::view::SEEN_BY;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64;

use super::containers::{Container, Containers};
use super::watch::Watch;
use crate::observe::files::Files;
use crate::observe::parse::process::{self, ProcessStat};
use crate::observe::process::{self as processes, Started, Worker, own_pid, unit_of};
use crate::observe::remains::is_at_terminal;
use crate::observe::{ServiceProcesses, Sighting, Witness};

/// Processes remembered; beyond it all are looked up anew.
const PROCESSES: usize = 8_192;
/// A process is looked up again after this: it may have said its name meanwhile. Nanoseconds.
const AGAIN_NS: u64 = 5_000_000_000;
/// Parents that are looked at to know whether a unit started it.
const PARENTS: usize = 8;
/// Programs that are looked at in a second as they begin; others only when they are seen to do something.
const BEGINNINGS: usize = 200;
/// Programs that run others' code.
const INTERPRETERS: [&str; 9] =
    ["python", "node", "java", "ruby", "perl", "php", "deno", "bun", "dotnet"];

/// A service as the kernel's requests name it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub service: String,
    /// Its encoded `Resource`.
    pub bytes: Vec<u8>,
    /// Hash of that.
    pub hash: u64,
    /// Its process sends spans of its own to this agent.
    pub reports: bool,
}

/// What `/proc` says of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Path of its executable, or its command name where that cannot be read.
    pub executable: String,
    /// The name it was started by, where that is another than its file's: links have names of their own.
    pub called: Option<String>,
    /// Its environment, zeros between the entries.
    pub environment: String,
    /// `/proc/<pid>/cgroup`.
    pub cgroup: String,
    /// Everybody from its parent up to a service manager, the system's or a user's, runs the same executable: it
    /// is the unit's own, not something that was started by hand below it.
    pub of_unit: bool,
    /// What it calls itself in the telemetry it sends.
    pub reported: Option<String>,
    /// What its container's labels say.
    pub container: Container,
}

struct Known {
    looked_ns: u64,
    facts: Facts,
    /// By port, for interpreters; else by 0.
    sources: HashMap<u16, Arc<Source>>,
    /// The first port that it was seen to serve at, where it is called by one.
    at: Option<u16>,
    /// It was noted as a process that serves.
    serves: bool,
}

/// Looks processes up.
pub struct Names {
    files: Files,
    host: String,
    watch: Watch,
    services: Arc<ServiceProcesses>,
    containers: Containers,
    known: HashMap<u32, Known>,
    /// Length of the clock tick that `/proc` counts in.
    tick_ns: u64,
    /// The second in which programs were looked at as they began, and how many.
    begun: (u64, usize),
    /// Those that were not, since somebody asked.
    passed_over: u64,
}

/// A program that has just been started as a service's first process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// When its process began, in clock ticks since boot.
    pub start_ticks: u64,
    /// Id of its container.
    pub container: Option<String>,
}

/// What is to be done about a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its requests are this service's.
    Watch(Arc<Source>),
    /// Nothing of it is wanted.
    Ignore,
}

impl Names {
    /// For processes of this host.
    #[must_use]
    pub fn new(files: Files, host: &str, watch: Watch, services: Arc<ServiceProcesses>) -> Self {
        let tick_ns = SECOND / rustix::param::clock_ticks_per_second().clamp(1, SECOND);
        let (host, containers, known) = (host.to_owned(), Containers::default(), HashMap::new());
        Self {
            files,
            host,
            watch,
            services,
            containers,
            known,
            tick_ns,
            begun: (0, 0),
            passed_over: 0,
        }
    }

    /// Whose requests these are. `process` tells processes apart, `pid` is the one below `/proc` (0
    /// where it is not visible), `port` the one it serves at; `None` where it asks, or that is not known.
    pub fn of(
        &mut self,
        process: u32,
        pid: u32,
        comm: &[u8; 16],
        port: Option<u16>,
        now_ns: u64,
    ) -> Verdict {
        let fresh = |known: &Known| now_ns.saturating_sub(known.looked_ns) < AGAIN_NS;
        if !self.known.get(&process).is_some_and(fresh) {
            if self.known.len() >= PROCESSES {
                self.known.clear();
            }
            // Gone by now: it stays what it was, or is what the thread that was seen calls itself.
            let before = self.known.remove(&process);
            let at = before.as_ref().and_then(|known| known.at);
            let facts = self.look(pid, comm, now_ns).or(before.map(|known| known.facts));
            let facts =
                facts.unwrap_or_else(|| Facts { executable: name_of(comm), ..Facts::default() });
            if rule(&self.watch, &facts).is_none() {
                return Verdict::Ignore;
            }
            let sources = HashMap::new();
            let known = Known { looked_ns: now_ns, facts, sources, at, serves: false };
            self.known.insert(process, known);
        }
        let Some(known) = self.known.get_mut(&process) else { return Verdict::Ignore };
        let facts = &known.facts;
        // Who asks others is called as it is when it serves.
        known.at = known.at.or(port).filter(|_| needs_port(&facts.executable));
        let port = port.filter(|_| known.at.is_some()).or(known.at).unwrap_or(0);
        let (watch, host) = (&self.watch, self.host.as_str());
        let source = known.sources.entry(port).or_insert_with(|| {
            let rule = rule(watch, facts).flatten();
            Arc::new(source(&service(facts, rule, port), facts, host))
        });
        Verdict::Watch(Arc::clone(source))
    }

    /// A process is another program from now on, which may end before anything more is seen of it. Gives what
    /// is known of it if somebody said that it is a service's (a rule, its environment, its container), or systemd
    /// started it for a unit, and it is the first of that: it is noted, so that its end is told. What a unit runs
    /// beside its service, what is run within a container and what a person starts at a terminal are not.
    pub fn began(&mut self, process: u32, pid: u32, comm: &[u8; 16], now_ns: u64) -> Option<Begun> {
        self.known.remove(&process);
        let second = now_ns / SECOND;
        if self.begun.0 != second {
            self.begun = (second, 0);
        }
        self.begun.1 += 1;
        if pid == 0 {
            return None;
        }
        if self.begun.1 > BEGINNINGS {
            self.passed_over += 1;
            return None;
        }
        let facts = self.look(pid, comm, now_ns)?;
        self.services.forget_worker(pid);
        let service = named(&facts, rule(&self.watch, &facts)?);
        let service = service.map(|name| clean(name).into_owned());
        let stat = self.stat(pid);
        let container = container(&facts.cgroup).map(str::to_owned);
        let started = stat.filter(|_| facts.of_unit && container.is_none());
        let started = started.and_then(|stat| self.started(pid, stat.parent, &facts));
        if self.known.len() < PROCESSES {
            let sources = HashMap::new();
            let known = Known { looked_ns: now_ns, facts, sources, at: None, serves: false };
            self.known.insert(process, known);
        }
        let of_unit = |started: &Started| match started {
            Started::Run(run) => Some(clean(&run.unit).into_owned()),
            Started::Beside => None,
        };
        let service = service.or_else(|| started.as_ref().and_then(of_unit));
        let (service, stat) = (service?, stat?);
        let is_first = match (&container, &started) {
            (Some(_), _) => own_pid(&mut self.files, pid) == Some(1),
            (None, Some(Started::Beside)) => false,
            (None, Some(Started::Run(_))) => !is_at_terminal(&self.files, pid),
            (None, None) => {
                let parent = self.look(stat.parent, &[0; 16], now_ns);
                let same = parent.is_some_and(|facts| {
                    let rule = rule(&self.watch, &facts).flatten();
                    named(&facts, rule).is_some_and(|name| clean(name) == service)
                });
                !same && !is_at_terminal(&self.files, pid)
            }
        };
        if !is_first {
            return None;
        }
        let start_ticks = stat.start_ticks;
        let run = match started {
            Some(Started::Run(run)) => Some(run),
            Some(Started::Beside) | None => None,
        };
        if let Some(run) = run.as_ref().filter(|run| !run.is_executor()) {
            self.passed_over += u64::from(!self.services.note_run(run.clone(), now_ns));
        }
        let worker = Worker { service, first: pid, start_ticks, served: false, run };
        self.services.note_worker(pid, worker);
        Some(Begun { start_ticks, container })
    }

    /// Programs that began since the last call and were not looked at, because too many did at once.
    #[must_use]
    pub fn take_passed_over(&mut self) -> u64 {
        std::mem::take(&mut self.passed_over)
    }

    /// Whether a service forked a process for its work.
    #[must_use]
    pub fn is_worker(&self, pid: u32) -> bool {
        self.services.is_worker(pid)
    }

    /// A process serves requests of a service: it is followed as the service's own, or, where it was
    /// forked for the work, the first one is.
    pub fn serves(&mut self, process: u32, pid: u32, service: &str, at: Time) {
        let Some(known) = self.known.get_mut(&process).filter(|known| !known.serves) else {
            return;
        };
        known.serves = true;
        let executable = base(&known.facts.executable).to_owned();
        let Some((first, stat)) = self.stat(pid).map(|stat| (self.first(pid, stat), stat)) else {
            return;
        };
        if self.services.service_of(first).is_some() {
            return;
        }
        if first != pid {
            let (service, start_ticks) = (service.to_owned(), stat.start_ticks);
            let worker = Worker { service, first, start_ticks, served: true, run: None };
            self.services.note_worker(pid, worker);
        }
        self.services.note(Sighting {
            service: service.to_owned(),
            instance: None,
            host: Some(self.host.clone()),
            pid: Some(first),
            executable: Some(executable),
            peer: None,
            at,
            witness: Witness::Kernel,
        });
    }

    fn stat(&mut self, pid: u32) -> Option<ProcessStat> {
        self.files.parse(&format!("/proc/{pid}/stat"), process::stat).ok()
    }

    /// The process from which this one was forked, and so on, as long as no other program was run in
    /// between: that would have given it another stack.
    fn first(&mut self, pid: u32, stat: ProcessStat) -> u32 {
        let (mut pid, mut stat) = (pid, stat);
        let executable = self.executable(pid);
        for _ in 0..PARENTS {
            let Some(parent) = self.stat(stat.parent) else { break };
            let forked = stat.stack != 0 && parent.stack == stat.stack;
            if !forked || self.executable(stat.parent) != executable {
                break;
            }
            (pid, stat) = (stat.parent, parent);
        }
        pid
    }

    fn look(&mut self, pid: u32, comm: &[u8; 16], now_ns: u64) -> Option<Facts> {
        if pid == 0 || pid == std::process::id() {
            return (pid != 0)
                .then(|| Facts { executable: "coral-agent".into(), ..Facts::default() });
        }
        // One that began after it was seen is another, which has its number now.
        let stat = self.stat(pid)?;
        if stat.start_ticks.saturating_mul(self.tick_ns) > now_ns.saturating_add(self.tick_ns) {
            return None;
        }
        let executable = self.executable(pid).unwrap_or_else(|| name_of(comm));
        let mut text = |file: &str| {
            let text = self.files.read(&format!("/proc/{pid}/{file}"));
            text.map(std::borrow::Cow::into_owned).unwrap_or_default()
        };
        let (environment, cgroup) = (text("environ"), text("cgroup"));
        let called = called(&text("comm"), &text("cmdline"));
        let of_unit = self.is_of_unit(pid, &executable);
        let reported = self.services.service_of(pid);
        let container = container(&cgroup).map(|id| self.containers.of(&mut self.files, id));
        let container = container.unwrap_or_default();
        Some(Facts { executable, called, environment, cgroup, of_unit, reported, container })
    }

    fn executable(&self, pid: u32) -> Option<String> {
        let path = std::fs::read_link(self.files.path(&format!("/proc/{pid}/exe"))).ok()?;
        let path = path.to_string_lossy();
        Some(path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned())
    }

    fn is_of_unit(&mut self, pid: u32, executable: &str) -> bool {
        let mut pid = pid;
        for _ in 0..PARENTS {
            let Some(parent) = self.stat(pid).map(|stat| stat.parent) else { return false };
            if parent == 1 {
                return true;
            }
            match self.executable(parent) {
                Some(same) if same == executable => pid = parent,
                other => return other.is_some_and(|path| processes::is_manager(&path)),
            }
        }
        false
    }

    /// What a service manager started a process as, if its parent is one.
    fn started(&self, pid: u32, parent: u32, facts: &Facts) -> Option<Started> {
        let by_system = parent == 1;
        let by_user = || self.executable(parent).is_some_and(|path| processes::is_manager(&path));
        if !by_system && !by_user() {
            return None;
        }
        let mut started = Started::of(pid, &facts.cgroup, &facts.environment, &facts.executable)?;
        if let Started::Run(run) = &mut started
            && by_system
            && run.is_executor()
        {
            run.invocation = processes::invocation(&self.files, &run.unit);
        }
        Some(started)
    }
}

/// A command name; a process chooses it itself.
fn name_of(comm: &[u8; 16]) -> String {
    let end = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
    clean(&String::from_utf8_lossy(comm.get(..end).unwrap_or_default())).into_owned()
}

/// The name a process was started by. The kernel takes it from the path that was run, and the program may
/// write over it: it is believed where the command line begins with it too, and is one word. Of a
/// longer one the kernel keeps 15 bytes only.
fn called(comm: &str, command_line: &str) -> Option<String> {
    let comm = comm.trim_end();
    let first = command_line.split(['\0', ' ']).next().unwrap_or_default();
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_name = !comm.is_empty() && comm.len() < 15 && comm.bytes().all(word);
    (is_name && base(first) == comm).then(|| comm.to_owned())
}

fn base(executable: &str) -> &str {
    executable.rsplit('/').next().unwrap_or(executable)
}

/// Whether an executable's name says nothing about the service.
fn needs_port(executable: &str) -> bool {
    let stem = base(executable).trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.contains(&stem)
}

/// What a person said of it, who may know it by its link, which is taken to be beside its file.
fn rule<'a>(watch: &'a Watch, facts: &Facts) -> Option<Option<&'a str>> {
    let link = || {
        let (folder, _) = facts.executable.rsplit_once('/')?;
        watch.rule(&format!("{folder}/{}", facts.called.as_deref()?))
    };
    watch.rule(&facts.executable).or_else(link)
}

/// What somebody said that the service is called: a rule, its environment, its telemetry, its container.
fn named<'a>(facts: &'a Facts, rule: Option<&'a str>) -> Option<&'a str> {
    let variable = |name: &str| process::variable(&facts.environment, name);
    let attributes = || {
        let pairs = variable("OTEL_RESOURCE_ATTRIBUTES")?.split(',');
        let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| key.trim() == "service.name").map(|(_, value)| value.trim())
    };
    rule.or_else(|| variable("OTEL_SERVICE_NAME"))
        .or_else(attributes)
        .or(facts.reported.as_deref())
        .or(facts.container.service.as_deref())
}

/// What the service is called; see the module.
fn service(facts: &Facts, rule: Option<&str>, port: u16) -> String {
    let called = clean(facts.called.as_deref().unwrap_or_else(|| base(&facts.executable)));
    let of_unit = || unit_of(&facts.cgroup).filter(|_| facts.of_unit);
    match named(facts, rule).or_else(of_unit) {
        Some(name) => clean(name).into_owned(),
        None if port != 0 => format!("{called}:{port}"),
        None => called.into_owned(),
    }
}

/// Id of the container that a process is in.
pub(in crate::observe) fn container_of(files: &mut Files, pid: u32) -> Option<String> {
    let cgroup = files.read(&format!("/proc/{pid}/cgroup")).ok()?;
    container(&cgroup).map(str::to_owned)
}

/// The container a cgroup belongs to: 64 hexadecimal digits, as Docker, containerd and CRI-O write it.
fn container(cgroup: &str) -> Option<&str> {
    cgroup
        .split(['/', '-', '.', ':', '\n'])
        .find(|part| part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn source(service: &str, facts: &Facts, host: &str) -> Source {
    let text = |key: &str, value: &str| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.into())) }),
        ..KeyValue::default()
    };
    let name = clean(base(&facts.executable));
    let mut attributes = vec![
        text("service.name", service),
        text("host.name", host),
        text("process.executable.name", &name),
        text(SEEN_BY, "ebpf"),
    ];
    attributes.extend(container(&facts.cgroup).map(|id| text("container.id", id)));
    attributes.extend(facts.container.attributes.iter().map(|(key, value)| text(key, value)));
    let bytes = Resource { attributes, ..Resource::default() }.encode_to_vec();
    let hash = xxh3_64(&bytes);
    let reports = facts.reported.is_some();
    Source { service: service.to_owned(), bytes, hash, reports }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::kernel::Ended;

    fn facts(executable: &str) -> Facts {
        Facts { executable: executable.into(), ..Facts::default() }
    }

    #[test]
    fn a_service_is_called_by_the_best_name_there_is() {
        let mut facts = facts("/usr/sbin/nginx");
        assert_eq!(service(&facts, None, 0), "nginx");
        facts.cgroup = "12:pids:/system.slice/web.service\n0::/system.slice/web.service\n".into();
        assert_eq!(service(&facts, None, 0), "nginx");
        facts.of_unit = true;
        assert_eq!(service(&facts, None, 0), "web");
        facts.container.service = Some("web-1".into());
        assert_eq!(service(&facts, None, 0), "web-1");
        facts.reported = Some("shop".into());
        assert_eq!(service(&facts, None, 0), "shop");
        facts.environment = "A=b\0OTEL_RESOURCE_ATTRIBUTES=a=b, service.name=cart\0".into();
        assert_eq!(service(&facts, None, 0), "cart");
        facts.environment.push_str("OTEL_SERVICE_NAME=pay\0");
        assert_eq!(service(&facts, None, 0), "pay");
        assert_eq!(service(&facts, Some("edge"), 0), "edge");
    }

    #[test]
    fn a_link_has_a_name_of_its_own() {
        let of = |comm: &str, line: &str| called(comm, line);
        let redis = Some("redis-server".to_owned());
        assert_eq!(of("redis-server\n", "redis-server 127.0.0.1:6379"), redis);
        assert_eq!(of("redis-server\n", "/usr/bin/redis-server\0--save\0"), redis);
        // Threads, titles, names that were cut: not what it was started by.
        assert_eq!(of("MainThread\n", "node\0app.js\0"), None);
        assert_eq!(of("gunicorn: maste\n", "gunicorn: master [app]"), None);
        assert_eq!(of("a-very-long-nam\n", "/opt/a-very-long-nam\0"), None);
        assert_eq!(of("", ""), None);
        let mut facts = facts("/usr/bin/redis-check-rdb");
        facts.called = redis;
        assert_eq!(service(&facts, None, 0), "redis-server");
        let watched = |rules: &str| rule(&rules.parse().unwrap(), &facts).is_some();
        assert!(
            watched("redis-server") && watched("redis-check-*") && watched("/usr/bin/redis-server")
        );
        // Whoever names a folder means that folder.
        assert!(!watched("/opt/redis-server"));
    }

    #[test]
    fn an_interpreter_is_known_by_its_port() {
        for name in ["/usr/bin/python3.11", "node", "/opt/java"] {
            assert!(needs_port(name), "{name}");
        }
        for name in ["/usr/sbin/nginx", "javascripty", "nodes"] {
            assert!(!needs_port(name), "{name}");
        }
        assert_eq!(service(&facts("/usr/bin/python3"), None, 8000), "python3:8000");
    }

    #[test]
    fn cgroups_say_the_container() {
        let id = "a".repeat(64);
        for path in
            ["/docker/{}", "/system.slice/docker-{}.scope", "/kubepods/cri-containerd-{}.scope"]
        {
            let cgroup = format!("0::{}\n", path.replace("{}", &id));
            assert_eq!(container(&cgroup), Some(id.as_str()));
        }
        assert_eq!(container("0::/system.slice/x.service\n"), None);
    }

    #[test]
    fn the_first_process_of_a_service_is_followed_and_those_it_forked_are_its_workers() {
        let dir = tempfile::tempdir().unwrap();
        let process = |pid: u32, parent: u32, stack: u64| {
            let at = dir.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(&at).unwrap();
            let rest = format!("0 0 0 20 0 3 0 {pid} 1 10 0 0 0 {stack} 0");
            let stat = format!("{pid} (nginx) S {parent} 1 1 0 -1 0 1 2 3 4 5 {rest}");
            std::fs::write(at.join("stat"), stat).unwrap();
            std::os::unix::fs::symlink("/usr/sbin/nginx", at.join("exe")).unwrap();
        };
        // An upgrade in place runs the program anew: 20 is another service's beginning.
        for (pid, parent, stack) in [(20, 1, 8), (21, 20, 9), (22, 21, 9), (23, 21, 9), (24, 1, 0)]
        {
            process(pid, parent, stack);
        }
        let services = Arc::new(ServiceProcesses::new("h"));
        let mut names = Names::new(
            Files::below(dir.path()),
            "h",
            "nginx".parse().unwrap(),
            Arc::clone(&services),
        );
        for pid in [22, 23, 24] {
            assert!(matches!(names.of(pid, pid, &[0; 16], None, u64::MAX / 2), Verdict::Watch(_)));
            names.serves(pid, pid, "nginx", Time(1));
        }
        let followed: Vec<Option<u32>> = services.entries().iter().map(|(_, s)| s.pid).collect();
        assert_eq!(followed, [Some(21), Some(24)]);
        let ended = |pid: u32| Ended {
            pid,
            start_ns: u64::from(pid) * SECOND / rustix::param::clock_ticks_per_second(),
            at_ns: 0,
            name: "nginx".into(),
            parent: None,
            code: None,
            signal: Some(11),
            by: None,
            core: false,
        };
        let workers = services.of_workers(vec![ended(21), ended(22), ended(23), ended(24)]);
        assert_eq!(
            workers.iter().map(|(w, e)| (w.first, e.pid)).collect::<Vec<_>>(),
            [(21, 22), (21, 23)]
        );
    }

    /// A recorded host, with what systemd starts on it. No process has such a number.
    struct Host {
        dir: tempfile::TempDir,
        services: Arc<ServiceProcesses>,
        names: Names,
    }

    const FIRST: u32 = 5_000_000;
    const SYSTEMD: &str = "/usr/lib/systemd/systemd";
    const ONE: &str = "0123456789abcdef0123456789abcdef";

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let services = Arc::new(ServiceProcesses::new("h"));
            let files = Files::below(dir.path());
            let names = Names::new(files, "h", Watch::all(), Arc::clone(&services));
            Self { dir, services, names }
        }

        fn write(&self, pid: u32, parent: u32, executable: &str, cgroup: &str, environment: &str) {
            let at = self.dir.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(at.join("fd")).unwrap();
            let rest = "0 0 0 20 0 3 0 77 1 10 0 0 0 9 0";
            let stat = format!("{pid} (x) S {parent} 1 1 0 -1 0 1 2 3 4 5 {rest}");
            std::fs::write(at.join("stat"), stat).unwrap();
            std::fs::write(at.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
            std::fs::write(at.join("environ"), environment).unwrap();
            _ = std::fs::remove_file(at.join("exe"));
            std::os::unix::fs::symlink(executable, at.join("exe")).unwrap();
        }

        /// What systemd itself starts of the unit's own in that environment; whether its end will be told.
        fn begins(&mut self, pid: u32, cgroup: &str, environment: &str) -> bool {
            let environment = format!("INVOCATION_ID={ONE}\0SYSTEMD_EXEC_PID={pid}\0{environment}");
            self.write(pid, 1, "/usr/sbin/nginx", cgroup, &environment);
            self.told(pid)
        }

        fn told(&mut self, pid: u32) -> bool {
            self.names.began(pid, pid, &[0; 16], u64::MAX / 2).is_some()
        }

        /// As what a process is known that ends now.
        fn ends(&self, pid: u32) -> Option<Worker> {
            let start_ns = 77 * SECOND / rustix::param::clock_ticks_per_second();
            let (at_ns, name, code) = (start_ns, "nginx".to_owned(), Some(1));
            let (parent, signal, by, core) = (None, None, None, false);
            let ended = Ended { pid, start_ns, at_ns, name, parent, code, signal, by, core };
            self.services.of_workers(vec![ended]).pop().map(|(worker, _)| worker)
        }
    }

    #[test]
    fn what_systemd_starts_for_a_unit_is_noted_by_its_name() {
        let (mut host, web) = (Host::new(), "/system.slice/web.service");
        assert!(host.begins(FIRST, web, ""));
        let known = host.ends(FIRST).unwrap();
        assert_eq!((known.service.as_str(), known.first, known.served), ("web", FIRST, false));
        let run = known.run.unwrap();
        assert_eq!((run.cgroup.as_str(), run.invocation.as_deref()), (web, Some(ONE)));
        assert_eq!((run.unit.as_str(), run.executable.as_str()), ("web", "/usr/sbin/nginx"));
        let begun = host.services.take_runs();
        assert_eq!(begun, [(run, u64::MAX / 2)]);
        // What somebody called it is what it is called.
        assert!(host.begins(FIRST, web, "OTEL_SERVICE_NAME=shop\0"));
        assert_eq!(host.ends(FIRST).unwrap().service, "shop");
        // A user's manager.
        let user = "/user.slice/user-1000.slice/user@1000.service";
        host.write(FIRST + 1, 1, SYSTEMD, &format!("{user}/init.scope"), "A=b\0");
        let environment = format!("INVOCATION_ID={ONE}\0");
        let cgroup = format!("{user}/app.slice/sync.service");
        host.write(FIRST + 2, FIRST + 1, "/usr/bin/sync", &cgroup, &environment);
        assert!(host.told(FIRST + 2));
        assert_eq!(host.ends(FIRST + 2).unwrap().service, "sync");
        // So it is called when it serves.
        let verdict = host.names.of(FIRST + 2, FIRST + 2, &[0; 16], Some(80), u64::MAX / 2);
        assert!(matches!(verdict, Verdict::Watch(source) if source.service == "sync"));
    }

    #[test]
    fn what_is_run_beside_a_unit_or_by_a_person_is_not_noted() {
        let (mut host, web) = (Host::new(), "/system.slice/web.service");
        assert!(!host.begins(FIRST, web, "MAINPID=7\0"), "a reload");
        assert!(!host.begins(FIRST, web, "OTEL_SERVICE_NAME=shop\0SERVICE_RESULT=exit-code\0"));
        let other = format!("SYSTEMD_EXEC_PID=7\0INVOCATION_ID={ONE}\0");
        host.write(FIRST, 1, "/usr/sbin/nginx", web, &other);
        assert!(!host.told(FIRST), "its parent has ended");
        host.write(FIRST + 1, FIRST, "/usr/bin/curl", web, &other);
        assert!(!host.told(FIRST + 1), "its parent is the service");
        host.write(FIRST, 1, "/usr/sbin/nginx", web, "");
        assert!(!host.told(FIRST), "who may not read its environment cannot tell");
        assert!(!host.begins(FIRST, "/user.slice/user-1000.slice/session-3.scope", ""));
        assert!(!host.begins(FIRST, "/system.slice/run-u7.service", ""));
        let input = host.dir.path().join(format!("proc/{FIRST}/fd/0"));
        std::os::unix::fs::symlink("/dev/tty1", input).unwrap();
        assert!(!host.begins(FIRST, "/system.slice/getty@tty1.service", ""));
        assert!(host.services.take_runs().is_empty());
        assert_eq!((host.ends(FIRST), host.ends(FIRST + 1)), (None, None));
    }

    #[test]
    fn a_unit_whose_program_cannot_be_run_is_told_by_what_should_have_run_it() {
        let (mut host, web) = (Host::new(), "/system.slice/web.service");
        let units = host.dir.path().join("run/systemd/units");
        std::fs::create_dir_all(&units).unwrap();
        std::os::unix::fs::symlink(ONE, units.join("invocation:web.service")).unwrap();
        let executor = "/usr/lib/systemd/systemd-executor";
        host.write(FIRST, 1, executor, web, "PATH=/bin\0");
        assert!(host.told(FIRST));
        assert!(host.services.take_runs().is_empty(), "nothing of the unit has begun");
        let run = host.ends(FIRST).unwrap().run.unwrap();
        assert_eq!(run.invocation.as_deref(), Some(ONE));
        // One that runs its program is that from then on.
        assert!(host.told(FIRST));
        assert!(!host.begins(FIRST, web, "MAINPID=7\0"));
        assert_eq!(host.ends(FIRST), None);
        host.write(FIRST, 1, executor, web, "PATH=/bin\0");
        assert!(host.told(FIRST));
        host.write(FIRST, 1, "/usr/bin/coral-agent", web, "PATH=/bin\0");
        assert!(!host.told(FIRST));
        assert_eq!(host.ends(FIRST), None, "Coral's own is nobody's");
    }

    #[test]
    fn programs_that_are_too_many_to_be_looked_at_are_counted() {
        let services = Arc::new(ServiceProcesses::new("h"));
        let mut names = Names::new(Files::below("/nowhere"), "h", Watch::all(), services);
        let mut begin = |pid: u32, at_ns: u64| {
            assert_eq!(names.began(pid, pid, &[0; 16], at_ns), None);
            names.take_passed_over()
        };
        let most = u32::try_from(BEGINNINGS).unwrap();
        let within: u64 = (1..=most).map(|pid| begin(pid, SECOND + u64::from(pid))).sum();
        assert_eq!(within, 0);
        // One that is outside the agent's view could not have been looked at anyway.
        let told = [7, 0, 8].map(|pid| begin(pid, 2 * SECOND - 1));
        assert_eq!((told, begin(9, 2 * SECOND)), ([1, 0, 1], 0));
    }

    #[test]
    fn a_process_that_is_gone_is_known_by_its_command_name() {
        let dir = tempfile::tempdir().unwrap();
        let services = Arc::new(ServiceProcesses::new("h"));
        let watch = "nginx,curl".parse().unwrap();
        let mut names = Names::new(Files::below(dir.path()), "h", watch, services);
        let comm = |name: &[u8]| {
            let mut comm = [0; 16];
            comm[..name.len()].copy_from_slice(name);
            comm
        };
        let Verdict::Watch(source) = names.of(7, 7, &comm(b"curl"), None, 1) else {
            panic!("curl is watched")
        };
        assert_eq!(source.service, "curl");
        assert_eq!(names.of(8, 8, &comm(b"sshd"), None, 1), Verdict::Ignore);
        // The same number, another program.
        let Verdict::Watch(source) = names.of(8, 8, &comm(b"nginx"), Some(80), 2) else {
            panic!("nginx is watched")
        };
        assert_eq!(source.service, "nginx");
        // Its own process is known by its number.
        let own = names.of(9, std::process::id(), &comm(b"nginx"), None, 2);
        assert_eq!(own, Verdict::Ignore);
        // A pid is in nothing that is kept.
        let kept = String::from_utf8_lossy(&source.bytes);
        assert!(kept.contains("service.name") && !kept.contains("pid"));
    }
}

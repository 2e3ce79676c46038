//! What the agent sees through eBPF. Skipped only where the kernel does not let it look, and then
//! the reason is printed.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use coral_model::time::SECOND;
use coral_model::view::{EventKind, EventRow, HostRow, Row, SenseState, ShortLivedProgram};
use coral_tests::nginx::{Nginx, USUAL, free_port, watched};
use coral_tests::{Colony, MemoryLimit, Python, Running, Shop, may, may_look, until};

fn pid_of(colony: &Colony, service: &str) -> u32 {
    until(&format!("the process of {service}"), || {
        let rows = colony.query(&["hosts"])?;
        let pid = rows.iter().find_map(|row| match row {
            Row::Host(host) => host.processes.iter().find(|p| p.service == service).map(|p| p.pid),
            _ => None,
        });
        pid.ok_or_else(|| format!("{rows:?}"))
    })
}

/// The first event about the end of a process of the service whose text says so.
fn told(colony: &Colony, service: &str, text: &str) -> EventRow {
    until(&format!("an event of {service} with {text:?}"), || {
        let rows = colony.query(&["events", "--since", "10m"])?;
        let mut ends = rows.into_iter().filter_map(|row| match row {
            Row::Event(event) => Some(*event),
            _ => None,
        });
        let of = |e: &EventRow| {
            matches!(e.kind, EventKind::Restart | EventKind::ProcessEnded | EventKind::Deploy)
                && e.service.as_deref() == Some(service)
        };
        let seen: Vec<EventRow> = ends.by_ref().filter(of).collect();
        let found = seen.iter().find(|e| e.text.contains(text)).cloned();
        found.ok_or_else(|| format!("{seen:?}"))
    })
}

#[test]
fn who_killed_a_service_and_how_it_crashed() {
    let colony = Colony::start();
    if !may(&colony, "ebpf") {
        return;
    }
    let shop = Shop::start(&colony, 20);
    let pid = pid_of(&colony, "payments");
    let killed = Command::new("sh").args(["-c", &format!("kill -9 {pid}")]).status().unwrap();
    assert!(killed.success());
    let event = told(&colony, "payments", "was killed by SIGKILL from sh (process ");
    assert!(event.text.contains(&format!("process {pid} was killed")), "{}", event.text);
    let attribute = |name: &str| event.attributes.get(name).map(String::as_str);
    assert_eq!((attribute("signal"), attribute("sender")), (Some("SIGKILL"), Some("sh")));
    assert_eq!(attribute("sender.uid"), Some("0"), "{event:?}");

    _ = pid_of(&colony, "shipping");
    shop.fault(&["shipping", "crash"]);
    let event = told(&colony, "shipping", "died of SIGABRT");
    assert_eq!(event.attributes.get("sender").map(String::as_str), Some("itself"), "{event:?}");
}

/// Nobody instrumented it: its first process is followed like any other's, and its workers are known.
#[test]
fn a_service_that_says_nothing_of_itself_is_followed() {
    let Some((colony, programs)) = watched(&["/usr/sbin/nginx", "/usr/bin/ab"], &USUAL) else {
        return;
    };
    let mut nginx = Nginx::start(&programs);
    let ask = |nginx: &Nginx| {
        _ = programs.run("ab", &["-q", "-n", "400", "-c", "16"], &nginx.url("/small.html"));
    };
    ask(&nginx);
    assert_eq!(pid_of(&colony, "nginx"), nginx.pid());
    for worker in nginx.workers() {
        let killed = Command::new("sh").args(["-c", &format!("kill -SEGV {worker}")]).status();
        assert!(killed.unwrap().success());
    }
    let event = told(&colony, "nginx", "was killed by SIGSEGV from sh");
    assert!(event.text.contains("worker"), "{}", event.text);
    let first = nginx.pid();
    nginx.again("worker_rlimit_core 0; ");
    ask(&nginx);
    let event = told(&colony, "nginx", &format!("{} took its place", nginx.pid()));
    assert!(
        event.text.contains(&format!("process {first} exited with 0 after SIGTERM")),
        "{event:?}"
    );
    let event = told(&colony, "nginx", "came back with");
    assert_eq!(event.kind, EventKind::Deploy);
    assert!(event.text.ends_with("nginx.conf changed") && !event.text.contains(','), "{event:?}");
}

/// A colony whose agent sees the requests of `cart`; `None` where it may not.
fn watching_cart() -> Option<Colony> {
    let colony = Colony::prepare();
    let watch = colony.dir().join("cart").display().to_string();
    let mut colony = colony.with_env("CORAL_WATCH", watch);
    colony.up();
    may_look(&colony).then_some(colony)
}

/// A server in Python that is called `cart`.
struct Cart(Running);

impl Cart {
    fn start(colony: &Colony, port: u16, environment: &[(&str, &str)]) -> Self {
        let mut python = Python::find().called(colony.dir(), "cart");
        python.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]);
        python.current_dir(colony.dir()).stdout(Stdio::null()).stderr(Stdio::null());
        let cart = Self(Running::start(python.envs(environment.iter().copied())));
        until("cart to answer", || get(port, "/nothing"));
        cart
    }
}

#[test]
fn what_came_back_different_is_told_without_its_values() {
    let Some(colony) = watching_cart() else { return };
    let port = free_port();
    let cart = Cart::start(&colony, port, &[("LIMIT", "hunter2"), ("OLD", "1"), ("SAME", "1")]);
    assert_eq!(pid_of(&colony, "cart"), cart.0.id());
    drop(cart);
    let _cart = Cart::start(&colony, port, &[("LIMIT", "hunter3"), ("NEW", "1"), ("SAME", "1")]);
    let event = told(&colony, "cart", "came back with");
    assert_eq!(event.text, "cart came back with LIMIT changed, NEW new, OLD gone");
    assert_eq!(event.kind, EventKind::Deploy);
    assert_eq!(event.attributes["environment"], "LIMIT changed, NEW new, OLD gone");
    assert!(!format!("{event:?}").contains("hunter"));
}

/// Answers 200, and at `/grow` takes 256 MiB.
const GROWING: &str = "
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/grow':
            held = b'x' * (256 << 20)
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
";

fn get(port: u16, path: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

#[test]
fn who_ran_out_of_memory_is_named() {
    let Some(limit) = MemoryLimit::of(96 << 20) else { return };
    let Some(colony) = watching_cart() else { return };
    let port = free_port();
    let mut python = Python::find().called(colony.dir(), "cart");
    python.args(["-c", GROWING, &port.to_string()]);
    let mut python = limit.around(&python);
    let cart = Cart(Running::start(python.stdout(Stdio::null()).stderr(Stdio::null())));
    until("cart to answer", || get(port, "/small"));
    let pid = pid_of(&colony, "cart");
    _ = get(port, "/grow");
    let event = told(&colony, "cart", "was killed by SIGKILL from the kernel, for lack of memory");
    assert!(event.text.starts_with(&format!("process {pid} of cart ")), "{event:?}");
    assert_eq!(event.attributes["sender"], "kernel: out of memory");
    until("the kernel's own count", || {
        let rows = colony.query(&["events", "--since", "10m", "kind=oom_kill"])?;
        let named = |row: &Row| matches!(row, Row::Event(e) if e.text.contains(&format!("cart (process {pid})")));
        if rows.iter().any(named) { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    drop(cart);
}

/// The one host.
fn host(colony: &Colony) -> Result<HostRow, String> {
    let rows = colony.query(&["hosts"])?;
    let host = rows.into_iter().find_map(|row| match row {
        Row::Host(host) => Some(*host),
        _ => None,
    });
    host.ok_or_else(|| "no host yet".to_owned())
}

/// What is told of short-lived processes that a program of this name started; the whole kernel's are seen.
fn started_by(colony: &Colony, parent: &str) -> Result<Vec<ShortLivedProgram>, String> {
    let host = host(colony)?;
    let all = host.short_lived.ok_or_else(|| host.blind.join(" · "))?;
    assert!(all.window_ns % (10 * SECOND) == 0 && all.window_ns <= 60 * SECOND, "{all:?}");
    let of = |program: &ShortLivedProgram| program.parent.as_deref() == Some(parent);
    Ok(all.programs.into_iter().filter(of).collect())
}

#[test]
fn processes_that_live_too_short_to_be_followed_are_counted() {
    let colony = Colony::start();
    if !may(&colony, "ebpf") {
        return;
    }
    // Names that nobody else on this machine has, of at most 15 letters.
    let of_its_own = |name: &str| format!("{name}{:x}", std::process::id());
    let (hen, egg) = (of_its_own("hen"), of_its_own("egg"));
    for name in [&hen, &egg] {
        std::fs::copy("/bin/sh", colony.dir().join(name)).unwrap();
    }
    let script = r#"
        lay() { n=$1; while [ "$n" -gt 0 ]; do "$egg" -c "exit $2"; n=$((n - 1)); done; }
        lay 300 0; lay 100 3; lay 100 0; :"#;
    let mut laying = Command::new(colony.dir().join(&hen));
    laying.args(["-c", script]).env("egg", colony.dir().join(&egg)).stdin(Stdio::null());
    assert!(laying.status().unwrap().success());
    let told = until("every one of them to be counted", || {
        let told = started_by(&colony, &hen)?;
        match &told[..] {
            [one] if one.count == 500 => Ok(one.clone()),
            _ => Err(format!("{told:?}")),
        }
    });
    let ShortLivedProgram { program, count, failed, last_failure, lived_ns, longest_ns, .. } = told;
    assert_eq!((program, count, failed), (egg.clone(), 500, 100));
    assert_eq!(last_failure.as_deref(), Some("exited with 3"));
    assert!(longest_ns > 0 && longest_ns < 2 * SECOND, "{longest_ns}");
    assert!((longest_ns..500 * longest_ns).contains(&lived_ns), "{lived_ns} {longest_ns}");
    let page = colony.coral(&["query", "hosts"]).ok();
    let lines = page.out.lines().filter(|line| line.contains(&egg) && line.contains(&hen));
    assert_eq!(lines.count(), 1, "{}", page.out);
}

/// The programs that a process holds, by the kernel's numbers.
#[cfg(target_os = "linux")]
fn programs_of(pid: u32) -> BTreeSet<u32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let id =
        |text: String| text.lines().find_map(|l| l.strip_prefix("prog_id:")?.trim().parse().ok());
    texts.filter_map(id).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn an_agent_that_is_killed_leaves_nothing_in_the_kernel() {
    let colony = Colony::start();
    if !may(&colony, "ebpf") {
        return;
    }
    let agent = colony.status().unwrap().agents[0].pid;
    let held = programs_of(agent);
    let loaded = || -> BTreeSet<u32> {
        aya::programs::loaded_programs().map(|program| program.unwrap().id()).collect()
    };
    assert!(held.len() >= 3 && held.is_subset(&loaded()), "{held:?}");
    Colony::kill(agent);
    until("its programs to be gone", || {
        let left: Vec<u32> = held.intersection(&loaded()).copied().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn without_ebpf_everything_else_goes_on() {
    let mut colony = Colony::prepare().with_env("CORAL_NO_EBPF", "1");
    colony.up();
    let status = until("the agent's senses", || {
        let status = colony.status()?;
        let named =
            |name: &str| status.agents.iter().flat_map(|a| &a.senses).any(|s| s.name == name);
        if named("ebpf") && named("process") { Ok(status) } else { Err(format!("{status:?}")) }
    });
    let sense = status.agents.iter().flat_map(|a| &a.senses).find(|s| s.name == "ebpf").unwrap();
    assert_eq!((sense.state, sense.why.as_str()), (SenseState::Off, "turned off"));
    let host = until("a reading of the host", || host(&colony));
    assert_eq!(host.short_lived, None);
    let says = |line: &String| line.starts_with("short-lived processes: only eBPF sees them");
    assert!(host.blind.iter().any(says), "{:?}", host.blind);
}

//! Requests seen through eBPF, of a real nginx that nobody instrumented: what its access log has is
//! what Coral counts, to the request. Skipped only where the kernel does not let the agent look, and
//! then the reason is printed.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use coral_model::view::{AgentRow, EdgeEnds, Evidence, NodeKind, RedRow, Row, SenseState};
use coral_tests::{Colony, Terminal, until};

/// Programs of the test's own, so that nobody else's nginx is counted: copies in its folder, which
/// alone are watched.
struct Programs {
    dir: PathBuf,
}

impl Programs {
    fn copied(dir: &Path) -> Self {
        for program in ["/usr/sbin/nginx", "/usr/bin/ab", "/usr/bin/h2load"] {
            let from = Path::new(program);
            assert!(from.exists(), "no {program}: run tools/services.sh first");
            std::fs::copy(from, dir.join(from.file_name().unwrap())).unwrap();
        }
        Self { dir: dir.to_owned() }
    }

    fn watch(&self) -> String {
        let path = |name: &str| self.dir.join(name).display().to_string();
        [path("nginx"), path("ab"), path("h2load")].join(",")
    }

    fn run(&self, program: &str, args: &[&str], url: &str) -> String {
        let mut command = Command::new(self.dir.join(program));
        let output = command.args(args).arg(url).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{program}: {text} {output:?}");
        text
    }
}

/// A running nginx. Dropping it ends it and its workers.
struct Nginx {
    child: Child,
    log: PathBuf,
    port: u16,
}

/// A line of the access log.
struct Logged {
    status: String,
    seconds: f64,
    path: String,
}

impl Nginx {
    fn start(programs: &Programs) -> Self {
        let dir = &programs.dir;
        let www = dir.join("www");
        std::fs::create_dir_all(&www).unwrap();
        std::fs::write(www.join("small.html"), "<p>small</p>\n").unwrap();
        std::fs::write(www.join("marker.html"), "<p>marker</p>\n").unwrap();
        std::fs::write(www.join("large.bin"), vec![7; 1_000_000]).unwrap();
        std::fs::write(www.join("slow.bin"), vec![7; 150_000]).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = dir.display();
        let config = format!(
            "daemon off; master_process on; worker_processes 2; pid {at}/nginx.pid; \
             error_log {at}/error.log; events {{ worker_connections 512; }} \
             http {{ log_format t '$status $request_time $uri'; access_log {at}/access.log t; \
             client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3; \
             uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5; \
             sendfile on; keepalive_requests 100000; \
             server {{ listen 127.0.0.1:{port}; root {at}/www; limit_rate $arg_rate; }} }}"
        );
        std::fs::write(dir.join("nginx.conf"), config).unwrap();
        let child = Command::new(dir.join("nginx"))
            .arg("-p")
            .arg(dir)
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { child, log: dir.join("access.log"), port };
        until("nginx to listen", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|e| e.to_string())
        });
        nginx
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn logged(&self) -> Vec<Logged> {
        let mut text = String::new();
        let mut file = std::fs::File::open(&self.log).unwrap();
        file.read_to_string(&mut text).unwrap();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap().to_owned();
            let (status, seconds, path) = (word(), word().parse().unwrap(), word());
            Logged { status, seconds, path }
        };
        text.lines().map(line).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // TERM to the master ends its workers too.
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        _ = self.child.wait();
    }
}

/// Whether this kernel lets the agent see requests.
fn may_look(colony: &Colony) -> bool {
    let sense = until("the agent to say what it sees of requests", || {
        let status = colony.status()?;
        let senses = status.agents.iter().flat_map(|agent| &agent.senses);
        senses
            .clone()
            .find(|s| s.name == "requests")
            .cloned()
            .ok_or_else(|| "nothing yet".to_owned())
    });
    if sense.state != SenseState::Off {
        return true;
    }
    // Without BTF, the right to load, or the two tracepoints of Linux 6.3.
    let lacks =
        ["not permitted to load", "does not describe itself", "this kernel has no", "sock_"];
    assert!(lacks.iter().any(|text| sense.why.contains(text)), "off for no reason: {sense:?}");
    eprintln!("skipped: {}", sense.why);
    false
}

fn red(colony: &Colony, by: &str) -> Result<Vec<RedRow>, String> {
    let rows = colony.query(&["red", "service=nginx", "--by", by, "--since", "30m"])?;
    Ok(rows
        .into_iter()
        .filter_map(|row| if let Row::Red(row) = row { Some(*row) } else { None })
        .collect())
}

fn by_status(colony: &Colony) -> Result<BTreeMap<String, u64>, String> {
    let status = |row: &RedRow| row.by.get("status").cloned().flatten().unwrap_or_default();
    Ok(red(colony, "status")?.iter().map(|row| (status(row), row.red.requests)).collect())
}

fn counters(colony: &Colony) -> BTreeMap<String, u64> {
    let rows = colony.query(&["agents"]).unwrap();
    let agent: Vec<AgentRow> = rows
        .into_iter()
        .filter_map(|row| if let Row::Agent(row) = row { Some(*row) } else { None })
        .collect();
    agent[0].counters.clone().into_iter().collect()
}

/// The quantile as Coral defines it.
fn quantile(seconds: &mut [f64], q: f64) -> f64 {
    seconds.sort_by(f64::total_cmp);
    let rank = (q * seconds.len() as f64).ceil() as usize;
    seconds[rank.clamp(1, seconds.len()) - 1]
}

#[test]
fn every_request_of_an_uninstrumented_nginx_is_counted_once() {
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir());
    let mut colony = colony.with_env("CORAL_WATCH", programs.watch());
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let nginx = Nginx::start(&programs);

    // Kept alive, one connection each, pipelined; not there; large by sendfile; slow.
    _ = programs.run(
        "ab",
        &["-q", "-n", "2000", "-k", "-c", "8"],
        &nginx.url("/small.html?token=hunter2"),
    );
    _ = programs.run("ab", &["-q", "-n", "300", "-c", "4"], &nginx.url("/small.html"));
    _ = programs.run("ab", &["-q", "-n", "500", "-k", "-c", "8"], &nginx.url("/missing/17"));
    _ = programs.run("ab", &["-q", "-n", "60", "-k", "-c", "4"], &nginx.url("/large.bin"));
    _ = programs.run("ab", &["-q", "-i", "-n", "100", "-k", "-c", "2"], &nginx.url("/small.html"));
    let h2load = ["--h1", "-n", "2000", "-c", "8", "-m", "16"];
    _ = programs.run("h2load", &h2load, &nginx.url("/small.html"));
    _ = programs.run(
        "ab",
        &["-q", "-n", "60", "-k", "-c", "20"],
        &nginx.url("/slow.bin?rate=100k"),
    );
    _ = programs.run("ab", &["-q", "-n", "40", "-k", "-c", "20"], &nginx.url("/slow.bin?rate=60k"));

    let told: u64 = 2000 + 300 + 500 + 60 + 100 + 2000 + 60 + 40;
    let log = until("nginx to log them", || {
        let log = nginx.logged();
        if log.len() as u64 >= told { Ok(log) } else { Err(log.len().to_string()) }
    });
    let mut logged: BTreeMap<String, u64> = BTreeMap::new();
    for line in &log {
        *logged.entry(line.status.clone()).or_default() += 1;
    }
    assert_eq!(logged.values().sum::<u64>(), told, "{logged:?}");
    let seen = until("Coral to have counted them", || {
        let seen = by_status(&colony)?;
        if seen.values().sum::<u64>() >= told {
            Ok(seen)
        } else {
            Err(format!("{seen:?} {:?}", counters(&colony)))
        }
    });
    assert_eq!(seen, logged);
    let counters = counters(&colony);
    for lost in
        ["http_chunks_lost", "http_unknown", "http_connections_refused", "http_bytes_unread"]
    {
        assert_eq!(counters[lost], 0, "{lost}: {counters:?}");
    }

    // What came after shows that nothing was still to come.
    _ = programs.run("ab", &["-q", "-n", "1"], &nginx.url("/marker.html"));
    let rows = until("the marker", || {
        let rows = red(&colony, "operation")?;
        let marker = rows.iter().any(|row| row.operation.as_deref() == Some("GET /marker.html"));
        if marker { Ok(rows) } else { Err(format!("{rows:?}")) }
    });
    let by_operation: BTreeMap<&str, u64> =
        rows.iter().map(|row| (row.operation.as_deref().unwrap(), row.red.requests)).collect();
    let expected = [
        ("GET /large.bin", 60),
        ("GET /marker.html", 1),
        ("GET /slow.bin", 100),
        ("GET /small.html", 4300),
        ("GET {not found}", 500),
        ("HEAD /small.html", 100),
    ];
    assert_eq!(by_operation, BTreeMap::from(expected));
    assert!(rows.iter().all(|row| row.red.evidence == Evidence::Ebpf && !row.red.sampled));
    assert_eq!(rows.iter().map(|row| row.red.errors).sum::<u64>(), 0);

    // $request_time has whole milliseconds: 5 %, or one of those and the histogram's 1.1 %.
    let mut slow: Vec<f64> =
        log.iter().filter(|l| l.path == "/slow.bin").map(|l| l.seconds).collect();
    let row = rows.iter().find(|row| row.operation.as_deref() == Some("GET /slow.bin")).unwrap();
    for (q, ns) in [(0.5, row.red.p50_ns), (0.99, row.red.p99_ns)] {
        let (logged, seen) = (quantile(&mut slow, q), ns.unwrap() as f64 / 1e9);
        assert!(logged > 0.1, "nothing was slow: {logged}");
        let near = (seen - logged).abs() <= (0.05 * logged).max(0.001 + 0.011 * logged);
        assert!(near, "p{}: nginx says {logged} s, Coral {seen} s", q * 100.0);
    }

    edges_and_screen(&colony);
}

fn edges_and_screen(colony: &Colony) {
    let edge = until("who calls nginx", || {
        let rows = colony.query(&["topology", "--since", "30m"])?;
        let edges =
            rows.into_iter().filter_map(|row| if let Row::Edge(e) = row { Some(*e) } else { None });
        let edges: Vec<_> = edges.collect();
        let found = edges.iter().find(|e| e.from == "h2load" && e.to == "nginx").cloned();
        found.filter(|e| e.red.requests == 2000).ok_or_else(|| format!("{edges:?}"))
    });
    assert_eq!((edge.from_kind, edge.to_kind), (NodeKind::Service, NodeKind::Service));
    assert_eq!((edge.ends, edge.red.evidence), (EdgeEnds::Both, Evidence::Ebpf));
    assert_eq!(edge.protocol.as_deref(), Some("http"));
    // Neither a query nor a pid is kept anywhere that can be asked.
    let sql =
        "SELECT count(*) AS n FROM red WHERE operation LIKE '%hunter2%' OR operation LIKE '%?%'";
    let answer = colony.coral(&["query", "sql", "--json", sql]).ok();
    assert!(answer.out.contains("\"n\":0") || answer.out.contains("[0]"), "{}", answer.out);
    let sql = "SELECT DISTINCT attributes::VARCHAR AS a FROM resources WHERE service = 'nginx'";
    let answer = colony.coral(&["query", "sql", "--json", sql]).ok();
    assert!(answer.out.contains("coral.evidence") && !answer.out.contains("pid"), "{}", answer.out);

    let terminal = Terminal::coral(colony, &["open", "nginx"], 120, 36);
    _ = terminal.wait_for("nginx by operation, seen by ebpf");
    let doctor = colony.coral(&["doctor"]);
    assert!(doctor.out.contains("sock_recv_length"), "{}", doctor.out);
}

//! Requests within TLS, seen through what OpenSSL is given and gives: a real nginx that curl, ab and h2load
//! ask, and Node at both ends, which has an OpenSSL of its own. What they say themselves is what Coral
//! counts, to the request. Skipped only where the kernel does not let the agent look, and then the reason is
//! printed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use coral_model::view::{EdgeEnds, Evidence, NodeKind, SenseState};
use coral_tests::certificate::Certificate;
use coral_tests::nginx::{Nginx, Programs, USUAL, alone, assert_as_slow};
use coral_tests::python::Python;
use coral_tests::{
    Colony, Counts, Running, asks, counters, counts, edges, may_look, nothing_lost, red, until,
};
use serde_json::Value;

/// Whether the agent may put its programs into OpenSSL; where not, why is printed.
fn may_read(colony: &Colony) -> bool {
    if !may_look(colony) {
        return false;
    }
    let sense = until("the agent to say what it sees of TLS", || tls(colony));
    assert!(!sense.1.contains("Verifier output"), "refused: {sense:?}");
    if sense.0 == SenseState::On {
        return true;
    }
    // A kernel without uprobes.
    let lacks = ["uprobe", "perf_event_open"];
    assert!(lacks.iter().any(|text| sense.1.contains(text)), "off for no reason: {sense:?}");
    eprintln!("skipped: {}", sense.1);
    false
}

/// What the agent says of TLS.
fn tls(colony: &Colony) -> Result<(SenseState, String), String> {
    let status = colony.status()?;
    let mut senses = status.agents.iter().flat_map(|agent| &agent.senses);
    let tls = senses.find(|sense| sense.name == "tls");
    tls.map(|sense| (sense.state, sense.why.clone())).ok_or_else(|| "nothing yet".to_owned())
}

/// Waits until Coral has counted that many requests of a service, and gives them.
#[track_caller]
fn counted(colony: &Colony, service: &str, expected: &Counts) {
    let least: u64 = expected.values().sum();
    let found = until("Coral to have counted them", || {
        let seen = counts(colony, service)?;
        let all = seen.values().sum::<u64>() >= least;
        if all { Ok(seen) } else { Err(format!("{seen:?}\n{expected:?}\n{:?}", counters(colony))) }
    });
    assert_eq!(&found, expected, "{:?}", counters(colony));
}

/// An edge of exactly so many requests, seen by both ends.
#[track_caller]
fn joined(colony: &Colony, from: &str, to: &str, requests: u64) {
    let edge = asks(colony, from, to, requests);
    assert_eq!((edge.red.requests, edge.ends), (requests, EdgeEnds::Both), "{edge:?}");
    assert_eq!((edge.protocol.as_deref(), edge.red.evidence), (Some("http"), Evidence::Ebpf));
}

/// What would be lost of TLS.
const LOST: [&str; 4] = [
    "requests_connections_refused",
    "requests_encrypted",
    "requests_tls_files_refused",
    "requests_tls_calls_refused",
];

/// What nginx has logged, as Coral names it.
fn logged(nginx: &Nginx) -> Counts {
    let mut counts = Counts::new();
    for line in nginx.logged() {
        let path = if line.status == "404" { "{not found}" } else { line.path.as_str() };
        *counts.entry((format!("{} {path}", line.method), line.status)).or_default() += 1;
    }
    counts
}

fn secure(nginx: &Nginx, path: &str) -> String {
    nginx.url(path).replacen("http://", "https://", 1)
}

#[test]
fn every_request_of_an_nginx_with_tls_is_counted_once_at_both_ends() {
    let _alone = alone();
    let colony = Colony::prepare();
    let asking = ["ab", "h2load", "curl"];
    let programs = ["/usr/sbin/nginx", "/usr/bin/ab", "/usr/bin/h2load", "/usr/bin/curl"];
    let programs = Programs::copied(colony.dir(), &programs);
    let certificate = Certificate::made(colony.dir());
    let watch = programs.watch(&["nginx", "ab", "h2load", "curl"]);
    let mut colony = colony.with_env("CORAL_WATCH", watch);
    colony.up();
    if !may_read(&colony) {
        return;
    }
    let server = format!("root {{at}}/www; limit_rate $arg_rate; {}", certificate.of_nginx());
    let nginx = Nginx::with(&programs, "nginx", "ssl http2", &server);
    let at = |path: &str| secure(&nginx, path);

    // The first that this agent ever meets, which is over within milliseconds.
    let trust = ["-sS", "--cacert", &certificate.certificate];
    let curl = |words: &[&str], urls: &[String]| {
        let mut all: Vec<&str> = trust.iter().chain(words).copied().collect();
        all.extend(urls.iter().skip(1).map(String::as_str));
        programs.run("curl", &all, &urls[0])
    };
    let small = at("/small.html?token=hunter2");
    assert_eq!(curl(&["--http1.1"], std::slice::from_ref(&small)), "<p>small</p>\n");
    for version in ["--http1.1", "--http2"] {
        for tls in ["1.2", "1.3"] {
            // Twenty on one connection, and ten of their own.
            _ = curl(&[version, "--tls-max", tls], &vec![small.clone(); 20]);
            for _ in 0..10 {
                _ = curl(&[version, "--tls-max", tls], std::slice::from_ref(&small));
            }
        }
        _ = curl(&[version, "-o", "/dev/null"], &[at("/large.bin")]);
    }
    let of_curl = 1 + 4 * 30 + 2;
    let ab = |words: &str, path: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        _ = programs.run("ab", &[&["-q"], &words[..]].concat(), &at(path));
    };
    ab("-n 2000 -k -c 8", "/small.html");
    ab("-n 200 -c 4", "/small.html");
    ab("-n 300 -k -c 8", "/missing/17");
    ab("-n 60 -k -c 4", "/large.bin");
    ab("-i -n 100 -k -c 2", "/small.html");
    ab("-n 60 -k -c 20", "/slow.bin?rate=100k");
    ab("-n 40 -k -c 20", "/slow.bin?rate=60k");
    let of_ab = 2000 + 200 + 300 + 60 + 100 + 60 + 40;
    let h2load = |words: &str, path: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        let text = programs.run("h2load", &words, &at(path));
        assert!(text.contains(" 0 errored") && text.contains("TLS Protocol: "), "{text}");
    };
    h2load("-n 3000 -c 8 -m 50", "/small.html");
    h2load("-n 60 -c 4 -m 5", "/large.bin");
    h2load("-n 500 -c 4 -m 10", "/missing/17");
    h2load("--h1 -n 1000 -c 8 -m 8", "/small.html");
    h2load("-n 50 -c 50 -m 1", "/small.html");
    let of_h2load = 3000 + 60 + 500 + 1000 + 50;

    let told = of_curl + of_ab + of_h2load;
    let log = until("nginx to log them", || {
        let log = logged(&nginx);
        if log.values().sum::<u64>() >= told { Ok(log) } else { Err(format!("{log:?}")) }
    });
    assert_eq!(log.values().sum::<u64>(), told, "{log:?}");
    counted(&colony, "nginx", &log);
    nothing_lost(&colony, &LOST);
    for (name, requests) in asking.iter().zip([of_ab, of_h2load, of_curl]) {
        joined(&colony, name, "nginx", requests);
    }
    let rows = red(&colony, &["service=nginx", "--by", "operation"]).unwrap();
    let slow = rows.iter().find(|row| row.operation.as_deref() == Some("GET /slow.bin")).unwrap();
    assert_as_slow(&nginx.logged(), "/slow.bin", &slow.red);

    let sql = "SELECT count(*) AS n FROM red WHERE operation LIKE '%hunter2%'";
    let answer = colony.coral(&["query", "sql", "--json", sql]).ok();
    assert!(answer.out.contains("\"n\":0") || answer.out.contains("[0]"), "{}", answer.out);
    let doctor = colony.coral(&["doctor"]);
    assert!(doctor.out.contains("SSL_read") && doctor.out.contains("libssl.so"), "{}", doctor.out);
}

#[test]
fn a_server_that_nobody_watches_is_called_as_its_client_calls_it() {
    let _alone = alone();
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir(), &["/usr/sbin/nginx", "/usr/bin/curl"]);
    let certificate = Certificate::made(colony.dir());
    let mut colony = colony.with_env("CORAL_WATCH", programs.path("curl"));
    colony.up();
    if !may_read(&colony) {
        return;
    }
    let server = format!("root {{at}}/www; {}", certificate.of_nginx());
    let nginx = Nginx::with(&programs, "nginx", "ssl", &server);
    let place = format!("pay.example.test:{}", nginx.port);
    let known = format!("{place}:127.0.0.1");
    for _ in 0..5 {
        let url = format!("https://{place}/small.html");
        _ = programs.run("curl", &["-sSk", "--resolve", &known], &url);
    }
    let edge = until("who was asked", || {
        let edges = edges(&colony)?;
        let found = edges.iter().find(|e| e.to == place && e.red.requests >= 5).cloned();
        found.ok_or_else(|| format!("{edges:?}"))
    });
    assert_eq!((edge.from.as_str(), edge.to_kind), ("curl", NodeKind::External));
    assert_eq!((edge.red.requests, edge.ends), (5, EdgeEnds::One));
}

/// A program that is told what to ask for.
struct App {
    _child: Running,
    stdin: ChildStdin,
    out: BufReader<ChildStdout>,
}

impl App {
    fn start(command: &mut Command) -> Self {
        let mut child = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let stdin = child.stdin.take().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { _child: child, stdin, out }
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        _ = self.out.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line:?}"))
    }

    /// Asks for something, and notes what was answered.
    fn call(&mut self, words: &str, expected: &mut Counts) {
        writeln!(self.stdin, "{words}").unwrap();
        let told: BTreeMap<String, u64> = serde_json::from_value(self.hear()).unwrap();
        let [_, method, path, ..] = words.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{words}")
        };
        for (status, n) in told {
            let path =
                if status == "404" { "{not found}" } else { path.split('?').next().unwrap() };
            *expected.entry((format!("{method} {path}"), status)).or_default() += n;
        }
    }
}

/// A program of `tests/apps/tls`, which `program` runs.
fn app(program: &Path, name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("apps/tls").join(name)).args(args);
    command
}

/// A copy of Node under another name, which is the service's too.
fn node(dir: &Path, name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let node = std::env::split_paths(&path).map(|dir| dir.join("node")).find(|node| node.exists());
    let node = node.expect("no node: run tools/apps.sh first");
    let copy = dir.join(name);
    std::fs::copy(node.canonicalize().unwrap(), &copy).unwrap();
    copy
}

#[test]
fn every_request_between_programs_of_node_is_counted_once_and_joined() {
    let _alone = alone();
    let colony = Colony::prepare();
    let [web, buyer] = ["web", "buyer"].map(|name| node(colony.dir(), name));
    let certificate = Certificate::made(colony.dir());
    let watch = format!("{},{}", web.display(), buyer.display());
    let mut colony = colony.with_env("CORAL_WATCH", watch);
    colony.up();
    if !may_read(&colony) {
        return;
    }
    let mut server = App::start(&mut app(
        &web,
        "secure.mjs",
        &["serve", &certificate.certificate, &certificate.key],
    ));
    let port = server.hear()["port"].to_string();
    let mut client =
        App::start(&mut app(&buyer, "secure.mjs", &["call", &certificate.certificate, &port]));
    _ = client.hear();
    // Both are files that the agent meets for the first time.
    until("both to be read", || {
        let (state, why) = tls(&colony)?;
        let both = [&web, &buyer].iter().all(|file| why.contains(&file.display().to_string()));
        if both && state == SenseState::On { Ok(()) } else { Err(why) }
    });
    let mut expected = Counts::new();
    for words in [
        // Kept alive; connections of their own; both ways large; many at once.
        "h1 GET /pieces?token=hunter2 200 1 0 keep",
        "h1 GET /pieces 60 8 0 close",
        "h1 GET /large 20 4 0 keep",
        "h1 POST /taken 30 4 300000 keep",
        "h1 GET /broken 15 3 0 keep",
        "h1 GET /missing/17 15 3 0 keep",
        "h1 GET /slow 20 20 0 keep",
        "h2 GET /pieces 400 50 0 keep",
        "h2 GET /large 20 5 0 keep",
        "h2 POST /taken 30 10 300000 keep",
        "h2 GET /broken 15 15 0 keep",
    ] {
        client.call(words, &mut expected);
    }
    let told: u64 = expected.values().sum();
    assert_eq!(told, 200 + 60 + 20 + 30 + 15 + 15 + 20 + 400 + 20 + 30 + 15);
    assert_eq!(expected[&("GET /broken".to_owned(), "503".to_owned())], 30);
    counted(&colony, "web", &expected);
    joined(&colony, "buyer", "web", told);
    nothing_lost(&colony, &LOST);
    let rows = red(&colony, &["service=web", "--by", "operation"]).unwrap();
    let slow = rows.iter().find(|row| row.operation.as_deref() == Some("GET /slow")).unwrap();
    let p50 = slow.red.p50_ns.unwrap();
    assert!((149_000_000..300_000_000).contains(&p50), "{slow:?}");
}

#[test]
fn a_program_that_speaks_with_itself_is_both_ends() {
    let _alone = alone();
    let colony = Colony::prepare();
    let lone = node(colony.dir(), "lone");
    let certificate = Certificate::made(colony.dir());
    let mut colony = colony.with_env("CORAL_WATCH", lone.display().to_string());
    colony.up();
    if !may_read(&colony) {
        return;
    }
    let args = ["alone", &certificate.certificate, &certificate.key];
    let mut program = App::start(&mut app(&lone, "secure.mjs", &args));
    _ = program.hear();
    until("it to be read", || {
        let (_, why) = tls(&colony)?;
        if why.contains(&lone.display().to_string()) { Ok(()) } else { Err(why) }
    });
    let mut expected = Counts::new();
    program.call("h1 GET /pieces 90 3 0 keep", &mut expected);
    program.call("h2 GET /broken 100 5 0 keep", &mut expected);
    counted(&colony, "lone", &expected);
    joined(&colony, "lone", "lone", 190);
    nothing_lost(&colony, &LOST);
}

#[test]
fn a_connection_older_than_the_agent_is_understood_and_its_ends_are_not_guessed() {
    let _alone = alone();
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir(), &["/usr/sbin/nginx"]);
    let certificate = Certificate::made(colony.dir());
    let mut older = Python::find().called(colony.dir(), "older");
    let buyer = colony.dir().join("older");
    let [web, caller] = ["web", "caller"].map(|name| node(colony.dir(), name));
    let watch = [&buyer, &web, &caller].map(|path| path.display().to_string()).join(",");
    let watch = format!("{watch},{}", programs.path("nginx"));
    let mut colony = colony.with_env("CORAL_WATCH", watch);
    let server = format!("root {{at}}/www; {}", certificate.of_nginx());
    let nginx = Nginx::with(&programs, "nginx", "ssl", &server);
    let port = nginx.port.to_string();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("apps/tls/older.py");
    let mut older = App::start(older.arg(script).args([&certificate.certificate, &port]));
    let args = ["serve", &certificate.certificate, &certificate.key];
    let mut served = App::start(&mut app(&web, "secure.mjs", &args));
    let port = served.hear()["port"].to_string();
    let args = ["call", &certificate.certificate, &port];
    let mut called = App::start(&mut app(&caller, "secure.mjs", &args));
    _ = called.hear();
    // One connection each, which stays.
    let mut before = Counts::new();
    older.call("h1 GET /marker.html 3 1 0 keep", &mut before);
    called.call("kept GET /pieces 3 1 0 keep", &mut before);
    colony.up();
    if !may_read(&colony) {
        return;
    }
    // Where OpenSSL knows of the socket, all is exact, and both ends are joined.
    let mut expected = Counts::new();
    older.call("h1 GET /small.html 40 1 0 keep", &mut expected);
    older.call("h1 GET /large.bin 5 1 0 keep", &mut expected);
    counted(&colony, "nginx", &expected);
    joined(&colony, "older", "nginx", 45);
    assert_eq!(counters(&colony)["requests_unknown"], 0);
    // Where it does not: the first request is unknown, and so is who asks.
    let mut expected = Counts::new();
    called.call("kept GET /pieces 40 1 0 keep", &mut expected);
    until("the others to be counted", || {
        let rows = red(&colony, &["service=web", "--by", "operation"])?;
        let n: u64 = rows.iter().map(|row| row.red.requests).sum();
        if n == 39 && counters(&colony)["requests_unknown"] == 1 {
            Ok(())
        } else {
            Err(format!("{rows:?}"))
        }
    });
    let edges = edges(&colony).unwrap();
    assert!(edges.iter().all(|e| e.to != "web" && e.from != "web"), "{edges:?}");
}

/// Where a process has OpenSSL's library in memory to run it, and what is in its file there.
struct Mapped {
    memory: PathBuf,
    from: u64,
    file: Vec<u8>,
}

impl Mapped {
    fn of(pid: u32) -> Option<Self> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        let line = maps.lines().find(|l| l.contains("/libssl.so") && l.contains(" r-xp "))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let (from, to) = words[0].split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (from, to, offset) = (number(from), number(to), number(words[2]));
        let mut file = std::fs::File::open(words[5]).ok()?;
        _ = file.seek(SeekFrom::Start(offset)).ok()?;
        let mut bytes = Vec::new();
        _ = file.take(to - from).read_to_end(&mut bytes).ok()?;
        Some(Self { memory: format!("/proc/{pid}/mem").into(), from, file: bytes })
    }

    /// In how many places the process has something else.
    fn differs(&self) -> usize {
        let mut memory = std::fs::File::open(&self.memory).unwrap();
        _ = memory.seek(SeekFrom::Start(self.from)).unwrap();
        let mut now = vec![0; self.file.len()];
        memory.read_exact(&mut now).unwrap();
        now.iter().zip(&self.file).filter(|(now, file)| now != file).count()
    }
}

/// OpenSSL's library, as this machine has it.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let mut folders = folders.chain(["/usr/lib".into(), "/usr/lib64".into()]);
    let library = folders.find_map(|dir| {
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut files = files.filter(|f| f.file_name().to_string_lossy().starts_with("libssl.so."));
        files.next()
    });
    library.expect("OpenSSL's library: run tools/services.sh first").path()
}

#[test]
fn a_library_anywhere_is_found_and_nothing_stays_in_it_when_the_agent_dies() {
    let _alone = alone();
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir(), &["/usr/bin/openssl"]);
    let certificate = Certificate::made(colony.dir());
    // A copy that nobody else on this machine uses.
    let folder = colony.dir().join("lib");
    std::fs::create_dir(&folder).unwrap();
    let library = library();
    let copy = folder.join(library.file_name().unwrap());
    std::fs::copy(&library, &copy).unwrap();
    let mut colony = colony.with_env("CORAL_WATCH", programs.path("openssl"));
    let mut server = Command::new(programs.path("openssl"));
    let server = server
        .args(["s_server", "-accept", "127.0.0.1:0", "-cert", &certificate.certificate])
        .args(["-key", &certificate.key])
        .env("LD_LIBRARY_PATH", &folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut server = server.spawn().unwrap();
    let mapped = until("it to map its library", || {
        Mapped::of(server.id()).ok_or_else(|| format!("{:?}", server.id()))
    });
    assert_eq!(mapped.differs(), 0);
    colony.up();
    if may_read(&colony) {
        let (_, why) = tls(&colony).unwrap();
        assert!(why.contains(&copy.display().to_string()), "{why}");
        assert_ne!(mapped.differs(), 0);
        let agent = colony.status().unwrap().agents[0].pid;
        Colony::kill(agent);
        until("nothing of it to be left", || {
            let left = mapped.differs();
            if left == 0 { Ok(()) } else { Err(left.to_string()) }
        });
    }
    server.kill().unwrap();
    _ = server.wait().unwrap();
}

#[test]
fn whoever_does_not_want_it_turns_it_off() {
    let _alone = alone();
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir(), &["/usr/sbin/nginx", "/usr/bin/ab"]);
    let certificate = Certificate::made(colony.dir());
    let mut colony =
        colony.with_env("CORAL_WATCH", programs.watch(&USUAL)).with_env("CORAL_TLS", "never");
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let (state, why) = until("the agent to say so", || tls(&colony));
    assert_eq!((state, why.as_str()), (SenseState::Off, "turned off"));
    let server = format!("root {{at}}/www; {}", certificate.of_nginx());
    let secret = Nginx::with(&programs, "nginx", "ssl", &server);
    _ = programs.run("ab", &["-q", "-n", "50", "-k"], &secure(&secret, "/small.html"));
    std::fs::copy(programs.path("nginx"), programs.path("open")).unwrap();
    drop(secret);
    let open = Nginx::start(&programs);
    _ = programs.run("ab", &["-q", "-n", "20", "-k"], &open.url("/marker.html"));
    // What came after shows that nothing is still to come of what came before.
    let status = |n| Counts::from([(("GET /marker.html".to_owned(), "200".to_owned()), n)]);
    counted(&colony, "nginx", &status(20));
    joined(&colony, "ab", "nginx", 20);
}

#[test]
fn unasked_it_is_read_only_where_that_costs_little() {
    let _alone = alone();
    let mut colony =
        Colony::prepare().with_env("CORAL_WATCH", "curl").with_env("CORAL_TLS", "auto");
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let (state, why) = until("the agent to have tried it", || tls(&colony));
    // Which of them depends on the machine.
    let dear = why.contains("every call into OpenSSL") && why.ends_with("µs longer");
    assert_eq!(state == SenseState::Off, dear, "{state:?} {why}");
}

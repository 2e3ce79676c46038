//! Statements seen through eBPF, of a real PostgreSQL that nobody instrumented: what its own
//! `pg_stat_statements` has, and the errors that the test made, is what Coral counts, to the statement.
//! Skipped only where the kernel does not let the agent look, and then the reason is printed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coral_model::view::{EdgeEnds, Evidence, NodeKind, RedRow};
use coral_tests::certificate::Certificate;
use coral_tests::nginx::alone;
use coral_tests::nginx::free_port;
use coral_tests::{Colony, calls, counters, edge, may_look, red, unread, until};

/// Debian's `nobody:nogroup`: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

/// Where Debian keeps the newest PostgreSQL's programs.
fn installed() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &PathBuf| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    let newest = versions.map(|entry| entry.path()).max_by_key(number);
    newest.expect("no PostgreSQL: run tools/services.sh first").join("bin")
}

/// A folder that PostgreSQL's own user may enter, with programs of the test's own in it, so that nobody
/// else's PostgreSQL is counted.
struct Programs {
    dir: tempfile::TempDir,
}

impl Programs {
    fn copied() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        for name in ["postgres", "pgbench", "psql"] {
            std::fs::copy(installed().join(name), dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn watched(&self, names: &[&str]) -> String {
        let paths = names.iter().map(|name| self.path(name).display().to_string());
        paths.collect::<Vec<_>>().join(",")
    }

    /// A command that does not run as root, and ends with this thread.
    fn command(program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "INT"]);
        if rustix::process::geteuid().is_root() {
            let id = NOBODY.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
        }
        command.arg("--").arg(program).current_dir("/").stdin(Stdio::null());
        command
    }
}

/// A running PostgreSQL. Dropping it ends it.
struct Postgres {
    child: Child,
    port: u16,
    psql: PathBuf,
}

impl Postgres {
    fn start(programs: &Programs, settings: &[&str]) -> Self {
        let data = programs.path("data");
        if !data.exists() {
            let output = Programs::command(&installed().join("initdb"))
                .args(["--username=me", "--auth=trust", "--encoding=UTF8", "--locale=C"])
                .args(["--no-sync", "-D"])
                .arg(&data)
                .output()
                .unwrap();
            assert!(output.status.success(), "initdb: {output:?}");
        }
        let port = free_port();
        let log = std::fs::File::create(programs.path("log")).unwrap();
        let mut command = Programs::command(&programs.path("postgres"));
        command.arg("-D").arg(&data).stdout(Stdio::null()).stderr(log);
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={port}"),
            "unix_socket_directories=",
            "fsync=off",
            "shared_preload_libraries=pg_stat_statements",
            "pg_stat_statements.track=top",
            "autovacuum=off",
        ] {
            command.args(["-c", setting]);
        }
        command.args(settings.iter().flat_map(|setting| ["-c", setting]));
        let postgres = Self { child: command.spawn().unwrap(), port, psql: programs.path("psql") };
        until("PostgreSQL to answer", || {
            let output = postgres.psql("SELECT 1").output().unwrap();
            let log = std::fs::read_to_string(programs.path("log")).unwrap_or_default();
            if output.status.success() { Ok(()) } else { Err(format!("{output:?}\n{log}")) }
        });
        postgres
    }

    fn place(&self) -> [String; 5] {
        let port = self.port.to_string();
        ["-h".into(), "127.0.0.1".into(), "-p".into(), port, "-Ume".into()]
    }

    fn psql(&self, text: &str) -> Command {
        let mut command = Command::new(&self.psql);
        command.args(self.place()).args(["-X", "-q", "-d", "postgres", "-c", text]);
        command.stdin(Stdio::null()).env("HOME", "/nowhere");
        command
    }

    fn set_up(&self, text: &str) {
        let output = self.psql(text).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Runs pgbench: words as on its command line.
    fn bench(&self, programs: &Programs, words: &str) {
        let mut command = Command::new(programs.path("pgbench"));
        command.args(self.place()).args(words.split(' ')).arg("postgres").stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        // It goes on after errors of single connections.
        let failed = text.lines().any(|l| l.starts_with("number of failed") && !l.contains(": 0 "));
        assert!(output.status.success() && !failed, "pgbench {words}: {output:?}");
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut client = Client { stream, said: 0 };
        let start = b"\0\x03\0\0user\0me\0database\0postgres\0\0";
        let length = u32::try_from(start.len() + 4).unwrap().to_be_bytes();
        client.stream.write_all(&[&length[..], start].concat()).unwrap();
        client.hear();
        client
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        _ = self.child.wait();
    }
}

/// A connection of the test's own, whose bytes are known.
struct Client {
    stream: TcpStream,
    /// Requests said.
    said: u64,
}

fn message(kind: u8, body: &str) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body.as_bytes()].concat()
}

/// Messages of the extended protocol; the unnamed portal is meant.
fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', &format!("{name}\0{text}\0\0\0"))
}

fn execute(name: &str) -> Vec<u8> {
    let bind = message(b'B', &format!("\0{name}\0\0\0\0\0\0\0"));
    [bind, message(b'E', "\0\0\0\0\0")].concat()
}

fn sync() -> Vec<u8> {
    message(b'S', "")
}

impl Client {
    fn send(&mut self, requests: u64, bytes: &[u8]) {
        self.said += requests;
        self.stream.write_all(bytes).unwrap();
    }

    /// Messages up to the server's being ready, or to its waiting for what is copied.
    fn hear(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut heard = Vec::new();
        loop {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes(*head.last_chunk().unwrap());
            let mut body = vec![0; usize::try_from(length).unwrap() - 4];
            self.stream.read_exact(&mut body).unwrap();
            heard.push((head[0], body));
            if matches!(head[0], b'Z' | b'G') {
                return heard;
            }
        }
    }

    /// Says messages and reads the answers; gives the codes of errors.
    fn say(&mut self, requests: u64, bytes: &[u8]) -> Vec<String> {
        self.send(requests, bytes);
        self.heard()
    }

    fn heard(&mut self) -> Vec<String> {
        let errors = self.hear().into_iter().filter(|(kind, _)| *kind == b'E');
        let code = |(_, body): (u8, Vec<u8>)| {
            let field = body.split(|b| *b == 0).find(|field| field.first() == Some(&b'C'));
            String::from_utf8_lossy(&field.unwrap()[1..]).into_owned()
        };
        errors.map(code).collect()
    }

    /// A simple query.
    fn query(&mut self, text: &str) -> Vec<String> {
        self.say(1, &message(b'Q', &format!("{text}\0")))
    }

    /// What was executed so far, as the server counts it, by what a person would call it.
    fn stats(&mut self) -> BTreeMap<String, u64> {
        let text = "SELECT query, calls FROM pg_stat_statements";
        self.send(1, &message(b'Q', &format!("{text}\0")));
        let mut stats = BTreeMap::new();
        for (kind, body) in self.hear() {
            if kind != b'D' {
                continue;
            }
            let mut rest = &body[2..];
            let mut column = || {
                let (length, after) = rest.split_at(4);
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                let (value, after) = after.split_at(length);
                rest = after;
                String::from_utf8(value.to_vec()).unwrap()
            };
            let (query, calls) = (column(), column().parse::<u64>().unwrap());
            // That was before the agent came.
            if !query.contains("pg_stat_statements_reset") {
                *stats.entry(called(&query)).or_default() += calls;
            }
        }
        // This one is counted when it is over.
        *stats.entry(called(text)).or_default() += 1;
        stats
    }
}

/// What the statements of this test are called, each by hand.
fn called(query: &str) -> String {
    for (begins, name) in [
        ("UPDATE pgbench_accounts", "UPDATE pgbench_accounts"),
        ("UPDATE pgbench_tellers", "UPDATE pgbench_tellers"),
        ("UPDATE pgbench_branches", "UPDATE pgbench_branches"),
        ("INSERT INTO pgbench_history", "INSERT pgbench_history"),
        ("SELECT abalance FROM pgbench_accounts", "SELECT pgbench_accounts"),
        ("select count(*) from pgbench_branches", "SELECT pgbench_branches"),
        ("select o.n, p.partstrat", "SELECT pg_catalog.pg_class"),
        ("SELECT query, calls FROM pg_stat_statements", "SELECT pg_stat_statements"),
        ("SELECT repeat", "SELECT generate_series"),
        ("SELECT n FROM generate_series", "SELECT generate_series"),
        ("INSERT INTO things", "INSERT things"),
        ("insert into \"things\"", "INSERT things"),
        ("SELECT body FROM things", "SELECT things"),
        ("WITH gone AS", "DELETE things"),
        ("COPY things", "COPY things"),
        ("copy (select", "COPY"),
        ("DECLARE", "DECLARE"),
        ("FETCH", "FETCH"),
        ("SELECT $1", "SELECT"),
        ("UPDATE older", "UPDATE"),
    ] {
        if query.starts_with(begins) {
            return name.to_owned();
        }
    }
    let known = ["BEGIN", "END", "COMMIT", "ROLLBACK"];
    assert!(known.contains(&query), "what is {query:?} called?");
    query.to_owned()
}

const OF: &str = "service=postgres";

/// Fails in all the ways there are; gives how many requests of each kind failed, and of each status.
fn fail(client: &mut Client) -> [BTreeMap<String, u64>; 2] {
    let (mut by_name, mut by_status) = (BTreeMap::new(), BTreeMap::new());
    let mut failed = |name: &str, status: &str, n: u64| {
        *by_name.entry(name.to_owned()).or_default() += n;
        *by_status.entry(status.to_owned()).or_default() += n;
    };
    for _ in 0..5 {
        assert_eq!(client.query("SELECT 1/0 FROM things"), ["22012"]);
    }
    failed("SELECT things", "22012", 5);
    for _ in 0..3 {
        assert_eq!(client.query("INSERT INTO things VALUES (0, 'again')"), ["23505"]);
    }
    failed("INSERT things", "23505", 3);
    assert_eq!(client.query("SELEC secret"), ["42601"]);
    failed("OTHER", "42601", 1);
    // While it is prepared, with what would have executed it, and without.
    let batch = [parse("", "SELECT a FROM nowhere"), execute(""), sync()].concat();
    assert_eq!(client.say(1, &batch), ["42P01"]);
    let alone = [parse("never", "SELECT a FROM nowhere"), sync()].concat();
    assert_eq!(client.say(1, &alone), ["42P01"]);
    failed("SELECT nowhere", "42P01", 2);
    // In the middle of a batch: what comes after it is not looked at.
    let insert = "insert into \"things\" values ($1::int / 0, 'x')";
    let one = message(b'B', "\0\0\0\0\0\x01\0\0\0\x017\0\0");
    let batch =
        [parse("", insert), one, message(b'E', "\0\0\0\0\0"), execute(""), execute(""), sync()];
    assert_eq!(client.say(3, &batch.concat()), ["22012"]);
    failed("INSERT things", "22012", 1);
    failed("INSERT things", "skipped", 2);
    // A number of somebody's own.
    let raise = "DO $$ BEGIN RAISE 'secret' USING ERRCODE = 'ZZ123'; END $$";
    assert_eq!(client.query(raise), ["ZZ123"]);
    failed("DO", "OTHER", 1);
    [by_name, by_status]
}

#[test]
fn every_statement_of_an_uninstrumented_postgres_is_counted_once() {
    let _alone = alone();
    let colony = Colony::prepare();
    let programs = Programs::copied();
    let postgres = Postgres::start(&programs, &[]);
    postgres.bench(&programs, "-i -q -s 1");
    postgres.set_up("CREATE EXTENSION pg_stat_statements");
    postgres.set_up("CREATE TABLE things (id int PRIMARY KEY, body text)");
    postgres.set_up("CREATE TABLE older (n int); INSERT INTO older VALUES (0)");
    // A connection that is older than the agent, and a statement that was prepared on it.
    let mut older = postgres.client();
    older.say(0, &[parse("bump", "UPDATE older SET n = n + 1"), sync()].concat());
    older.say(0, &message(b'Q', "SELECT pg_stat_statements_reset()\0"));
    let watch = programs.watched(&["postgres", "pgbench"]);
    let mut colony = colony.with_env("CORAL_WATCH", watch);
    colony.up();
    if !may_look(&colony) {
        return;
    }
    for _ in 0..3 {
        assert!(older.say(1, &[execute("bump"), sync()].concat()).is_empty());
    }

    for words in [
        "-n -c 4 -t 150 -M simple",
        "-n -c 4 -t 150 -M extended",
        "-n -c 4 -t 150 -M prepared",
        "-n -c 4 -t 500 -S -M prepared",
        // A connection for each.
        "-n -c 2 -t 20 -S -C",
    ] {
        postgres.bench(&programs, words);
    }

    let mut client = postgres.client();
    let none = |errors: Vec<String>| assert_eq!(errors, Vec::<String>::new());
    none(client.query("INSERT INTO things VALUES (0, 'secret')"));
    // Rows that are long, rows that are many, statements and parameters that are long.
    none(client.query("SELECT repeat('x', 100000) FROM generate_series(1, 50)"));
    none(client.query("SELECT n FROM generate_series(1, 200000) AS g(n)"));
    let long = "y".repeat(300_000);
    none(client.query(&format!("INSERT INTO things VALUES (1, '{long}')")));
    let mut bind =
        [&b"B"[..], &u32::try_from(300_000 + 16).unwrap().to_be_bytes(), b"\0\0\0\0\0\x01"]
            .concat();
    bind.extend_from_slice(&300_000u32.to_be_bytes());
    bind.extend_from_slice(long.as_bytes());
    bind.extend_from_slice(b"\0\0");
    let text = "insert into \"things\" values (2, $1)";
    none(client.say(1, &[parse("", text), bind, message(b'E', "\0\0\0\0\0"), sync()].concat()));
    none(client.query("SELECT body FROM things"));
    // Copies, in and out, small and large; a message that comes a byte at a time.
    none(client.query("COPY things FROM STDIN"));
    for n in 10..1_010 {
        client.send(0, &message(b'd', &format!("{n}\tthing number {n}\n")));
    }
    client.send(0, &message(b'd', &format!("9\t{long}\n")));
    none(client.say(0, &message(b'c', "")));
    none(client.query("COPY things TO STDOUT"));
    none(client.query("copy (select * from things) to stdout"));
    for byte in message(b'Q', "SELECT body FROM things WHERE id = 7\0") {
        client.stream.write_all(&[byte]).unwrap();
    }
    client.said += 1;
    none(client.heard());
    // Cursors; batches, two of them at once; what is asked for in pieces.
    none(client.query("BEGIN"));
    none(client.query("DECLARE secret_17 CURSOR FOR SELECT body FROM things"));
    none(client.query("FETCH 10 FROM secret_17"));
    none(client.query("COMMIT"));
    let batch =
        [parse("s", "SELECT body FROM things WHERE id = 0"), execute("s").repeat(40), sync()];
    let again = [execute("s").repeat(3), sync()];
    client.send(43, &[batch.concat(), again.concat()].concat());
    none(client.heard());
    none(client.heard());
    let some = message(b'E', "\0\0\0\0\x02");
    let bind = message(b'B', "\0many\0\0\0\0\0\0\0");
    let many = parse("many", "SELECT n FROM generate_series(1, 5) AS g(n)");
    none(client.say(3, &[many, bind, some.repeat(3), sync()].concat()));
    none(client.query(
        "WITH gone AS (SELECT 9 AS id) DELETE FROM things USING gone WHERE things.id = gone.id",
    ));
    let [failed, statuses] = fail(&mut client);

    let mut expected: BTreeMap<_, _> =
        client.stats().into_iter().map(|(name, n)| (name, (n, 0))).collect();
    // What is no plan and was prepared, pg_stat_statements counts once for each connection: pgbench's
    // own number of transactions is the truth. The cursor's is one more.
    for (name, n) in [("BEGIN", 1_801), ("END", 1_800)] {
        expected.insert(name.to_owned(), (n, 0));
    }
    // Three portions of one execution.
    expected.get_mut("SELECT generate_series").unwrap().0 += 2;
    for (name, n) in failed {
        let (all, bad) = expected.entry(name).or_default();
        (*all, *bad) = (*all + n, *bad + n);
    }
    assert!(expected["UPDATE pgbench_accounts"] == (1_800, 0), "{expected:?}");
    assert!(expected["SELECT pgbench_accounts"] == (1_800 + 2_000 + 40, 0), "{expected:?}");
    assert_eq!(expected["UPDATE"], (3, 0));
    let total: u64 = expected.values().map(|(n, _)| n).sum();
    let rows = until("Coral to have counted them", || {
        let seen = calls(&colony, OF)?;
        let all = seen.values().map(|(n, _)| n).sum::<u64>() >= total;
        if all { Ok(seen) } else { Err(format!("{seen:?}\n{expected:?}\n{:?}", counters(&colony))) }
    });
    assert_eq!(rows, expected, "{:?}", counters(&colony));
    for row in red(&colony, &[OF, "--by", "operation"]).unwrap() {
        assert!(row.red.evidence == Evidence::Ebpf && !row.red.sampled, "{row:?}");
    }
    let counters = counters(&colony);
    for lost in ["requests_chunks_lost", "requests_unknown", "requests_bytes_unread"] {
        assert_eq!(counters[lost], 0, "{lost}: {counters:?}");
    }
    let rows = red(&colony, &[OF, "--by", "status"]).unwrap();
    let status = |row: &RedRow| row.by.get("status").cloned().flatten().unwrap_or_default();
    let errors = rows.iter().filter(|r| r.red.errors > 0).map(|r| (status(r), r.red.errors));
    assert_eq!(errors.collect::<BTreeMap<_, _>>(), statuses);
    let asked = total - client.said - older.said;
    let edge = until("who asks PostgreSQL", || {
        edge(&colony, "pgbench", "postgres").and_then(|edge| match edge.red.requests {
            n if n >= asked => Ok(edge),
            n => Err(format!("{n} of {asked}")),
        })
    });
    assert_eq!((edge.red.requests, edge.red.errors, edge.ends), (asked, 0, EdgeEnds::Both));
    assert_eq!(edge.protocol.as_deref(), Some("postgresql"));
    let sql = "SELECT count(*) AS n FROM red WHERE operation LIKE '%secret%'";
    let answer = colony.coral(&["query", "sql", "--json", sql]).ok();
    assert!(answer.out.contains("\"n\":0") || answer.out.contains("[0]"), "{}", answer.out);
}

#[test]
fn a_postgres_that_nobody_watches_is_a_database_to_who_asks_it() {
    let _alone = alone();
    let colony = Colony::prepare();
    let programs = Programs::copied();
    let mut colony = colony.with_env("CORAL_WATCH", programs.watched(&["pgbench"]));
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let postgres = Postgres::start(&programs, &[]);
    let script = programs.path("script");
    std::fs::write(&script, "VALUES (1);\n").unwrap();
    postgres.bench(&programs, &format!("-n -c 2 -t 100 -f {}", script.display()));
    let to = format!("postgresql@127.0.0.1:{}", postgres.port);
    let edge = until("the database", || match edge(&colony, "pgbench", &to) {
        Ok(edge) if edge.red.requests < 200 => Err(format!("{edge:?}")),
        other => other,
    });
    assert_eq!((edge.to_kind, edge.ends), (NodeKind::Database, EdgeEnds::One));
    assert_eq!((edge.red.requests, edge.red.errors), (200, 0));
    assert_eq!(edge.red.evidence, Evidence::Ebpf);
}

#[test]
fn who_is_turned_away_failed_and_what_is_encrypted_is_counted_or_read() {
    let _alone = alone();
    ["never", "always"].into_iter().for_each(encrypted);
}

fn encrypted(read: &'static str) {
    let colony = Colony::prepare().with_env("CORAL_TLS", read);
    let programs = Programs::copied();
    let mut colony = colony.with_env("CORAL_WATCH", programs.watched(&["postgres", "pgbench"]));
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let Certificate { certificate, key } = Certificate::made(programs.dir.path());
    if rustix::process::geteuid().is_root() {
        chown(&key, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let tls = [format!("ssl_key_file={key}"), format!("ssl_cert_file={certificate}")];
    let postgres = Postgres::start(&programs, &["ssl=on", &tls[0], &tls[1]]);
    // All that came before was encrypted, and this is, for psql and pgbench prefer it.
    let script = programs.path("script").display().to_string();
    std::fs::write(&script, "TABLE pg_language;\n").unwrap();
    postgres.bench(&programs, &format!("-n -c 2 -t 100 -f {script}"));
    postgres.bench(&programs, &format!("-n -c 1 -t 50 -M prepared -f {script}"));
    let plain = |text: &str, database: &str| {
        let mut command = postgres.psql(text);
        command.env("PGSSLMODE", "disable").arg("-d").arg(database).output().unwrap()
    };
    assert!(!plain("COMMIT", "nowhere").status.success());
    assert!(plain("VALUES (1)", "postgres").status.success());
    let rows = until("what could be read", || {
        let seen = calls(&colony, OF)?;
        if seen.contains_key("VALUES") { Ok(seen) } else { Err(format!("{seen:?}")) }
    });
    let told = |name: &str| rows.get(name).copied();
    let within = if read == "never" { (None, None) } else { (Some((1, 0)), Some((250, 0))) };
    assert_eq!(told("VALUES"), Some((1, 0)), "{rows:?}");
    assert_eq!((told("SELECT"), told("TABLE pg_language")), within, "{rows:?}");
    assert!(told("CONNECT").is_some_and(|(all, failed)| all >= 1 && all == failed), "{rows:?}");
    let counters = until("all to be counted", || {
        let (edge, counters) = (edge(&colony, "pgbench", "postgres"), counters(&colony));
        let both = edge.is_ok_and(|e| (e.red.requests, e.ends) == (250, EdgeEnds::Both));
        let encrypted = counters["requests_encrypted"];
        let all = if read == "never" { encrypted > 0 } else { both && encrypted == 0 };
        if all { Ok(counters) } else { Err(format!("{both} {counters:?}")) }
    });
    assert_eq!(counters["requests_unknown"], 0, "{counters:?}");
}

#[test]
fn what_is_lost_of_postgres_is_said_and_the_rest_is_right() {
    let _alone = alone();
    let colony = Colony::prepare();
    let programs = Programs::copied();
    let mut colony = colony.with_env("CORAL_WATCH", programs.watched(&["postgres"]));
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let postgres = Postgres::start(&programs, &[]);
    postgres.bench(&programs, "-i -q -s 1");
    let mut client = postgres.client();
    assert!(client.query("VALUES (1)").is_empty());
    _ = until("the first", || {
        calls(&colony, OF)?.get("VALUES").copied().ok_or_else(|| "not yet".to_owned())
    });
    // More than the kernel's ring holds.
    unread(&colony, || postgres.bench(&programs, "-n -c 4 -t 12000 -S"));
    until("the loss to be said", || {
        let lost = counters(&colony)["requests_chunks_lost"];
        let select =
            calls(&colony, OF)?.get("SELECT pgbench_accounts").copied().unwrap_or_default();
        if lost > 0 && select.0 > 1_000 { Ok(()) } else { Err(format!("{lost} {select:?}")) }
    });
    for _ in 0..100 {
        assert!(client.query("DISCARD PLANS").is_empty());
    }
    until("what came afterwards", || {
        let seen = calls(&colony, OF)?;
        let discard = seen.get("DISCARD").copied();
        if discard == Some((100, 0)) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    let rows = red(&colony, &[OF, "--by", "operation"]).unwrap();
    let select = rows.iter().find(|r| r.operation.as_deref() == Some("SELECT pgbench_accounts"));
    let red = &select.unwrap().red;
    assert!(red.sampled && red.requests < 48_000, "{red:?}");
}

//! Commands seen through eBPF, of a real redis-server that nobody instrumented: what its own
//! `INFO commandstats` has is what Coral counts, to the command. Skipped only where the kernel does not
//! let the agent look, and then the reason is printed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coral_model::view::{EdgeEnds, Evidence, NodeKind, RedRow};
use coral_tests::certificate::Certificate;
use coral_tests::nginx::free_port;
use coral_tests::{Colony, asks, calls, counters, edge, may_look, red, unread, until};

/// Programs of the test's own, so that nobody else's Redis is counted: copies in its folder.
struct Programs {
    dir: PathBuf,
}

impl Programs {
    fn copied(dir: &Path) -> Self {
        // Debian's redis-tools has the server under the first name.
        for (programs, name) in [
            (["/usr/bin/redis-server", "/usr/bin/redis-check-rdb"], "redis-server"),
            (["/usr/bin/redis-benchmark", "/usr/local/bin/redis-benchmark"], "redis-benchmark"),
        ] {
            let from = programs.iter().find(|path| Path::new(path).exists());
            let from = from.unwrap_or_else(|| panic!("no {name}: run tools/services.sh first"));
            std::fs::copy(from, dir.join(name)).unwrap();
        }
        Self { dir: dir.to_owned() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Runs redis-benchmark: words as on its command line.
    fn bench(&self, redis: &Redis, words: &str) {
        let mut command = Command::new(self.path("redis-benchmark"));
        command.args(["-h", "127.0.0.1", "-q", "-p", &redis.port.to_string()]);
        command.args(words.split(' ')).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "redis-benchmark {words}: {output:?}");
    }
}

/// A running redis-server. Dropping it ends it.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    fn start(programs: &Programs) -> Self {
        Self::with(programs, &[])
    }

    fn with(programs: &Programs, more: &[&str]) -> Self {
        let port = free_port();
        let child = Command::new(programs.path("redis-server"))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(more)
            .arg("--dir")
            .arg(&programs.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let redis = Self { child, port };
        until("redis to listen", || {
            TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|e| e.to_string())
        });
        redis
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Client { stream, said: 0 }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        _ = self.child.wait();
    }
}

/// A connection of the test's own, whose bytes are known.
struct Client {
    stream: TcpStream,
    /// Commands said.
    said: u64,
}

impl Client {
    /// Says commands, bytes as they are with `\n` for a line's end, and reads the reply they have.
    fn say(&mut self, commands: u64, bytes: &str, reply: &str) {
        self.send(commands, bytes);
        self.hear(reply);
    }

    fn send(&mut self, commands: u64, bytes: &str) {
        self.said += commands;
        self.stream.write_all(bytes.replace('\n', "\r\n").as_bytes()).unwrap();
    }

    fn hear(&mut self, reply: &str) {
        let reply = reply.replace('\n', "\r\n");
        let mut heard = vec![0; reply.len()];
        self.stream.read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), reply);
    }

    /// Calls and failures of each command so far, as the server counts them: of those that ran, and of
    /// those it would not run.
    fn stats(&mut self) -> BTreeMap<String, (u64, u64)> {
        self.send(1, "INFO commandstats\n");
        let mut text = Vec::new();
        let length = loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
            if text.ends_with(b"\r\n") {
                break std::str::from_utf8(&text[1..]).unwrap().trim().parse::<usize>().unwrap();
            }
        };
        let mut text = vec![0; length + 2];
        self.stream.read_exact(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let stats = text.lines().filter_map(|line| line.strip_prefix("cmdstat_")).map(|line| {
            let (name, numbers) = line.split_once(':').unwrap();
            let number = |key: &str| -> u64 {
                let value = numbers.split(',').find_map(|n| n.strip_prefix(key));
                value.unwrap().parse().unwrap()
            };
            let rejected = number("rejected_calls=");
            let counts = (number("calls=") + rejected, number("failed_calls=") + rejected);
            (name.to_uppercase().replace('|', " "), counts)
        });
        let mut stats: BTreeMap<_, _> = stats.collect();
        // This one is counted when it is over.
        stats.entry("INFO".to_owned()).or_default().0 += 1;
        stats
    }
}

const OF: &str = "service=redis-server";

#[test]
fn every_command_of_an_uninstrumented_redis_is_counted_once() {
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir());
    let watch = [programs.path("redis-server"), programs.path("redis-benchmark")].join(",");
    let redis = Redis::start(&programs);
    // A connection that is older than the agent.
    let mut client = redis.client();
    client.say(0, "PING\n", "+PONG\n");
    let mut colony = colony.with_env("CORAL_WATCH", watch);
    colony.up();
    if !may_look(&colony) {
        return;
    }
    client.say(1, "*2\n$6\nCONFIG\n$9\nRESETSTAT\n", "+OK\n");

    // Pipelined and not; strings longer than a call's part, alone and many in one call.
    for words in [
        "-n 10000 -c 8 -P 16 -t set,get",
        "-n 3000 -c 8 -t set,get,lpush",
        "-n 1600 -c 4 -P 16 -d 1000 -t set,get",
        "-n 200 -c 4 -d 100000 -t set,get",
        "-n 160 -c 2 -P 16 -d 100000 -t set,get",
    ] {
        programs.bench(&redis, words);
    }

    // Errors; commands that come a byte at a time; values that look like the protocol.
    for _ in 0..7 {
        client.say(1, "*2\n$3\nGET\n$6\nmylist\n", WRONG_TYPE);
    }
    client.say(1, "*1\n$3\nGET\n", "-ERR wrong number of arguments for 'get' command\n");
    for byte in "*3\n$6\nappend\n$1\nk\n$9\n*1\n$4\nP\n".replace('\n', "\r\n").as_bytes() {
        client.stream.write_all(&[*byte]).unwrap();
    }
    client.said += 1;
    client.hear(":9\n");
    let tricky = "*1\r\n$4\r\nPING\r\n".repeat(1_000);
    let length = tricky.len();
    client.say(1, &format!("*3\n$3\nSET\n$1\nt\n${length}\n"), "");
    client.stream.write_all(tricky.as_bytes()).unwrap();
    client.say(0, "\n", "+OK\n");
    // A transaction, a wait, nested and typed replies, a subscriber.
    client.say(3, "MULTI\nINCR n\nEXEC\n", "+OK\n+QUEUED\n*1\n:1\n");
    client.send(1, "*3\n$5\nBLPOP\n$1\nq\n$1\n0\n");
    let mut other = redis.client();
    other.say(1, "*3\n$5\nRPUSH\n$1\nq\n$1\nx\n", ":1\n");
    client.hear("*2\n$1\nq\n$1\nx\n");
    other.say(1, "*3\n$9\nSUBSCRIBE\n$1\na\n$1\nb\n", SUBSCRIBED);
    client.say(3, "PUBLISH a hi\nPUBLISH b hi\nPUBLISH c hi\n", ":1\n:1\n:0\n");
    other.hear("*3\n$7\nmessage\n$1\na\n$2\nhi\n*3\n$7\nmessage\n$1\nb\n$2\nhi\n");
    other.say(1, "PING\n", "*2\n$4\npong\n$0\n\n");
    let mut third = redis.client();
    third.send(1, "*2\n$5\nHELLO\n$1\n3\n");
    third.send(1, "ECHO over\n");
    while {
        let mut heard = [0; 4_096];
        let n = third.stream.read(&mut heard).unwrap();
        assert!(n > 0, "redis hung up");
        !heard[..n].ends_with(b"$4\r\nover\r\n")
    } {}
    third.say(1, "LRANGE nothing 0 9\n", "*0\n");

    let expected = client.stats();
    for (command, least) in [("SET", 14_960), ("GET", 14_960), ("LPUSH", 3_000)] {
        assert!(expected[command].0 >= least, "{command}: {expected:?}");
    }
    assert_eq!(expected["GET"].1, 8);
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
    // An error is known by its first word, and by nothing else of it.
    let rows = red(&colony, &[OF, "--by", "status"]).unwrap();
    let status = |row: &RedRow| row.by.get("status").cloned().flatten().unwrap_or_default();
    let errors = rows.iter().filter(|r| r.red.errors > 0).map(|r| (status(r), r.red.errors));
    let errors: BTreeMap<_, _> = errors.collect();
    assert_eq!(errors, BTreeMap::from([("ERR".to_owned(), 1), ("WRONGTYPE".to_owned(), 7)]));
    let asked = total - client.said - other.said - third.said;
    let edge = until("who asks Redis", || {
        edge(&colony, "redis-benchmark", "redis-server").and_then(|edge| match edge.red.requests {
            n if n >= asked => Ok(edge),
            n => Err(format!("{n} of {asked}")),
        })
    });
    assert_eq!((edge.red.requests, edge.ends), (asked, EdgeEnds::Both));
    assert_eq!(edge.protocol.as_deref(), Some("redis"));
    let sql = "SELECT count(*) AS n FROM red WHERE operation LIKE '%mylist%'";
    let answer = colony.coral(&["query", "sql", "--json", sql]).ok();
    assert!(answer.out.contains("\"n\":0") || answer.out.contains("[0]"), "{}", answer.out);
}

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\n";
const SUBSCRIBED: &str = "*3\n$9\nsubscribe\n$1\na\n:1\n*3\n$9\nsubscribe\n$1\nb\n:2\n";

#[test]
fn a_redis_that_nobody_watches_is_a_database_to_who_asks_it() {
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir());
    let mut colony = colony.with_env("CORAL_WATCH", programs.path("redis-benchmark"));
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let redis = Redis::start(&programs);
    programs.bench(&redis, "-n 1600 -c 4 -P 16 -t set");
    // Two connections' worth of CONFIG GET come before it.
    let asked = redis.client().stats().values().map(|(n, _)| n).sum::<u64>() - 1;
    let to = format!("redis@127.0.0.1:{}", redis.port);
    let edge = asks(&colony, "redis-benchmark", &to, asked);
    assert_eq!((edge.to_kind, edge.ends), (NodeKind::Database, EdgeEnds::One));
    assert_eq!((edge.red.requests, edge.red.errors), (asked, 0));
    assert_eq!(edge.red.evidence, Evidence::Ebpf);
}

#[test]
fn every_command_within_tls_is_counted_once() {
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir());
    let certificate = Certificate::made(colony.dir());
    let watch = [programs.path("redis-server"), programs.path("redis-benchmark")].join(",");
    let mut colony = colony.with_env("CORAL_WATCH", watch);
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let Certificate { certificate, key } = &certificate;
    let tls = free_port().to_string();
    let more = ["--tls-port", &tls, "--tls-cert-file", certificate, "--tls-key-file", key];
    let more =
        [&more[..], &["--tls-ca-cert-file", certificate, "--tls-auth-clients", "no"]].concat();
    let redis = Redis::with(&programs, &more);
    // The last of two ports is the one that is asked.
    let within = format!("-p {tls} --tls --cacert {certificate}");
    programs.bench(&redis, &format!("{within} -n 4000 -c 8 -P 16 -t set,get"));
    programs.bench(&redis, &format!("{within} -n 200 -c 4 -d 20000 -t set,get"));
    let expected = redis.client().stats();
    assert!(expected["SET"].0 >= 4_200 && expected["GET"].0 >= 4_200, "{expected:?}");
    // What asked in the clear how many there were is not among them.
    let total: u64 = expected.iter().filter(|(name, _)| *name != "INFO").map(|(_, (n, _))| n).sum();
    let edge = until("who asks Redis", || {
        edge(&colony, "redis-benchmark", "redis-server").and_then(|edge| match edge.red.requests {
            n if n >= total => Ok(edge),
            n => Err(format!("{n} of {total}: {:?}", counters(&colony))),
        })
    });
    assert_eq!((edge.red.requests, edge.red.errors, edge.ends), (total, 0, EdgeEnds::Both));
    let seen = calls(&colony, OF).unwrap();
    for name in ["SET", "GET"] {
        assert_eq!(seen[name], expected[name], "{seen:?} {expected:?}");
    }
    let counters = counters(&colony);
    for lost in ["requests_chunks_lost", "requests_unknown", "requests_encrypted"] {
        assert_eq!(counters[lost], 0, "{lost}: {counters:?}");
    }
}

#[test]
fn what_is_lost_of_redis_is_said_and_the_rest_is_right() {
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir());
    let mut colony = colony.with_env("CORAL_WATCH", programs.path("redis-server"));
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let redis = Redis::start(&programs);
    let mut client = redis.client();
    client.say(1, "PING\n", "+PONG\n");
    _ = until("the first", || {
        calls(&colony, OF)?.get("PING").copied().ok_or_else(|| "not yet".to_owned())
    });
    // More than the kernel's ring holds.
    unread(&colony, || programs.bench(&redis, "-n 60000 -c 8 -t set"));
    until("the loss to be said", || {
        let lost = counters(&colony)["requests_chunks_lost"];
        let set = calls(&colony, OF)?.get("SET").copied().unwrap_or_default();
        if lost > 0 && set.0 > 1_000 { Ok(()) } else { Err(format!("{lost} {set:?}")) }
    });
    programs.bench(&redis, "-n 500 -c 8 -t incr");
    until("what came afterwards", || {
        let seen = calls(&colony, OF)?;
        let incr = seen.get("INCR").copied();
        if incr == Some((500, 0)) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    let rows = red(&colony, &[OF, "--by", "operation"]).unwrap();
    let set = rows.iter().find(|row| row.operation.as_deref() == Some("SET")).unwrap();
    assert!(set.red.sampled && set.red.requests < 60_000, "{set:?}");
}

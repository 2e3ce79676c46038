//! HTTP/2 and gRPC seen through eBPF, of a real nginx and of the official gRPC library in programs that
//! nobody instrumented: what they say themselves is what Coral counts, to the request. Skipped only
//! where the kernel does not let the agent look, and then the reason is printed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Stdio};

use coral_model::view::{EdgeEnds, Evidence, RedRow, Row};
use coral_tests::nginx::{Nginx, Programs, assert_as_slow, free_port, watched};
use coral_tests::{
    Colony, Counts, Python, Running, asks, counters, counts, may_look, nothing_lost, red, unread,
    until,
};
use serde_json::Value;

fn inflight(colony: &Colony, service: &str, expected: u64) {
    let service = format!("service={service}");
    until("requests in flight", || {
        let rows = colony.query(&["services", &service, "--since", "30m"])?;
        let mut rows = rows.iter().filter_map(|row| match row {
            Row::Service(service) => Some((service.inflight, service.inflight_exact)),
            _ => None,
        });
        let found = rows.next();
        if found == Some((Some(expected), true)) { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// What nginx has logged, as Coral names it.
fn logged(nginx: &Nginx) -> Counts {
    let mut counts = Counts::new();
    for line in nginx.logged() {
        let path = if line.status == "404" { "{not found}" } else { line.path.as_str() };
        *counts.entry((format!("{} {path}", line.method), line.status)).or_default() += 1;
    }
    counts
}

#[test]
fn every_request_of_http2_is_counted_once() {
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir(), &["/usr/sbin/nginx", "/usr/bin/h2load"]);
    let watch = [programs.path("nginx"), programs.path("h2load")].join(",");
    let mut colony = colony.with_env("CORAL_WATCH", watch);
    colony.up();
    if !may_look(&colony) {
        return;
    }
    // What is uploaded is read to its end by a server behind, of HTTP/1.1.
    let behind = free_port();
    let server = format!(
        "root {{at}}/www; limit_rate $arg_rate; client_max_body_size 10m; \
         location /up {{ proxy_pass http://127.0.0.1:{behind}/taken; }} }} \
         server {{ listen 127.0.0.1:{behind}; client_max_body_size 10m; \
         location /taken {{ return 204; }}"
    );
    let nginx = Nginx::with(&programs, "nginx", "http2", &server);
    let body = programs.dir.join("body");
    std::fs::write(&body, vec![b'x'; 1_000_000]).unwrap();
    let body = body.display().to_string();

    let ask = |words: &str, path: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        let text = programs.run("h2load", &words, &nginx.url(path));
        assert!(text.contains(" 0 failed, 0 errored"), "{text}");
    };
    ask("-n 20000 -c 8 -m 100", "/small.html?token=hunter2");
    ask("-n 3000 -c 4 -m 100", "/marker.html");
    // Bodies between heads, in both directions; many at once on one connection.
    ask("-n 100 -c 4 -m 10", "/large.bin");
    ask("-n 200 -c 5 -m 40", "/slow.bin?rate=60k");
    ask(&format!("-n 40 -c 2 -m 4 -d {body}"), "/up");
    // Each of them a connection of its own; what does not exist.
    ask("-n 50 -c 50 -m 1", "/small.html");
    _ = programs.run("h2load", &["-n", "700", "-c", "4", "-m", "50"], &nginx.url("/missing/17"));

    let told = 20_000 + 3_000 + 100 + 200 + 2 * 40 + 50 + 700;
    let log = until("nginx to log them", || {
        let log = logged(&nginx);
        if log.values().sum::<u64>() >= told { Ok(log) } else { Err(format!("{log:?}")) }
    });
    assert_eq!(log.values().sum::<u64>(), told);
    let counted = until("Coral to have counted them", || {
        let seen = counts(&colony, "nginx")?;
        let all = seen.values().sum::<u64>() >= told;
        if all { Ok(seen) } else { Err(format!("{seen:?}\n{log:?}\n{:?}", counters(&colony))) }
    });
    assert_eq!(counted, log, "{:?}", counters(&colony));
    nothing_lost(&colony, &[]);
    let rows = red(&colony, &["service=nginx", "--by", "operation"]).unwrap();
    let slow = rows.iter().find(|row| row.operation.as_deref() == Some("GET /slow.bin")).unwrap();
    assert_as_slow(&nginx.logged(), "/slow.bin", &slow.red);
    inflight(&colony, "nginx", 0);
    let asked = told - 40;
    let edge = asks(&colony, "h2load", "nginx", asked);
    assert_eq!((edge.red.requests, edge.ends), (asked, EdgeEnds::Both));
    assert_eq!((edge.protocol.as_deref(), edge.red.evidence), (Some("http"), Evidence::Ebpf));
    let sql = "SELECT count(*) AS n FROM red WHERE operation LIKE '%hunter2%'";
    let answer = colony.coral(&["query", "sql", "--json", sql]).ok();
    assert!(answer.out.contains("\"n\":0") || answer.out.contains("[0]"), "{}", answer.out);
    let doctor = colony.coral(&["doctor"]);
    assert!(doctor.out.contains("HTTP/2 and gRPC"), "{}", doctor.out);
}

#[test]
fn what_is_lost_of_http2_is_said_and_the_rest_is_right() {
    let Some((colony, programs)) = watched(&["/usr/sbin/nginx", "/usr/bin/h2load"], &["nginx"])
    else {
        return;
    };
    let nginx = Nginx::with(&programs, "nginx", "http2", "root {at}/www;");
    // Of a program that is gone when it is looked up only the name is known: another test's is watched.
    std::fs::rename(programs.path("h2load"), programs.path("flood")).unwrap();
    let ask = |n: &str, path: &str| {
        _ = programs.run("flood", &["-n", n, "-c", "8", "-m", "20"], &nginx.url(path));
    };
    let requests = |operation: &str| {
        let mut rows = red(&colony, &["service=nginx", "--by", "operation"])?.into_iter();
        let row = rows.find(|row| row.operation.as_deref() == Some(operation));
        row.map(|row| row.red).ok_or_else(|| "not yet".to_owned())
    };
    ask("100", "/small.html");
    until("the first", || {
        let red = requests("GET /small.html")?;
        if red.requests == 100 { Ok(()) } else { Err(format!("{red:?}")) }
    });
    // More than the kernel's ring holds.
    unread(&colony, || ask("150000", "/small.html"));
    until("the loss to be said", || {
        let lost = counters(&colony)["requests_chunks_lost"];
        let red = requests("GET /small.html")?;
        if lost > 0 && red.requests > 1_000 { Ok(()) } else { Err(format!("{lost} {red:?}")) }
    });
    ask("500", "/marker.html");
    until("what came afterwards", || {
        let red = requests("GET /marker.html")?;
        if (red.requests, red.errors) == (500, 0) { Ok(()) } else { Err(format!("{red:?}")) }
    });
    let red = requests("GET /small.html").unwrap();
    assert!(red.sampled && red.requests < 150_100, "{red:?} {:?}", counters(&colony));
}

/// The application of `tests/apps/python/rpc.py`, run by a Python of the test's own.
struct App {
    _child: Running,
    stdin: ChildStdin,
    out: BufReader<ChildStdout>,
}

impl App {
    fn start(colony: &Colony, name: &str, args: &[&str]) -> Self {
        let mut python = Python::find().called(colony.dir(), name);
        let command = python
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/apps/python/rpc.py"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = Running::start(command);
        let stdin = child.stdin.take().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { _child: child, stdin, out }
    }

    fn say(&mut self, words: &str) {
        writeln!(self.stdin, "{words}").unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        _ = self.out.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line:?}"))
    }

    /// Calls a method so often, and gives how many calls ended with which status.
    fn call(&mut self, words: &str) -> BTreeMap<String, u64> {
        self.say(words);
        serde_json::from_value(self.hear()).unwrap()
    }
}

#[test]
fn every_call_of_grpc_is_counted_once_by_its_method_and_status() {
    let colony = Colony::prepare();
    let watch = ["cart", "till"].map(|name| colony.dir().join(name).display().to_string());
    let mut colony = colony.with_env("CORAL_WATCH", watch.join(","));
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let mut cart = App::start(&colony, "cart", &["serve"]);
    let port = cart.hear()["port"].to_string();
    let mut till = App::start(&colony, "till", &["call", &port]);
    _ = till.hear();

    let mut expected = Counts::new();
    // Calls, at once, seconds, bytes each way.
    for words in [
        "/shop.Cart/Add 2000 100 60 20",
        "/shop.Cart/Fail 30 10 60 5",
        "/shop.Cart/Deny 20 10 60 5",
        "/shop.Cart/Nope 10 10 60 5",
        "/shop.Cart/Add 20 4 60 1000000",
        "/shop.Cart/Add 300 100 60 2000",
    ] {
        let operation = words.split(' ').next().unwrap().trim_start_matches('/').to_owned();
        for (status, n) in till.call(words) {
            *expected.entry((operation.clone(), status)).or_default() += n;
        }
    }
    let status = |operation: &str, status: &str| (operation.to_owned(), status.to_owned());
    assert_eq!(
        expected,
        Counts::from([
            (status("shop.Cart/Add", "0"), 2_320),
            (status("shop.Cart/Deny", "7"), 20),
            (status("shop.Cart/Fail", "13"), 30),
            (status("shop.Cart/Nope", "12"), 10),
        ])
    );
    // A hundred at once, and a stream that is being answered.
    till.say("/shop.Cart/Hold 100 100 120 5");
    inflight(&colony, "cart", 100);
    cart.say("let go");
    _ = cart.hear();
    assert_eq!(till.hear(), serde_json::json!({"0": 100}));
    till.say("/shop.Feed/Watch 1 1 60 5");
    assert_eq!(till.hear(), serde_json::json!({"messages": 51}));
    expected.insert(status("shop.Cart/Hold", "0"), 100);
    expected.insert(status("shop.Feed/Watch", "0"), 1);

    let told = expected.values().sum::<u64>();
    let counted = until("Coral to have counted them", || {
        let seen = counts(&colony, "cart")?;
        let all = seen.values().sum::<u64>() >= told;
        if all { Ok(seen) } else { Err(format!("{seen:?} {:?}", counters(&colony))) }
    });
    assert_eq!(counted, expected, "{:?}", counters(&colony));
    // Whose time is up breaks the call off, or its server says so first: no answer either way.
    assert_eq!(till.call("/shop.Cart/Slow 5 5 0.5 5"), BTreeMap::from([("4".to_owned(), 5)]));
    let slow = until("those whose time was up", || {
        let rows = red(&colony, &["service=cart", "--by", "operation"])?;
        let mut rows = rows.into_iter();
        let slow = rows.find(|row| row.operation.as_deref() == Some("shop.Cart/Slow"));
        slow.filter(|row| row.red.requests >= 5).ok_or_else(|| "not yet".to_owned())
    });
    assert_eq!((slow.red.requests, slow.red.errors, slow.red.no_answer), (5, 5, 5));
    nothing_lost(&colony, &[]);
    inflight(&colony, "cart", 0);

    // Errors: the server's are INTERNAL and UNIMPLEMENTED, and who asks failed with all but OK.
    let errors = |rows: Vec<RedRow>| rows.iter().map(|row| row.red.errors).sum::<u64>();
    assert_eq!(errors(red(&colony, &["service=cart", "--by", "operation"]).unwrap()), 30 + 10 + 5);
    let edge = asks(&colony, "till", "cart", told + 5);
    assert_eq!((edge.red.requests, edge.red.errors), (told + 5, 30 + 20 + 10 + 5));
    assert_eq!((edge.ends, edge.protocol.as_deref()), (EdgeEnds::Both, Some("grpc")));
}

#[test]
fn a_connection_older_than_the_agent_is_not_guessed_at_and_a_new_one_is_exact() {
    let colony = Colony::prepare();
    let watch = colony.dir().join("cart").display().to_string();
    let mut colony = colony.with_env("CORAL_WATCH", watch);
    let mut cart = App::start(&colony, "cart", &["serve"]);
    let port = cart.hear()["port"].to_string();
    let mut older = App::start(&colony, "older", &["call", &port]);
    _ = older.hear();
    // From now on both ends refer to what was said here.
    let said = |app: &mut App, n: u64, words: &str| {
        assert_eq!(app.call(words).values().sum::<u64>(), n, "{words}");
    };
    said(&mut older, 10, "/shop.Cart/Add 10 2 60 20");
    colony.up();
    if !may_look(&colony) {
        return;
    }
    said(&mut older, 30, "/shop.Cart/Add 30 2 60 20");
    until("the older connection to be said to be unknown", || {
        let unknown = counters(&colony)["requests_unknown"];
        if unknown > 0 { Ok(()) } else { Err(format!("{:?}", counters(&colony))) }
    });
    let mut newer = App::start(&colony, "newer", &["call", &port]);
    _ = newer.hear();
    said(&mut newer, 40, "/shop.Cart/Deny 40 4 60 20");
    let rows = until("the newer", || {
        let rows = red(&colony, &["service=cart", "--by", "operation"])?;
        let deny = rows.iter().find(|row| row.operation.as_deref() == Some("shop.Cart/Deny"));
        if deny.is_some_and(|row| row.red.requests == 40) {
            Ok(rows)
        } else {
            Err(format!("{rows:?}"))
        }
    });
    // Of the older one nothing was told under another name.
    for row in &rows {
        let operation = row.operation.as_deref().unwrap();
        assert!(["shop.Cart/Add", "shop.Cart/Deny"].contains(&operation), "{rows:?}");
        assert!(row.red.requests <= 40, "{rows:?}");
    }
    inflight(&colony, "cart", 0);
}

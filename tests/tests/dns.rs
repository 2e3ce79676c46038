//! Names asked for, seen through eBPF, of a real dnsmasq and of who asks it (dig, the C library, Node) that
//! nobody instrumented: what its own log has, and what dig was answered, is what Coral counts. Skipped
//! only where the kernel does not let the agent look, and then the reason is printed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use coral_model::view::{EdgeEnds, NodeKind};
use coral_tests::eyes::{edges, red};
use coral_tests::nginx::{Programs, free_port, watched};
use coral_tests::{Colony, Counts, asks, counters, counts, may_look, nothing_lost, until};

/// Addresses of this machine that nobody else uses.
struct Net([u8; 2]);

impl Net {
    fn new() -> Self {
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes).unwrap();
        Self(bytes.map(|byte| byte.clamp(1, 250)))
    }

    fn ip(&self, last: u8) -> Ipv4Addr {
        let Self([a, b]) = *self;
        Ipv4Addr::new(127, a, b, last)
    }
}

/// A running dnsmasq. Dropping it ends it.
struct Dnsmasq {
    child: Child,
    log: PathBuf,
}

impl Dnsmasq {
    fn start(programs: &Programs, name: &str, args: &[String]) -> Self {
        let log = programs.dir.join(format!("{name}.log"));
        let child = Command::new(programs.dir.join(name))
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root"])
            .args(["--no-resolv", "--no-hosts", "--log-queries=extra", "--cache-size=0"])
            .arg(format!("--log-facility={}", log.display()))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let dnsmasq = Self { child, log };
        until("dnsmasq to start", || {
            let text = std::fs::read_to_string(&dnsmasq.log).unwrap_or_default();
            if text.contains("started") { Ok(()) } else { Err(text) }
        });
        dnsmasq
    }

    /// What it was asked, by operation.
    fn asked(&self) -> BTreeMap<String, u64> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let mut asked = BTreeMap::new();
        for line in text.lines() {
            let Some((_, query)) = line.split_once(" query[") else { continue };
            let (kind, rest) = query.split_once("] ").unwrap();
            let name = rest.split(' ').next().unwrap();
            *asked.entry(operation(kind, name)).or_default() += 1;
        }
        asked
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        _ = self.child.wait();
    }
}

/// As Coral names it: numbers of orders are ids.
fn operation(kind: &str, name: &str) -> String {
    let name = name.trim_end_matches('.').to_lowercase();
    let name = match name.split_once('.') {
        Some((first, rest)) if first.starts_with("order-") => format!("order-{{id}}.{rest}"),
        _ => name,
    };
    format!("{kind} {name}")
}

/// Asks with dig: words as on its command line, and names with their types, one after the other. Gives
/// what was answered.
fn dig(programs: &Programs, words: &str, names: &[(&str, String)]) -> Counts {
    let list: String = names.iter().map(|(kind, name)| format!("{name} {kind}\n")).collect();
    let file = programs.dir.join("names");
    std::fs::write(&file, list).unwrap();
    let mut command = Command::new(programs.dir.join("dig"));
    command.args(words.split(' ')).arg("+noall").args(["+comments", "+question", "+tries=1", "-f"]);
    let output = command.arg(&file).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut counts, mut status) = (Counts::new(), String::new());
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once("status: ") {
            status = rest.split(',').next().unwrap().to_owned();
        } else if let Some(question) = line.strip_prefix(';').filter(|q| !q.starts_with([';', ' ']))
        {
            let words: Vec<&str> = question.split_ascii_whitespace().collect();
            let [name, "IN", kind] = words[..] else { continue };
            *counts.entry((operation(kind, name), status.clone())).or_default() += 1;
        }
    }
    counts
}

/// Runs a program to which `resolv.conf` says this, and nobody else.
fn run_with(programs: &Programs, resolv: &str, program: &str, args: &[&str]) -> String {
    let file = programs.dir.join("resolv.conf");
    std::fs::write(&file, resolv).unwrap();
    let mount = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--", "sh", "-c", mount])
        .arg(&file)
        .arg(programs.dir.join(program))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const PROGRAMS: [&str; 5] =
    ["/usr/sbin/dnsmasq", "/usr/bin/dig", "/usr/bin/getent", "/usr/bin/node", "/usr/bin/curl"];

#[test]
fn every_query_of_an_uninstrumented_dnsmasq_is_counted_once() {
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir(), &PROGRAMS);
    std::fs::copy(programs.dir.join("dnsmasq"), programs.dir.join("upstream")).unwrap();
    let watch = ["dnsmasq", "upstream", "dig", "getent", "node"].map(|name| programs.path(name));
    let mut colony = colony.with_env("CORAL_WATCH", watch.join(","));
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let net = Net::new();
    let (at, silent, far) = (net.ip(1), net.ip(2), free_port());
    // Nobody reads what it is sent.
    let _silent = UdpSocket::bind((silent, 53)).unwrap();
    let upstream = [
        format!("--port={far}"),
        "--local=/far.test/".into(),
        "--host-record=a.far.test,10.1.2.3".into(),
    ];
    let upstream = Dnsmasq::start(&programs, "upstream", &upstream);
    let dnsmasq = [
        format!("--listen-address={at}"),
        "--bind-interfaces".into(),
        "--local=/shop.test/".into(),
        "--host-record=www.shop.test,10.1.2.4,fd00::4".into(),
        "--cname=cdn.shop.test,www.shop.test".into(),
        "--address=/orders.shop.test/10.1.2.5".into(),
        "--txt-record=shop.test,v=1".into(),
        format!("--server=/far.test/127.0.0.1#{far}"),
        format!("--server=/slow.test/{silent}"),
    ];
    let dnsmasq = Dnsmasq::start(&programs, "dnsmasq", &dnsmasq);

    let times = |n: u32, kind: &'static str, name: &str| {
        (0..n).map(|_| (kind, name.to_owned())).collect::<Vec<_>>()
    };
    let mut names = times(200, "A", "www.shop.test");
    names.extend(times(30, "AAAA", "www.shop.test"));
    names.extend(times(20, "A", "cdn.shop.test"));
    names.extend(times(10, "TXT", "shop.test"));
    names.extend(times(40, "A", "nosuch.shop.test"));
    names.extend(times(15, "MX", "nosuch.shop.test"));
    names.extend(times(5, "A", "nobody-serves.test"));
    names.extend(times(25, "A", "a.far.test"));
    names.extend(times(7, "A", "b.far.test"));
    names.extend((0..12).map(|n| ("A", format!("order-{}.orders.shop.test", 20_410 + n))));
    let here = format!("@{at}");
    let mut answered = dig(&programs, &here, &names);
    let by_dig = names.len() as u64;
    assert_eq!(answered.values().sum::<u64>(), by_dig, "{answered:?}");
    let mut add = |more: Counts| {
        for (of, n) in more {
            *answered.entry(of).or_default() += n;
        }
    };
    // Over TCP, each on a connection of its own and many on one.
    let mut names = times(20, "A", "www.shop.test");
    names.extend(times(5, "A", "nosuch.shop.test"));
    for words in ["+tcp", "+tcp +keepopen"] {
        let more = dig(&programs, &format!("{here} {words}"), &names);
        assert_eq!(more.values().sum::<u64>(), 25, "{more:?}");
        add(more);
    }
    // The C library asks for both kinds of addresses in one call, and tries the endings it is given.
    let resolv = format!("nameserver {at}\nsearch corp.shop.test shop.test\noptions ndots:5\n");
    for _ in 0..6 {
        let text = run_with(&programs, &resolv, "getent", &["--no-addrconfig", "ahosts", "www"]);
        assert!(text.contains("10.1.2.4") && text.contains("fd00::4"), "{text}");
    }
    // Node asks by itself, over a connected socket.
    let script = "const r = new (require('dns').promises.Resolver)(); r.setServers([process.argv[1]]); \
                  (async () => { for (let i = 0; i < 11; i++) { await r.resolve4('www.shop.test'); \
                  await r.resolve4('gone.shop.test').catch(() => 0); } })()";
    let status =
        Command::new(programs.path("node")).args(["-e", script]).arg(at.to_string()).status();
    assert!(status.unwrap().success());
    let of = |kind: &str, name: &str, status: &str| (operation(kind, name), status.to_owned());
    add(Counts::from([
        (of("A", "www.corp.shop.test", "NXDOMAIN"), 6),
        (of("AAAA", "www.corp.shop.test", "NXDOMAIN"), 6),
        (of("A", "www.shop.test", "NOERROR"), 6 + 11),
        (of("AAAA", "www.shop.test", "NOERROR"), 6),
        (of("A", "gone.shop.test", "NXDOMAIN"), 11),
    ]));
    // Nobody answers these.
    let slow = ["one", "two", "three"].map(|name| ("A", format!("{name}.slow.test")));
    let none = dig(&programs, &format!("{here} +time=1"), &slow);
    assert_eq!(none, Counts::new());
    add(slow.iter().map(|(kind, name)| (of(kind, name, ""), 1)).collect());

    // dnsmasq's own log has as many of each.
    let mut by_operation = BTreeMap::new();
    for ((operation, _), n) in &answered {
        *by_operation.entry(operation.clone()).or_default() += *n;
    }
    assert_eq!(dnsmasq.asked(), by_operation);
    let total: u64 = answered.values().sum();
    let rows = until("Coral to have counted them", || {
        let seen = counts(&colony, "dnsmasq")?;
        let all = seen.values().sum::<u64>() >= total;
        if all { Ok(seen) } else { Err(format!("{seen:?}\n{answered:?}\n{:?}", counters(&colony))) }
    });
    assert_eq!(rows, answered, "{:?}", counters(&colony));
    nothing_lost(&colony, &[]);

    // What does not exist is an error, and what was only tried is none; nor has it an answer where
    // nobody gave one.
    let rows = red(&colony, &["service=dnsmasq", "--by", "operation"]).unwrap();
    for row in rows {
        let (errors, no_answer) = match row.operation.as_deref().unwrap() {
            "A one.slow.test" | "A two.slow.test" | "A three.slow.test" => (1, 1),
            "A nosuch.shop.test" | "MX nosuch.shop.test" | "A gone.shop.test" => {
                (row.red.requests, 0)
            }
            "A nobody-serves.test" | "A b.far.test" => (row.red.requests, 0),
            _ => (0, 0),
        };
        assert_eq!((row.red.errors, row.red.no_answer), (errors, no_answer), "{row:?}");
    }

    // The other dnsmasq, at a port of its own and at every address.
    let far = upstream.asked();
    let seen_far = until("what was asked of the other", || {
        let seen = counts(&colony, "upstream")?;
        if seen.values().sum::<u64>() >= 32 { Ok(seen) } else { Err(format!("{seen:?}")) }
    });
    let far_by_operation = seen_far.iter().map(|((operation, _), n)| (operation.clone(), *n));
    assert_eq!(far_by_operation.collect::<BTreeMap<_, _>>(), far);

    // Who asks whom, from both ends; who does not answer is known by its address.
    let asked = by_dig + 50 + 3;
    let by_dig = asks(&colony, "dig", "dnsmasq", asked);
    assert_eq!((by_dig.red.requests, by_dig.red.no_answer), (asked, 3), "{by_dig:?}");
    assert_eq!((by_dig.protocol.as_deref(), by_dig.ends), (Some("dns"), EdgeEnds::Both));
    for (from, n) in [("getent", 24), ("node", 22)] {
        let edge = asks(&colony, from, "dnsmasq", n);
        assert_eq!((edge.red.requests, edge.ends), (n, EdgeEnds::Both), "{edge:?}");
    }
    let edge_far = asks(&colony, "dnsmasq", "upstream", 32);
    assert_eq!((edge_far.red.requests, edge_far.ends), (32, EdgeEnds::Both), "{edge_far:?}");
    let edge_slow = asks(&colony, "dnsmasq", &format!("dns@{silent}:53"), 3);
    assert_eq!((edge_slow.red.requests, edge_slow.red.no_answer), (3, 3), "{edge_slow:?}");
    assert_eq!((edge_slow.ends, edge_slow.to_kind), (EdgeEnds::One, NodeKind::External));
    // Nobody else is drawn, and no order's number is kept.
    for edge in edges(&colony).unwrap() {
        assert_ne!((edge.from_kind, edge.to.as_str()), (NodeKind::External, "dnsmasq"), "{edge:?}");
    }
    let sql = "SELECT count(*) AS n FROM red WHERE operation LIKE '%2041%'";
    let answer = colony.coral(&["query", "sql", "--json", sql]).ok();
    assert!(answer.out.contains("\"n\":0") || answer.out.contains("[0]"), "{}", answer.out);
    let doctor = colony.coral(&["doctor"]);
    assert!(doctor.out.contains("DNS, DNS over TCP"), "{}", doctor.out);
}

#[test]
fn a_peer_that_nobody_watches_has_the_name_it_was_asked_by() {
    let Some((colony, programs)) = watched(&PROGRAMS, &["curl"]) else { return };
    let net = Net::new();
    let (at, web) = (net.ip(1), net.ip(3));
    let dnsmasq = [
        format!("--listen-address={at}"),
        "--bind-interfaces".into(),
        "--local=/shop.test/".into(),
        format!("--host-record=edge-7.shop.test,{web},3"),
        "--cname=api.shop.test,edge-7.shop.test,1".into(),
    ];
    let dnsmasq = Dnsmasq::start(&programs, "dnsmasq", &dnsmasq);
    let listener = TcpListener::bind((web, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(b"\r\n\r\n") {
                let mut some = [0; 1_024];
                let n = stream.read(&mut some).unwrap();
                assert!(n > 0);
                heard.extend_from_slice(&some[..n]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    let resolv = format!("nameserver {at}\n");
    for url in
        [format!("http://api.shop.test:{port}/cart"), format!("http://api.shop.test:{port}/pay")]
    {
        assert_eq!(run_with(&programs, &resolv, "curl", &["-sS", &url]), "ok");
    }
    let named = asks(&colony, "curl", &format!("api.shop.test:{port}"), 2);
    assert_eq!((named.red.requests, named.to_kind), (2, NodeKind::External), "{named:?}");
    assert_eq!((named.ends, named.protocol.as_deref()), (EdgeEnds::One, Some("http")));
    // Who is asked for names goes by its address.
    let asked = dnsmasq.asked().values().sum();
    let names = asks(&colony, "curl", &format!("dns@{at}:53"), asked);
    assert_eq!((names.red.requests, names.to_kind), (asked, NodeKind::External), "{names:?}");
    // Whoever goes by an address that has a name here goes there too.
    let url = format!("http://{web}:{port}/");
    let output = Command::new(programs.path("curl")).args(["-sS", &url]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok", "{output:?}");
    let named = asks(&colony, "curl", &format!("api.shop.test:{port}"), 3);
    assert_eq!(named.red.requests, 3);
    serve.join().unwrap();
    nothing_lost(&colony, &[]);
}

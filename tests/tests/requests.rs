//! Requests seen through eBPF, of a real nginx that nobody instrumented: what its access log has is
//! what Coral counts, to the request. Skipped only where the kernel does not let the agent look, and
//! then the reason is printed.

use std::collections::BTreeMap;

use coral_model::view::{EdgeEnds, EdgeRow, Evidence, NodeKind, RedRow, Row};
use coral_tests::nginx::{Nginx, Programs, USUAL, alone, assert_as_slow, watched};
use coral_tests::{Colony, Shop, Terminal, bin_dir, counters, edges, may_look, red, unread, until};

const PROGRAMS: [&str; 3] = ["/usr/sbin/nginx", "/usr/bin/ab", "/usr/bin/h2load"];

const OF: &str = "service=nginx";

fn by_status(colony: &Colony) -> Result<BTreeMap<String, u64>, String> {
    let status = |row: &RedRow| row.by.get("status").cloned().flatten().unwrap_or_default();
    Ok(red(colony, &[OF, "--by", "status"])?
        .iter()
        .map(|row| (status(row), row.red.requests))
        .collect())
}

#[test]
fn every_request_of_an_uninstrumented_nginx_is_counted_once() {
    let _alone = alone();
    let Some((colony, programs)) = watched(&PROGRAMS, &USUAL) else { return };
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
    for lost in [
        "requests_chunks_lost",
        "requests_unknown",
        "requests_connections_refused",
        "requests_bytes_unread",
    ] {
        assert_eq!(counters[lost], 0, "{lost}: {counters:?}");
    }

    // What came after shows that nothing was still to come.
    _ = programs.run("ab", &["-q", "-n", "1"], &nginx.url("/marker.html"));
    let rows = until("the marker", || {
        let rows = red(&colony, &[OF, "--by", "operation"])?;
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

    let row = rows.iter().find(|row| row.operation.as_deref() == Some("GET /slow.bin")).unwrap();
    assert_as_slow(&log, "/slow.bin", &row.red);

    // Counted one by one: none is known, not guessed.
    until("no request in flight", || {
        let rows = colony.query(&["services", "service=nginx", "--since", "30m"])?;
        let mut rows = rows.iter().filter_map(|row| match row {
            Row::Service(service) => Some((service.inflight, service.inflight_exact)),
            _ => None,
        });
        let found = rows.next();
        if found == Some((Some(0), true)) { Ok(()) } else { Err(format!("{found:?}")) }
    });
    edges_and_screen(&colony);
}

fn red_of(colony: &Colony, service: &str, operation: &str) -> Result<Option<RedRow>, String> {
    let rows = red(colony, &[&format!("service={service}")])?;
    Ok(rows.into_iter().find(|row| row.operation.as_deref() == Some(operation)))
}

#[test]
fn a_proxy_is_seen_from_both_sides_and_services_are_called_what_a_person_says() {
    let _alone = alone();
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir(), &PROGRAMS);
    std::fs::copy(programs.dir.join("nginx"), programs.dir.join("backend")).unwrap();
    let at = programs.dir.display();
    let watch = format!("{at}/backend=catalog,{at}/nginx=edge,{at}/ab");
    let mut colony = colony.with_env("CORAL_WATCH", watch);
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let backend = Nginx::with(&programs, "backend", "", "root {at}/www;");
    // Each request to the backend is a connection of its own, as nginx does it when not told otherwise.
    let pass = format!("location / {{ proxy_pass http://127.0.0.1:{}; }}", backend.port);
    let front = Nginx::with(&programs, "nginx", "", &pass);
    _ = programs.run("ab", &["-q", "-n", "400", "-k", "-c", "4"], &front.url("/small.html"));
    _ = programs.run("ab", &["-q", "-n", "20", "-c", "2"], &front.url("/large.bin"));
    let expected = [("ab", "edge", 420), ("edge", "catalog", 420)];
    let seen = until("both edges", || {
        let edges = edges(&colony)?;
        let all = expected.iter().all(|(from, to, n)| {
            edges.iter().any(|e| e.from == *from && e.to == *to && e.red.requests == *n)
        });
        if all { Ok(edges) } else { Err(format!("{edges:?} {:?}", counters(&colony))) }
    });
    for edge in seen.iter().filter(|e| e.to == "catalog" || e.to == "edge") {
        assert_eq!((edge.ends, edge.red.evidence), (EdgeEnds::Both, Evidence::Ebpf), "{edge:?}");
    }
    for (service, log) in [("edge", &front), ("catalog", &backend)] {
        assert_eq!(log.logged().len(), 420);
        let large = red_of(&colony, service, "GET /large.bin").unwrap().unwrap();
        assert_eq!((large.red.requests, large.red.errors), (20, 0), "{service}");
    }
    assert_eq!(counters(&colony)["requests_unknown"], 0);
}

#[test]
fn what_is_lost_on_the_way_is_said_and_the_rest_is_right() {
    let _alone = alone();
    let Some((colony, programs)) = watched(&PROGRAMS, &["nginx"]) else { return };
    let nginx = Nginx::start(&programs);
    let ask = |n: &str, path: &str| {
        _ = programs.run("ab", &["-q", "-n", n, "-k", "-c", "8"], &nginx.url(path));
    };
    ask("100", "/small.html");
    let requests = |path: &str| red_of(&colony, "nginx", path);
    _ = until("the first", || {
        let row = requests("GET /small.html")?;
        row.filter(|r| r.red.requests == 100).ok_or_else(|| "not yet".to_owned())
    });
    // More than the kernel's ring holds.
    unread(&colony, || ask("50000", "/small.html"));
    let row = until("the loss to be said", || {
        let lost = counters(&colony)["requests_chunks_lost"];
        let row = requests("GET /small.html")?.ok_or("no row")?;
        // What was in the ring is counted, what was not is missing.
        if lost > 0 && row.red.requests > 1_000 { Ok(row) } else { Err(format!("{lost} {row:?}")) }
    });
    assert!(row.red.requests < 50_100, "{row:?}");
    ask("500", "/marker.html");
    let after = until("what came afterwards", || {
        let row = requests("GET /marker.html")?;
        row.filter(|r| r.red.requests >= 500).ok_or_else(|| "not yet".to_owned())
    });
    assert_eq!((after.red.requests, after.red.errors), (500, 0));
    let row = requests("GET /small.html").unwrap().unwrap();
    assert!(row.red.sampled && row.red.requests < 50_100, "{row:?} {:?}", counters(&colony));
}

#[test]
fn what_an_sdk_tells_of_and_the_kernel_sees_too_is_counted_once() {
    let _alone = alone();
    let shop = bin_dir().join("coral-shop").display().to_string();
    let mut colony = Colony::prepare().with_env("CORAL_WATCH", shop);
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let _shop = Shop::start(&colony, 20);
    // Both tell of it; each question takes the spans.
    until("both to tell of the gateway", || {
        let sql = "SELECT evidence FROM red WHERE service = 'gateway' GROUP BY 1 HAVING sum(requests) > 100";
        let answer = colony.coral(&["query", "sql", "--json", sql]);
        let both = answer.out.contains("otlp") && answer.out.contains("ebpf");
        if both { Ok(()) } else { Err(format!("{} {}", answer.out, answer.err)) }
    });
    let rows = colony.query(&["services", "--since", "30m"]).unwrap();
    let services: Vec<_> = rows
        .into_iter()
        .filter_map(|row| if let Row::Service(row) = row { Some(*row) } else { None })
        .collect();
    let names: Vec<&str> = services.iter().map(|s| s.service.as_str()).collect();
    for known in ["gateway", "checkout", "catalog", "payments", "shipping"] {
        assert!(names.contains(&known), "{names:?}");
    }
    // What starts the shop answers for its names, which nobody's spans tell of.
    let sql = "SELECT DISTINCT protocol FROM red WHERE service = 'coral-shop'";
    let answer = colony.coral(&["query", "sql", "--json", sql]).ok();
    assert!(answer.out.contains("dns") && !answer.out.contains("http"), "{}", answer.out);
    for service in services.iter().filter(|s| s.service != "coral-shop") {
        let evidence = service.red.as_ref().map(|red| red.evidence);
        assert!(evidence.is_none_or(|e| e == Evidence::Otlp), "{service:?}");
    }
    let drawn: Vec<_> = edges(&colony).unwrap();
    let twice = |edge: &EdgeRow| {
        drawn.iter().filter(|e| (&e.from, &e.to) == (&edge.from, &edge.to)).count() > 1
    };
    assert!(!drawn.iter().any(twice), "{drawn:?}");
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
    // In sockets or, as older kernels have it and this test may be told to ask for, where calls end.
    let in_sockets = doctor.out.contains("sock_recv_length");
    let at_calls = doctor.out.contains("sys_exit");
    let asked = std::env::var("CORAL_HOOKS").is_ok_and(|hooks| hooks == "calls");
    assert!(at_calls && !in_sockets || in_sockets && !asked, "{}", doctor.out);
}

//! A person closes the agent's eyes and opens them again, and an agent that costs more than it may closes them
//! itself: of a real nginx that nobody instrumented. Skipped only where the kernel does not let the agent look, and
//! then the reason is printed.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use coral_model::view::{EventRow, Row, Sense, SenseState, State, Told};
use coral_tests::nginx::{Nginx, Programs, alone, watched};
use coral_tests::{Colony, Running, may_look, red, until};

const PROGRAMS: [&str; 3] = ["/usr/sbin/nginx", "/usr/bin/curl", "/usr/bin/ab"];
/// What eBPF gives.
const SENSES: [&str; 4] = ["ebpf", "requests", "tls", "output"];
const OFF: &str = "turned off by a person (coral eyes off)";

/// The process of the one agent, once it is connected and has said what it sees.
fn agent(colony: &Colony, other_than: Option<u32>) -> (u32, Vec<Sense>) {
    until("the agent", || {
        let status = colony.status()?;
        let agent = status.agents.into_iter().find(|agent| {
            let says = |name: &&str| agent.senses.iter().any(|sense| sense.name == **name);
            let new = agent.state == State::Active && Some(agent.pid) != other_than;
            new && SENSES.iter().all(says)
        });
        agent.map(|agent| (agent.pid, agent.senses)).ok_or_else(|| "none".to_owned())
    })
}

/// How many eBPF programs a process holds: the kernel has none that nobody does.
fn programs_of(pid: u32) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts.filter(|text| text.lines().any(|line| line.starts_with("prog_type:"))).count()
}

/// Requests that nginx served, by operation.
fn served(colony: &Colony) -> Result<BTreeMap<String, u64>, String> {
    let rows = red(colony, &["service=nginx", "--by", "operation"])?;
    let of = |row: &coral_model::view::RedRow| {
        assert_eq!((row.red.errors, row.red.no_answer), (0, 0), "{row:?}");
        (row.operation.clone().unwrap(), row.red.requests)
    };
    Ok(rows.iter().map(of).collect())
}

/// Waits until so many requests of an operation are known, and gives all.
fn known(colony: &Colony, operation: &str, requests: u64) -> BTreeMap<String, u64> {
    until(operation, || {
        let all = served(colony)?;
        if all.get(operation) == Some(&requests) { Ok(all) } else { Err(format!("{all:?}")) }
    })
}

/// The events of a kind, of which there shall be one that says so.
fn told(colony: &Colony, kind: &str, text: &str) -> EventRow {
    until(&format!("{kind}: {text}"), || {
        let rows = colony.query(&["events", "--since", "30m", &format!("kind={kind}")])?;
        let found = rows.iter().find_map(|row| match row {
            Row::Event(event) if event.text.contains(text) => Some((**event).clone()),
            _ => None,
        });
        found.ok_or_else(|| format!("{rows:?}"))
    })
}

/// How often the agent has loaded its programs, over all its lives.
fn openings(colony: &Colony) -> usize {
    let log = colony.data().join("agent/agent.log");
    let log = std::fs::read_to_string(&log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
    log.lines().filter(|line| line.contains("eBPF programs attached")).count()
}

#[test]
fn what_a_person_turned_off_is_off_until_somebody_turns_it_on() {
    let _alone = alone();
    let Some((mut colony, programs)) = watched(&PROGRAMS, &["nginx"]) else { return };
    let nginx = Nginx::start(&programs);
    let ask = |n: u32, path: &str| {
        for _ in 0..n {
            _ = programs.run("curl", &["-fsS", "-o", "/dev/null"], &nginx.url(path));
        }
    };
    ask(3, "/small.html");
    _ = known(&colony, "GET /small.html", 3);
    let (pid, _) = agent(&colony, None);
    assert!(programs_of(pid) > 3 && openings(&colony) == 1);
    let open = colony.coral(&["eyes"]).ok();
    assert!(open.out.contains("open") && open.out.contains("sched_process_exit"), "{}", open.out);

    // Takes more than a minute: it is under way when the eyes close, and over before they open.
    let mut slow = Command::new(programs.path("curl"));
    slow.args(["-s", "-o", "/dev/null", &nginx.url("/slow.bin?rate=2k")]).stdin(Stdio::null());
    let slow = Running::start(&mut slow);
    until("the slow request to be in flight", || {
        let rows = colony.query(&["services", "service=nginx", "--since", "30m"])?;
        let waits = |row: &Row| matches!(row, Row::Service(service) if service.inflight == Some(1));
        if rows.iter().any(waits) { Ok(()) } else { Err(format!("{rows:?}")) }
    });

    let off = colony.coral(&["eyes", "off"]).ok();
    assert!(off.out.contains("closed") && off.out.contains(OFF), "{}", off.out);
    assert_eq!(programs_of(pid), 0, "every program is gone when the command says so");
    let is_off = |senses: &[Sense]| {
        for name in SENSES {
            let sense = senses.iter().find(|sense| sense.name == name).unwrap();
            assert_eq!((sense.state, sense.why.as_str()), (SenseState::Off, OFF), "{name}");
            assert_eq!(sense.remedy.as_deref(), Some("coral eyes on"), "{name}");
        }
    };
    is_off(&agent(&colony, None).1);
    let doctor = colony.coral(&["doctor"]);
    assert!(doctor.out.contains(OFF) && doctor.out.contains("coral eyes on"), "{}", doctor.out);
    let who = format!("user {}", rustix::process::geteuid().as_raw());
    let closed = told(&colony, "source_lost", &format!("eyes closed: turned off by {who}"));
    assert_eq!(closed.attributes["by"], who);
    until("short-lived processes to be unknown, and why", || {
        let rows = colony.query(&["hosts"])?;
        let why = |b: &String| b.starts_with("short-lived processes: only eBPF sees them");
        let unknown = |row: &Row| matches!(row, Row::Host(host) if host.short_lived.is_none() && host.blind.iter().any(why));
        if rows.iter().any(unknown) { Ok(()) } else { Err(format!("{rows:?}")) }
    });
    ask(2, "/marker.html");
    drop(slow);

    // Neither the colony nor the agent opens them when it is started anew, not for a moment.
    _ = colony.coral(&["down"]).ok();
    colony.up();
    let (second, senses) = agent(&colony, Some(pid));
    is_off(&senses);
    Colony::kill(second);
    let (third, senses) = agent(&colony, Some(second));
    is_off(&senses);
    assert_eq!((programs_of(third), openings(&colony)), (0, 1));
    ask(2, "/marker.html");

    let on = colony.coral(&["eyes", "on"]).ok();
    assert!(on.out.contains("open") && !on.out.contains("closed"), "{}", on.out);
    assert!(programs_of(third) > 3 && openings(&colony) == 2);
    _ = told(&colony, "source_back", &format!("eyes open again: turned on by {who}"));
    ask(4, "/large.bin");
    let all = known(&colony, "GET /large.bin", 4);
    let expected = [("GET /large.bin".to_owned(), 4), ("GET /small.html".to_owned(), 3)];
    assert_eq!(all, BTreeMap::from(expected), "what passed meanwhile was seen, or told of");
}

#[test]
fn an_agent_that_costs_more_than_it_may_closes_its_eyes_for_a_while() {
    let _alone = alone();
    let colony = Colony::prepare();
    let programs = Programs::copied(colony.dir(), &PROGRAMS);
    let colony = colony.with_env("CORAL_WATCH", programs.path("nginx"));
    let mut colony = colony.with_env("CORAL_CPU_LIMIT", "0.01");
    colony.up();
    if !may_look(&colony) {
        return;
    }
    let nginx = Nginx::start(&programs);
    let (pid, _) = agent(&colony, None);
    // As much as nginx can serve, until that has cost the agent too much for half a minute.
    let why = until("the eyes to close", || {
        _ = programs.run("ab", &["-q", "-n", "50000", "-k", "-c", "8"], &nginx.url("/small.html"));
        let (_, senses) = agent(&colony, None);
        let sense = senses.into_iter().find(|sense| sense.name == "requests").unwrap();
        if sense.state == SenseState::Off { Ok(sense.why) } else { Err(sense.why) }
    });
    assert!(why.starts_with("closed for 5 minutes: the agent took "), "{why}");
    assert!(why.ends_with(" s, more than --cpu-limit 1 %"), "{why}");
    assert_eq!(programs_of(pid), 0);
    let event = told(&colony, "source_lost", &why);
    assert_eq!(event.attributes["seconds"], "300", "{event:?}");
    let eyes = colony.coral(&["eyes"]).ok();
    assert!(eyes.out.contains("closed") && eyes.out.contains("--cpu-limit"), "{}", eyes.out);

    _ = colony.coral(&["eyes", "on"]).ok();
    assert!(programs_of(pid) > 3);
    _ = told(&colony, "source_back", "eyes open again: turned on by");
    for _ in 0..3 {
        _ = programs.run("curl", &["-fsS", "-o", "/dev/null"], &nginx.url("/marker.html"));
    }
    until("what came afterwards", || {
        let all = served(&colony)?;
        if all.get("GET /marker.html") == Some(&3) { Ok(()) } else { Err(format!("{all:?}")) }
    });
}

/// Needs no eBPF.
#[test]
fn what_is_said_of_a_host_without_an_agent_waits_for_one() {
    let colony = Colony::start();
    let off = ["eyes", "off", "--host", "nowhere-1"];
    let answer = colony.coral(&[&off[..], &["--json"]].concat());
    assert_eq!(answer.code, 1, "nothing was closed: {}", answer.err);
    let (rows, _) = answer.rows().unwrap();
    let [Row::Eyes(next)] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((next.agent.as_deref(), next.host.as_deref()), (None, Some("nowhere-1")));
    assert_eq!((next.wanted, next.told), (false, Told::Later));
    let (rows, _) = colony.coral(&["eyes", "--json"]).ok().rows().unwrap();
    let here = rows.iter().find_map(|row| match row {
        Row::Eyes(row) if row.agent.is_some() => Some(row),
        _ => None,
    });
    let here = here.expect("the agent of this host");
    assert!(here.wanted && here.by.is_none(), "it is not meant: {here:?}");
    let name = here.host.as_deref().unwrap();
    let text = colony.coral(&off);
    assert_eq!(text.code, 1, "{}", text.err);
    assert!(text.out.contains("no agent yet: the next one is told"), "{}", text.out);
    let nobody = format!("no agent of that name is connected (connected: {name})");
    assert!(text.err.contains(&nobody), "{}", text.err);
    assert!(text.err.contains("coral eyes on --host nowhere-1"), "{}", text.err);

    // It can be taken back, and then nothing is left of it.
    _ = colony.coral(&["eyes", "on", "--host", "nowhere-1"]).ok();
    let (rows, _) = colony.coral(&["eyes", "--json"]).ok().rows().unwrap();
    let is_left =
        |row: &Row| matches!(row, Row::Eyes(row) if row.host.as_deref() == Some("nowhere-1"));
    assert!(!rows.iter().any(is_left), "{rows:?}");
}

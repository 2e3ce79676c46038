//! Requests between two hosts, each with an agent of its own, straight and through addresses that are
//! translated on either: an edge has both its ends. Skipped only where the kernel does not let the agent
//! look, or has no network namespaces, and then the reason is printed.

use std::process::Stdio;

use coral_model::view::{EdgeEnds, NodeKind};
use coral_tests::hosts::Host;
use coral_tests::nginx::Programs;
use coral_tests::{Colony, Running, asks, edges, may_look, until};

#[test]
fn ends_of_two_hosts_meet_whatever_their_addresses_are_called() {
    let (Some(one), Some(two)) = (Host::new(), Host::new()) else { return };
    one.wire("10.77.1.1/24", &two, "10.77.1.2/24");
    one.run(&["ip", "address", "add", "10.77.1.9/24", "dev", "wire"]);
    one.run(&["ip", "route", "add", "default", "via", "10.77.1.2"]);
    // On the client's host: a virtual address, behind which a server is chosen, and which hides who asks.
    one.run(&[
        "nft",
        "table ip translate { \
         chain to { type nat hook output priority -100; \
         ip daddr 10.99.99.99 tcp dport 80 dnat to 10.77.1.2:8000; }; \
         chain from { type nat hook postrouting priority 100; \
         ct original ip daddr 10.99.99.99 snat to 10.77.1.9; }; }",
    ]);
    // On the server's: a published port.
    two.run(&[
        "nft",
        "table ip translate { chain to { type nat hook prerouting priority -100; \
         tcp dport 8080 redirect to :8000; }; }",
    ]);

    let colony = Colony::prepare();
    // Short: one that is gone before it is looked up is known by the first fifteen letters.
    let askers = ["straight", "virtual", "published"];
    let programs = Programs::copied(colony.dir(), &[]);
    let python = std::fs::canonicalize("/usr/bin/python3").unwrap();
    std::fs::copy(python, colony.dir().join("server")).unwrap();
    let mut watch = Vec::new();
    for name in askers {
        std::fs::copy("/usr/bin/curl", colony.dir().join(name)).unwrap();
        watch.push(format!("{}={name}", programs.path(name)));
    }
    // What runs where is known by name: the kernel is the same.
    let mut colony = colony.with_env("CORAL_WATCH", "none");
    colony.up();
    let _one = one.agent(&colony, "one", &watch.join(","));
    let _two = two.agent(&colony, "two", &format!("{}=server", programs.path("server")));
    until("both agents to look", || {
        let status = colony.status()?;
        let senses = status.agents.iter().flat_map(|agent| &agent.senses);
        let seen = senses.filter(|sense| sense.name == "requests").count();
        if seen >= 3 { Ok(()) } else { Err(format!("{status:?}")) }
    });
    if !may_look_anywhere(&colony) {
        return;
    }
    let mut server = two.command(&programs.path("server"));
    server.args(["-m", "http.server", "8000", "--directory"]).arg(colony.dir().join("data"));
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Running::start(&mut server);
    until("the server to listen", || {
        let output = one.command("curl").args(["-s", "http://10.77.1.2:8000/"]).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
    });

    let urls = ["http://10.77.1.2:8000/", "http://10.99.99.99/", "http://10.77.1.2:8080/"];
    for (name, url) in askers.into_iter().zip(urls) {
        for _ in 0..10 {
            one.run(&[&programs.path(name), "-s", "-o", "/dev/null", url]);
        }
    }
    for name in askers {
        let edge = asks(&colony, name, "server", 10);
        assert_eq!((edge.red.requests, edge.ends), (10, EdgeEnds::Both), "{edge:?}");
        assert_eq!((edge.from_kind, edge.to_kind), (NodeKind::Service, NodeKind::Service));
        until("its connections", || {
            let edge = asks(&colony, name, "server", 10);
            let connections = edge.connections.ok_or("none")?;
            if connections.opened == 10 { Ok(()) } else { Err(format!("{connections:?}")) }
        });
    }
    // Nothing stands for one of them under another name.
    let others: Vec<_> = edges(&colony).unwrap().into_iter().filter(|e| e.to != "server").collect();
    assert!(others.iter().all(|edge| !askers.contains(&edge.from.as_str())), "{others:?}");
}

/// Whether the agents of the two hosts see requests; the colony's own was told not to.
fn may_look_anywhere(colony: &Colony) -> bool {
    let status = colony.status().unwrap();
    let on =
        status.agents.iter().flat_map(|agent| &agent.senses).any(|sense| {
            sense.name == "requests" && sense.state != coral_model::view::SenseState::Off
        });
    on || may_look(colony)
}

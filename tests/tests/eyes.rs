//! What the agent sees through eBPF. Skipped only where the kernel does not let it look, and then
//! the reason is printed.

use std::process::Command;

use coral_model::view::{EventKind, EventRow, Row, SenseState};
use coral_tests::{Colony, Shop, until};

/// Whether this kernel lets the agent look.
fn may_look(colony: &Colony) -> bool {
    let sense = until("the agent to say what it sees through eBPF", || {
        let status = colony.status()?;
        let senses = status.agents.iter().flat_map(|agent| &agent.senses);
        senses.clone().find(|s| s.name == "ebpf").cloned().ok_or_else(|| "nothing yet".to_owned())
    });
    if sense.state != SenseState::Off {
        return true;
    }
    let lacks = ["not permitted to load", "does not describe itself", "this kernel has no"];
    assert!(lacks.iter().any(|text| sense.why.contains(text)), "off for no reason: {sense:?}");
    eprintln!("skipped: {}", sense.why);
    false
}

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
            matches!(e.kind, EventKind::Restart | EventKind::ProcessEnded)
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
    if !may_look(&colony) {
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
}

//! What tests of the agent's eyes share.

use std::collections::BTreeMap;

use coral_model::view::{EdgeRow, Evidence, RedRow, Row, SenseState};
use rustix::process::{Pid, Signal, kill_process};

use crate::colony::Colony;
use crate::wait::until;

/// Whether this kernel lets the agent see requests; where not, why is printed.
///
/// # Panics
/// When that is for another reason than a capability the kernel lacks.
#[must_use]
#[track_caller]
pub fn may_look(colony: &Colony) -> bool {
    may(colony, "requests")
}

/// The same for any of the senses that eBPF gives.
///
/// # Panics
/// Likewise.
#[must_use]
#[track_caller]
pub fn may(colony: &Colony, name: &str) -> bool {
    let sense = until(&format!("the agent to say what it sees of {name}"), || {
        let status = colony.status()?;
        let senses = status.agents.iter().flat_map(|agent| &agent.senses);
        senses.clone().find(|s| s.name == name).cloned().ok_or_else(|| "nothing yet".to_owned())
    });
    // What the verifier refuses is our mistake, not the kernel's lack.
    assert!(!sense.why.contains("Verifier output"), "refused: {sense:?}");
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

/// What the one agent has counted.
///
/// # Panics
/// When there is no agent.
#[must_use]
#[track_caller]
pub fn counters(colony: &Colony) -> BTreeMap<String, u64> {
    let rows = colony.query(&["agents"]).expect("agents");
    let agent = rows.into_iter().find_map(|row| match row {
        Row::Agent(row) => Some(*row),
        _ => None,
    });
    agent.expect("an agent").counters.into_iter().collect()
}

/// What `coral query red` says with these words, of the last half hour.
///
/// # Errors
/// When it does not answer.
pub fn red(colony: &Colony, words: &[&str]) -> Result<Vec<RedRow>, String> {
    let rows = colony.query(&[&["red"], words, &["--since", "30m"]].concat())?;
    let row = |row| if let Row::Red(row) = row { Some(*row) } else { None };
    Ok(rows.into_iter().filter_map(row).collect())
}

/// Requests of what passes a filter by their operation, and how many of them failed.
///
/// # Errors
/// As of [`red`].
///
/// # Panics
/// When an operation has no name.
pub fn calls(colony: &Colony, filter: &str) -> Result<BTreeMap<String, (u64, u64)>, String> {
    let of = |row: RedRow| (row.operation.unwrap(), (row.red.requests, row.red.errors));
    Ok(red(colony, &[filter, "--by", "operation"])?.into_iter().map(of).collect())
}

/// Requests by operation and status.
pub type Counts = BTreeMap<(String, String), u64>;

/// What the kernel alone has told of a service, all of it.
///
/// # Errors
/// As of [`red`].
///
/// # Panics
/// When somebody else told of it, or some of it is missing.
pub fn counts(colony: &Colony, service: &str) -> Result<Counts, String> {
    let of = format!("service={service}");
    let mut counts = Counts::new();
    for row in red(colony, &[&of, "--by", "operation"])? {
        assert!(row.red.evidence == Evidence::Ebpf && !row.red.sampled, "{row:?}");
        let operation = row.operation.unwrap();
        let one = format!("operation={operation:?}");
        for row in red(colony, &[&of, &one, "--by", "status"])? {
            let status = row.by.get("status").cloned().flatten().unwrap_or_default();
            _ = counts.insert((operation.clone(), status), row.red.requests);
        }
    }
    Ok(counts)
}

/// Who asks whom, in the last half hour.
///
/// # Errors
/// When there is no answer.
pub fn edges(colony: &Colony) -> Result<Vec<EdgeRow>, String> {
    let rows = colony.query(&["topology", "--since", "30m"])?;
    let edge = |row| if let Row::Edge(edge) = row { Some(*edge) } else { None };
    Ok(rows.into_iter().filter_map(edge).collect())
}

/// The edge between two of them.
///
/// # Errors
/// When there is none, or no answer.
pub fn edge(colony: &Colony, from: &str, to: &str) -> Result<EdgeRow, String> {
    let edges = edges(colony)?;
    let found = edges.iter().find(|edge| edge.from == from && edge.to == to).cloned();
    found.ok_or_else(|| format!("{edges:?}"))
}

/// The same, once it has so many requests.
///
/// # Panics
/// When it never has.
#[track_caller]
pub fn asks(colony: &Colony, from: &str, to: &str, least: u64) -> EdgeRow {
    until("who asks", || {
        let edge = edge(colony, from, to).map_err(|e| format!("{e} {:?}", counters(colony)))?;
        if edge.red.requests >= least { Ok(edge) } else { Err(format!("{least}: {edge:?}")) }
    })
}

/// The agent has lost nothing of what it saw, nor of what these counters count.
///
/// # Panics
/// When it has.
#[track_caller]
pub fn nothing_lost(colony: &Colony, more: &[&str]) {
    let counters = counters(colony);
    let always = ["requests_chunks_lost", "requests_unknown", "requests_bytes_unread"];
    for lost in always.iter().chain(more) {
        assert_eq!(counters[*lost], 0, "{lost}: {counters:?}");
    }
}

/// Does something while the one agent stands still, so that nobody reads what the kernel tells.
///
/// # Panics
/// When there is no agent.
#[track_caller]
pub fn unread<T>(colony: &Colony, work: impl FnOnce() -> T) -> T {
    let agent = colony.status().expect("a status").agents.first().expect("an agent").pid;
    let agent = i32::try_from(agent).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(agent, Signal::STOP).expect("it stands still");
    let done = work();
    kill_process(agent, Signal::CONT).expect("it goes on");
    done
}

//! A disk that is really full: under the agent's spool, under the colony's store, and under what a
//! question sets aside.
//!
//! Each test runs in a mount namespace of its own with a small disk in memory, which a ballast file
//! fills to the last byte. Applications are refused with the reason, nothing acknowledged is lost or
//! doubled once there is room again, nobody dies of it, and everything turned away is counted.

use coral_model::view::{Row, StatusRow};
use coral_tests::ledger::BATCH;
use coral_tests::namespace::{fill_disk, mount_small_disk, privately};
use coral_tests::{Colony, Ledger, grpc, otlp, until};
use prost::Message as _;

const HOUR: &[&str] = &["--since", "1h"];

/// The pids of daemon and agent.
fn pids(colony: &Colony) -> (u32, u32) {
    until("daemon and agent", || {
        let status = colony.status()?;
        let agent = status.agents.first().map(|agent| agent.pid).ok_or("no agent")?;
        Ok((status.pid, agent))
    })
}

fn counter(status: &StatusRow, name: &str) -> u64 {
    let agents = status.agents.iter().filter_map(|agent| agent.counters.get(name)).sum::<u64>();
    agents + status.counters.get(name).copied().unwrap_or_default()
}

/// Waits for an event whose text holds all of these.
fn told(colony: &Colony, kind: &str, words: &[&str]) {
    until(&format!("the event {kind} with {words:?}"), || {
        let rows = colony.query(&["events", "--since", "1h", "--limit", "1000"])?;
        let texts: Vec<String> = rows
            .iter()
            .filter_map(|row| if let Row::Event(event) = row { Some(event) } else { None })
            .map(|event| format!("{}: {}", event.kind, event.text))
            .collect();
        let is = |text: &&String| text.starts_with(kind) && words.iter().all(|w| text.contains(w));
        if texts.iter().any(|text| is(&text)) { Ok(()) } else { Err(texts.join("\n")) }
    });
}

fn a_full_spool_disk() {
    let mut colony = Colony::prepare();
    let spool = colony.data().join("agent/spool");
    mount_small_disk(&spool, 32 << 20);
    colony.up();
    let (daemon, agent) = pids(&colony);
    let mut ledger = Ledger::new("shop", 1);
    ledger.keep(&colony.otlp_http, 5);

    let ballast = spool.join("ballast");
    fill_disk(&ballast, 0);
    // What fits into the last page begun is still taken.
    let refused = until("the first refusal", || {
        let said = ledger.send(&colony.otlp_http)?;
        if said.status == 200 { Err(format!("{said:?}")) } else { Ok(said) }
    });
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.body.contains("spool"), "{refused:?}");
    let body = grpc::frame(0, &otlp::server_spans("shop", 2, 0, 1000).encode_to_vec());
    let refused = grpc::call(&colony.otlp_grpc, grpc::TRACES, &[], body).unwrap();
    assert_eq!(refused.code, 14, "UNAVAILABLE: {refused:?}");
    assert!(refused.message.contains("spool"), "{refused:?}");
    until("the refusals to be counted and shown", || {
        let status = colony.status()?;
        let n = counter(&status, "requests_refused_spool");
        let full = counter(&status, "spool_disk_full");
        if n >= 2 && full == 1 { Ok(()) } else { Err(format!("{n} refused, full: {full}")) }
    });
    told(&colony, "near_bound", &["disk", "spool"]);
    told(&colony, "dropped", &["requests_refused_spool"]);
    assert_eq!(pids(&colony), (daemon, agent), "both live");

    // An agent that dies now comes back, and goes on refusing until there is room.
    Colony::kill(agent);
    (colony.otlp_grpc, colony.otlp_http) = until("the agent to be back", || {
        let (_, now) = pids(&colony);
        if now == agent { Err("still the old one".to_owned()) } else { colony.endpoints() }
    });
    let said = ledger.send(&colony.otlp_http).unwrap();
    assert_eq!(said.status, 429, "{said:?}");

    std::fs::remove_file(&ballast).unwrap();
    ledger.keep(&colony.otlp_http, 5);
    ledger.verify(&colony, HOUR);
}

#[test]
fn a_full_disk_under_the_spool_refuses_and_recovers() {
    privately("a_full_disk_under_the_spool_refuses_and_recovers", a_full_spool_disk);
}

/// A request of one log line that no compression makes smaller.
fn incompressible(bytes: usize) -> Vec<u8> {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    let mut noise = vec![0; bytes];
    getrandom::fill(&mut noise).unwrap();
    let body = Some(AnyValue { value: Some(Value::BytesValue(noise)) });
    let log_records =
        vec![LogRecord { time_unix_nano: otlp::now_ns(), body, ..Default::default() }];
    let scope_logs = vec![ScopeLogs { log_records, ..Default::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..Default::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

fn a_full_store_disk() {
    let mut colony = Colony::prepare();
    let store = colony.data().join("store");
    mount_small_disk(&store, 96 << 20);
    colony.up();
    let (daemon, agent) = pids(&colony);
    let mut ledger = Ledger::new("shop", 3);
    ledger.keep(&colony.otlp_http, 5);
    let first = u64::from(5 * BATCH);
    until("the first batches", || match ledger.counted(&colony, HOUR)? {
        n if n == first => Ok(()),
        n => Err(n.to_string()),
    });

    // Less than the disk's last tenth is free after this line; writing it fails in the middle.
    let ballast = store.join("ballast");
    fill_disk(&ballast, 10 << 20);
    let headers = [("content-type", "application/x-protobuf")];
    let line = incompressible(14 << 20);
    let said = otlp::post(&colony.otlp_http, "/v1/logs", &headers, &line).unwrap();
    assert_eq!(said.status, 200, "the spool lies on another disk: {said:?}");
    until("a commit to fail", || {
        let status = colony.status()?;
        let names = ["commits_failed", "store_reopened", "commits_refused_disk_full"];
        let counts = names.map(|name| counter(&status, name));
        if counts.iter().any(|n| *n > 0) { Ok(()) } else { Err(format!("{counts:?}")) }
    });
    for round in 0..3 {
        // To the last byte, whatever was cut off or truncated meanwhile.
        fill_disk(&ballast, 0);
        ledger.keep(&colony.otlp_http, 5);
        until("the full disk to be shown", || {
            let status = colony.status()?;
            let n = counter(&status, "commits_refused_disk_full");
            let says = status.blind.iter().any(|line| line.contains("disk"));
            if n > 0 && says { Ok(()) } else { Err(format!("{n} refused; {:?}", status.blind)) }
        });
        // What is stored can still be asked for.
        until("an answer on a full disk", || match ledger.counted(&colony, HOUR)? {
            n if n >= first => Ok(()),
            n => Err(n.to_string()),
        });
        assert_eq!(pids(&colony), (daemon, agent), "both live in round {round}");
        std::fs::remove_file(&ballast).unwrap();
        ledger.verify(&colony, HOUR);
    }
    told(&colony, "near_bound", &["disk", "% full"]);
    let damaged = counter(&colony.status().unwrap(), "store_damaged");
    assert_eq!(damaged, 0, "a full disk is no damage");
    let logs = until("the long line", || {
        let rows = colony.query(&["logs", "--since", "1h", "--limit", "10"])?;
        if rows.is_empty() { Err("none".to_owned()) } else { Ok(rows.len()) }
    });
    assert_eq!(logs, 1);
}

#[test]
fn a_full_disk_under_the_store_loses_and_doubles_nothing() {
    privately("a_full_disk_under_the_store_loses_and_doubles_nothing", a_full_store_disk);
}

fn a_question_on_a_full_disk() {
    let mut colony = Colony::prepare();
    mount_small_disk(&colony.data().join("store/tmp"), 8 << 20);
    colony.up();
    let was = pids(&colony);
    let mut ledger = Ledger::new("shop", 5);
    ledger.keep(&colony.otlp_http, 5);
    // In order, sixty million numbers are more than the store's memory holds.
    let sorted = "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY hash(range)) AS n \
                  FROM range(60000000))";
    let said = colony.coral(&["query", "sql", sorted]);
    assert_ne!(said.code, 0, "{said:?}");
    assert!(said.err.contains("the disk is full") && said.err.contains("make room"), "{said:?}");
    ledger.keep(&colony.otlp_http, 5);
    ledger.verify(&colony, HOUR);
    assert_eq!(pids(&colony), was, "both live");
    let damaged = counter(&colony.status().unwrap(), "store_damaged");
    assert_eq!(damaged, 0, "a full disk is no damage");
}

#[test]
fn a_full_disk_under_a_question_stops_that_question() {
    privately("a_full_disk_under_a_question_stops_that_question", a_question_on_a_full_disk);
}

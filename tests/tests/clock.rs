//! A clock that jumps while everything runs: an hour ahead, then an hour behind.
//!
//! Daemon and agent run under Debian's libfaketime, which moves their wall clock by a file that
//! changes while they run, and leaves the steady clock alone. The sender's clock stays right.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use coral_model::view::{EventKind, EventRow, Row};
use coral_tests::{Colony, Ledger, otlp, until};

/// Where Debian's libfaketime is.
fn faketime() -> PathBuf {
    let libs = std::fs::read_dir("/usr/lib").expect("/usr/lib").flatten().map(|e| e.path());
    let at = |lib: PathBuf| lib.join("faketime/libfaketimeMT.so.1");
    libs.map(at).find(|path| path.exists()).expect(
        "libfaketime is missing: run tools/services.sh, or install Debian's package libfaketime",
    )
}

/// Sets the clock of everybody who reads this file.
fn set(file: &Path, offset: &str) {
    // In one step: a half-written file would be a third time.
    let next = file.with_extension("next");
    std::fs::write(&next, format!("{offset}\n")).unwrap();
    std::fs::rename(&next, file).unwrap();
}

fn events(colony: &Colony, window: &[&str]) -> Result<Vec<EventRow>, String> {
    let rows = colony.query(&[&["events", "--limit", "1000"], window].concat())?;
    let event = |row| if let Row::Event(event) = row { Some(*event) } else { None };
    Ok(rows.into_iter().filter_map(event).collect())
}

/// Waits until both the colony and the host's agent have told of a jump that way.
fn jumped(colony: &Colony, window: &[&str], colony_says: &str, agent_says: &str) {
    until(&format!("events of a jump: {colony_says:?}, {agent_says:?}"), || {
        let texts: Vec<String> = events(colony, window)?
            .into_iter()
            .filter(|event| event.kind == EventKind::ClockJumped)
            .map(|event| event.text)
            .collect();
        let told = |words: &str| texts.iter().any(|text| text.contains(words));
        if told(colony_says) && told(agent_says) { Ok(()) } else { Err(format!("{texts:?}")) }
    });
}

#[test]
fn a_jump_of_an_hour_either_way_loses_and_doubles_nothing() {
    let now = coral_model::Time(otlp::now_ns());
    let hours = |n: u64| n * 3600 * coral_model::time::SECOND;
    let (from, to) = (now.minus(hours(3)).to_string(), now.plus(hours(3)).to_string());
    let window = ["--from", &from, "--to", &to];
    let colony = Colony::prepare();
    let clock = colony.dir().join("clock");
    set(&clock, "+0");
    let mut colony = colony
        .with_env("LD_PRELOAD", faketime().display().to_string())
        .with_env("FAKETIME_TIMESTAMP_FILE", clock.display().to_string())
        .with_env("FAKETIME_NO_CACHE", "1")
        .with_env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .with_env("FAKETIME_DONT_RESET", "1");
    colony.up();
    let pids = |colony: &Colony| {
        let status = colony.status().unwrap();
        (status.pid, status.agents.first().map(|agent| agent.pid))
    };
    let born = pids(&colony);

    let ledger = Arc::new(Mutex::new(Ledger::new("clockwork", 0xc10c)));
    let stop = Arc::new(AtomicBool::new(false));
    let sender = std::thread::spawn({
        let (ledger, stop, to) = (Arc::clone(&ledger), Arc::clone(&stop), colony.otlp_http.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                // Whatever comes of it is in the ledger.
                _ = ledger.lock().unwrap().send(&to);
                // A rate the store keeps up with; the wait is load, not a result waited for.
                std::thread::sleep(std::time::Duration::from_millis(15));
            }
        }
    });
    let flows = |what: &str| {
        let wanted = ledger.lock().unwrap().kept.len() + 50;
        until(&format!("load to flow {what}"), || {
            let kept = ledger.lock().unwrap().kept.len();
            if kept >= wanted { Ok(()) } else { Err(format!("{kept} of {wanted}")) }
        });
        // Questions are answered with what is in by now.
        until(&format!("an answer {what}"), || {
            let counted = ledger.lock().unwrap().counted(&colony, &window)?;
            if counted > 0 { Ok(()) } else { Err("no requests".to_owned()) }
        });
    };
    flows("before any jump");
    set(&clock, "+1h");
    jumped(&colony, &window, "jumped by +", "forward by");
    flows("an hour ahead");
    set(&clock, "-1h");
    jumped(&colony, &window, "jumped by -", "back by");
    flows("an hour behind");
    set(&clock, "+0");
    flows("when the clock is right again");
    stop.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    assert_eq!(pids(&colony), born, "nobody died of it");
    ledger.lock().unwrap().verify(&colony, &window);

    // The order of commits held: whoever follows events gets each once, as they were committed.
    let all = events(&colony, &window).unwrap();
    let jumps = all.iter().filter(|event| event.kind == EventKind::ClockJumped).count();
    assert!(jumps >= 4, "{jumps} jumps told: {all:?}");
    let status = colony.status().unwrap();
    for counter in ["commits_failed", "records_damaged", "store_reopened"] {
        assert_eq!(status.counters.get(counter).copied().unwrap_or(0), 0, "{counter}");
    }
}

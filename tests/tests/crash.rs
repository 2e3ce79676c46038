//! Nothing acknowledged is lost or doubled, whoever is killed and whenever.
//!
//! Seeded rounds of `kill -9` under load: 20 in `make test`, 200 in `make soak`. The sender keeps
//! what was acknowledged and what never was; at the end every acknowledged span is stored once, every
//! unacknowledged one at most once, and RED counts exactly what is stored.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use coral_model::dice::Dice;
use coral_tests::{Colony, Ledger, until};

const MARK: u32 = 0xdead;

/// Which of the victims dies.
fn kill_one(colony: &Colony, dice: &mut Dice) -> Result<(), String> {
    let status = colony.status()?;
    let agent = status.agents.first().map(|agent| agent.pid).ok_or("no agent")?;
    let victims: &[u32] = match dice.below(3) {
        0 => &[agent],
        1 => &[status.pid],
        _ => &[agent, status.pid],
    };
    victims.iter().for_each(|&pid| Colony::kill(pid));
    Ok(())
}

/// Files that hold what was sealed.
fn sealed_files(dir: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let count = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => sealed_files(&path),
        path => usize::from(path.extension().is_some_and(|end| end == "parquet")),
    };
    entries.map(count).sum()
}

fn rounds(count: u32, seed: u64) {
    // Shown when the test fails.
    eprintln!("seed {seed}");
    // Pieces of a second: at almost every moment something is being sealed, merged or recorded.
    let mut colony = Colony::prepare().with_env("CORAL_SLICE_AGE", "1s");
    colony.up();
    let ledger = Arc::new(Mutex::new(Ledger::new("ledger", MARK)));
    let address = Arc::new(Mutex::new(colony.otlp_http.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let sender = std::thread::spawn({
        let (ledger, address, stop) =
            (Arc::clone(&ledger), Arc::clone(&address), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                let to = address.lock().unwrap().clone();
                // Whatever comes of it is in the ledger.
                _ = ledger.lock().unwrap().send(&to);
                // A rate the store keeps up with; the wait is load, not a result waited for.
                std::thread::sleep(std::time::Duration::from_millis(15));
            }
        }
    });

    let mut dice = Dice(seed);
    for round in 0..count {
        let before = ledger.lock().unwrap().kept.len();
        let wanted = before + 1 + usize::try_from(dice.below(40)).unwrap_or(1);
        until(&format!("load to flow in round {round} of seed {seed}"), || {
            // The one who was killed is brought back by its colony, or by the next `coral up`.
            if let Ok((_, http)) = colony.endpoints() {
                *address.lock().unwrap() = http;
            }
            let kept = ledger.lock().unwrap().kept.len();
            if kept >= wanted { Ok(()) } else { Err(format!("{kept} of {wanted}")) }
        });
        kill_one(&colony, &mut dice).unwrap_or_else(|error| panic!("round {round}: {error}"));
        colony.up();
        address.lock().unwrap().clone_from(&colony.otlp_http);
    }
    stop.store(true, Ordering::Relaxed);
    sender.join().unwrap();

    assert!(sealed_files(colony.dir()) > 0, "nothing was sealed");
    ledger.lock().unwrap().verify(&colony, &["--since", "1h"]);
}

#[test]
fn twenty_rounds_of_kill_9_lose_and_double_nothing() {
    for seed in [7, 1234] {
        rounds(10, seed);
    }
}

#[test]
#[ignore = "make soak"]
fn soak_two_hundred_rounds_of_kill_9() {
    for seed in 0..20 {
        rounds(10, 0x9e37_79b9 + seed);
    }
}

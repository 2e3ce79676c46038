//! The store from outside: how long what is kept, changed while the colony runs; files that rot under it.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use coral_model::view::{EventKind, Row};
use coral_tests::ledger::{BATCH, Ledger};
use coral_tests::{Colony, until};

const HOUR: &[&str] = &["--since", "1h"];

/// Sealed files of a signal, oldest first.
fn sealed(segments: &Path, signal: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(segments).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(signal) && name.ends_with(".parquet")
    });
    files.sort();
    files
}

#[test]
fn spans_go_when_their_time_is_cut_and_requests_stay_counted() {
    let mut colony = Colony::prepare().with_env("CORAL_SLICE_AGE", "1s");
    colony.up();
    let segments = colony.data().join("store/segments");
    let mut ledger = Ledger::new("shop", 7);
    ledger.keep(&colony.otlp_http, 5);
    ledger.verify(&colony, HOUR);
    until("spans to be sealed", || match sealed(&segments, "spans-rows").len() {
        0 => Err("no file yet".to_owned()),
        _ => Ok(()),
    });

    let told = colony.coral(&["config", "set", "retention.spans", "2s"]).ok();
    assert!(told.out.contains("retention.spans = 2s"), "{}", told.out);
    let told = colony.coral(&["config", "explain", "retention.spans"]).ok();
    assert!(told.out.contains("over 7d from default"), "{}", told.out);
    until("old spans to be gone, without a restart", || {
        // Pieces end when something is committed after their time.
        _ = ledger.send(&colony.otlp_http);
        let stored = ledger.stored(&colony, HOUR)?;
        let old = stored.keys().filter(|n| **n < 5 * BATCH).count();
        if old == 0 { Ok(()) } else { Err(format!("{old} old spans")) }
    });
    until("their files to be gone", || {
        _ = ledger.send(&colony.otlp_http);
        let old = sealed(&segments, "spans-rows").len();
        if old <= 4 { Ok(()) } else { Err(format!("{old} files")) }
    });
    let kept = u64::try_from(ledger.kept.len()).unwrap() * u64::from(BATCH);
    until("every request to stay counted", || match ledger.counted(&colony, HOUR)? {
        n if n == kept => Ok(()),
        n => Err(format!("{n} of {kept}")),
    });

    let refused = colony.coral(&["config", "set", "retention.spans", "soon"]);
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("retention.spans"), "{}", refused.err);
}

#[test]
fn a_file_that_rots_costs_its_own_rows_and_is_told() {
    let mut colony = Colony::prepare().with_env("CORAL_SLICE_AGE", "1s");
    colony.up();
    let segments = colony.data().join("store/segments");
    let mut ledger = Ledger::new("shop", 7);
    ledger.keep(&colony.otlp_http, 5);
    ledger.verify(&colony, HOUR);
    let victim = until("spans to be sealed", || {
        _ = ledger.send(&colony.otlp_http);
        sealed(&segments, "spans-rows").first().cloned().ok_or_else(|| "no file yet".to_owned())
    });
    let mut file = std::fs::File::options().write(true).open(&victim).unwrap();
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(4)).unwrap();
    let noise = vec![0xff; usize::try_from(length / 2).unwrap()];
    file.write_all(&noise).unwrap();
    drop(file);

    // The first answer after it is whole but for what is gone: nobody has to ask twice.
    let traces = colony.coral(&["query", "traces", "--since", "1h", "--json"]).ok();
    assert!(traces.rows().is_ok(), "{}", traces.err);
    let lost = until("an event about it", || {
        // Whoever reads the file again finds it; what is in memory does not read it.
        _ = ledger.stored(&colony, HOUR)?;
        let rows = colony.query(&["events", "--since", "1h"])?;
        let told = rows.iter().find_map(|row| match row {
            Row::Event(event) if event.kind == EventKind::StoreDamaged => Some(event.text.clone()),
            _ => None,
        });
        told.ok_or_else(|| format!("{} events", rows.len()))
    });
    assert!(lost.contains("set aside") && lost.contains("not shown"), "{lost}");
    // What comes after is kept as ever.
    let before = ledger.stored(&colony, HOUR).unwrap().len();
    ledger.keep(&colony.otlp_http, 3);
    until("later spans beside those that are left", || {
        let now = ledger.stored(&colony, HOUR)?.len();
        if now > before { Ok(()) } else { Err(format!("{now} of more than {before}")) }
    });
}

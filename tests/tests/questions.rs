//! What is asked in an incident, of a small shop whose payments got worse with v42.

use coral_model::view::Row;
use coral_tests::small_shop::{self, AHEAD, MS, id};
use coral_tests::until;

/// Every file below a folder.
fn files_below(dir: &std::path::Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => files_below(&path, found),
            path => found.push(path.display().to_string()),
        }
    }
}

#[test]
fn the_questions_of_an_incident_are_answered() {
    let colony = small_shop::open();
    // Which build is worse, and is that chance?
    let row = until("the requests of both builds", || {
        let rows = colony.query(&["red", "service=payments", "--compare", "build"])?;
        match rows.as_slice() {
            [Row::Red(row)] if row.red.requests == 61 => Ok(row.clone()),
            other => Err(format!("{other:?}")),
        }
    });
    let baseline = row.baseline.as_ref().unwrap();
    let versions = baseline.versions.as_ref().unwrap();
    assert_eq!((versions.from.as_str(), versions.to.as_str()), ("v41", "v42"));
    let marked: Vec<&str> =
        baseline.shifts.iter().filter(|s| s.significant).map(|s| s.what.word()).collect();
    assert_eq!(marked, ["errors", "p50"], "{baseline:?}");
    let table =
        colony.coral(&["query", "red", "service=payments", "--compare=build:v41..v42"]).ok();
    assert!(table.out.contains("v41→v42") && table.out.contains("pt*"), "{}", table.out);

    // What is unusual?
    let rows = colony.query(&["traces", "--rank", "unusual"]).unwrap();
    let told: Vec<String> = rows
        .iter()
        .filter_map(|r| if let Row::Trace(t) = r { Some(t) } else { None })
        .map(|t| format!("{} {}", t.trace_id, t.unusual.join("; ")))
        .collect();
    let about =
        |trace: u32, text: &str| told.iter().any(|t| t.starts_with(&id(trace)) && t.contains(text));
    assert!(about(300, "payments POST /charge took 5"), "{told:?}");
    assert!(about(301, "does not call"), "{told:?}");

    // One trace: the clock of payments' host is put right, the time is accounted for, its log is there.
    let rows = colony.query(&["trace", &id(7)]).unwrap();
    let Some(Row::TraceHead(head)) = rows.first() else { panic!("{rows:?}") };
    let clock = &head.clocks[0];
    assert_eq!((clock.host.as_str(), clock.shift_ns, clock.spans), ("web-2", -(AHEAD as i64), 1));
    let spans: Vec<_> =
        rows.iter().filter_map(|r| if let Row::Span(s) = r { Some(s) } else { None }).collect();
    let critical: u64 = spans.iter().map(|s| s.critical_ns).sum();
    assert_eq!((spans.len(), critical, head.duration_ns), (3, 44 * MS, 44 * MS));
    assert_eq!(head.critical[0].operation, "POST /charge");
    let logs = rows.iter().filter(|r| matches!(r, Row::Log(_))).count();
    assert_eq!((head.logs, logs), (1, 1));
    let text = colony.coral(&["query", "trace", &id(7)]).ok().out;
    assert!(text.contains("clock of web-2 was 3.00s ahead") && text.contains("█"), "{text}");

    // Who calls payments?
    let rows = until("the edge", || {
        let rows = colony.query(&["topology", "--of", "payments", "--upstream", "--depth", "1"])?;
        if rows.iter().any(|r| matches!(r, Row::Edge(_))) {
            Ok(rows)
        } else {
            Err(format!("{rows:?}"))
        }
    });
    let hops: Vec<(String, Option<i32>)> = rows
        .iter()
        .filter_map(|r| if let Row::Node(n) = r { Some((n.name.clone(), n.hop)) } else { None })
        .collect();
    assert_eq!(hops, [("payments".to_owned(), Some(0)), ("gateway".to_owned(), Some(-1))]);

    // What did payments log around its error?
    let error = colony.query(&["logs", "level=error"]).unwrap();
    let [Row::Log(error)] = error.as_slice() else { panic!("{error:?}") };
    let record = error.id.to_string();
    let rows = colony.query(&["logs", "--around", &record, "--lines", "2"]).unwrap();
    let around: Vec<(Option<i64>, &str)> = rows
        .iter()
        .filter_map(|r| if let Row::Log(l) = r { Some((l.offset, l.body.as_str())) } else { None })
        .collect();
    assert_eq!(around.len(), 5, "{around:?}");
    assert_eq!(around[2], (Some(0), "line 7 of payments"));
    assert_eq!((around[0], around[4].0), ((Some(-2), "line 5 of payments"), Some(2)));
    let gone = colony.coral(&[
        "query",
        "logs",
        "--around",
        "1795356151123000000-00000000",
        "--lines",
        "2",
    ]);
    assert!(gone.err.contains("there is no log record") && gone.code == 6, "{gone:?}");

    // Metrics by label, restarts and all.
    let rows =
        colony.query(&["metrics", "shop.hits", "--measure", "sum", "--by", "http.route"]).unwrap();
    let sums: Vec<Option<f64>> = rows
        .iter()
        .filter_map(|r| if let Row::Metric(m) = r { Some(m.value) } else { None })
        .collect();
    assert_eq!(sums, [Some(30.0), Some(30.0)], "{rows:?}");
    let labels = colony.coral(&["query", "metrics", "shop.hits", "--measure", "labels"]).ok().out;
    assert!(labels.contains("http.route") && labels.contains("/cart (1)"), "{labels}");

    // Names of every signal complete.
    let words = colony.coral(&["complete-filter", "thread"]).ok().out;
    assert_eq!(words, "thread.name=\n");

    // The records themselves, and nothing left behind.
    let file = colony.dir().join("spans.parquet");
    let path = file.display().to_string();
    let saved = colony.coral(&["query", "traces", "error=true", "--parquet", &path]).ok();
    assert!(saved.err.contains("of spans"), "{}", saved.err);
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    let piped = colony.command(&["query", "logs", "--parquet", "-"]).output().unwrap();
    assert!(piped.status.success() && piped.stdout.starts_with(b"PAR1"));
    let mut left = Vec::new();
    files_below(&colony.data(), &mut left);
    assert!(left.iter().any(|f| f.contains("telemetry.duckdb")), "{left:?}");
    left.retain(|file| file.contains("export-"));
    assert!(left.is_empty(), "{left:?}");
    let refused = colony.coral(&["query", "hosts", "--parquet", &path]);
    assert_eq!(refused.code, 2, "{refused:?}");
    // What is there already stays, unless somebody says otherwise.
    let again = colony.coral(&["query", "traces", "--parquet", &path]);
    assert_eq!(again.code, 2, "{again:?}");
    assert!(
        again.err.contains("is there already") && again.err.contains("--force"),
        "{}",
        again.err
    );
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "a refusal leaves the file alone");
    _ = colony.coral(&["query", "traces", "--parquet", &path, "--force"]).ok();
    assert_ne!(std::fs::read(&file).unwrap(), bytes);
}

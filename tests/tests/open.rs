//! Files in the same screens: OTLP/JSON, logs and profiles, plain and compressed; and what is said of
//! those that are none.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use coral_tests::colony::bin_dir;
use coral_tests::{Colony, Terminal, otlp};

/// A folder that is `TMPDIR` for what is opened, so that a test sees what is left of it.
struct Desk {
    dir: tempfile::TempDir,
}

/// What a run of `coral open` gave.
struct Opened {
    code: i32,
    out: String,
    err: String,
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("coral-test-").tempdir().unwrap() }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    fn open(&self, name: &str) -> Opened {
        let path = self.dir.path();
        let output = Command::new(bin_dir().join("coral"))
            .arg("open")
            .arg(path.join(name))
            .env("TMPDIR", path)
            .env("XDG_CONFIG_HOME", path.join("config"))
            .env("XDG_STATE_HOME", path.join("state"))
            .env("CORAL_DATA_DIR", path.join("nobody"))
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .output()
            .expect("coral runs");
        Opened {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Nothing of a private colony may stay: no folder, no process.
    fn is_clean(&self) {
        assert_eq!(left(self.dir.path()), Vec::<String>::new());
    }
}

fn left(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().flatten();
    let names = names.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("coral-open-")).collect()
}

/// Requests of two services as the collector's file exporter writes them: an object a line.
fn traces() -> String {
    let mut text = String::new();
    for (service, mark) in [("payments", 1), ("cart", 2)] {
        for batch in 0..3 {
            let request = otlp::server_spans(service, mark, batch * 20, 20);
            text.push_str(&serde_json::to_string(&request).unwrap());
            text.push('\n');
        }
    }
    text
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

#[test]
fn traces_of_a_file_are_a_colony_of_their_own() {
    let desk = Desk::new();
    desk.write("traces.jsonl", traces().as_bytes());
    desk.write("traces.json.gz", &gzip(traces().as_bytes()));
    for name in ["traces.jsonl", "traces.json.gz"] {
        let opened = desk.open(name);
        assert_eq!(opened.code, 0, "{}\n{}", opened.out, opened.err);
        let head = opened.out.lines().next().unwrap_or_default();
        assert!(head.starts_with(&format!("FILE {name} · 120 spans · ")), "{head}");
        assert!(opened.out.contains("SERVICES") && opened.out.contains("TRACES"), "{}", opened.out);
        let payments = opened.out.lines().find(|l| l.contains("payments")).unwrap_or_default();
        assert!(payments.contains("10.0%") || payments.contains("10%"), "{}", opened.out);
        desk.is_clean();
    }
    // One object, over many lines.
    let request = otlp::server_spans("payments", 1, 0, 20);
    desk.write("one.json", serde_json::to_string_pretty(&request).unwrap().as_bytes());
    let opened = desk.open("one.json");
    assert!(
        opened.out.starts_with("FILE one.json · 20 spans · "),
        "{}\n{}",
        opened.out,
        opened.err
    );
}

#[test]
fn the_screen_over_a_file_says_that_it_is_one() {
    let colony = Colony::start();
    std::fs::write(colony.dir().join("traces.jsonl"), traces()).unwrap();
    let command = format!("cd {0} && TMPDIR={0} coral open ./traces.jsonl", colony.dir().display());
    let mut terminal = Terminal::shell(&colony, &command, 120, 36);
    _ = terminal.wait_for("FILE traces.jsonl");
    _ = terminal.wait_for("payments");
    terminal.keys("q");
    assert_eq!(terminal.wait_exit(), 0);
    assert_eq!(left(colony.dir()), Vec::<String>::new());
}

#[test]
fn logs_are_read_with_their_levels_and_times() {
    let desk = Desk::new();
    let text = "2026-11-20 10:00:00,100 INFO started\n2026-11-20 10:00:01,200 ERROR pool exhausted\n\
                java.lang.X: no\n\tat a.B(C.java:1)\n{\"level\":\"warn\",\"msg\":\"slow\",\"time\":\"2026-11-20T10:00:02Z\"}\n";
    desk.write("payments.log.zst", &zstd::encode_all(text.as_bytes(), 3).unwrap());
    let opened = desk.open("payments.log.zst");
    assert_eq!(opened.code, 0, "{}\n{}", opened.out, opened.err);
    assert!(
        opened.out.starts_with("FILE payments.log.zst · 4 log records · 2026-11-20"),
        "{}",
        opened.out
    );
    assert!(opened.out.contains("times without a zone were read as UTC"), "{}", opened.out);
    for text in ["pool exhausted", "10:00:01", "error", "slow", "payments"] {
        assert!(opened.out.contains(text), "{text} in {}", opened.out);
    }
    desk.is_clean();
}

#[test]
fn what_cannot_be_read_is_named_with_its_place() {
    let desk = Desk::new();
    let lines = traces();
    let broken: String = lines.lines().take(2).map(|l| format!("{l}\n")).collect();
    desk.write("broken.jsonl", format!("{broken}{{\"resourceSpans\": [nonsense]}}\n").as_bytes());
    let mut cut = gzip(lines.as_bytes());
    cut.truncate(cut.len() / 2);
    desk.write("cut.json.gz", &cut);
    desk.write("binary.dat", b"abc\0def");
    desk.write("empty.log", b"");
    for (name, says) in [
        ("broken.jsonl", vec!["line 3", "column", "expected"]),
        ("cut.json.gz", vec!["gzip"]),
        ("binary.dat", vec!["byte 3 is 0x00", "expected text"]),
        ("empty.log", vec!["is empty"]),
    ] {
        let opened = desk.open(name);
        assert_eq!(opened.code, 5, "{name}: {}\n{}", opened.out, opened.err);
        for text in says {
            assert!(opened.err.contains(text), "{name}: {text} in {}", opened.err);
        }
    }
    desk.is_clean();
}

#[test]
fn a_profile_is_printed() {
    let desk = Desk::new();
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/pprof/");
    for name in ["small", "small.gz"] {
        desk.write(&format!("cpu.{name}"), &std::fs::read(format!("{corpus}{name}")).unwrap());
        let opened = desk.open(&format!("cpu.{name}"));
        assert_eq!(opened.code, 0, "{}", opened.err);
        assert!(opened.out.contains("work") && opened.out.contains("100.0%"), "{}", opened.out);
    }
    desk.write("bad.gz", &gzip(&[0x0a, 4, 8, 1, 0x10, 2, 0x12, 9]));
    let opened = desk.open("bad.gz");
    assert!(opened.code == 5 && opened.err.contains("pprof"), "{} {}", opened.code, opened.err);
}

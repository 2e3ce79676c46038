//! Every example in the README and in docs/ runs.
//!
//! An example is a line that starts with `coral ` inside a ```sh block. It runs in a shell, as it
//! stands, against a colony with data in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use coral_tests::colony::bin_dir;
use coral_tests::{Colony, Terminal, otlp, until};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the project").to_owned()
}

/// `(file, line number, command)` of every example.
fn examples() -> Vec<(String, usize, String)> {
    let mut files = vec![root().join("README.md")];
    files
        .extend(std::fs::read_dir(root().join("docs")).expect("docs/").flatten().map(|e| e.path()));
    files.retain(|path| path.extension().is_some_and(|e| e == "md"));
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a page");
        let mut inside = false;
        for (n, line) in text.lines().enumerate() {
            if let Some(fence) = line.trim_start().strip_prefix("```") {
                inside = !inside && fence == "sh";
            } else if inside && line.starts_with("coral ") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                found.push((name, n + 1, line.to_owned()));
            }
        }
    }
    found
}

/// What leaves the colony as other examples need it goes last.
fn ends_the_colony(command: &str) -> bool {
    command.starts_with("coral down") || command.starts_with("coral uninstall")
}

#[test]
fn every_example_runs() {
    let mut examples = examples();
    assert!(examples.len() >= 10, "the pages have examples: {examples:?}");
    examples.sort_by_key(|(_, _, command)| ends_the_colony(command));
    let colony = Colony::start();
    for service in ["payments", "checkout", "gateway"] {
        let request = otlp::server_spans(service, 1, 0, 50);
        assert!(otlp::post_spans(&colony.otlp_http, &request).unwrap());
    }
    until("the data the examples ask about", || {
        let out = colony.coral(&["query", "services"]).out;
        if out.contains("payments") { Ok(()) } else { Err(out) }
    });
    let mut failed = Vec::new();
    for (file, line, command) in examples {
        // A command that never ends by itself is given a moment and then interrupted.
        let endless = command.contains("--follow") || command.starts_with("coral tail");
        let script = if endless { format!("timeout -s INT 2 {command}") } else { command.clone() };
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(colony.dir())
            .envs(colony.env())
            .env("PATH", format!("{}:{path}", bin_dir().display()))
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let code = output.status.code().unwrap_or(-1);
        // 1: done, and something is unhealthy; 6: answered, and something could not be seen.
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        if err.contains("needs a terminal") {
            // The screen: given one, it draws and leaves at `q`.
            let mut terminal = Terminal::shell(&colony, &command, 80, 24);
            _ = terminal.wait_for("? keys");
            terminal.keys("q");
            assert_eq!(terminal.wait_exit(), 0, "{command}");
            continue;
        }
        let fine = matches!(code, 0 | 1 | 6) || (endless && matches!(code, 124 | 130));
        if !fine {
            failed.push(format!("{file}:{line}: {command}\n  exit {code}: {err}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

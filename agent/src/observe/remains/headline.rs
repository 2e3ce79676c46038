//! The line that says why.

use crate::observe::logs::line::said;

/// Lines looked at, from the end.
const LOOKED_AT: usize = 100;
/// Words with which languages say that it is over.
const FATAL: [&str; 6] = [
    "panicked at",
    "panic: ",
    "fatal error: ",
    "terminate called",
    "Caused by: ",
    "Exception in thread",
];
/// OpenTelemetry's severity number of errors; higher ones are worse.
const ERROR: u8 = 17;

/// The line that most likely says why a process ended: its last error, else the last that it said.
pub(super) fn of(lines: &[&str]) -> Option<String> {
    let start = lines.len().saturating_sub(LOOKED_AT);
    let seen = lines.get(start..).unwrap_or_default();
    if let Some(at) = seen.iter().rposition(|line| is_error(line)) {
        let line = seen.get(at)?;
        // Rust says on the next line what happened.
        let next = seen.get(at + 1).filter(|_| line.contains("panicked at") && line.ends_with(':'));
        return Some(next.map_or_else(|| line.trim().to_owned(), |next| format!("{line} {next}")));
    }
    seen.last().map(|line| line.trim().to_owned())
}

fn is_error(line: &str) -> bool {
    if FATAL.iter().any(|word| line.contains(word)) {
        return true;
    }
    // `ValueError: …`, `java.lang.IllegalStateException: …`, `Error: …`; not a frame of a stack.
    let name = line.trim_start().split(':').next().unwrap_or_default();
    let named = line.contains(": ")
        && !name.contains(' ')
        && (name.ends_with("Error") || name.ends_with("Exception") || name == "error");
    named || said(line).severity >= ERROR
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_line_that_says_why_is_found_in_each_language() {
        let of = |lines: &[&str]| super::of(lines).unwrap();
        let python = [
            "Traceback (most recent call last):",
            "  File \"a.py\", line 3, in f",
            "ValueError: no stock",
        ];
        assert_eq!(of(&python), "ValueError: no stock");
        let rust = [
            "ready",
            "thread 'main' panicked at src/main.rs:3:5:",
            "no stock",
            "note: run with `RUST_BACKTRACE=1`",
        ];
        assert_eq!(of(&rust), "thread 'main' panicked at src/main.rs:3:5: no stock");
        let go = ["panic: no stock", "", "goroutine 1 [running]:", "exit status 2"];
        assert_eq!(of(&go), "panic: no stock");
        let node = [
            "throw new Error('no stock')",
            "^",
            "Error: no stock",
            "    at f (a.js:1:7)",
            "Node.js v20.20.2",
        ];
        assert_eq!(of(&node), "Error: no stock");
        let java = [
            "Exception in thread \"main\" java.lang.IllegalStateException: no stock",
            "\tat A.main(A.java:3)",
        ];
        assert_eq!(of(&java), java[0]);
        let log = ["2026-01-01T00:00:00Z ERROR cannot bind", "2026-01-01T00:00:00Z INFO bye"];
        assert_eq!(of(&log), "2026-01-01T00:00:00Z ERROR cannot bind");
        assert_eq!(of(&["fatal=0 non-fatal", "done"]), "done");
        assert_eq!(of(&["starting", "listening on 80"]), "listening on 80");
        assert_eq!(super::of(&[]), None);
    }
}

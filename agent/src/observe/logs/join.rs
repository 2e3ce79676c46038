//! Stack traces, put together again.
//!
//! Only what is simple and certain: a line that begins with a blank, or says `Caused by:` or `... 7
//! more`, goes on with what came before; after a Python traceback its last line does too. A record is
//! given away when the next one begins, or when nothing followed for a while.

use coral_model::Time;

use super::Limits;
use super::line::Stream;

/// Lines that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Their text.
    pub text: String,
    /// When the first was written, as the runtime says.
    pub time: Option<Time>,
    /// Where to.
    pub stream: Option<Stream>,
    /// Where the last one ends in its file.
    pub end: u64,
}

/// Joins the lines of one file.
#[derive(Debug, Default)]
pub struct Joiner {
    open: Option<Joined>,
    lines: usize,
    traceback: bool,
}

impl Joiner {
    /// Takes a line; gives what is complete because of it.
    pub fn line(&mut self, line: Joined, limits: Limits) -> Option<Joined> {
        if let Some(open) = &mut self.open {
            let room = self.lines < limits.joined_lines
                && open.text.len() + line.text.len() < limits.joined_bytes;
            let same = open.stream == line.stream;
            let goes = goes_on(&line.text);
            // The line that ends a traceback is the first after its indented ones.
            let indented = last_line(&open.text).starts_with(' ');
            let last = self.traceback && !goes && !line.text.is_empty() && indented;
            if same && room && (goes || last) {
                self.traceback = (self.traceback && !last) || is_traceback(&line.text);
                open.text.push('\n');
                open.text.push_str(&line.text);
                open.end = line.end;
                self.lines += 1;
                return None;
            }
        }
        self.lines = 1;
        self.traceback = is_traceback(&line.text);
        self.open.replace(line)
    }

    /// Gives away what is open.
    pub fn flush(&mut self) -> Option<Joined> {
        self.traceback = false;
        self.open.take()
    }

    /// Where what is open ends in its file.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.end)
    }

    /// Whether something is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

fn last_line(text: &str) -> &str {
    text.rsplit('\n').next().unwrap_or(text)
}

fn is_traceback(line: &str) -> bool {
    line.trim_end().ends_with("Traceback (most recent call last):")
}

fn goes_on(line: &str) -> bool {
    let more = |line: &str| {
        let rest = line.strip_prefix("... ")?;
        rest.strip_suffix(" more").map(|n| n.bytes().all(|b| b.is_ascii_digit()))
    };
    let blank = line.starts_with([' ', '\t']) && !line.trim().is_empty();
    blank || line.starts_with("Caused by: ") || more(line) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(text: &str) -> Vec<String> {
        let mut joiner = Joiner::default();
        let mut out = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let line = Joined { text: line.into(), time: None, stream: None, end: n as u64 };
            out.extend(joiner.line(line, Limits::default()));
        }
        out.extend(joiner.flush());
        out.into_iter().map(|j| j.text).collect()
    }

    #[test]
    fn java_and_python_traces_are_one_record_each() {
        let java = "ERROR boom\njava.lang.X: no\n\tat a.b(C.java:1)\nCaused by: y\n\tat d\n... 7 more\nINFO on";
        assert_eq!(joined(java).len(), 3);
        let python = "ERROR x\nTraceback (most recent call last):\n  File \"a\", line 1\n    f()\nValueError: no\nINFO on";
        let records = joined(python);
        assert_eq!(records.len(), 3);
        assert!(records[1].ends_with("ValueError: no"), "{records:?}");
        assert_eq!(joined("a\n\nb\n  \nc").len(), 5);
    }

    #[test]
    fn records_are_bounded_and_streams_apart() {
        let limits = Limits { joined_lines: 3, ..Limits::default() };
        let mut joiner = Joiner::default();
        let line = |text: &str, stream| Joined { text: text.into(), time: None, stream, end: 0 };
        assert!(joiner.line(line("a", None), limits).is_none());
        for _ in 0..2 {
            assert!(joiner.line(line(" b", None), limits).is_none());
        }
        assert_eq!(joiner.line(line(" c", None), limits).unwrap().text, "a\n b\n b");
        assert!(joiner.line(line(" d", Some(Stream::Err)), limits).is_some());
    }
}

//! What is told of what a process said last and left unanswered.

use coral_model::text::{duration, fit};
use coral_model::time::Time;
use coral_model::view::SEEN_BY;
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;

use super::output::{LINES, Line, Output};
use super::sink::Sink;
use super::{headline, tail};
use crate::observe::logs::{line, otlp};

/// Columns of the line that says why, in an event.
const HEADLINE: usize = 160;
/// Requests named one by one.
const NAMED: usize = 10;
/// Where to ask for what the journal has.
const JOURNAL: &str = "the journal: journalctl _PID=";

/// Attribute of the log records: they were said before an end.
pub const KEPT: (&str, &str) = ("coral.output", "last");

/// What a process said last and left unanswered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastWords {
    lines: Vec<Said>,
    /// Where the lines are from; a sentence where they could not be read.
    from: Vec<String>,
    missed: u64,
    /// Requests that its end left unanswered, with how long they had waited, ns; the longest first.
    pub(super) unanswered: Vec<(String, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    /// When, ns since boot; `None` where that is not known.
    at_ns: Option<u64>,
    stream: Option<line::Stream>,
    text: String,
}

/// Whose words they are.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// `service.name`.
    pub service: &'a str,
    /// `service.instance.id`.
    pub instance: Option<&'a str>,
    /// `host.name`.
    pub host: &'a str,
    /// `process.pid`.
    pub pid: u32,
}

impl LastWords {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.from.is_empty() && self.unanswered.is_empty()
    }

    /// One line, captured.
    #[cfg(test)]
    #[must_use]
    pub fn saying(line: &str) -> Self {
        let said = Said { at_ns: Some(1), stream: None, text: line.to_owned() };
        Self { lines: vec![said], ..Self::default() }
    }

    /// Requests that were left unanswered, with how long they had waited, ns; the longest first.
    #[must_use]
    pub fn leaving(unanswered: Vec<(String, u64)>) -> Self {
        Self { unanswered, ..Self::default() }
    }

    /// Reads what went to a file.
    pub(super) fn read(&mut self, sink: &Sink) {
        let number = if let Sink::File(_, number) = sink { Some(*number) } else { None };
        match sink {
            Sink::File(path, _) | Sink::Docker(path) => match tail::of(path, sink.format(), number)
            {
                Ok(lines) => {
                    let said = |text| Said { at_ns: None, stream: None, text };
                    self.lines.extend(lines.into_iter().map(said));
                    self.from.push(path.display().to_string());
                }
                Err(error) => self.from.push(format!("{}, unreadable: {error}", path.display())),
            },
            Sink::Journal => self.from.push(JOURNAL.to_owned()),
            Sink::Unreadable | Sink::Elsewhere => {}
        }
    }

    /// Takes in what was captured.
    pub(super) fn captured(&mut self, output: Output) {
        let (lines, missed) = output.end();
        self.missed = missed;
        if lines.is_empty() {
            return;
        }
        self.from.push("captured".to_owned());
        let said = |line: Line| Said {
            at_ns: Some(line.at_ns),
            stream: Some(if line.is_error { line::Stream::Err } else { line::Stream::Out }),
            text: line.text,
        };
        self.lines.extend(lines.into_iter().map(said));
        let more = self.lines.len().saturating_sub(LINES);
        self.lines.drain(..more);
    }

    /// The line that most likely says why, in quotes and short; of what was `killed` its last.
    #[must_use]
    pub fn headline(&self, killed: bool) -> Option<String> {
        let lines: Vec<&str> = self.lines.iter().map(|said| said.text.as_str()).collect();
        let last = || lines.last().map(|line| line.trim().to_owned());
        let line = if killed { last() } else { headline::of(&lines) };
        line.map(|line| format!("“{}”", fit(&line, HEADLINE)))
    }

    /// Particulars for an event about the end of process `pid`.
    #[must_use]
    pub fn attributes(&self, pid: u32) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let mut put = |key: &str, value: String| out.push((key.to_owned(), value));
        if !self.from.is_empty() {
            put("output.lines", self.lines.len().to_string());
            let from = self.from.join(" · ");
            put("output.from", from.replace(JOURNAL, &format!("{JOURNAL}{pid}")));
        }
        if self.missed > 0 {
            put("output.missed_bytes", self.missed.to_string());
        }
        if !self.unanswered.is_empty() {
            put("in_flight", self.unanswered.len().to_string());
            let named = self.unanswered.iter().take(NAMED);
            let named = named.map(|(what, ns)| format!("{what} {}", duration(*ns)));
            put("in_flight.requests", named.collect::<Vec<_>>().join(", "));
        }
        out
    }

    /// The lines as log records of the service. `ended` is when the process did, for lines without a
    /// time; `epoch_ns` what makes a time since boot Unix time.
    #[must_use]
    pub fn records(&self, whose: Whose<'_>, ended: Time, epoch_ns: u64) -> Option<ResourceLogs> {
        if self.lines.is_empty() {
            return None;
        }
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut resource = vec![pair("service.name", whose.service), pair("host.name", whose.host)];
        // The service itself has not reported.
        resource.push(pair(SEEN_BY, "ebpf"));
        resource.extend(whose.instance.map(|id| pair("service.instance.id", id)));
        let record = |said: &Said| {
            let mut more = vec![pair(KEPT.0, KEPT.1), pair("process.pid", &whose.pid.to_string())];
            more.extend(said.stream.map(|stream| pair("log.iostream", stream.word())));
            let words = line::said(&said.text);
            let at = said.at_ns.map(|at| Time(at.saturating_add(epoch_ns)));
            let time = at.or(words.time).or(Some(ended));
            otlp::record(words, time, more, ended)
        };
        let records = self.lines.iter().map(record).collect();
        Some(otlp::kept(resource, records))
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::Written;
    use super::*;

    #[test]
    fn an_event_has_the_reason_and_the_logs_have_the_lines() {
        let mut output = Output::default();
        let bytes = b"2026-01-01T00:00:00Z INFO ready\nERROR no stock\nbye";
        output.take(&Written { fd: 2, at_ns: 5, bytes, missed: 3, cut: 0 });
        let unanswered = vec![("GET /a".to_owned(), 2_000_000_000), ("GET /b".to_owned(), 1)];
        let mut words = LastWords::leaving(unanswered);
        words.captured(output);
        assert_eq!(words.headline(false).as_deref(), Some("“ERROR no stock”"));
        assert_eq!(words.headline(true).as_deref(), Some("“bye”"));
        let attributes = words.attributes(7);
        let of = |name: &str| attributes.iter().find(|(key, _)| key == name).unwrap().1.as_str();
        assert_eq!((of("output.lines"), of("output.missed_bytes")), ("3", "3"));
        assert_eq!((of("in_flight"), of("output.from")), ("2", "captured"));
        assert!(of("in_flight.requests").starts_with("GET /a 2.00s, GET /b"), "{attributes:?}");
        let whose = Whose { service: "cart", instance: Some("i"), host: "h", pid: 7 };
        let logs = words.records(whose, Time(1_000), 10).unwrap();
        let records = &logs.scope_logs[0].log_records;
        let times: Vec<u64> = records.iter().map(|record| record.time_unix_nano).collect();
        assert_eq!(times, [15, 15, 15]);
        assert_eq!(records[1].severity_number, 17);
        assert!(LastWords::default().records(whose, Time(1), 1).is_none());
    }

    #[test]
    fn what_the_journal_has_is_said_where_to_find() {
        let mut words = LastWords::default();
        words.read(&Sink::Journal);
        let attributes = words.attributes(7);
        let from = &attributes.iter().find(|(key, _)| key == "output.from").unwrap().1;
        assert_eq!(from, "the journal: journalctl _PID=7");
        assert_eq!(words.headline(false), None);
    }
}

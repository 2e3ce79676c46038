//! The journal, through `journalctl --output=json --follow`: its files are systemd's own affair.
//!
//! The child is started after the cursor that was appended last, so a restart neither skips nor
//! repeats. Its lines are bounded, what does not fit is counted; when the spool has no room nothing is
//! read, the pipe fills, and the child waits. [`entry`] reads a line and is pure.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use coral_model::Time;
use coral_model::text::count;
use coral_model::view::{EventKind, Sense, SenseState};
use coral_proto::record::Kind;
use coral_proto::v1::AgentEvent;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs};
use prost::Message as _;
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use super::otlp::{self, Pairs};
use super::places::Place;
use super::task::Shared;
use super::{From, Source, What, line};

/// Longest line of the child, in bytes: an entry with all its fields.
const LINE: usize = 1 << 20;
/// Entries of one request.
const BATCH: usize = 1_000;
/// How long a request waits for more entries.
const GATHER: Duration = Duration::from_millis(250);
/// How often places are saved.
const SAVE: Duration = Duration::from_secs(2);
/// First and longest pause before a child is started again.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Bytes kept of what the child says on standard error.
const WORDS: u64 = 4096;

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its place.
    pub cursor: String,
    /// Resource attributes.
    pub resource: Pairs,
    /// The record.
    pub record: LogRecord,
}

/// Reads a line of `journalctl --output=json` (systemd, "Journal JSON Format").
#[must_use]
pub fn entry(text: &[u8], service: Option<&str>, host: &str, now: Time) -> Option<Entry> {
    let fields: Map<String, Value> = serde_json::from_slice(text).ok()?;
    let get = |name: &str| fields.get(name).and_then(field);
    let cursor = get("__CURSOR")?;
    let time = get("_SOURCE_REALTIME_TIMESTAMP").or_else(|| get("__REALTIME_TIMESTAMP"));
    let time = time.and_then(|micros| micros.parse::<u64>().ok());
    let time = time.map(|micros| Time(micros.saturating_mul(1_000)));
    let body = get("MESSAGE").unwrap_or_default();
    let mut said = line::said(&body);
    // The journal's priority is the sender's word; a plain 6 is what everything without one gets.
    let priority = get("PRIORITY").and_then(|p| p.parse::<u8>().ok()).map(line::priority);
    said.severity = match (priority, said.severity) {
        (Some(9) | None, said) if said > 0 => said,
        (Some(priority), _) => priority,
        (None, said) => said,
    };
    let unit = get("_SYSTEMD_UNIT").or_else(|| get("_SYSTEMD_USER_UNIT"));
    let name = get("CONTAINER_NAME")
        .or_else(|| unit.as_deref().map(|u| u.strip_suffix(".service").unwrap_or(u).to_owned()))
        .or_else(|| get("SYSLOG_IDENTIFIER"))
        .or_else(|| get("_COMM"))
        .unwrap_or_else(|| "journal".to_owned());
    let mut resource: Pairs = vec![
        ("service.name".to_owned(), service.map_or(name, str::to_owned)),
        ("host.name".to_owned(), get("_HOSTNAME").unwrap_or_else(|| host.to_owned())),
    ];
    if let Some(unit) = &unit {
        resource.push(("systemd.unit".to_owned(), unit.clone()));
    }
    let mut more = Vec::new();
    for (from, to) in [
        ("_PID", "process.pid"),
        ("SYSLOG_IDENTIFIER", "syslog.identifier"),
        ("CODE_FILE", "code.file.path"),
        ("CODE_LINE", "code.line.number"),
        ("CODE_FUNC", "code.function.name"),
        ("ERRNO", "errno"),
        ("CONTAINER_ID", "container.id"),
    ] {
        more.extend(get(from).map(|value| (to.to_owned(), value)));
    }
    Some(Entry { cursor, resource, record: otlp::record(said, time, more, now) })
}

/// A field: text, bytes where it is not UTF-8, the first of several, or nothing where it was too long.
fn field(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(all) => {
            let bytes: Option<Vec<u8>> =
                all.iter().map(|b| b.as_u64().and_then(|b| u8::try_from(b).ok())).collect();
            match bytes {
                Some(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                None => all.first().and_then(field),
            }
        }
        _ => None,
    }
}

/// Follows one journal until cancelled.
pub async fn run(shared: Shared, source: Source, cancel: CancellationToken) {
    let first = shared.clone();
    _ = tokio::task::spawn_blocking(move || first.save()).await;
    let mut journal = Journal { shared, source, entries: 0, left_out: 0, failing: 0 };
    while !cancel.is_cancelled() {
        let ended = tokio::select! {
            () = cancel.cancelled() => break,
            ended = journal.follow() => ended,
        };
        let pause = journal.failed(&ended);
        tokio::select! {
            () = cancel.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    let shared = journal.shared.clone();
    _ = tokio::task::spawn_blocking(move || shared.save()).await;
    journal.shared.senses.remove(&journal.source.sense);
}

struct Journal {
    shared: Shared,
    source: Source,
    entries: u64,
    left_out: u64,
    /// Children in a row that gave nothing.
    failing: u32,
}

impl Journal {
    fn command(&self) -> Command {
        let mut command = Command::new("journalctl");
        command.args(["--output=json", "--follow", "--quiet", "--no-pager", "--all"]);
        if let What::Journal { units, files } = &self.source.what {
            for unit in units {
                command.arg(format!("--unit={unit}"));
            }
            if let Some(files) = files {
                command.arg(format!("--file={}", files.display()));
            }
        }
        match self.shared.places().journals.get(&self.source.key()) {
            // Following shows the last ten alone unless told otherwise.
            Some(cursor) => {
                _ = command.arg(format!("--after-cursor={cursor}")).arg("--no-tail");
            }
            None if self.source.from == From::Start => _ = command.arg("--no-tail"),
            None => _ = command.arg("--lines=0"),
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// Runs a child; gives why it ended.
    async fn follow(&mut self) -> String {
        let mut child = match self.command().spawn() {
            Ok(child) => child,
            Err(error) => return format!("journalctl cannot be started: {error}"),
        };
        let Some(out) = child.stdout.take() else { return "journalctl has no output".to_owned() };
        self.tell(SenseState::On, String::new(), None);
        if let Err(error) = self.read(BufReader::with_capacity(64 << 10, out)).await {
            return error.to_string();
        }
        ended(child).await
    }

    async fn read(&mut self, mut out: BufReader<ChildStdout>) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        let mut saved = tokio::time::Instant::now();
        let mut dirty = false;
        loop {
            // The first may take for ever, the others gather for a moment.
            let mut batch = Vec::new();
            let mut over = false;
            let until = tokio::time::sleep(SAVE);
            tokio::pin!(until);
            while batch.len() < BATCH && !over {
                // Reading a line keeps what it has in `buffer`, so that it may be interrupted.
                tokio::select! {
                    read = next(&mut out, &mut buffer) => {
                        if read? == 0 && room(&buffer) > 0 {
                            over = true;
                        } else if buffer.ends_with(b"\n") || room(&buffer) == 0 {
                            self.line(&mut buffer, &mut batch);
                            if batch.len() == 1 {
                                until.as_mut().reset(tokio::time::Instant::now() + GATHER);
                            }
                        }
                    }
                    () = &mut until => break,
                }
            }
            if !batch.is_empty() {
                self.append(batch).await;
                self.tell(SenseState::On, String::new(), None);
                dirty = true;
                self.pace().await;
            }
            if over {
                return Ok(());
            }
            if dirty && saved.elapsed() >= SAVE {
                let shared = self.shared.clone();
                _ = tokio::task::spawn_blocking(move || shared.save()).await;
                (saved, dirty) = (tokio::time::Instant::now(), false);
            }
        }
    }

    /// Keeps the source's bound: a thousand entries take as long as they may.
    async fn pace(&self) {
        let rate = self.source.lines_per_s.max(1);
        let batch = u64::try_from(BATCH).unwrap_or(u64::MAX);
        let millis = batch.saturating_mul(1_000) / rate;
        tokio::time::sleep(Duration::from_millis(millis.min(1_000))).await;
    }

    fn line(&mut self, buffer: &mut Vec<u8>, batch: &mut Vec<Entry>) {
        let service = self.source.service.as_deref();
        match entry(buffer, service, &self.shared.host, Time::now()) {
            Some(entry) => batch.push(entry),
            // The rest of a line that is too long is no entry either; one of both is counted.
            None if buffer.ends_with(b"\n") => {
                self.left_out += 1;
                self.shared.counters().dropped_journal_entries.add(1);
            }
            None => {}
        }
        buffer.clear();
    }

    /// Appends entries; waits while the spool has no room.
    async fn append(&mut self, batch: Vec<Entry>) {
        let Some(cursor) = batch.last().map(|entry| entry.cursor.clone()) else { return };
        let entries = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let key = self.source.key();
        let place = Place::Journal { journal: key.clone(), cursor: cursor.clone() };
        let body = Arc::new(otlp::request(parts(batch, &place)).encode_to_vec());
        loop {
            let (shared, body, key, cursor) =
                (self.shared.clone(), body.clone(), key.clone(), cursor.clone());
            let done = tokio::task::spawn_blocking(move || {
                let mut places = shared.places();
                let seq = shared.pipeline.keep(Kind::Logs, &body, Time::now()).ok()?;
                places.seq = places.seq.max(seq);
                places.journals.insert(key, cursor);
                Some(())
            });
            match done.await {
                Ok(Some(())) => break,
                Ok(None) => self.shared.counters().log_waits.add(1),
                Err(_) => return,
            }
            tokio::time::sleep(GATHER).await;
        }
        self.entries += entries;
        self.failing = 0;
        self.shared.counters().log_lines_read.add(entries);
    }

    fn tell(&self, state: SenseState, trouble: String, remedy: Option<String>) {
        let mut why = if trouble.is_empty() { "the journal".to_owned() } else { trouble };
        why.push_str(&format!(": {} entries", count(self.entries)));
        if self.left_out > 0 {
            why.push_str(&format!(", {} could not be read", count(self.left_out)));
        }
        self.shared.senses.set(Sense { name: self.source.sense.clone(), state, why, remedy });
    }

    /// Says that the child ended, once; gives how long to wait.
    fn failed(&mut self, why: &str) -> Duration {
        let now = Time::now();
        if self.failing == 0 {
            let event = AgentEvent {
                at_ns: now.0,
                kind: EventKind::SourceLost.word().to_owned(),
                host: self.shared.host.clone(),
                text: format!("the journal cannot be followed: {why}"),
                ..Default::default()
            };
            self.shared.pipeline.own(Kind::Event, &event.encode_to_vec(), now);
        }
        let remedy = "journalctl --follow --output=json, as the agent's user".to_owned();
        self.tell(SenseState::Off, why.to_owned(), Some(remedy));
        let pause = PAUSE.0.saturating_mul(1u32.checked_shl(self.failing).unwrap_or(u32::MAX));
        self.failing = self.failing.saturating_add(1);
        pause.min(PAUSE.1)
    }
}

/// Reads on in a line. Interrupted, it keeps what it has in `buffer`.
async fn next(out: &mut BufReader<ChildStdout>, buffer: &mut Vec<u8>) -> std::io::Result<usize> {
    let room = room(buffer);
    out.take(room).read_until(b'\n', buffer).await
}

/// What may still be read of a line.
fn room(buffer: &[u8]) -> u64 {
    u64::try_from(LINE.saturating_sub(buffer.len())).unwrap_or_default()
}

/// Entries by resource, in the order of their first.
fn parts(batch: Vec<Entry>, place: &Place) -> Vec<ResourceLogs> {
    let mut groups: Vec<(Pairs, Vec<LogRecord>)> = Vec::new();
    for entry in batch {
        match groups.iter_mut().find(|(resource, _)| *resource == entry.resource) {
            Some((_, records)) => records.push(entry.record),
            None => groups.push((entry.resource, vec![entry.record])),
        }
    }
    groups.into_iter().map(|(resource, records)| otlp::part(resource, records, place)).collect()
}

/// Why a child ended, in its own words.
async fn ended(mut child: Child) -> String {
    let mut words = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        _ = stderr.take(WORDS).read_to_end(&mut words).await;
    }
    let code = child.wait().await.ok().and_then(|status| status.code());
    let words = String::from_utf8_lossy(&words);
    let last = words.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
    match code {
        Some(code) => format!("journalctl ended with code {code}: {last}"),
        None => format!("journalctl was killed: {last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read() {
        let text = br#"{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"1795356151500000","PRIORITY":"3","_SYSTEMD_UNIT":"payments.service","MESSAGE":"pool exhausted","_PID":"7","_HOSTNAME":"web-3","X":null}"#;
        let found = entry(text, None, "h", Time(1)).unwrap();
        assert_eq!(found.cursor, "s=1;i=2");
        assert_eq!(found.resource[0].1, "payments");
        assert_eq!(found.resource[1].1, "web-3");
        assert_eq!(found.record.severity_number, 17);
        assert_eq!(found.record.time_unix_nano, 1_795_356_151_500_000_000);
        assert!(found.record.attributes.iter().any(|a| a.key == "process.pid"));
        assert_eq!(entry(text, Some("p"), "h", Time(1)).unwrap().resource[0].1, "p");
    }

    #[test]
    fn odd_entries_are_read_as_far_as_they_go() {
        let bytes = br#"{"__CURSOR":"c","MESSAGE":[104,105,255],"PRIORITY":["4","6"],"SYSLOG_IDENTIFIER":"cron"}"#;
        let found = entry(bytes, None, "h", Time(1)).unwrap();
        let body = format!("{:?}", found.record.body);
        assert!(body.contains("hi\u{fffd}"), "{body}");
        assert_eq!((found.record.severity_number, found.resource[0].1.as_str()), (13, "cron"));
        // What everything gets that says nothing does not hide what the line says.
        let six = br#"{"__CURSOR":"c","MESSAGE":"ERROR x","PRIORITY":"6"}"#;
        assert_eq!(entry(six, None, "h", Time(1)).unwrap().record.severity_number, 17);
        for bad in ["", "{}", "[1]", "not json", r#"{"__CURSOR":7}"#] {
            assert!(entry(bad.as_bytes(), None, "h", Time(1)).is_none(), "{bad}");
        }
        let empty = entry(br#"{"__CURSOR":"c","MESSAGE":null}"#, None, "h", Time(1)).unwrap();
        assert_eq!(empty.resource[0].1, "journal");
    }
}

//! Has a file read into a colony: by a `coral-agent` that reads instead of receiving.

use std::path::Path;
use std::process::Stdio;

use coral_model::place::Place;
use coral_model::time::{BUCKET, SECOND, Time, Window};
use coral_proto::v1;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::OpenError;
use super::private::Private;
use crate::client::{Client, ClientError, find_program};

/// What a file held, as the agent says it (`coral_agent::import::Summary`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Held {
    /// `otlp` or `logs`.
    pub kind: String,
    /// Spans.
    pub spans: u64,
    /// Log records.
    pub logs: u64,
    /// Metric points.
    pub points: u64,
    /// What was not taken.
    pub rejected: u64,
    /// The first moment in it.
    pub from_ns: Option<u64>,
    /// The last.
    pub to_ns: Option<u64>,
    /// What else a person should know.
    pub notes: Vec<String>,
    /// The window an incident was written for.
    #[serde(skip)]
    pub of: Option<Window>,
    /// Where its writer says to look first.
    #[serde(skip)]
    pub place: Option<Place>,
}

/// What an incident says of itself (`coral_daemon::incident::import::Manifest`).
#[derive(Debug, Deserialize)]
struct Manifest {
    colony: String,
    host: String,
    build: String,
    written: Time,
    from: Time,
    to: Time,
    #[serde(default)]
    filter: String,
    #[serde(default)]
    place: String,
    rows: std::collections::BTreeMap<String, u64>,
}

impl From<Manifest> for Held {
    fn from(of: Manifest) -> Self {
        let rows = |table: &str| of.rows.get(table).copied().unwrap_or_default();
        let wrote = format!(
            "written {} by {} on {} of colony {}; secrets were replaced",
            of.written, of.build, of.host, of.colony
        );
        Self {
            kind: "incident".to_owned(),
            spans: rows("spans").max(rows("red")),
            logs: rows("logs"),
            points: rows("metrics"),
            notes: std::iter::once(wrote)
                .chain((!of.filter.is_empty()).then(|| format!("only what passes: {}", of.filter)))
                .collect(),
            // A place of a newer Coral is no reason not to show the file.
            place: of.place.parse().ok(),
            of: Some(Window::new(of.from, of.to)),
            ..Self::default()
        }
    }
}

/// Pieces of a file that is sent, in bytes.
const PIECE: usize = 256 << 10;

/// Hands an incident to the colony that shows it.
///
/// # Errors
/// When it cannot be read, or the colony finds it damaged.
pub async fn incident(client: &Client, file: &Path) -> Result<Held, OpenError> {
    let io = |source| OpenError::Io { path: file.to_owned(), source };
    let mut reader = tokio::fs::File::open(file).await.map_err(io)?;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let reading = tokio::spawn(async move {
        loop {
            let mut bytes = Vec::with_capacity(PIECE);
            let mut limited = (&mut reader).take(PIECE as u64);
            match limited.read_to_end(&mut bytes).await {
                Ok(0) => return Ok(()),
                Ok(_) if sender.send(v1::Chunk { bytes: bytes.into() }).await.is_err() => {
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    });
    let chunks = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let reply = client.import(chunks).await;
    if let Ok(read) = reading.await {
        read.map_err(io)?;
    }
    let reply = reply.map_err(|error| match error {
        ClientError::Refused { .. } => {
            OpenError::Incident { path: file.to_owned(), why: error.to_string() }
        }
        error => error.into(),
    })?;
    let manifest: Manifest = serde_json::from_slice(&reply)
        .map_err(|e| OpenError::Incident { path: file.to_owned(), why: e.to_string() })?;
    Ok(manifest.into())
}

impl Held {
    /// The window that shows all of it, in whole buckets.
    #[must_use]
    pub fn window(&self) -> Window {
        if let Some(window) = self.of {
            return window;
        }
        let from = Time(self.from_ns.unwrap_or_default());
        let to = Time(self.to_ns.unwrap_or_default()).plus(SECOND);
        Window::new(from, to).align(BUCKET)
    }

    /// The view that shows most of it.
    #[must_use]
    pub fn view(&self) -> &'static str {
        match (self.spans, self.logs, self.points) {
            _ if self.of.is_some() => "services",
            (1.., _, _) => "services",
            (0, 1.., _) => "logs",
            _ => "metrics",
        }
    }

    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        use coral_model::text::count;
        let parts =
            [(self.spans, "spans"), (self.logs, "log records"), (self.points, "metric points")];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{} {what}", count(*n)))
            .collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }
}

/// Reads a file in. The colony must run.
///
/// # Errors
/// What the agent says of the file.
pub async fn run(private: &Private, file: &Path) -> Result<Held, OpenError> {
    let agent = find_program("coral-agent").ok_or(OpenError::NoAgent)?;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let mut colony = std::ffi::OsString::from("unix:");
    colony.push(private.target.socket()?);
    let output = tokio::process::Command::new(&agent)
        .arg("--colony")
        .arg(colony)
        .arg("--data")
        .arg(private.dir().join("reader"))
        .arg("--import")
        .arg(std::path::absolute(file).map_err(io(file))?)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(io(&agent))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
        let last = last.strip_prefix("coral-agent: ").unwrap_or(last);
        return Err(OpenError::Import(last.to_owned()));
    }
    let words = String::from_utf8_lossy(&output.stdout);
    let last = words.lines().last().unwrap_or_default();
    serde_json::from_str(last)
        .map_err(|e| OpenError::Import(format!("the reader answers {last}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_holds_everything() {
        let held = Held { from_ns: Some(15 * SECOND), to_ns: Some(29 * SECOND), ..Held::default() };
        assert_eq!(held.window(), Window::new(Time(10 * SECOND), Time(30 * SECOND)));
        let one = Held { from_ns: Some(20 * SECOND), to_ns: Some(20 * SECOND), logs: 1, ..held };
        assert_eq!(one.window(), Window::new(Time(20 * SECOND), Time(30 * SECOND)));
        assert_eq!((one.view(), one.words().as_str()), ("logs", "1 log records"));
    }
}

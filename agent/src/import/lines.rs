//! A file of log lines.
//!
//! Read like a file that is followed, once. A file that was taken from somewhere has nobody to ask, so
//! here two more guesses are made and told: a time without a zone is UTC, and a line without a time
//! was written when the line before it was.

use std::path::Path;

use coral_model::Time;
use coral_proto::record::Kind;
use prost::Message as _;

use super::{ImportError, Summary};
use crate::agent::Agent;
use crate::observe::logs::file::{Change, Identity, Print, Reading, Tally};
use crate::observe::logs::places::{FilePlace, Place};
use crate::observe::logs::{Format, Limits, line, origin, otlp};

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// Reads every line of the file.
///
/// # Errors
/// When it cannot be read, or the spool takes nothing.
pub async fn read(
    agent: &Agent,
    plain: &Path,
    path: &Path,
    summary: &mut Summary,
) -> Result<(), ImportError> {
    let io = |source| ImportError::Io { path: path.to_owned(), source };
    let meta = std::fs::metadata(path).map_err(io)?;
    let written = meta.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let written =
        written.and_then(|d| u64::try_from(d.as_nanos()).ok()).map_or_else(Time::now, Time);
    let limits = Limits::default();
    let mut reading = Reading::open(plain, Format::Auto, 0, written).map_err(io)?;
    let mut known = None;
    loop {
        let (mut tally, mut records) = (Tally::default(), Vec::new());
        if let Change::Anew { .. } = reading.look(written).map_err(io)? {
            let why = "it changed while it was read; copy it first".to_owned();
            return Err(ImportError::Line { path: path.to_owned(), line: summary.logs, why });
        }
        let most = (PIECE, u64::MAX);
        reading.read(most, limits, written, &mut tally, &mut records).map_err(io)?;
        let over = tally.bytes == 0;
        if over {
            reading.finish(limits, written, &mut tally, &mut records);
        }
        summary.rejected += tally.cut;
        let labels = records.first().map(|r| r.labels.clone()).unwrap_or_default();
        let mut made = Vec::new();
        for record in records {
            let mut said = line::said(&record.joined.text);
            let mut time = record.joined.time.or(said.time);
            if time.is_none() {
                time = line::zoneless(&record.joined.text);
                summary.zoneless += u64::from(time.is_some());
            }
            let time = time.or(known).unwrap_or(written);
            known = Some(time);
            said.time = Some(time);
            summary.logs += 1;
            summary.at(time.0);
            let stream = record.joined.stream.map(|s| s.word().to_owned());
            let more = stream.map(|s| ("log.iostream".to_owned(), s)).into_iter().collect();
            made.push(otlp::record(said, Some(time), more, written));
        }
        if !made.is_empty() {
            let mut resource = origin::resource(None, path, &labels, "");
            resource.retain(|(key, value)| key != "host.name" || !value.is_empty());
            let place = Place::File(FilePlace {
                id: Identity { dev: 0, ino: 0 },
                print: Print::default(),
                safe: 0,
                path: path.to_owned(),
                source: String::new(),
                open: false,
            });
            let body = otlp::request(vec![otlp::part(resource, made, &place)]).encode_to_vec();
            keep(agent, body)
                .await
                .map_err(|source| ImportError::Io { path: path.to_owned(), source })?;
        }
        if over {
            break;
        }
    }
    if summary.zoneless > 0 {
        summary.notes.push("times without a zone were read as UTC".to_owned());
    }
    if known.is_none() || summary.from_ns == Some(written.0) && summary.to_ns == Some(written.0) {
        let at = written.rfc3339();
        summary.notes.push(format!(
            "no line says when it was written; all stand at {at}, when the file was"
        ));
    }
    Ok(())
}

/// Appends, waiting for room.
async fn keep(agent: &Agent, body: Vec<u8>) -> std::io::Result<()> {
    let pipeline = agent.pipeline().clone();
    for _ in 0..6_000 {
        let (pipeline, body) = (pipeline.clone(), body.clone());
        let kept = tokio::task::spawn_blocking(move || {
            pipeline.keep(Kind::Logs, &body, Time::now()).map(|_| ())
        });
        match kept.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(_)) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            Err(error) => return Err(std::io::Error::other(error)),
        }
    }
    Err(std::io::Error::other("the spool has had no room for ten minutes"))
}

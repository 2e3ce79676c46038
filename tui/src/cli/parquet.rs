//! `coral query … --parquet FILE`: the records behind a question, as a file.

use std::io::{self, Write as _};

use coral_model::question::{Question, View};
use coral_model::text::bytes;

use super::exit::{Exit, Failure};
use super::save::{Over, Target, target_failed};
use crate::client::{Client, ClientError};

/// What a question's records are called.
fn records(view: View) -> &'static str {
    match view {
        View::Traces | View::Trace => "spans",
        View::Logs => "log records",
        View::Metrics => "metric points",
        View::Events => "events",
        _ => "requests by 10 s",
    }
}

/// Saves the file.
pub async fn save(
    client: &Client,
    question: &Question,
    path: &str,
    over: Over,
) -> Result<Exit, Failure> {
    let mut target = Target::of(path, "records.parquet", over)?;
    let mut chunks = client.parquet(question).await?;
    let mut size = 0u64;
    while let Some(chunk) = chunks.message().await.map_err(ClientError::from)? {
        target.out.write_all(&chunk.bytes).map_err(|e| target_failed(path, &e))?;
        size += chunk.bytes.len() as u64;
    }
    target.finish().map_err(|e| target_failed(path, &e))?;
    let (from, to) = (question.window.from, question.window.to);
    let what = records(question.view);
    // On standard error: the file itself may go to standard output.
    _ = writeln!(io::stderr(), "{} of {what}, {from} – {to}", bytes(size));
    Ok(Exit::Done)
}

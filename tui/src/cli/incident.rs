//! `coral incident export`: a window as one file, secrets replaced, that opens anywhere.

use std::io::{self, Write as _};

use coral_model::filter;
use coral_model::place::Place;
use coral_model::redaction::RULES;
use coral_model::text::bytes;
use coral_proto::v1;

use super::args::Export;
use super::exit::{Exit, Failure};
use super::save::{Over, Target, target_failed};
use super::{Context, ask};

/// Writes the file.
pub async fn export(context: &Context, export: &Export) -> Result<Exit, Failure> {
    let more = named(&export.redact_more)?;
    let place: Option<Place> = export.place.as_deref().map(str::parse).transpose()?;
    let when = &export.when;
    let said =
        when.since.is_some() || when.from.is_some() || when.to.is_some() || when.around.is_some();
    let window = match &place {
        Some(place) if !said => place.window,
        _ => ask::window(when, &context.clock, context.config.window)?,
    };
    // A place says where to look first, a filter what is in the file at all.
    let words = filter::join_words(&export.words);
    let filter = filter::parse(&words)?.to_string();
    let client = context.connect().await?;
    let over = Over::of(export.force);
    let mut target = Target::of(&export.output, "incident.coral", over)?;
    let request = v1::ExportRequest {
        window: Some(window.into()),
        redact_more: more.clone(),
        filter,
        place: place.map(|p| p.to_string()).unwrap_or_default(),
    };
    let mut chunks = client.export(request).await?;
    let mut size = 0u64;
    while let Some(chunk) = chunks.message().await.map_err(crate::client::ClientError::from)? {
        target.out.write_all(&chunk.bytes).map_err(|e| target_failed(&export.output, &e))?;
        size += chunk.bytes.len() as u64;
    }
    target.finish().map_err(|e| target_failed(&export.output, &e))?;
    // On standard error: the file itself may go to standard output.
    let mut said = format!("{} of {} – {}", bytes(size), window.from, window.to);
    said.push_str("\nreplaced, equal values by equal pseudonyms:\n");
    for (name, what) in RULES {
        said.push_str(&format!("  {name:<7} {what}\n"));
    }
    for name in more {
        said.push_str(&format!("  asked   {name}\n"));
    }
    said.push_str("read it before you pass it on: zstd -dc FILE | less\n");
    _ = io::stderr().write_all(said.as_bytes());
    if export.output != "-" {
        super::standard::write(format!("coral open {}\n", export.output).as_bytes())?;
    }
    Ok(Exit::Done)
}

fn named(words: &[String]) -> Result<Vec<String>, Failure> {
    let name = |word: &String| match word.split_once('=') {
        Some(("key", name)) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(Failure::usage(format!("`{word}` names no attribute"))
            .next("coral incident export --redact-more key=customer.name -o incident.coral")),
    };
    words.iter().map(name).collect()
}

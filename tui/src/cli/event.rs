//! `coral event`: something happened, and the timeline should know.

use super::Context;
use super::args;
use super::ask::moment;
use super::colony::end_line;
use super::exit::{Exit, Failure};
use super::output::Reader;
use super::standard;
use crate::client::NewEvent;
use coral_model::filter::nearest;
use coral_model::view::EventKind;

/// Records it, and prints it as recorded.
pub async fn run(context: &Context, event: &args::Event) -> Result<Exit, Failure> {
    let text = event.text.join(" ");
    if text.trim().is_empty() {
        return Err(Failure::usage("an event says what happened")
            .next("coral event \"deploy payments v42\" --service payments"));
    }
    if let Some(kind) = &event.kind
        && let Err(e) = kind.parse::<EventKind>()
    {
        let near = nearest(kind, EventKind::ALL.iter().map(|k| k.word()));
        let failure = Failure::usage(e.to_string());
        return Err(match near {
            Some(near) => failure.next(format!("--kind {near}")),
            None => failure,
        });
    }
    let attributes = event
        .attributes
        .iter()
        .map(|pair| {
            let (name, value) = pair.split_once('=').filter(|(name, _)| !name.is_empty())?;
            Some((name.to_owned(), value.to_owned()))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| Failure::usage("--attr is written NAME=VALUE, like --attr commit=1a2b3c"))?;
    let at = moment(event.at.as_deref(), &context.clock)?;
    let client = context.connect().await?;
    let new = NewEvent {
        text,
        kind: event.kind.clone().unwrap_or_default(),
        service: event.service.clone(),
        at,
        attributes,
    };
    let (row, json) = client.post_event(new).await?;
    if event.format.json {
        let mut out = json.to_vec();
        out.push(b'\n');
        out.extend(end_line(1, row.time)?);
        standard::write(&out)?;
    } else {
        let reader = Reader::of_stdout(context.clock.clone());
        let on = row.service.as_ref().map(|s| format!(" on {s}")).unwrap_or_default();
        let line = format!("recorded {} {}: {}{on}", reader.time(row.time), row.kind, row.text);
        standard::write(format!("{}\n", coral_model::text::clean(&line)).as_bytes())?;
    }
    Ok(Exit::Done)
}

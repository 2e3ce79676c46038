//! `coral open FILE`: the screen over a file, or a digest of it where there is no terminal.

use std::io::IsTerminal as _;
use std::path::Path;

use coral_model::place::{Look, Place, Selection};

use super::args::{self, Query, Tail, When};
use super::exit::{Exit, Failure};
use super::{Context, OpenScreen, Screen, ask, query, standard};
use crate::client::{Client, Target};
use crate::open::import::{self, Held};
use crate::open::kind::{self, Kind};
use crate::open::private::Private;
use crate::open::{OpenError, profile};

/// Rows of each part of a digest.
const ROWS: usize = 20;

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Colony(error) => error.into(),
            error => Self::other(error.to_string()),
        }
    }
}

/// Opens a file.
pub fn file(
    context: &Context,
    flags: &args::Screen,
    path: &Path,
    screen: OpenScreen,
) -> Result<Exit, Failure> {
    let kind = kind::of(path)?;
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if kind == Kind::Profile {
        let read = profile::read(path)?;
        if terminal && !flags.plain {
            screen(&Screen {
                profile: Some((path.to_owned(), std::sync::Arc::new(read))),
                ..context.screen(flags, context.target.clone(), context.launch.clone(), None)
            })?;
        } else {
            standard::write(profile::text(&read, path).as_bytes())?;
        }
        return Ok(Exit::Done);
    }
    let private = Private::new(path, &context.target.paths)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::other(format!("cannot start: {e}")))?;
    let quiet = !std::io::stderr().is_terminal();
    let progress = move |line: &str| {
        if !quiet {
            eprintln!("coral: {line}");
        }
    };
    let (client, held) = runtime.block_on(async {
        let started = Client::connect_or_start(&private.target, &private.launch, &progress).await;
        let client = started.map_err(OpenError::from)?;
        progress(&format!("reading {}", path.display()));
        let held = match kind {
            Kind::Incident => import::incident(&client, path).await,
            _ => import::run(&private, path).await,
        };
        match held {
            Ok(held) => Ok((client, held)),
            Err(error) => {
                private.end(client).await;
                Err(Failure::from(error))
            }
        }
    })?;
    let shown = if terminal || flags.plain {
        show(context, flags, &private, &held, screen)
    } else {
        runtime.block_on(digest(context, &private, &held))
    };
    runtime.block_on(private.end(client));
    shown
}

fn show(
    context: &Context,
    flags: &args::Screen,
    private: &Private,
    held: &Held,
    screen: OpenScreen,
) -> Result<Exit, Failure> {
    let place = match &held.place {
        // The colony it was copied from is not this one.
        Some(place) => Place { colony: None, ..place.clone() },
        None => Place {
            colony: None,
            view: held.view().to_owned(),
            window: held.window(),
            filter: String::new(),
            selection: Selection::default(),
            compare: None,
            look: Look::default(),
        },
    };
    let target = private.target.clone();
    screen(&context.screen(flags, target, private.launch.clone(), Some(place.to_string())))?;
    Ok(Exit::Done)
}

/// What is in it, as the questions print it.
async fn digest(context: &Context, private: &Private, held: &Held) -> Result<Exit, Failure> {
    let window = held.window();
    let (from, to) = (window.from, window.to);
    let mut head = format!("{} · {} · {from} – {to}\n", private.name, held.words());
    for note in &held.notes {
        head.push_str(&format!("{}\n", coral_model::text::clean(note)));
    }
    if held.rejected > 0 {
        head.push_str(&format!("{} not taken or cut\n", coral_model::text::count(held.rejected)));
    }
    standard::write(head.as_bytes())?;
    let target = Target { colony: private.target.colony.clone(), ..private.target.clone() };
    let inside = Context { target, ..context.clone() };
    let mut parts: Vec<&str> = Vec::new();
    if held.spans > 0 {
        parts.extend(["services", "topology", "traces"]);
    }
    if held.logs > 0 {
        parts.push("logs");
    }
    if held.points > 0 {
        parts.push("metrics");
    }
    for part in parts {
        standard::write(format!("\n{}\n", part.to_uppercase()).as_bytes())?;
        let from = Some(window.from.rfc3339());
        let to = Some(window.to.rfc3339());
        let tail = Tail {
            when: When { from, to, ..When::default() },
            limit: Some(ROWS),
            ..Tail::default()
        };
        let mut asked: Query = ask::as_query(part, &tail, false);
        if part == "traces" {
            asked.order = Some(args::Order::Slow);
        }
        query::run(&inside, &asked).await?;
    }
    Ok(Exit::Done)
}

//! `--plain`: lines instead of a screen, for screen readers and dumb terminals.
//!
//! Only what changed is said, one sentence a line, nothing is ever redrawn. `q` and Enter, the end
//! of input, or Ctrl-C leaves.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coral_model::time::Time;

use super::{Farewell, Options, RunError};
use crate::app::Effect;
use crate::app::Input;
use crate::feed::{Engine, Feed, Inbox};

/// Between two reports, so that nobody is talked over.
const EVERY: Duration = Duration::from_secs(10);

pub(super) fn run(options: &Options, feed: Arc<dyn Feed>) -> Result<Farewell, RunError> {
    let mut app = super::app(options, (100, 40))?;
    let inbox = Arc::new(Inbox::default());
    let engine = Engine::start(feed, Arc::clone(&inbox))?;
    let reader = Arc::clone(&inbox);
    std::thread::Builder::new().name("coral-input".into()).spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_ok_and(|line| line.trim() != "q") {
                continue;
            }
            break;
        }
        reader.input(Input::Terminate);
    })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "Coral, plain: a line whenever something changes. q and Enter leaves.")?;
    let mut said: Vec<String> = Vec::new();
    let mut last = Instant::now();
    let mut first = true;
    let mut pending = false;
    let mut effects = app.receive(crate::feed::Mail::default(), Time::now());
    loop {
        for effect in std::mem::take(&mut effects) {
            match effect {
                Effect::Want(slot, want) => engine.desk().want(slot, want),
                Effect::Quit => {
                    return Ok(Farewell {
                        colony: app.colony.clone(),
                        stays: app.data.status.as_ref().map(|s| s.stays),
                        place: app.place().to_string(),
                    });
                }
                _ => {}
            }
        }
        // Something new that was held back is said when its time comes, not with the next news.
        let due = if first { Instant::now() } else { last + EVERY };
        let mail = inbox.take(pending.then_some(due));
        effects = app.receive(mail, Time::now());
        pending |= app.take_dirty();
        if !pending || Instant::now() < due {
            continue;
        }
        pending = false;
        let lines = crate::pane::plain_lines(&app);
        if lines.is_empty() {
            continue;
        }
        first = app.data.digest().is_none();
        last = Instant::now();
        for line in lines.iter().filter(|line| !said.contains(line)) {
            writeln!(out, "{line}")?;
        }
        out.flush()?;
        said = lines;
    }
}

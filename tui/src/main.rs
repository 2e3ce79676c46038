//! `coral`: see the library.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use coral_tui::cli::{self, Failure};
use coral_tui::feed::{ColonyFeed, Feed, NoColony};
use coral_tui::runtime::{self, Farewell, Options};

fn main() -> ExitCode {
    cli::main(show)
}

/// Opens the screen, and says on the way out what still runs.
fn show(screen: &cli::Screen) -> Result<(), Failure> {
    let options = Options {
        colony: screen.target.colony.to_string(),
        theme: screen.theme.clone(),
        ascii: screen.ascii,
        plain: screen.plain,
        utc: screen.utc,
        no_mouse: screen.no_mouse,
        window: screen.window,
        start: screen.start.clone(),
        profile: screen.profile.clone(),
        state_dir: Some(screen.target.paths.state_dir.clone()),
        config_dir: Some(screen.target.paths.config_dir.clone()),
    };
    let feed: Arc<dyn Feed> = match &screen.profile {
        Some(_) => Arc::new(NoColony),
        None => Arc::new(ColonyFeed::new(screen.target.clone(), screen.launch.clone())),
    };
    let farewell = runtime::run(&options, feed)
        .map_err(|e| Failure::other(e.to_string()).next("coral query services"))?;
    if !screen.plain && screen.profile.is_none() {
        // The terminal may be gone; then there is nobody to tell.
        _ = writeln!(std::io::stdout(), "{}", last_words(&farewell));
    }
    Ok(())
}

fn last_words(farewell: &Farewell) -> String {
    let runs = match farewell.stays {
        Some(true) => "stays until: coral down",
        Some(false) => "leaves when unused (coral up lets it stay)",
        None => "was not reached",
    };
    let colony = &farewell.colony;
    if farewell.place.is_empty() {
        return format!("colony {colony} {runs}");
    }
    format!("colony {colony} {runs} · back here: coral open {}", farewell.place)
}

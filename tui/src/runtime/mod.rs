//! The thin shell around the app: threads, the terminal, the clock.
//!
//! One thread reads the terminal, one talks to the colony, one draws. They meet in the
//! [`Inbox`]. The drawing thread sleeps until something is there; it draws only when the app says
//! that something may look different, at most sixty times a second for data and at once for a
//! person, and writes only the cells that changed.

mod bytes;
mod editor;
mod history;
mod plain;
mod rehearsal;
mod screen;

use std::sync::Arc;

use coral_model::time::Time;
use jiff::tz::TimeZone;

use crate::app::App;
use crate::feed::Feed;
use crate::keymap::Keymap;
use crate::theme::{Background, Depth, Theme};

pub use bytes::osc52;
pub use history::History;
pub use rehearsal::Rehearsal;
pub use screen::{Pace, Screen, guarded};

/// What the command line and the configuration decide.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The colony's name, until it says so itself.
    pub colony: String,
    /// Theme by name; the default when empty.
    pub theme: Option<String>,
    /// Only ASCII.
    pub ascii: bool,
    /// Lines instead of a screen.
    pub plain: bool,
    /// UTC instead of the local zone.
    pub utc: bool,
    /// Leave the mouse to the terminal.
    pub no_mouse: bool,
    /// Length of the window that is shown first, in nanoseconds; the program's own when 0.
    pub window: u64,
    /// What to open first: a place, a trace id, a service.
    pub start: Option<String>,
    /// A profile to show, and its file.
    pub profile: Option<(std::path::PathBuf, Arc<coral_proto::pprof::Profile>)>,
    /// Folder in which statements are remembered.
    pub state_dir: Option<std::path::PathBuf>,
    /// Folder of `keymap.toml` and `themes/`.
    pub config_dir: Option<std::path::PathBuf>,
}

/// How the screen was left.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Farewell {
    /// The colony's name.
    pub colony: String,
    /// It stays although nobody looks, when known.
    pub stays: Option<bool>,
    /// The place it was left at, for the line printed on the way out.
    pub place: String,
}

/// Why there is no screen.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The terminal refuses.
    #[error("the screen cannot be opened: {0}; `coral query services` prints without one")]
    Terminal(#[from] std::io::Error),
    /// The theme is wrong.
    #[error(transparent)]
    Theme(#[from] crate::theme::ThemeError),
    /// A thread of the screen died; the terminal was given back.
    #[error("the screen stopped unexpectedly")]
    Panicked,
}

/// Looks things up where a person keeps their own.
fn own_file(dir: Option<&std::path::Path>, name: &str) -> Option<String> {
    std::fs::read_to_string(dir?.join(name)).ok()
}

fn env(key: &str) -> Option<String> {
    std::env::var(key).ok()
}

/// The theme for this terminal.
fn theme(options: &Options, name: Option<&str>) -> Result<Theme, crate::theme::ThemeError> {
    let depth = Depth::detect(&env);
    let name = match name.or(options.theme.as_deref()) {
        Some("auto") | None => match (Background::detect(&env), depth) {
            (Background::Light, Depth::True) => "light",
            (Background::Dark, Depth::True) => "dark",
            _ => "default",
        },
        Some(name) => name,
    };
    let dir = options.config_dir.clone();
    Theme::load(name, depth, &move |name| {
        // A theme's name is a file's stem, nothing more.
        let plain = name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
        plain.then(|| own_file(dir.as_deref(), &format!("themes/{name}.toml"))).flatten()
    })
}

/// The app as the options want it.
fn app(options: &Options, size: (u16, u16)) -> Result<App, RunError> {
    let differences = own_file(options.config_dir.as_deref(), "keymap.toml").unwrap_or_default();
    let (keymap, problems) = Keymap::with(&differences);
    let theme = theme(options, None)?;
    let mut app = App::new(size, theme, keymap, TimeZone::system(), Time::now());
    app.colony.clone_from(&options.colony);
    app.ascii = options.ascii;
    app.utc = options.utc;
    app.mouse = !options.no_mouse;
    if options.window > 0 {
        app.here.clock.length = options.window;
    }
    if let Some(problem) = problems.first() {
        let more = problems.len() - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        app.say(format!("{problem}{more}"));
    }
    if let Some((path, profile)) = &options.profile {
        app.show_profile(path.clone(), Arc::clone(profile));
    }
    if let Some(start) = &options.start
        && let Err(why) = app.open(start)
    {
        app.say(why);
    }
    Ok(app)
}

/// Runs the screen until the person leaves. Blocks; must not be called on a runtime's thread.
///
/// # Errors
/// When there is no terminal to draw on, or the theme asked for is wrong.
pub fn run(options: &Options, feed: Arc<dyn Feed>) -> Result<Farewell, RunError> {
    if options.plain {
        return plain::run(options, feed);
    }
    screen::run(options, feed)
}

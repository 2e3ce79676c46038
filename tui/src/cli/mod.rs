//! `coral <verb>`: the same answers without a screen.
//!
//! In: the command line, the environment, configuration. Out: lines on standard output, reasons on
//! standard error, and an exit code a script can rely on. One question costs one connection on one
//! thread; nothing slow happens before the words are understood.

mod agent_lines;
mod args;
mod ask;
mod colony;
mod complete;
mod doctor;
mod event;
mod exit;
mod eyes;
mod incident;
mod init;
mod open;
mod output;
mod parquet;
mod privacy;
mod query;
mod save;
mod settings;
mod standard;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use coral_model::config::{Config, Sources};
use coral_model::paths::{Paths, project_config};
use coral_model::when::Clock;

use crate::client::{Client, ClientError, Launch, Target};
use args::{Agents, Cli, Verb};
pub use exit::{Exit, Failure};

/// What the screen is opened with.
#[derive(Clone, Debug)]
pub struct Screen {
    /// The colony, and how to start it.
    pub target: Target,
    /// How its daemon is started when none runs.
    pub launch: Launch,
    /// Theme by name; `None` detects.
    pub theme: Option<String>,
    /// ASCII only.
    pub ascii: bool,
    /// Lines instead of a screen.
    pub plain: bool,
    /// Clocks show UTC.
    pub utc: bool,
    /// Leave the mouse to the terminal.
    pub no_mouse: bool,
    /// Length of the window that is shown first, in nanoseconds.
    pub window: u64,
    /// What to open first: a view, trace id, service or place.
    pub start: Option<String>,
    /// A profile to show instead of a colony, and its file.
    pub profile: Option<(std::path::PathBuf, std::sync::Arc<coral_proto::pprof::Profile>)>,
}

/// Opens the screen; blocks until it is left.
pub type OpenScreen = fn(&Screen) -> Result<(), Failure>;

/// Everything a verb needs to know.
#[derive(Clone, Debug)]
struct Context {
    config: Config,
    target: Target,
    launch: Launch,
    clock: Clock,
}

/// Runs this process's command line.
#[must_use]
pub fn main(screen: OpenScreen) -> ExitCode {
    let typed: Vec<String> =
        std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let json = typed.iter().any(|a| a == "--json");
    match run(typed, screen) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            failure.tell(json);
            ExitCode::from(failure.exit.code())
        }
    }
}

fn run(typed: Vec<String>, screen: OpenScreen) -> Result<Exit, Failure> {
    let typed = args::shape(typed)?;
    let cli = match Cli::try_parse_from(&typed) {
        Ok(cli) => cli,
        // Help and version are answers, not errors; clap knows which is which.
        Err(e) if !e.use_stderr() => {
            let shown = standard::write(e.render().to_string().as_bytes());
            return shown.map(|()| Exit::Done);
        }
        Err(e) => return Err(args::filter_word(&typed, &e).unwrap_or_else(|| usage(&e))),
    };
    if let Some(Verb::Completions { shell }) = &cli.verb {
        return complete::script(*shell);
    }
    standard::warn_of_redirection();
    let context = Context::of(&cli)?;
    match cli.verb.clone() {
        None => start(&context, &cli.screen, None, screen),
        Some(Verb::Open(verb)) if is_file(&verb.what) => {
            let path = std::path::Path::new(&verb.what);
            open::file(&context, &merged(cli.screen, verb.screen), path, screen)
        }
        Some(Verb::Open(verb)) if crate::open::is_path(&verb.what) => Err(no_file(&verb.what)),
        Some(Verb::Open(verb)) => {
            let what = complete::checked_start(&verb.what)?;
            start(&context, &merged(cli.screen, verb.screen), Some(what), screen)
        }
        Some(Verb::Config(verb)) => settings::run(&context, &verb),
        Some(Verb::Completions { .. }) => Ok(Exit::Done),
        Some(verb) => on_one_thread(context.run(verb)),
    }
}

/// Whether what is to be opened is a file: a service may be called as one is, but not with a slash or
/// a dot in it.
fn is_file(what: &str) -> bool {
    !what.starts_with(coral_model::place::SCHEME)
        && what.contains(['/', '.'])
        && std::path::Path::new(what).is_file()
}

/// A path is opened as a file or not at all: the screen of a service called so would be empty.
fn no_file(what: &str) -> Failure {
    let path = std::path::Path::new(what);
    if path.is_dir() {
        return Failure::usage(format!("{what} is a folder")).next("name a file in it");
    }
    let why = match path.symlink_metadata() {
        Ok(_) => "cannot be opened as a file",
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => "may not be read",
        Err(_) => "no such file",
    };
    Failure::usage(format!("{why}: {what}"))
        .next(format!("for a service of that name: coral open service={what}"))
}

/// clap's own words, without its "error: ".
fn usage(e: &clap::Error) -> Failure {
    let text = e.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let (what, _) = text.split_once("\n\nUsage:").unwrap_or((text, ""));
    let (what, _) = what.split_once("\n\nFor more information").unwrap_or((what, ""));
    Failure::usage(what.trim_end()).next("coral --help, or coral COMMAND --help")
}

fn merged(a: args::Screen, b: args::Screen) -> args::Screen {
    args::Screen {
        theme: b.theme.or(a.theme),
        ascii: a.ascii || b.ascii,
        plain: a.plain || b.plain,
        no_mouse: a.no_mouse || b.no_mouse,
    }
}

/// One question needs no more than one thread.
fn on_one_thread<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::other(format!("cannot start: {e}")))?;
    runtime.block_on(work)
}

fn start(
    context: &Context,
    flags: &args::Screen,
    start: Option<String>,
    screen: OpenScreen,
) -> Result<Exit, Failure> {
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if !terminal && !flags.plain {
        return match start {
            None => on_one_thread(context.run(Verb::Status(args::Status::default()))),
            Some(_) => Err(Failure::usage("the screen needs a terminal")
                .next("coral query X prints; coral --plain writes lines")),
        };
    }
    let mut target = context.target.clone();
    // A place names the colony it was copied from; a flag still wins.
    if let Some(place) = start.as_deref().and_then(|s| s.parse::<coral_model::place::Place>().ok())
        && let Some(colony) = place.colony
        && !context.config.is_flag("colony")
        && target.paths.socket_override.is_none()
    {
        target.colony = colony;
    }
    screen(&context.screen(flags, target, context.launch.clone(), start))?;
    Ok(Exit::Done)
}

impl Context {
    /// The screen as flags and settings want it, over a colony, at a place.
    fn screen(
        &self,
        flags: &args::Screen,
        target: Target,
        launch: Launch,
        start: Option<String>,
    ) -> Screen {
        let config = &self.config;
        let theme = flags.theme.clone().unwrap_or_else(|| config.theme.clone());
        Screen {
            target,
            launch,
            theme: (theme != "auto").then_some(theme),
            ascii: flags.ascii || config.ascii,
            plain: flags.plain,
            utc: config.utc,
            no_mouse: flags.no_mouse || !config.mouse,
            window: config.window,
            start,
            profile: None,
        }
    }

    fn of(cli: &Cli) -> Result<Self, Failure> {
        let mut flags = Vec::new();
        if let Some(colony) = &cli.global.colony {
            if colony.contains("://") {
                let what = format!("remote colonies ({colony}) are not part of this build");
                return Err(Failure::usage(what).next("run coral on that machine, over ssh"));
            }
            flags.push(("colony", "--colony", colony.clone()));
        }
        if cli.global.utc {
            flags.push(("utc", "--utc", "true".to_owned()));
        }
        if let Some(Verb::Up(up)) = &cli.verb {
            for (key, flag, value) in [
                ("otlp.grpc", "--otlp-grpc", &up.otlp_grpc),
                ("otlp.http", "--otlp-http", &up.otlp_http),
            ] {
                flags.extend(value.clone().map(|v| (key, flag, v)));
            }
        }
        let paths = Paths::from_env()?;
        let project = std::env::current_dir().ok().and_then(|dir| project_config(&dir));
        let env = |name: &str| std::env::var(name).ok();
        let config = Config::load(&Sources { flags, env: &env, project, paths: &paths })?;
        let launch = Launch {
            otlp_grpc: config.otlp_grpc.argument(),
            otlp_http: config.otlp_http.argument(),
            more: vec![
                "--leave-after".to_owned(),
                format!("{}s", config.leave_after / 1_000_000_000),
            ],
            ..Launch::default()
        };
        Ok(Self {
            target: Target { colony: config.colony.clone(), paths },
            launch,
            clock: Clock::system(config.utc),
            config,
        })
    }

    async fn run(&self, verb: Verb) -> Result<Exit, Failure> {
        match verb {
            Verb::Up(up) => colony::up(self, up.format.json).await,
            Verb::Down(format) => colony::down(self, format.json).await,
            Verb::Status(status) => colony::status(self, status).await,
            Verb::Init(flags) => init::run(self, flags).await,
            Verb::Doctor(flags) if flags.privacy => privacy::run(self, flags.format.json),
            Verb::Doctor(flags) => doctor::run(self, flags.format.json).await,
            Verb::Query(q) => query::run(self, &q).await,
            Verb::Tail(t) => query::run(self, &ask::as_query("logs", &t, true)).await,
            Verb::Agents(Agents::List(t)) => {
                query::run(self, &ask::as_query("agents", &t, false)).await
            }
            Verb::Event(event) => event::run(self, &event).await,
            Verb::Eyes(flags) => eyes::run(self, &flags).await,
            Verb::Incident(args::Incident::Export(export)) => incident::export(self, &export).await,
            Verb::CompleteFilter { word } => complete::filter_word(self, &word).await,
            // Done before there is a runtime.
            Verb::Config(_) | Verb::Open(_) | Verb::Completions { .. } => Ok(Exit::Done),
        }
    }

    /// The colony, if it runs. Scripts must not start things by asking.
    async fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&self.target).await.map_err(|e| match e {
            ClientError::NotRunning { .. } => {
                let failure = Failure::from(e);
                let colony = &self.target.colony;
                let next = if colony.as_str() == coral_model::paths::ColonyName::DEFAULT {
                    "coral up".to_owned()
                } else {
                    format!("coral up --colony {colony}")
                };
                failure.next(next)
            }
            e => e.into(),
        })
    }
}

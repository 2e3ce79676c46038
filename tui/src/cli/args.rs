//! The words of the command line.
//!
//! clap describes them once, for parsing, help and completion. [`shape`] first turns what people type
//! into what clap can describe: `coral checkout` is `coral open checkout`, and `--compare` may stand
//! alone or before a window.

use clap::builder::ValueHint;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use coral_model::filter::{Key, nearest};
use coral_model::question::{Dimension, Measure, TraceOrder};

use super::exit::Failure;

/// See what your services do, and why.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "coral",
    version,
    about = "See what your services do, and why.",
    disable_help_subcommand = true,
    after_help = "Without a command: the screen. A trace id, a service or a place opens directly:\n  \
                  coral checkout\n  coral 4bf92f3577b34da6a3ce929d0e0e4736\n\n\
                  Filters: service=checkout status=500.. duration=250ms..2s level=warn.. not:route=/healthz\n\
                  Exit: 0 done, 1 unhealthy or --check found rows, 2 usage, 3 no colony, 4 not permitted,\n      \
                  5 other, 6 answered incompletely"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(flatten)]
    pub screen: Screen,
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What every command understands.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// Ask this colony
    #[arg(long, global = true, value_name = "NAME", help_heading = "Everywhere")]
    pub colony: Option<String>,
    /// Clocks show UTC
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub utc: bool,
}

/// How the screen looks.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "The screen")]
pub struct Screen {
    /// Theme by name
    #[arg(long, value_name = "NAME")]
    pub theme: Option<String>,
    /// Draw with ASCII only
    #[arg(long)]
    pub ascii: bool,
    /// Lines instead of a screen: for screen readers and dumb terminals
    #[arg(long)]
    pub plain: bool,
    /// Leave the mouse to the terminal
    #[arg(long)]
    pub no_mouse: bool,
}

/// What to do.
#[derive(Subcommand, Clone, Debug)]
pub enum Verb {
    /// Start the colony and its agent, and let them stay
    Up(Up),
    /// Stop the colony and its agent; what they gathered stays
    Down(Format),
    /// What runs, and what it sees
    Status(Status),
    /// Set Coral up on this machine, or print what there is to set up
    Init(Init),
    /// Check everything Coral needs, with the line that mends each fault
    Doctor(Doctor),
    /// Read and change settings
    #[command(subcommand)]
    Config(Config),
    /// Ask, and print the answer
    #[command(visible_alias = "q", after_help = QUERY_HELP)]
    Query(Box<Query>),
    /// Follow log records as they arrive (query logs --follow)
    Tail(Box<Tail>),
    /// Open the screen at a view, trace, service, place or file
    Open(Open),
    /// A window as one redacted file that opens anywhere
    #[command(subcommand)]
    Incident(Incident),
    /// Record that something happened: coral event "deploy payments v42"
    Event(Event),
    /// Agents, their senses and their losses
    #[command(subcommand)]
    Agents(Agents),
    /// Whether agents look into the kernel (eBPF), and what that costs; on, off
    Eyes(Eyes),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Complete a filter word (called by the shell's completion)
    #[command(name = "complete-filter", hide = true)]
    CompleteFilter {
        /// The word so far
        #[arg(allow_hyphen_values = true, default_value = "")]
        word: String,
    },
}

const QUERY_HELP: &str = "\
Questions: red services traces trace logs events topology metrics hosts inflight patterns diff sql
agents digest.
A trace id, a service or a place may stand instead.

  coral query red --since 1h --by host service=checkout
  coral query traces --order slow duration=1s..
  coral query logs level=warn.. \"pool exhausted\"
  coral query trace 4bf92f3577b34da6a3ce929d0e0e4736
  coral query metrics http.server.request.duration service=gateway
  coral query diff service=checkout duration=1s..
  coral query sql \"SELECT service, count(*) FROM spans GROUP BY ALL\"";

/// `coral up`.
#[derive(Args, Clone, Debug)]
pub struct Up {
    /// Where the agent takes OTLP over gRPC: auto, off or address:port
    #[arg(long, value_name = "ADDR")]
    pub otlp_grpc: Option<String>,
    /// Where the agent takes OTLP over HTTP: auto, off or address:port
    #[arg(long, value_name = "ADDR")]
    pub otlp_http: Option<String>,
    #[command(flatten)]
    pub format: Format,
}

/// Only whether JSON is wanted.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Format {
    /// Print JSON Lines
    #[arg(long)]
    pub json: bool,
}

/// `coral doctor`.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Doctor {
    #[command(flatten)]
    pub format: Format,
    /// List every field that is kept, where it comes from, and for how long
    #[arg(long)]
    pub privacy: bool,
}

/// `coral status`.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Status {
    #[command(flatten)]
    pub format: Format,
    /// Exit 1 unless every agent reports and nothing is dropped
    #[arg(long)]
    pub check: bool,
}

/// `coral init`.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Init {
    /// Take what is proposed, and write the configuration
    #[arg(long)]
    pub yes: bool,
    /// Ask nothing and write nothing: print what is there and what to set
    #[arg(long, conflicts_with = "yes")]
    pub print: bool,
}

/// `coral config …`.
#[derive(Subcommand, Clone, Debug)]
pub enum Config {
    /// Settings in force
    Show(Format),
    /// Each setting with where it came from and what it was stronger than
    Explain {
        /// Only this one
        key: Option<String>,
        #[command(flatten)]
        format: Format,
    },
    /// Where the files are
    Path(Format),
    /// Change a setting
    Set {
        /// Which, like ui.theme
        key: String,
        /// To what
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// In the file of the colony instead of the user's
        #[arg(long)]
        for_colony: bool,
        /// In the project's .coral/config.toml
        #[arg(long, conflicts_with = "for_colony")]
        for_project: bool,
    },
}

/// `coral agents …`.
#[derive(Subcommand, Clone, Debug)]
pub enum Agents {
    /// Every agent of the colony
    List(Box<Tail>),
}

/// Over which time.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Time")]
pub struct When {
    /// How far back, like 15m or 2h; or since which moment
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// From this moment: 14:02, -2h, `yesterday 14:00`, RFC 3339, epoch
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Up to this moment
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// Around this moment, or with --lines this log record; --since says how wide
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub around: Option<String>,
}

/// How an answer is printed.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// JSON Lines, ending with a coral.end/1 record
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Comma-separated values
    #[arg(long)]
    pub csv: bool,
    /// Keep printing what is new
    #[arg(long, short)]
    pub follow: bool,
    /// Exit 1 when there is any row
    #[arg(long)]
    pub check: bool,
}

/// `coral query`.
#[derive(Args, Clone, Debug, Default)]
pub struct Query {
    /// What is asked: red, services, traces, trace, logs, …
    #[arg(value_name = "X", default_value = "", hide_default_value = true)]
    pub what: String,
    /// Filter words; for trace its id, for metrics a name first, for sql a statement (or -)
    #[arg(value_name = "FILTER")]
    pub words: Vec<String>,
    #[command(flatten)]
    pub when: When,
    /// Compare with another window: alone, the equal one before; or yesterday, 1d, 13:40..13:55. Or
    /// with another build: build, build:v41..v42
    #[arg(long, value_name = "WINDOW", num_args = 0..=1, require_equals = true, default_missing_value = "previous", help_heading = "Time")]
    pub compare: Option<String>,
    /// Group by these, like host,version; of metrics by labels, like http.route
    #[arg(long, value_name = "DIMENSIONS", value_delimiter = ',')]
    pub by: Vec<String>,
    /// Only the N busiest groups; the others become one, __other__
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
    /// One row per time bucket of this width
    #[arg(long, value_name = "TIME", visible_alias = "every")]
    pub step: Option<String>,
    /// At most so many rows
    #[arg(long, value_name = "N", value_parser = some_rows)]
    pub limit: Option<usize>,
    /// Rank of traces
    #[arg(long, value_enum, visible_alias = "rank")]
    pub order: Option<Order>,
    /// metrics: labels, or rate, sum, mean, min, max, p50, p99 … of each group's series
    #[arg(long, value_name = "MEASURE", value_parser = measure)]
    pub measure: Option<Measure>,
    /// logs: with --around, so many records before and after the one it names
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub lines: Option<u32>,
    /// logs: what they have in common instead of the records (same as `query patterns`)
    #[arg(long)]
    pub patterns: bool,
    /// diff: the spans of interest, as a filter; without, the slow and the failed. topology: whose
    /// callers and callees
    #[arg(long, value_name = "FILTER")]
    pub of: Option<String>,
    /// topology: who calls it, directly and through others
    #[arg(long, requires = "of", conflicts_with = "downstream")]
    pub upstream: bool,
    /// topology: whom it calls, directly and through others
    #[arg(long, requires = "of")]
    pub downstream: bool,
    /// topology: at most so many calls away
    #[arg(long, value_name = "N", requires = "of")]
    pub depth: Option<u32>,
    /// diff: what to compare them with, as a filter; without, all others
    #[arg(long, value_name = "FILTER")]
    pub against: Option<String>,
    /// Save the records behind the answer (spans, logs, metrics, events, red, edges) as Parquet; - is standard
    /// output
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["json", "csv", "follow", "check", "limit"], help_heading = "Output")]
    pub parquet: Option<String>,
    /// Write over a Parquet file that is there already
    #[arg(long, requires = "parquet", help_heading = "Output")]
    pub force: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `coral tail` and `coral agents list`: a question that is already chosen.
#[derive(Args, Clone, Debug, Default)]
pub struct Tail {
    /// Filter words
    #[arg(value_name = "FILTER")]
    pub words: Vec<String>,
    #[command(flatten)]
    pub when: When,
    /// At most so many rows at once
    #[arg(long, value_name = "N", value_parser = some_rows)]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub output: Output,
}

/// Rank of traces.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum Order {
    /// Newest first
    Recent,
    /// Longest first
    Slow,
    /// Failed first, then longest
    Error,
    /// Of a rare shape, or far from what is usual, first
    Unusual,
}

impl From<Order> for TraceOrder {
    fn from(order: Order) -> Self {
        match order {
            Order::Recent => Self::Recent,
            Order::Slow => Self::Slow,
            Order::Error => Self::Error,
            Order::Unusual => Self::Unusual,
        }
    }
}

/// `coral open`.
#[derive(Args, Clone, Debug)]
pub struct Open {
    /// A view, a trace id, a service, a place (coral:…), or a file: OTLP/JSON, a log, a pprof profile
    #[arg(value_name = "X", value_hint = ValueHint::AnyPath)]
    pub what: String,
    #[command(flatten)]
    pub screen: Screen,
}

/// `coral incident …`.
#[derive(Subcommand, Clone, Debug)]
pub enum Incident {
    /// Write everything of a window into one file, secrets replaced: coral open FILE shows it
    Export(Export),
}

/// `coral incident export`.
#[derive(Args, Clone, Debug)]
pub struct Export {
    /// Which records; without, all
    #[arg(value_name = "FILTER")]
    pub words: Vec<String>,
    /// Where whoever opens it looks first (Y on the screen copies one); also its time, without one
    #[arg(long, value_name = "PLACE")]
    pub place: Option<String>,
    #[command(flatten)]
    pub when: When,
    /// The file; - is standard output
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: String,
    /// Write over a file that is there already
    #[arg(long)]
    pub force: bool,
    /// Also replace the values of this attribute, like key=customer.name; again for more
    #[arg(long, value_name = "key=NAME")]
    pub redact_more: Vec<String>,
}

/// `coral event`.
#[derive(Args, Clone, Debug)]
pub struct Event {
    /// What happened, in one line
    #[arg(required = true)]
    pub text: Vec<String>,
    /// Service it concerns
    #[arg(long)]
    pub service: Option<String>,
    /// Its kind; found from the text when left out
    #[arg(long)]
    pub kind: Option<String>,
    /// When it happened; now when left out
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub at: Option<String>,
    /// Particulars, like commit=1a2b3c
    #[arg(long = "attr", value_name = "NAME=VALUE")]
    pub attributes: Vec<String>,
    #[command(flatten)]
    pub format: Format,
}

/// `coral eyes`.
#[derive(Args, Clone, Debug)]
pub struct Eyes {
    /// Open their eyes or close them; without, how they are
    #[arg(value_enum)]
    pub what: Option<Lid>,
    /// Only of the agents of this host, now and later
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    #[command(flatten)]
    pub format: Format,
}

/// What becomes of eyes.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lid {
    /// They open
    On,
    /// They close, until somebody opens them
    Off,
}

fn measure(word: &str) -> Result<Measure, String> {
    word.parse().map_err(|e: coral_model::question::WordError| e.to_string())
}

/// How many rows at most: none would look like an empty answer.
fn some_rows(word: &str) -> Result<usize, String> {
    let n = word.parse::<usize>().ok().filter(|n| *n > 0);
    n.ok_or_else(|| "it takes a number of rows, 1 or more".to_owned())
}

/// A dimension by its word.
pub fn dimension(word: &str) -> Result<Dimension, String> {
    word.parse().map_err(|e: coral_model::question::WordError| {
        let near = nearest(word, Dimension::ALL.iter().map(|d| d.word()));
        near.map_or_else(|| e.to_string(), |near| format!("{e}; did you mean `{near}`?"))
    })
}

/// The description of the whole command line, as clap has it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Turns what was typed into what clap describes.
///
/// # Errors
/// A word that is nearly a command: opening a service of that name is hardly what was meant.
pub fn shape(typed: Vec<String>) -> Result<Vec<String>, Failure> {
    let command = command();
    let mut typed = compare_word(typed);
    let Some(at) = first_word(&command, &typed) else { return Ok(typed) };
    let Some(word) = typed.get(at).cloned() else { return Ok(typed) };
    let is = |c: &clap::Command| c.get_name() == word || c.get_all_aliases().any(|a| a == word);
    if command.get_subcommands().any(is) {
        let next = typed.iter().skip(at + 1).find(|w| !w.starts_with('-'));
        if word == "agents" && next.is_some_and(|w| w == "eyes") {
            return Err(Failure::usage("there is no `coral agents eyes`").next("coral eyes"));
        }
        if let Some(planned) = next.filter(|w| word == "agents" && ACTS.contains(&w.as_str())) {
            return Err(Failure::usage(format!(
                "`coral agents {planned}` is not part of this build yet: the colony starts and \
                 stops the one agent of this machine itself"
            ))
            .next("coral agents list shows who reports; coral down stops colony and agent"));
        }
        return Ok(typed);
    }
    if word == "help" {
        // `coral help query` is `coral query --help`.
        typed.remove(at);
        typed.push("--help".to_owned());
        return Ok(typed);
    }
    let visible =
        command.get_subcommands().filter(|c| !c.is_hide_set()).map(clap::Command::get_name);
    let planned = PLANNED.contains(&word.as_str());
    if let Some(near) = nearest(&word, visible).filter(|_| !planned) {
        return Err(Failure::usage(format!(
            "there is no command `{word}`; did you mean `{near}`?"
        ))
        .next(format!("coral {near}; to open a service of that name: coral open service={word}")));
    }
    if planned {
        return Err(Failure::usage(format!("`coral {word}` is not part of this build"))
            .next("coral --help lists what is"));
    }
    typed.insert(at, "open".to_owned());
    Ok(typed)
}

/// Commands that take the words of a filter.
const FILTERED: &[&str] = &["query", "q", "tail", "agents", "incident"];

/// What a flag that is none was meant to be, where it is a name of the filter: `--service till`.
#[must_use]
pub fn filter_word(typed: &[String], e: &clap::Error) -> Option<Failure> {
    if e.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(flag)) = e.get(ContextKind::InvalidArg) else { return None };
    as_filter(typed, flag.split_once('=').map_or(flag.as_str(), |(flag, _)| flag))
}

fn as_filter(typed: &[String], flag: &str) -> Option<Failure> {
    let verb = first_word(&command(), typed).and_then(|at| typed.get(at))?;
    let name = flag.strip_prefix("--")?;
    if !FILTERED.contains(&verb.as_str()) || Key::known_name(name).is_none() {
        return None;
    }
    let own =
        |word: &String| word.strip_prefix(flag).is_some_and(|w| w.is_empty() || w.starts_with('='));
    let at = typed.iter().position(own)?;
    let joined = typed.get(at).and_then(|word| word.split_once('=')).map(|(_, value)| value);
    let beside = typed.get(at + 1).map(String::as_str).filter(|word| !word.starts_with('-'));
    let taken = if joined.is_none() && beside.is_some() { 2 } else { 1 };
    let value = joined.or(beside).unwrap_or(if name == "error" { "true" } else { "…" });
    let plain = |word: &str| word.chars().all(|c| c.is_alphanumeric() || "._-/:=,…".contains(c));
    let word = if plain(value) { format!("{name}={value}") } else { format!("{name}=\"{value}\"") };
    let failure =
        Failure::usage(format!("{flag} is no flag, but a name of the filter: write {word}"));
    let (before, after) = (typed.get(1..at)?, typed.get(at + taken..)?);
    let others = || before.iter().chain(after).map(String::as_str);
    if value == "…" || !others().all(plain) {
        return Some(failure.next("coral query --help has examples"));
    }
    let line: Vec<&str> = std::iter::once("coral")
        .chain(before.iter().map(String::as_str))
        .chain([word.as_str()])
        .chain(after.iter().map(String::as_str))
        .collect();
    Some(failure.next(line.join(" ")))
}

/// Commands that Coral will have: naming one must not open a service called so.
const PLANNED: &[&str] = &[
    "uninstall",
    "token",
    "mesh",
    "colony",
    "audit",
    "alerts",
    "diagnose",
    "ask",
    "mcp",
    "profile",
    "probe",
    "exec",
    "shell",
    "capture",
];

/// What `coral agents` will come to do.
const ACTS: &[&str] = &["add", "remove"];

/// Where the first word that is neither a flag nor a flag's value stands.
fn first_word(command: &clap::Command, typed: &[String]) -> Option<usize> {
    let mut skip = false;
    for (i, word) in typed.iter().enumerate().skip(1) {
        if std::mem::take(&mut skip) {
            continue;
        }
        if !word.starts_with('-') {
            return Some(i);
        }
        skip = command.get_arguments().any(|arg| {
            arg.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long))
                && arg.get_action().takes_values()
        });
    }
    None
}

/// Joins `--compare yesterday` to `--compare=yesterday` where the next word is a window and no
/// filter word: the flag may also stand alone.
fn compare_word(typed: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(typed.len());
    for word in typed {
        match out.last_mut() {
            Some(last) if last == "--compare" && is_window(&word) => {
                last.push('=');
                last.push_str(&word);
            }
            _ => out.push(word),
        }
    }
    out
}

fn is_window(word: &str) -> bool {
    let duration = |w: &str| coral_model::when::parse_duration(w.trim_start_matches('-')).is_ok();
    // Begins like a window or is nearly the word for one: whoever understands it says what is wrong.
    let number = word.starts_with(|c: char| c.is_ascii_digit());
    let bare = !word.contains(['=', '<', '>', ':', '!', '"']);
    if bare && (number || nearest(word, ["previous", "before", "yesterday"]).is_some()) {
        return true;
    }
    matches!(word, "previous" | "before" | "yesterday" | "last week" | "build")
        || word.starts_with("build:")
        || duration(word)
        || (word.contains("..") && !word.contains('='))
}

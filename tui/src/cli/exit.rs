//! How a run ends: a code, and for a failure what failed, why, and the next command to try.

use std::fmt::Write as _;
use std::io::{self, Write};

use coral_model::config::ConfigError;
use coral_model::filter::FilterError;
use coral_model::paths::PathsError;
use coral_model::place::PlaceError;
use coral_model::question::WordError;
use coral_model::text::clean;
use coral_model::when::WhenError;

use crate::client::ClientError;

/// Exit codes, as the documentation lists them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Done; an empty answer too.
    Done = 0,
    /// Done, and unhealthy; with `--check`, there were rows.
    Unhealthy = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The colony cannot be reached.
    Unreachable = 3,
    /// It may not be asked.
    NotPermitted = 4,
    /// Anything else.
    Other = 5,
    /// Answered, but incompletely or blind.
    Incomplete = 6,
}

impl Exit {
    /// The number the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unhealthy => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NotPermitted => 4,
            Self::Other => 5,
            Self::Incomplete => 6,
        }
    }
}

/// Why a command failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The code to exit with.
    pub exit: Exit,
    /// What failed; may have several lines (a caret).
    pub what: String,
    /// The next command to try.
    pub next: Option<String>,
    /// The reader of our output is gone: say nothing.
    pub quiet: bool,
}

/// A failure as programs read it.
#[derive(serde::Serialize)]
struct Object<'a> {
    schema: &'static str,
    exit: u8,
    error: &'a str,
    next: Option<&'a str>,
}

impl Failure {
    /// A failure with a code of its own.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), next: None, quiet: false }
    }

    /// The command line is wrong.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Anything without a code of its own.
    pub fn other(what: impl Into<String>) -> Self {
        Self::new(Exit::Other, what)
    }

    /// With the next command to try.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Says it on standard error; with `json` also as an object, on a line of its own.
    pub fn tell(&self, json: bool) {
        if self.quiet {
            return;
        }
        let mut text = String::new();
        for (i, line) in self.what.lines().filter(|l| !l.trim().is_empty()).enumerate() {
            let lead = if i == 0 { "coral: " } else { "  " };
            // Writing to a String cannot fail.
            _ = writeln!(text, "{lead}{}", clean(line));
        }
        if let Some(next) = &self.next {
            _ = writeln!(text, "try: {}", clean(next));
        }
        if json {
            let object = Object {
                schema: "coral.error/1",
                exit: self.exit.code(),
                error: &self.what,
                next: self.next.as_deref(),
            };
            _ = writeln!(text, "{}", serde_json::to_string(&object).unwrap_or_default());
        }
        // There is nobody left to tell that standard error is gone.
        _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::BrokenPipe {
            return Self { exit: Exit::Done, what: String::new(), next: None, quiet: true };
        }
        Self::other(format!("cannot write the answer: {e}"))
    }
}

impl From<ClientError> for Failure {
    fn from(e: ClientError) -> Self {
        let exit = match &e {
            ClientError::NotRunning { .. } | ClientError::Lost(_) | ClientError::Start { .. } => {
                Exit::Unreachable
            }
            ClientError::NotPermitted { .. } => Exit::NotPermitted,
            ClientError::Refused { code, .. } => match code {
                tonic::Code::InvalidArgument => Exit::Usage,
                tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => Exit::NotPermitted,
                _ => Exit::Other,
            },
            ClientError::Paths(PathsError::NotOurs { .. } | PathsError::TooOpen { .. }) => {
                Exit::NotPermitted
            }
            ClientError::Paths(_) | ClientError::ColonyTooOld { .. } | ClientError::Garbled(_) => {
                Exit::Other
            }
        };
        Self { exit, what: e.to_string(), next: e.remedy(), quiet: false }
    }
}

impl From<FilterError> for Failure {
    fn from(e: FilterError) -> Self {
        Self::usage(format!("this filter cannot be understood\n{e}"))
    }
}

impl From<WhenError> for Failure {
    fn from(e: WhenError) -> Self {
        Self::usage(e.to_string())
    }
}

impl From<PlaceError> for Failure {
    fn from(e: PlaceError) -> Self {
        Self::usage(e.to_string())
    }
}

impl From<WordError> for Failure {
    fn from(e: WordError) -> Self {
        Self::usage(e.to_string())
    }
}

impl From<PathsError> for Failure {
    fn from(e: PathsError) -> Self {
        Self::other(e.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Self {
        let next = match &e {
            ConfigError::Unknown { .. } | ConfigError::Value { .. } => "coral config explain",
            _ => "coral config path",
        };
        Self::usage(e.to_string()).next(next)
    }
}

//! What a filter says.

use std::ops::Bound;

use super::key::Key;

/// A filter. The empty conjunction (`And` of nothing) matches everything.
#[derive(Clone, PartialEq, Debug)]
pub enum Expr {
    /// All of them.
    And(Vec<Expr>),
    /// Any of them.
    Or(Vec<Expr>),
    /// Not this. Where a field is unknown, a test of it does not hold, so its negation does.
    Not(Box<Expr>),
    /// A test of one field.
    Term(Term),
    /// The text, anywhere, whatever its case.
    Text(String),
}

impl Default for Expr {
    fn default() -> Self {
        Self::everything()
    }
}

impl Expr {
    /// Matches everything.
    #[must_use]
    pub const fn everything() -> Self {
        Self::And(Vec::new())
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::And(all) if all.is_empty())
    }

    /// Every test in it, in the order written.
    #[must_use]
    pub fn terms(&self) -> Vec<&Term> {
        let mut out = Vec::new();
        self.visit(&mut |e| {
            if let Self::Term(term) = e {
                out.push(term);
            }
        });
        out
    }

    /// Services it names by their whole names, in the order written: those it wants, not those it
    /// excludes.
    #[must_use]
    pub fn services(&self) -> Vec<&str> {
        match self {
            Self::And(all) | Self::Or(all) => all.iter().flat_map(Self::services).collect(),
            Self::Term(Term { key: Key::Service, test: Test::Any(values) }) => {
                let names = values.iter().map(|value| match value {
                    Value::Text(name) => Some(name.as_str()),
                    _ => None,
                });
                names.flatten().collect()
            }
            Self::Not(_) | Self::Term(_) | Self::Text(_) => Vec::new(),
        }
    }

    fn visit<'a>(&'a self, f: &mut impl FnMut(&'a Self)) {
        f(self);
        match self {
            Self::And(all) | Self::Or(all) => all.iter().for_each(|e| e.visit(f)),
            Self::Not(inner) => inner.visit(f),
            Self::Term(_) | Self::Text(_) => {}
        }
    }
}

/// A test of one field.
#[derive(Clone, PartialEq, Debug)]
pub struct Term {
    /// The field.
    pub key: Key,
    /// What must hold of it.
    pub test: Test,
}

/// What must hold of a field.
#[derive(Clone, PartialEq, Debug)]
pub enum Test {
    /// It equals one of these (never empty).
    Any(Vec<Value>),
    /// It lies in here. Bounds written `a..b` are both inside.
    Range(Range),
    /// The pattern occurs in it.
    Matches(Pattern),
    /// It is there.
    Has,
}

/// A value to be equal to. Its variant follows from the key: [`Key::Duration`] has durations,
/// [`Key::Level`] levels, [`Key::Error`] booleans, all others text.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Compared as text, exactly.
    Text(String),
    /// Nanoseconds.
    Duration(u64),
    /// All severities of this level.
    Level(Level),
    /// Yes or no.
    Bool(bool),
}

/// One end of a range.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub enum Scalar {
    /// A number; fields that are not numbers are not in the range.
    Number(f64),
    /// Nanoseconds.
    Duration(u64),
    /// A level; a bound means all severities of it.
    Level(Level),
}

/// From where to where. At least one end is given.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Range {
    /// The lower end.
    pub from: Bound<Scalar>,
    /// The upper end.
    pub to: Bound<Scalar>,
}

/// A log level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// Severity 1–4.
    Trace,
    /// Severity 5–8.
    Debug,
    /// Severity 9–12.
    Info,
    /// Severity 13–16.
    Warn,
    /// Severity 17–20.
    Error,
    /// Severity 21–24.
    Fatal,
}

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Self; 6] =
        [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Fatal];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// The lowest of its four severity numbers (OpenTelemetry logs data model).
    #[must_use]
    pub const fn lowest(self) -> u8 {
        match self {
            Self::Trace => 1,
            Self::Debug => 5,
            Self::Info => 9,
            Self::Warn => 13,
            Self::Error => 17,
            Self::Fatal => 21,
        }
    }

    /// The highest of its four severity numbers.
    #[must_use]
    pub const fn highest(self) -> u8 {
        self.lowest() + 3
    }

    /// The level of a severity number; `None` for 0 (unspecified) and numbers past 24.
    #[must_use]
    pub fn of_severity(severity: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|l| (l.lowest()..=l.highest()).contains(&severity))
    }

    /// From its word; `warning`, `err`, `critical` and any case are understood too.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Self::ALL.into_iter().find(|l| l.word() == word).or(match word.as_str() {
            "warning" => Some(Self::Warn),
            "err" => Some(Self::Error),
            "information" => Some(Self::Info),
            "critical" | "panic" => Some(Self::Fatal),
            _ => None,
        })
    }
}

/// A regular expression, bounded in size. Equal when written alike.
#[derive(Clone, Debug)]
pub struct Pattern(regex::Regex);

/// Bounds of a compiled pattern: enough for any filter a person writes, too little to hurt.
const PATTERN_BYTES: usize = 1 << 20;
const PATTERN_NEST: u32 = 50;

impl Pattern {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it, on one line.
    pub fn new(source: &str) -> Result<Self, String> {
        regex::RegexBuilder::new(source)
            .size_limit(PATTERN_BYTES)
            .dfa_size_limit(PATTERN_BYTES)
            .nest_limit(PATTERN_NEST)
            .build()
            .map(Self)
            .map_err(|e| match e {
                regex::Error::CompiledTooBig(_) => "it is too big".to_owned(),
                // The crate draws its own caret over several lines; its last line says why.
                e => e
                    .to_string()
                    .lines()
                    .last()
                    .map(|l| l.trim_start_matches("error: ").to_owned())
                    .unwrap_or_default(),
            })
    }

    /// As written.
    #[must_use]
    pub fn source(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it occurs in `text`.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Expr {
    /// All of `all`; nested conjunctions are flattened.
    #[must_use]
    pub fn and(all: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(all.len());
        for e in all {
            match e {
                Self::And(inner) => flat.extend(inner),
                e => flat.push(e),
            }
        }
        if flat.len() == 1 { flat.pop().unwrap_or_default() } else { Self::And(flat) }
    }

    /// Any of `any`; nested disjunctions are flattened.
    #[must_use]
    pub fn or(any: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(any.len());
        for e in any {
            match e {
                Self::Or(inner) => flat.extend(inner),
                e => flat.push(e),
            }
        }
        if flat.len() == 1 { flat.pop().unwrap_or_default() } else { Self::Or(flat) }
    }
}

//! A view as one line: as a command that asks the same question, and as a *place* that reopens it.
//!
//! `y` copies [`command`]: `coral query red --from … --to … service=checkout`, quoted for a shell.
//! `Y` copies a [`Place`]: one line for a chat, without a character that a chat, a shell or a mail
//! client would touch. Both carry absolute times, so that they mean the same tomorrow.
//!
//! ```text
//! coral:1/local/traces/2026-11-22T14:02:31Z..2026-11-22T14:17:31Z/service=checkout/filter=error%3Dtrue
//!       │   │     │    └ window                                   └ selection, filter, comparison
//!       │   │     └ view                                          and how it was shown (split, order, rows)
//!       │   └ colony, `-` for whichever is at hand
//!       └ version of this form
//! ```

mod look;

use std::fmt;
use std::str::FromStr;

pub use look::{Look, Sort};

use crate::filter;
use crate::paths::ColonyName;
use crate::question::{Direction, Mode, Question, TraceOrder};
use crate::time::{Time, Window};
use crate::when::print_duration;

/// What every place begins with.
pub const SCHEME: &str = "coral:";
/// The only version of the form so far.
const VERSION: &str = "1";
/// A place longer than this was not made by Coral: a filter of the greatest length, each byte
/// written as three, and as much again.
const MAX_BYTES: usize = 96 * 1024;

/// Why a text is no place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlaceError {
    /// It does not begin like one.
    #[error(
        "a place begins with {SCHEME}, like coral:1/local/services/…; press Y on the screen to copy one"
    )]
    NotAPlace,
    /// Made by a newer Coral.
    #[error("this place has form {0}, this program understands form {VERSION}: update coral")]
    Version(String),
    /// Far too long.
    #[error("this place has {0} bytes, more than the {MAX_BYTES} one can have: it is damaged")]
    TooLong(usize),
    /// A part is missing.
    #[error("this place has no {0}: it was cut off; copy it whole")]
    Missing(&'static str),
    /// A part cannot be understood.
    #[error("the {part} of this place cannot be `{value}`: {why}")]
    Part {
        /// Which.
        part: &'static str,
        /// What it is, made safe to show.
        value: String,
        /// What it should be.
        why: String,
    },
}

/// A view, window, filter and selection that can be opened again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The colony; `None` is whichever the reader uses.
    pub colony: Option<ColonyName>,
    /// Name of the view, as the screen or `coral query` has it.
    pub view: String,
    /// The window.
    pub window: Window,
    /// The filter.
    pub filter: String,
    /// What is selected.
    pub selection: Selection,
    /// The window compared with.
    pub compare: Option<Window>,
    /// How it was shown.
    pub look: Look,
}

/// What is selected. All panes follow it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// A service.
    pub service: Option<String>,
    /// An operation of it.
    pub operation: Option<String>,
    /// An instance.
    pub instance: Option<String>,
    /// A host.
    pub host: Option<String>,
    /// A trace id.
    pub trace: Option<String>,
    /// A span id.
    pub span: Option<String>,
    /// A moment.
    pub moment: Option<Time>,
}

impl Selection {
    fn texts(&self) -> [(&'static str, &Option<String>); 6] {
        [
            ("service", &self.service),
            ("operation", &self.operation),
            ("instance", &self.instance),
            ("host", &self.host),
            ("trace", &self.trace),
            ("span", &self.span),
        ]
    }

    /// Nothing is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Place {
    /// A view over a window, nothing selected.
    #[must_use]
    pub fn new(view: &str, window: Window) -> Self {
        Self {
            colony: None,
            view: view.to_owned(),
            window,
            filter: String::new(),
            selection: Selection::default(),
            compare: None,
            look: Look::default(),
        }
    }

    /// The command that opens it.
    #[must_use]
    pub fn command(&self) -> String {
        format!("coral open {self}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colony = self.colony.as_ref().map_or("-", ColonyName::as_str);
        write!(f, "{SCHEME}{VERSION}/{colony}/{}/{}", self.view, window(&self.window))?;
        for (name, value) in self.selection.texts() {
            if let Some(value) = value {
                write!(f, "/{name}={}", encode(value))?;
            }
        }
        if let Some(moment) = self.selection.moment {
            write!(f, "/at={moment}")?;
        }
        if let Some(compare) = &self.compare {
            write!(f, "/compare={}", window(compare))?;
        }
        self.look.write(f)?;
        if !self.filter.is_empty() {
            write!(f, "/filter={}", encode(&self.filter))?;
        }
        Ok(())
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let text = text.trim();
        let text = text.strip_prefix("coral open ").unwrap_or(text).trim();
        let rest = text.strip_prefix(SCHEME).ok_or(PlaceError::NotAPlace)?;
        if text.len() > MAX_BYTES {
            return Err(PlaceError::TooLong(text.len()));
        }
        let mut parts = rest.split('/');
        let mut next =
            |what| parts.next().filter(|p| !p.is_empty()).ok_or(PlaceError::Missing(what));
        let version = next("version")?;
        if version != VERSION {
            return Err(PlaceError::Version(crate::text::fit(version, 20)));
        }
        let colony = match next("colony")? {
            "-" => None,
            name => Some(name.parse().map_err(|e| part("colony", name, e))?),
        };
        let view = next("view")?;
        if !look::is_word(view) {
            return Err(part("view", view, "a view is one lower-case word"));
        }
        let mut place = Self::new(view, parse_window("window", next("window")?)?);
        place.colony = colony;
        for one in parts {
            place.set(one)?;
        }
        Ok(place)
    }
}

impl Place {
    fn set(&mut self, one: &str) -> Result<(), PlaceError> {
        let (name, value) = one
            .split_once('=')
            .ok_or_else(|| part("end", one, "parts after the window are name=value"))?;
        let text = |what| decode(value).map_err(|why| part(what, value, why));
        match name {
            "service" => self.selection.service = Some(text("service")?),
            "operation" => self.selection.operation = Some(text("operation")?),
            "instance" => self.selection.instance = Some(text("instance")?),
            "host" => self.selection.host = Some(text("host")?),
            "trace" => {
                let id: Result<crate::TraceId, _> = value.parse();
                self.selection.trace = Some(id.map_err(|e| part("trace", value, e))?.to_string());
            }
            "span" => {
                let id: Result<crate::SpanId, _> = value.parse();
                self.selection.span = Some(id.map_err(|e| part("span", value, e))?.to_string());
            }
            "at" => self.selection.moment = Some(moment("moment", value)?),
            "compare" => self.compare = Some(parse_window("comparison", value)?),
            "filter" => {
                let filter = text("filter")?;
                filter::parse(&filter).map_err(|e| part("filter", &filter, e.short()))?;
                self.filter = filter;
            }
            // A newer Coral may say more; the rest still opens.
            _ => self.look.set(name, value)?,
        }
        Ok(())
    }
}

fn part(part: &'static str, value: &str, why: impl fmt::Display) -> PlaceError {
    PlaceError::Part { part, value: crate::text::fit(value, 60), why: why.to_string() }
}

fn window(window: &Window) -> String {
    format!("{}..{}", window.from, window.to)
}

fn moment(what: &'static str, text: &str) -> Result<Time, PlaceError> {
    let parsed: Option<jiff::Timestamp> = text.parse().ok();
    parsed
        .and_then(|t| u64::try_from(t.as_nanosecond()).ok())
        .map(Time)
        .ok_or_else(|| part(what, text, "a time is written like 2026-11-22T14:02:31Z"))
}

fn parse_window(what: &'static str, text: &str) -> Result<Window, PlaceError> {
    let (from, to) = text.split_once("..").ok_or_else(|| {
        part(what, text, "it is written from..to, each like 2026-11-22T14:02:31Z")
    })?;
    let (from, to) = (moment(what, from)?, moment(what, to)?);
    if to <= from {
        return Err(part(what, text, "it ends before it begins"));
    }
    Ok(Window { from, to })
}

/// Letters, digits, `.` and `-` as they are, all else as `%XX` of its UTF-8 bytes: nothing that a
/// chat takes for markup, a shell for syntax, or a mail client for the end of the link.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
            out.push(c);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn decode(text: &str) -> Result<String, &'static str> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err("a % must be followed by two hex digits");
        };
        out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
    }
    let text = String::from_utf8(out).map_err(|_| "it is not UTF-8")?;
    if text.chars().any(crate::text::is_hostile) {
        return Err("it holds control characters");
    }
    Ok(text)
}

/// The command line that asks `question`, quoted for a POSIX shell.
#[must_use]
pub fn command(question: &Question) -> String {
    let words: Vec<String> = arguments(question).iter().map(|w| shell_quote(w)).collect();
    words.join(" ")
}

/// The words of the command line that asks `question`, `coral` first, before any quoting.
#[must_use]
pub fn arguments(question: &Question) -> Vec<String> {
    let q = question;
    let mut words: Vec<String> = ["coral", "query", q.view.word()].map(str::to_owned).into();
    let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
    if let Some(of) = &q.of {
        flag("--of", of.clone());
    }
    if let Some(against) = &q.against {
        flag("--against", against.clone());
    }
    if let Some(reach) = &q.reach {
        flag("--of", reach.of.clone());
        if let Some(depth) = reach.depth {
            flag("--depth", depth.to_string());
        }
    }
    if let Some(around) = &q.around {
        let id = around.mark.map(|mark| crate::RecordId { at: around.at, mark }.to_string());
        flag("--around", id.unwrap_or_else(|| around.at.to_string()));
        flag("--lines", around.lines.to_string());
        flag("--since", print_duration(q.window.length()));
    } else if q.mode == Mode::Once {
        flag("--from", q.window.from.to_string());
        flag("--to", q.window.to.to_string());
    } else {
        flag("--since", print_duration(q.window.length()));
    }
    if !q.by.is_empty() {
        let by: Vec<_> = q.by.iter().map(|d| d.word()).collect();
        flag("--by", by.join(","));
    }
    if !q.labels.is_empty() {
        flag("--by", q.labels.join(","));
    }
    if let Some(measure) = &q.measure {
        flag("--measure", measure.to_string());
    }
    if let Some(top) = q.top {
        flag("--top", top.to_string());
    }
    if let Some(step) = q.step {
        flag("--step", print_duration(step));
    }
    if q.limit != Question::new(q.view, q.window).limit {
        flag("--limit", q.limit.to_string());
    }
    if q.order != TraceOrder::Recent {
        flag("--order", q.order.to_string());
    }
    if let Some(compare) = &q.compare {
        words.push(format!("--compare={}", window(compare)));
    }
    if let Some(builds) = &q.builds {
        words.push(format!("--compare={builds}"));
    }
    match q.reach.as_ref().map(|r| r.direction) {
        Some(Direction::Upstream) => words.push("--upstream".to_owned()),
        Some(Direction::Downstream) => words.push("--downstream".to_owned()),
        Some(Direction::Both) | None => {}
    }
    if q.mode != Mode::Once {
        words.push("--follow".to_owned());
    }
    words.extend(q.subject.clone());
    // In its own spelling: a bare word would read as the subject of `metrics`.
    let canonical = filter::parse(&q.filter).map(|e| e.to_string());
    words.extend(filter::split_words(canonical.as_ref().unwrap_or(&q.filter)));
    words
}

/// A word as a POSIX shell must be given it.
#[must_use]
pub fn shell_quote(word: &str) -> String {
    let safe = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '.' | '_' | '/' | ':' | '=' | ',' | '@' | '%' | '+' | '-')
    };
    // zsh expands a word that begins with `=`.
    if !word.is_empty() && word.chars().all(safe) && !word.starts_with('=') {
        return word.to_owned();
    }
    format!("'{}'", crate::text::clean(word).replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::{Dimension, View};

    fn sample() -> Place {
        let mut place = Place::new(
            "traces",
            Window::new(Time(1_763_820_000_123_000_000), Time(1_763_820_900_000_000_000)),
        );
        place.colony = Some("shop-7f3a".parse().unwrap());
        place.filter = "service=checkout \"pool exhausted\" not:route=/healthz".into();
        place.selection.service = Some("checkout / ünïcode".into());
        place.selection.trace = Some("4bf92f3577b34da6a3ce929d0e0e4736".into());
        place.selection.moment = Some(Time(1_763_820_300_000_000_001));
        place.compare = Some(place.window.previous());
        place
    }

    #[test]
    fn a_place_round_trips_and_is_safe_in_a_chat_and_a_shell() {
        let place = sample();
        let line = place.to_string();
        assert_eq!(line.parse(), Ok(place.clone()));
        assert_eq!(place.command().parse(), Ok(place));
        assert!(line.chars().all(|c| c.is_ascii_alphanumeric() || ":/.=%-".contains(c)), "{line}");
        let bare = Place::new("services", Window::new(Time(0), Time(1)));
        assert_eq!(bare.to_string().parse(), Ok(bare));
    }

    #[test]
    fn hostile_places_are_refused_with_the_reason() {
        let w = "2026-11-22T14:02:31Z..2026-11-22T14:17:31Z";
        for (text, reason) in [
            ("http://x", "begins with coral:"),
            ("coral:2/local/x", "update coral"),
            ("coral:1", "no colony"),
            ("coral:1/local/services", "no window"),
            ("coral:1/../services/x", "colony"),
            (&format!("coral:1/-/Ser;rm/{w}"), "one lower-case word"),
            ("coral:1/-/x/a..b", "a time is written"),
            ("coral:1/-/x/2026-11-22T14:02:31Z..2026-11-22T14:02:31Z", "ends before"),
            (&format!("coral:1/-/x/{w}/service=%1B%5B2J"), "control characters"),
            (&format!("coral:1/-/x/{w}/service=%FF"), "not UTF-8"),
            (&format!("coral:1/-/x/{w}/service=%4"), "two hex digits"),
            (&format!("coral:1/-/x/{w}/trace=xyz"), "32 hex digits"),
            (&format!("coral:1/-/x/{w}/filter=duration%3Dfast"), "duration"),
            (&format!("coral:1/-/x/{w}/rubbish"), "name=value"),
            (&format!("coral:1/-/x/{w}/service={}", "a".repeat(100_000)), "damaged"),
        ] {
            let error = text.parse::<Place>().unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
            assert!(!error.chars().any(crate::text::is_hostile));
        }
        // Parts of a later version are passed over.
        assert!(format!("coral:1/-/x/{w}/colour=blue").parse::<Place>().is_ok());
    }

    #[test]
    fn a_question_prints_as_the_command_that_asks_it() {
        let mut q = Question::new(
            View::Red,
            Window::new(Time(1_763_820_000_000_000_000), Time(1_763_820_900_000_000_000)),
        );
        q.filter = "service=checkout it's".into();
        q.by = vec![Dimension::Host, Dimension::Version];
        q.step = Some(10_000_000_000);
        assert_eq!(
            command(&q),
            "coral query red --from 2025-11-22T14:00:00Z --to 2025-11-22T14:15:00Z --by host,version \
             --step 10s service=checkout '\"it'\\''s\"'"
        );
    }

    #[test]
    fn what_is_quoted_is_what_a_shell_gives_back() {
        for word in ["", "a b", "it's", "$HOME `x`", "=x", "a\"b", "*", "!x", "é", "a=b,c..d"] {
            let script = format!("printf %s {}", shell_quote(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_place_round_trips(service in "[^\\p{C}]{0,20}", from in 0..u64::MAX / 2, length in 1..1_u64 << 50) {
            let service: String = service.chars().filter(|c| !crate::text::is_hostile(*c)).collect();
            let mut place = Place::new("services", Window::before(Time(from.saturating_add(length)), length));
            place.selection.service = Some(service);
            proptest::prop_assert_eq!(place.to_string().parse(), Ok(place));
        }

        #[test]
        fn no_text_panics(text in "(coral:1?)?[ -~é]{0,60}") {
            _ = text.parse::<Place>();
        }
    }
}

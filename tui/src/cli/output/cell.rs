//! One value as a person reads it.

use coral_model::text;
use coral_model::view::{Red, State};

/// How a cell looks on a terminal. Never the only sign: there is always a word or mark too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Look {
    /// As it is.
    #[default]
    Plain,
    /// Says little.
    Dim,
    /// Stands out.
    Bold,
    /// Moved.
    Warn,
    /// Fails.
    Bad,
    /// Well.
    Good,
}

impl Look {
    /// The terminal's own colours, by number.
    #[must_use]
    pub const fn sequence(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Good => "\x1b[32m",
        }
    }
}

/// A value and how it looks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cell {
    /// What it says; made safe already.
    pub text: String,
    /// How it looks.
    pub look: Look,
}

impl Cell {
    /// Text from anywhere: it is cleaned here.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self { text: text::clean(text).into_owned(), look: Look::Plain }
    }

    /// Text that may be missing: `–`.
    #[must_use]
    pub fn maybe(text: Option<&str>) -> Self {
        text.map_or_else(|| Self::text("–").look(Look::Dim), Self::text)
    }

    /// Not observed.
    #[must_use]
    pub fn unknown() -> Self {
        Self::text("?").look(Look::Dim)
    }

    /// Observed, and there is nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::text("–").look(Look::Dim)
    }

    /// With a look.
    #[must_use]
    pub fn look(mut self, look: Look) -> Self {
        self.look = look;
        self
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::text(&text)
    }
}

/// What stands for numbers that are not there: silence is not zero.
#[must_use]
pub fn silence(state: State) -> Cell {
    match state {
        State::Active | State::NoTraffic => Cell::none(),
        State::NotObserved | State::Stale => Cell::unknown(),
    }
}

/// `stale`, `no traffic` …, with the age of the newest word where it is known.
#[must_use]
pub fn state(state: State, age_ns: Option<u64>) -> Cell {
    match state {
        State::Active => Cell::text("active"),
        State::NoTraffic => Cell::text("no traffic").look(Look::Dim),
        State::NotObserved => Cell::text("not observed").look(Look::Dim),
        State::Stale => {
            let age = age_ns.map(|ns| format!(" {}", text::duration(ns))).unwrap_or_default();
            Cell::text(&format!("stale{age}")).look(Look::Warn)
        }
    }
}

/// Requests per second.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if per_second == 0.0 {
        "0/s".to_owned()
    } else if per_second < 0.095 {
        format!("{:.1}/m", per_second * 60.0)
    } else if per_second < 9.95 {
        format!("{per_second:.1}/s")
    } else {
        format!("{}/s", text::count(coral_model::num::u64_from_f64(per_second.round())))
    }
}

/// A share in percent; two digits that say something.
#[must_use]
pub fn percent(ratio: f64) -> String {
    let p = ratio * 100.0;
    if p == 0.0 {
        "0%".to_owned()
    } else if p < 0.05 {
        "<0.1%".to_owned()
    } else if p < 99.95 {
        format!("{p:.1}%")
    } else {
        format!("{p:.0}%")
    }
}

/// The share of failed requests: bad from 5 % on, worth a look above 0.
#[must_use]
pub fn errors(ratio: Option<f64>) -> Cell {
    match ratio {
        None => Cell::none(),
        Some(r) => Cell::text(&percent(r)).look(match r {
            r if r >= 0.05 => Look::Bad,
            r if r > 0.0 => Look::Warn,
            _ => Look::Plain,
        }),
    }
}

/// A duration that may not be known.
#[must_use]
pub fn duration(ns: Option<u64>) -> Cell {
    ns.map_or_else(Cell::none, |ns| Cell::text(&text::duration(ns)))
}

/// A 99th percentile: of fewer than 100 requests it says little.
#[must_use]
pub fn p99(red: &Red) -> Cell {
    let cell = duration(red.p99_ns);
    if red.requests < 100 { cell.look(Look::Dim) } else { cell }
}

/// `▲18×` or `▼3×`: how far something moved.
#[must_use]
pub fn moved(ratio: Option<f64>) -> Cell {
    let Some(r) = ratio.filter(|r| r.is_finite()) else { return Cell::none() };
    let times = |r: f64| if r >= 10.0 { format!("{r:.0}×") } else { format!("{r:.1}×") };
    match r {
        r if r >= 2.0 => Cell::text(&format!("▲{}", times(r))).look(Look::Bad),
        r if r >= 1.1 => Cell::text(&format!("▲{}", times(r))).look(Look::Warn),
        r if r > 0.0 && r <= 0.9 => Cell::text(&format!("▼{}", times(1.0 / r))),
        r if r > 0.0 => Cell::text("="),
        _ => Cell::text("▼"),
    }
}

/// `!` moved, `!!` failing.
#[must_use]
pub fn marked(name: &str, level: u8) -> Cell {
    match level {
        0 => Cell::text(name),
        1 => Cell::text(&format!("{name}!")).look(Look::Warn),
        _ => Cell::text(&format!("{name}!!")).look(Look::Bad),
    }
}

/// A share of a whole that fills up: bad from 90 %.
#[must_use]
pub fn filled(used: u64, whole: u64) -> Cell {
    if whole == 0 {
        return Cell::none();
    }
    let ratio = coral_model::num::f64_from(used) / coral_model::num::f64_from(whole);
    Cell::text(&percent(ratio)).look(if ratio >= 0.9 { Look::Bad } else { Look::Plain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_silence_and_ignorance_look_different() {
        assert_eq!(errors(Some(0.0)).text, "0%");
        assert_eq!(errors(None).text, "–");
        assert_eq!(silence(State::NotObserved).text, "?");
        assert_eq!(silence(State::NoTraffic).text, "–");
        assert_eq!(state(State::Stale, Some(34_000_000_000)).text, "stale 34s");
        assert_eq!(rate(0.0), "0/s");
    }

    #[test]
    fn numbers_keep_the_digits_that_say_something() {
        assert_eq!(rate(0.05), "3.0/m");
        assert_eq!(rate(4.25), "4.2/s");
        assert_eq!(rate(118.0), "118/s");
        assert_eq!(percent(0.091), "9.1%");
        assert_eq!(percent(0.000_01), "<0.1%");
        assert_eq!(percent(1.0), "100%");
        assert_eq!(moved(Some(18.2)).text, "▲18×");
        assert_eq!(moved(Some(0.25)).text, "▼4.0×");
        assert_eq!(moved(None).text, "–");
    }

    #[test]
    fn hostile_text_is_made_safe() {
        assert!(!Cell::text("a\x1b[2Jb").text.contains('\x1b'));
    }
}

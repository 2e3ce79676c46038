//! How a screen showed a view: what a question does not carry, but a place brings back.

use std::collections::BTreeMap;
use std::fmt;

use super::{PlaceError, decode, encode, part};
use crate::question::Dimension;

/// What a pane is sorted by begins with a word; this after it turns the order around.
const REVERSED: &str = ".reversed";

/// A table's order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sort {
    /// What it is sorted by, as the screen calls it.
    pub by: String,
    /// The other way round than one expects.
    pub reversed: bool,
}

/// How a view was shown. Panes go by their words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Look {
    /// What the selected service is split by.
    pub split: Option<Dimension>,
    /// The statement that was run, on one line.
    pub statement: Option<String>,
    /// The pane that has the focus.
    pub pane: Option<String>,
    /// That pane fills the screen.
    pub zoom: bool,
    /// Orders other than a table's own.
    pub orders: BTreeMap<String, Sort>,
    /// The selected row of each pane, by the row's own key.
    pub rows: BTreeMap<String, String>,
    /// The first visible row of each pane that is scrolled.
    pub scrolls: BTreeMap<String, u64>,
}

/// A lower-case word, as views and panes are called.
pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 24
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn word(what: &'static str, text: &str) -> Result<String, PlaceError> {
    if is_word(text) {
        Ok(text.to_owned())
    } else {
        Err(part(what, text, "it is one lower-case word"))
    }
}

impl Look {
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(split) = self.split {
            write!(f, "/split={split}")?;
        }
        if let Some(statement) = &self.statement {
            write!(f, "/statement={}", encode(statement))?;
        }
        if let Some(pane) = &self.pane {
            write!(f, "/pane={pane}")?;
        }
        if self.zoom {
            write!(f, "/zoom=yes")?;
        }
        for (pane, sort) in &self.orders {
            write!(f, "/order.{pane}={}{}", sort.by, if sort.reversed { REVERSED } else { "" })?;
        }
        for (pane, row) in &self.rows {
            write!(f, "/row.{pane}={}", encode(row))?;
        }
        for (pane, line) in &self.scrolls {
            write!(f, "/scroll.{pane}={line}")?;
        }
        Ok(())
    }

    /// Takes the part `name=value`; parts of a later version are passed over.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), PlaceError> {
        match name {
            "split" => self.split = Some(value.parse().map_err(|e| part("split", value, e))?),
            "statement" => {
                let text = decode(value).map_err(|why| part("statement", value, why))?;
                self.statement = Some(text);
            }
            "pane" => self.pane = Some(word("pane", value)?),
            "zoom" => {
                self.zoom = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(part("zoom", value, "it is yes or no")),
                }
            }
            _ => match name.split_once('.') {
                Some(("order", pane)) => {
                    let by = value.strip_suffix(REVERSED);
                    let reversed = by.is_some();
                    let by = word("order", by.unwrap_or(value))?;
                    self.orders.insert(word("pane", pane)?, Sort { by, reversed });
                }
                Some(("row", pane)) => {
                    let row = decode(value).map_err(|why| part("row", value, why))?;
                    self.rows.insert(word("pane", pane)?, row);
                }
                Some(("scroll", pane)) => {
                    let line = value.parse().map_err(|e| part("scroll", value, e))?;
                    self.scrolls.insert(word("pane", pane)?, line);
                }
                _ => {}
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;
    use crate::time::{Time, Window};

    fn sample() -> Place {
        let mut place = Place::new("hosts", Window::new(Time(0), Time(1_000_000_000)));
        place.look = Look {
            split: Some(Dimension::Zone),
            statement: Some("SELECT 'a/b=c' FROM spans".into()),
            pane: Some("hosts".into()),
            zoom: true,
            orders: [
                ("hosts".to_owned(), Sort { by: "p99".into(), reversed: true }),
                ("traces".to_owned(), Sort { by: "slow".into(), reversed: false }),
            ]
            .into(),
            rows: [("hosts".to_owned(), "wéb 3/=%".to_owned())].into(),
            scrolls: [("logs".to_owned(), 12)].into(),
        };
        place
    }

    #[test]
    fn a_look_round_trips_in_the_letters_of_a_place() {
        let place = sample();
        let line = place.to_string();
        assert_eq!(line.parse(), Ok(place));
        assert!(line.chars().all(|c| c.is_ascii_alphanumeric() || ":/.=%-".contains(c)), "{line}");
        assert!(line.contains("/order.hosts=p99.reversed/order.traces=slow/row.hosts="), "{line}");
    }

    #[test]
    fn hostile_looks_are_refused_with_the_reason() {
        let w = "2026-11-22T14:02:31Z..2026-11-22T14:17:31Z";
        for (text, reason) in [
            ("split=colour", "is not a dimension"),
            ("statement=SELECT%0A1", "control characters"),
            ("pane=..%2F..", "lower-case word"),
            ("zoom=maybe", "yes or no"),
            ("order.traces=", "lower-case word"),
            ("order.TRACES=slow", "lower-case word"),
            ("row.logs=%1B%5B2J", "control characters"),
            ("row.=x", "lower-case word"),
            ("scroll.logs=-1", "scroll"),
            ("scroll.logs=99999999999999999999", "scroll"),
        ] {
            let error = format!("coral:1/-/hosts/{w}/{text}").parse::<Place>().unwrap_err();
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
        assert!(format!("coral:1/-/hosts/{w}/row=x/fold.logs=1").parse::<Place>().is_ok());
    }
}

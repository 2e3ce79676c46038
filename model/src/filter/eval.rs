//! Whether a filter lets something through.

use std::borrow::Cow;
use std::ops::Bound;

use super::ast::{Expr, Level, Range, Scalar, Term, Test, Value};
use super::key::Key;

/// The value of a field.
#[derive(Clone, PartialEq, Debug)]
pub enum FieldValue<'a> {
    /// Text; compared with numbers where it reads as one.
    Text(Cow<'a, str>),
    /// Several texts; any of them will do (services of a trace).
    Many(Vec<Cow<'a, str>>),
    /// Nanoseconds.
    Duration(u64),
    /// OpenTelemetry's severity number.
    Severity(u8),
    /// Yes or no.
    Bool(bool),
}

impl<'a> From<&'a str> for FieldValue<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for FieldValue<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

/// Something a filter can decide about.
pub trait Fields {
    /// The field, where it is known. `None` is "not there": no test of it holds.
    fn get(&self, key: &Key) -> Option<FieldValue<'_>>;

    /// Hands every text that a bare word searches to `visit`: body, name, values of attributes.
    fn texts(&self, visit: &mut dyn FnMut(&str));
}

impl Expr {
    /// Whether it lets `row` through.
    pub fn matches(&self, row: &dyn Fields) -> bool {
        match self {
            Self::And(all) => all.iter().all(|e| e.matches(row)),
            Self::Or(any) => any.iter().any(|e| e.matches(row)),
            Self::Not(inner) => !inner.matches(row),
            Self::Term(term) => term.matches(row),
            Self::Text(needle) => {
                let needle = needle.to_lowercase();
                let mut found = false;
                row.texts(&mut |text| found = found || contains(text, &needle));
                found
            }
        }
    }
}

/// Whether `text` contains `needle` (already in lower case), whatever the case of `text`.
fn contains(text: &str, needle: &str) -> bool {
    if text.is_ascii() && needle.is_ascii() {
        let needle = needle.as_bytes();
        return needle.is_empty()
            || text.as_bytes().windows(needle.len()).any(|w| w.eq_ignore_ascii_case(needle));
    }
    text.to_lowercase().contains(needle)
}

impl Term {
    fn matches(&self, row: &dyn Fields) -> bool {
        let Some(field) = row.get(&self.key) else { return false };
        match &self.test {
            Test::Has => true,
            Test::Any(values) => values.iter().any(|v| equals(&field, v)),
            Test::Range(range) => range.contains(&field),
            Test::Matches(pattern) => texts_of(&field).iter().any(|t| pattern.is_match(t)),
        }
    }
}

/// A field as text, for patterns and for comparing with text.
fn texts_of<'a>(field: &'a FieldValue<'_>) -> Vec<Cow<'a, str>> {
    match field {
        FieldValue::Text(t) => vec![Cow::Borrowed(t.as_ref())],
        FieldValue::Many(all) => all.iter().map(|t| Cow::Borrowed(t.as_ref())).collect(),
        FieldValue::Duration(ns) => vec![Cow::Owned(crate::when::print_duration(*ns))],
        FieldValue::Severity(n) => {
            vec![Cow::Borrowed(Level::of_severity(*n).map_or("", Level::word))]
        }
        FieldValue::Bool(b) => vec![Cow::Borrowed(if *b { "true" } else { "false" })],
    }
}

fn equals(field: &FieldValue<'_>, value: &Value) -> bool {
    match (field, value) {
        (FieldValue::Duration(ns), Value::Duration(want)) => ns == want,
        (FieldValue::Severity(n), Value::Level(level)) => Level::of_severity(*n) == Some(*level),
        (FieldValue::Bool(b), Value::Bool(want)) => b == want,
        (_, Value::Text(want)) => texts_of(field).iter().any(|t| t == want),
        _ => false,
    }
}

impl Range {
    fn contains(&self, field: &FieldValue<'_>) -> bool {
        match field {
            FieldValue::Text(text) => {
                text.trim().parse().is_ok_and(|x: f64| self.has(Scalar::Number(x)))
            }
            FieldValue::Many(all) => {
                all.iter().any(|t| t.trim().parse().is_ok_and(|x: f64| self.has(Scalar::Number(x))))
            }
            FieldValue::Duration(ns) => self.has(Scalar::Duration(*ns)),
            FieldValue::Severity(n) => {
                Level::of_severity(*n).is_some_and(|l| self.has(Scalar::Level(l)))
            }
            FieldValue::Bool(_) => false,
        }
    }

    /// Whether `x` lies inside; never when it is of another kind than the bounds.
    #[must_use]
    pub fn has(&self, x: Scalar) -> bool {
        use std::cmp::Ordering::{Greater, Less};
        let cmp = |bound: Scalar| {
            (std::mem::discriminant(&bound) == std::mem::discriminant(&x))
                .then(|| x.partial_cmp(&bound))
                .flatten()
        };
        let above = match self.from {
            Bound::Unbounded => true,
            Bound::Included(b) => cmp(b).is_some_and(|o| o != Less),
            Bound::Excluded(b) => cmp(b) == Some(Greater),
        };
        above
            && match self.to {
                Bound::Unbounded => true,
                Bound::Included(b) => cmp(b).is_some_and(|o| o != Greater),
                Bound::Excluded(b) => cmp(b) == Some(Less),
            }
    }
}

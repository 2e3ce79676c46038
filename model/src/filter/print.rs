//! A filter as text that parses to the same filter.

use std::fmt::{self, Write};
use std::ops::Bound;

use super::ast::{Expr, Range, Scalar, Term, Test, Value};
use super::parse::is_plain;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(all) => joined(f, all, " ", |e| matches!(e, Self::And(_) | Self::Or(_))),
            // A conjunction binds tighter than `or`, so it stands there without parentheses.
            Self::Or(any) => joined(f, any, " or ", |e| {
                matches!(e, Self::Or(_)) || matches!(e, Self::And(all) if all.len() < 2)
            }),
            Self::Not(inner) => {
                f.write_str("not:")?;
                grouped(f, inner, matches!(**inner, Self::And(_) | Self::Or(_)))
            }
            Self::Term(term) => term.fmt(f),
            Self::Text(text) => quoted(f, text),
        }
    }
}

fn joined(
    f: &mut fmt::Formatter<'_>,
    all: &[Expr],
    between: &str,
    needs_group: impl Fn(&Expr) -> bool,
) -> fmt::Result {
    for (i, e) in all.iter().enumerate() {
        if i > 0 {
            f.write_str(between)?;
        }
        grouped(f, e, needs_group(e))?;
    }
    Ok(())
}

fn grouped(f: &mut fmt::Formatter<'_>, e: &Expr, group: bool) -> fmt::Result {
    if group { write!(f, "({e})") } else { write!(f, "{e}") }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.test {
            Test::Has => write!(f, "has:{key}"),
            Test::Matches(pattern) => {
                write!(f, "re:{key}=")?;
                // Inside a pattern a comma or a range means nothing; only ends of words matter.
                value(f, pattern.source(), |c| matches!(c, ',' | '.'))
            }
            Test::Range(range) => write!(f, "{key}{range}"),
            Test::Any(values) => {
                write!(f, "{key}=")?;
                for (i, v) in values.iter().enumerate() {
                    if i > 0 {
                        f.write_char(',')?;
                    }
                    match v {
                        Value::Text(text) => value(f, text, |_| false)?,
                        Value::Duration(ns) => f.write_str(&crate::when::print_duration(*ns))?,
                        Value::Level(level) => f.write_str(level.word())?,
                        Value::Bool(b) => write!(f, "{b}")?,
                    }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Bound::Included(a), Bound::Included(b)) => write!(f, "={a}..{b}"),
            (Bound::Included(a), Bound::Unbounded) => write!(f, "={a}.."),
            (Bound::Unbounded, Bound::Included(b)) => write!(f, "=..{b}"),
            (Bound::Excluded(a), Bound::Unbounded) => write!(f, ">{a}"),
            (Bound::Unbounded, Bound::Excluded(b)) => write!(f, "<{b}"),
            // The parser makes no others.
            (a, b) => write!(f, "={a:?}..{b:?}"),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(x) => write!(f, "{x}"),
            Self::Duration(ns) => f.write_str(&crate::when::print_duration(*ns)),
            Self::Level(level) => f.write_str(level.word()),
        }
    }
}

/// A value, quoted where it would not stand by itself. `also_plain` lets more characters through.
fn value(f: &mut fmt::Formatter<'_>, text: &str, also_plain: impl Fn(char) -> bool) -> fmt::Result {
    let plain = !text.is_empty()
        && text.chars().all(|c| is_plain(c) || also_plain(c))
        && (!text.contains("..") || also_plain('.'));
    if plain { f.write_str(text) } else { quoted(f, text) }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if crate::text::is_hostile(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

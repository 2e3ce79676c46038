//! What stands behind an operator: values, lists, ranges, each as its key reads it.

use std::ops::Bound;

use super::source::Piece;
use super::{Op, Parser};
use crate::filter::ast::{Expr, Level, Range, Scalar, Term, Test, Value};
use crate::filter::error::FilterError;
use crate::filter::key::Key;
use crate::filter::words::nearest;
use crate::view::{EventKind, MetricKind, NodeKind, SpanKind};

impl Parser<'_> {
    pub(super) fn test(&self, key: Key, op: Op, values: &[Piece]) -> Result<Expr, FilterError> {
        let term = |key, test| Expr::Term(Term { key, test });
        let [piece] = values else {
            return self.list(key, op, values);
        };
        let test = match op {
            Op::Eq | Op::Ne => match piece.text.split_once("..").filter(|_| !piece.quoted) {
                Some((from, to)) => Test::Range(self.range(&key, piece, from, to)?),
                None => Test::Any(vec![self.value(&key, piece)?]),
            },
            Op::Ge | Op::Gt | Op::Le | Op::Lt => {
                let bound = self.scalar(&key, piece, &piece.text)?;
                let (from, to) = match op {
                    Op::Ge => (Bound::Included(bound), Bound::Unbounded),
                    Op::Gt => (Bound::Excluded(bound), Bound::Unbounded),
                    Op::Le => (Bound::Unbounded, Bound::Included(bound)),
                    _ => (Bound::Unbounded, Bound::Excluded(bound)),
                };
                Test::Range(Range { from, to })
            }
        };
        let expr = term(key, test);
        Ok(if op == Op::Ne { Expr::Not(Box::new(expr)) } else { expr })
    }

    fn list(&self, key: Key, op: Op, values: &[Piece]) -> Result<Expr, FilterError> {
        if !matches!(op, Op::Eq | Op::Ne) {
            let at = values.get(1).map_or(self.at, |piece| piece.at);
            return Err(self.error(at, 1, "a comparison has one value", None));
        }
        let mut all = Vec::with_capacity(values.len());
        for piece in values {
            if !piece.quoted && piece.text.contains("..") {
                let hint = format!("write ({key}=… or {key}={})", piece.text);
                return Err(self.at_piece(piece, "a range cannot stand in a list", Some(&hint)));
            }
            all.push(self.value(&key, piece)?);
        }
        let expr = Expr::Term(Term { key, test: Test::Any(all) });
        Ok(if op == Op::Ne { Expr::Not(Box::new(expr)) } else { expr })
    }

    fn range(&self, key: &Key, piece: &Piece, from: &str, to: &str) -> Result<Range, FilterError> {
        let bound = |text: &str| match text {
            "" => Ok(Bound::Unbounded),
            text => self.scalar(key, piece, text).map(Bound::Included),
        };
        let range = Range { from: bound(from)?, to: bound(to)? };
        match (range.from, range.to) {
            (Bound::Unbounded, Bound::Unbounded) => Err(self.at_piece(
                piece,
                "a range needs at least one end",
                Some(&format!("to ask whether it is there: has:{key}")),
            )),
            (Bound::Included(a), Bound::Included(b)) if a > b => Err(self.at_piece(
                piece,
                "nothing lies in this range",
                Some(&format!("the lower end comes first: {key}={to}..{from}")),
            )),
            _ => Ok(range),
        }
    }

    fn value(&self, key: &Key, piece: &Piece) -> Result<Value, FilterError> {
        let text = piece.text.as_str();
        match key {
            Key::Duration => match self.scalar(key, piece, text)? {
                Scalar::Duration(ns) => Ok(Value::Duration(ns)),
                Scalar::Number(_) | Scalar::Level(_) => Ok(Value::Text(text.to_owned())),
            },
            Key::Level => self.level(piece, text).map(Value::Level),
            Key::Error => match text {
                "true" | "yes" | "1" => Ok(Value::Bool(true)),
                "false" | "no" | "0" => Ok(Value::Bool(false)),
                _ => Err(self.at_piece(
                    piece,
                    "expected true or false",
                    Some("to search for a message: body=\"…\" or re:body=…"),
                )),
            },
            Key::Kind => self.kind(piece, text),
            Key::Trace => text
                .to_ascii_lowercase()
                .parse::<crate::TraceId>()
                .map(|id| Value::Text(id.to_string()))
                .map_err(|_| self.at_piece(piece, "expected a trace id of 32 hex digits", None)),
            Key::Span => text
                .to_ascii_lowercase()
                .parse::<crate::SpanId>()
                .map(|id| Value::Text(id.to_string()))
                .map_err(|_| self.at_piece(piece, "expected a span id of 16 hex digits", None)),
            Key::Status if is_class(text) => {
                let class = text.chars().next().unwrap_or('5');
                let hint = format!("write status={class}00..{class}99");
                Err(self.at_piece(piece, "a class of codes is a range", Some(&hint)))
            }
            _ => Ok(Value::Text(text.to_owned())),
        }
    }

    fn level(&self, piece: &Piece, text: &str) -> Result<Level, FilterError> {
        Level::from_word(text).ok_or_else(|| {
            let near = nearest(text, Level::ALL.map(Level::word));
            let hint = near.map(|n| format!("did you mean `{n}`?"));
            let what = "expected a level: trace debug info warn error fatal";
            self.at_piece(piece, what, hint.as_deref())
        })
    }

    fn kind(&self, piece: &Piece, text: &str) -> Result<Value, FilterError> {
        let word = text.to_ascii_lowercase();
        let words = kinds();
        if words.contains(&word.as_str()) {
            return Ok(Value::Text(word));
        }
        let hint = nearest(&word, words.iter().copied())
            .map_or_else(|| words.join(" "), |near| format!("did you mean `{near}`?"));
        Err(self.at_piece(piece, "no span, event, node or metric is of this kind", Some(&hint)))
    }

    fn scalar(&self, key: &Key, piece: &Piece, text: &str) -> Result<Scalar, FilterError> {
        match key {
            Key::Duration => crate::when::parse_duration(text).map(Scalar::Duration).map_err(|e| {
                self.at_piece(piece, format!("expected a duration: {e}"), Some("like 250ms..2s"))
            }),
            Key::Level => self.level(piece, text).map(Scalar::Level),
            Key::Status | Key::Attribute(_) | Key::Resource(_) => {
                text.parse().ok().filter(|x: &f64| x.is_finite()).map(Scalar::Number).ok_or_else(
                    || {
                        let hint =
                            format!("for the text itself, quote it: {key}=\"{}\"", piece.text);
                        self.at_piece(piece, "a range needs numbers", Some(&hint))
                    },
                )
            }
            _ => {
                let what = format!("`{key}` has no order, so no range");
                let hint = format!("for the text itself, quote it: {key}=\"{}\"", piece.text);
                Err(self.at_piece(piece, what, Some(&hint)))
            }
        }
    }
}

/// `5xx` and the like.
fn is_class(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| ('1'..='5').contains(&c))
        && text.len() == 3
        && chars.all(|c| matches!(c, 'x' | 'X'))
}

/// Every word `kind=` can take.
pub(in crate::filter) fn kinds() -> Vec<&'static str> {
    let spans = SpanKind::ALL.iter().map(|k| k.word());
    let events = EventKind::ALL.iter().map(|k| k.word());
    let nodes = NodeKind::ALL.iter().map(|k| k.word());
    let metrics = MetricKind::ALL.iter().map(|k| k.word());
    spans.chain(events).chain(nodes).chain(metrics).collect()
}

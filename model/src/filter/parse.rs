//! Text to [`Expr`], with errors that point at the place.
//!
//! ```text
//! filter := and ("or" and)*          and   := unary (["and"] unary)*
//! unary  := "not:" unary | "(" filter ")" | "has:" key | "re:" key "=" value | test | text
//! test   := key "=" value ("," value)* | key "=" [bound] ".." [bound] | key (">=" "<=" ">" "<" "!=") value
//! ```
//!
//! A word that is no test is searched for as text. A parenthesis inside a value belongs to it while
//! it is balanced, so that patterns need no quotes.

use std::ops::Bound;

use super::ast::{Expr, Level, Pattern, Range, Scalar, Term, Test, Value};
use super::error::FilterError;
use super::key::{KNOWN, Key};
use super::words::{near_known, nearest};
use crate::view::{EventKind, MetricKind, NodeKind, SpanKind};

/// Bounds on what a filter may be: far above what people write, far below what hurts.
const MAX_BYTES: usize = 16 * 1024;
const MAX_DEPTH: usize = 32;
const MAX_TESTS: usize = 256;

/// Understands a filter. Nothing but blanks matches everything.
///
/// # Errors
/// [`FilterError`] with the place, what was expected, and a hint.
pub fn parse(filter: &str) -> Result<Expr, FilterError> {
    let mut p = Parser { src: filter, at: 0, depth: 0, tests: 0 };
    if filter.len() > MAX_BYTES {
        let what = format!("a filter has at most {MAX_BYTES} bytes, this one {}", filter.len());
        return Err(FilterError { filter: String::new(), at: 0, len: 0, what, hint: None });
    }
    p.blanks();
    if p.peek().is_none() {
        return Ok(Expr::everything());
    }
    let expr = p.or()?;
    if p.peek().is_some() {
        return Err(p.error(p.at, 1, "this `)` closes nothing", Some("quote it to search for it")));
    }
    Ok(expr)
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

    /// Refuses keys that rows of `view` cannot have, instead of answering with nothing.
    ///
    /// # Errors
    /// A [`FilterError`] that points at the first such key in `filter`, which this was parsed from.
    pub fn check_for(&self, view: crate::View, filter: &str) -> Result<(), FilterError> {
        let Some(term) = self.terms().into_iter().find(|t| !t.key.fits(view)) else {
            return Ok(());
        };
        let key = term.key.to_string();
        let attribute = term.key.attribute().unwrap_or_default();
        let (at, len) = [key.as_str(), attribute]
            .iter()
            .filter(|name| !name.is_empty())
            .find_map(|name| filter.find(name).map(|at| (at, name.len())))
            .unwrap_or((0, 0));
        let views: Vec<_> = crate::View::ALL
            .iter()
            .filter(|v| term.key.fits(**v) && !matches!(v, crate::View::Digest))
            .map(|v| v.word())
            .collect();
        Err(FilterError {
            filter: filter.to_owned(),
            at,
            len,
            what: format!("rows of `{view}` have no `{key}`"),
            hint: Some(format!("`{key}` can be asked of: {}", views.join(", "))),
        })
    }
}

/// Characters that may stand in an unquoted value, whatever stands next to them.
pub(super) fn is_plain(c: char) -> bool {
    !c.is_whitespace()
        && !crate::text::is_hostile(c)
        && !matches!(c, '"' | '\'' | ',' | '(' | ')' | '=' | '<' | '>' | '~' | '\\')
}

fn is_key_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | '@' | '$' | '#')
}

/// A piece of the source that a value was read from.
struct Piece {
    text: String,
    at: usize,
    len: usize,
    quoted: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Op {
    Eq,
    Ne,
    Ge,
    Le,
    Gt,
    Lt,
}

struct Parser<'a> {
    src: &'a str,
    at: usize,
    depth: usize,
    tests: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.src.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.bump();
        }
    }

    fn error(
        &self,
        at: usize,
        len: usize,
        what: impl Into<String>,
        hint: Option<&str>,
    ) -> FilterError {
        FilterError {
            filter: self.src.to_owned(),
            at,
            len,
            what: what.into(),
            hint: hint.map(str::to_owned),
        }
    }

    fn at_piece(&self, piece: &Piece, what: impl Into<String>, hint: Option<&str>) -> FilterError {
        self.error(piece.at, piece.len, what, hint)
    }

    /// Takes the connective `word` when it stands here alone, followed by a blank or parenthesis.
    fn connective(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let here = rest.get(..word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word));
        let after = rest.get(word.len()..).and_then(|r| r.chars().next());
        let found = here && after.is_none_or(|c| c.is_whitespace() || c == '(' || c == ')');
        if found {
            self.at += word.len();
            self.blanks();
        }
        found
    }

    fn or(&mut self) -> Result<Expr, FilterError> {
        let mut any = vec![self.and()?];
        while self.connective("or") {
            any.push(self.and()?);
        }
        Ok(Expr::or(any))
    }

    fn and(&mut self) -> Result<Expr, FilterError> {
        let mut all = Vec::new();
        loop {
            let joined = !all.is_empty() && self.connective("and");
            let end = match self.peek() {
                None | Some(')') => true,
                Some(_) => {
                    let here = self.at;
                    let or = self.connective("or");
                    self.at = here;
                    or
                }
            };
            if end && (joined || all.is_empty()) {
                let what = "expected a test like `service=checkout`, or a word to search for";
                let hint = "to search for the word itself, quote it: \"or\"";
                let hint = self.rest().starts_with(['o', 'O']).then_some(hint);
                return Err(self.error(self.at, 0, what, hint));
            }
            if end {
                return Ok(Expr::and(all));
            }
            all.push(self.unary()?);
            self.blanks();
        }
    }

    fn deeper(&mut self, at: usize) -> Result<(), FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let what = format!("more than {MAX_DEPTH} levels deep");
            return Err(self.error(
                at,
                1,
                what,
                Some("write it flatter, as a list: service=a,b,c"),
            ));
        }
        Ok(())
    }

    fn unary(&mut self) -> Result<Expr, FilterError> {
        let start = self.at;
        self.tests += 1;
        if self.tests > MAX_TESTS {
            let what = format!("more than {MAX_TESTS} tests");
            return Err(self.error(start, 1, what, Some("use a list: service=a,b,c")));
        }
        if self.eat("not:") {
            if self.peek().is_none_or(char::is_whitespace) {
                let hint = Some("like not:route=/healthz");
                return Err(self.error(self.at, 0, "expected a test right after `not:`", hint));
            }
            self.deeper(start)?;
            let inner = self.unary()?;
            self.depth -= 1;
            return Ok(Expr::Not(Box::new(inner)));
        }
        match self.peek() {
            Some('(') => self.group(),
            Some('"' | '\'') => {
                let piece = self.quoted()?;
                self.word_ends()?;
                Ok(Expr::Text(piece.text))
            }
            _ if self.eat("has:") => {
                let key = self.key(Some("like has:user.id"))?;
                self.word_ends()?;
                Ok(Expr::Term(Term { key, test: Test::Has }))
            }
            _ if self.eat("re:") => self.pattern(),
            _ => self.test_or_text(),
        }
    }

    fn group(&mut self) -> Result<Expr, FilterError> {
        let open = self.at;
        self.bump();
        self.deeper(open)?;
        self.blanks();
        let inner = self.or()?;
        self.depth -= 1;
        if self.bump() != Some(')') {
            return Err(self.error(open, 1, "this `(` is never closed", None));
        }
        Ok(inner)
    }

    /// After something quoted, only a blank, a `)` or the end can follow.
    fn word_ends(&self) -> Result<(), FilterError> {
        match self.peek() {
            None | Some(')') => Ok(()),
            Some(c) if c.is_whitespace() => Ok(()),
            Some(_) => Err(self.error(self.at, 1, "expected a blank here", None)),
        }
    }

    fn key(&mut self, hint: Option<&str>) -> Result<Key, FilterError> {
        let start = self.at;
        while self.peek().is_some_and(is_key_char) {
            self.bump();
        }
        let name = self.src.get(start..self.at).unwrap_or_default();
        if name.is_empty() {
            return Err(self.error(start, 0, "expected a name", hint));
        }
        let key = Key::from_name(name);
        if matches!(key, Key::Attribute(_))
            && !name.contains('.')
            && let Some(near) = near_known(name)
        {
            let hint = format!("did you mean `{near}`? An attribute of that name: attr.{name}");
            return Err(self.error(
                start,
                name.len(),
                format!("unknown name `{name}`"),
                Some(&hint),
            ));
        }
        Ok(key)
    }

    fn pattern(&mut self) -> Result<Expr, FilterError> {
        let hint = Some("like re:body=pool.*");
        let key = self.key(hint)?;
        if !self.eat("=") {
            return Err(self.error(self.at, 0, "expected `=` and a pattern", hint));
        }
        let piece = self.piece(false)?;
        if piece.text.is_empty() {
            return Err(self.at_piece(&piece, "expected a pattern", hint));
        }
        match Pattern::new(&piece.text) {
            Ok(pattern) => Ok(Expr::Term(Term { key, test: Test::Matches(pattern) })),
            Err(why) => {
                Err(self.at_piece(&piece, format!("not a regular expression: {why}"), None))
            }
        }
    }

    fn operator(&mut self) -> Option<Op> {
        [
            ("!=", Op::Ne),
            (">=", Op::Ge),
            ("<=", Op::Le),
            ("==", Op::Eq),
            ("=", Op::Eq),
            (">", Op::Gt),
            ("<", Op::Lt),
        ]
        .into_iter()
        .find(|(text, _)| self.eat(text))
        .map(|(_, op)| op)
    }

    fn test_or_text(&mut self) -> Result<Expr, FilterError> {
        let start = self.at;
        while self.peek().is_some_and(is_key_char) {
            self.bump();
        }
        let name_end = self.at;
        let Some(op) = self.operator() else {
            self.at = start;
            return self.text();
        };
        let after_op = self.at;
        if name_end == start {
            let hint = "quote it to search for it";
            return Err(self.error(
                start,
                after_op - start,
                "expected a name before this",
                Some(hint),
            ));
        }
        self.at = start;
        let key = self.key(None)?;
        self.at = after_op;
        if op == Op::Eq && self.peek() == Some('~') {
            let hint = format!("a regular expression is written re:{key}=pattern");
            return Err(self.error(after_op, 1, "no such operator", Some(&hint)));
        }
        let values = self.values(&key)?;
        self.test(key, op, &values)
    }

    fn text(&mut self) -> Result<Expr, FilterError> {
        let piece = self.piece(false)?;
        if piece.text == "error" {
            // In a span it is a field, in a log often only a word: find both.
            let failed = Test::Any(vec![Value::Bool(true)]);
            return Ok(Expr::or(vec![
                Expr::Term(Term { key: Key::Error, test: failed }),
                Expr::Text(piece.text),
            ]));
        }
        if let Some((name, value)) = piece.text.split_once(':')
            && name != "error"
            && !value.is_empty()
            && !value.starts_with('/')
            && KNOWN.iter().any(|(_, word, ..)| *word == name)
        {
            let hint = format!("a test is written {name}={value}; quote it to search the text");
            return Err(self.error(piece.at + name.len(), 1, "`:` is not `=`", Some(&hint)));
        }
        Ok(Expr::Text(piece.text))
    }

    /// The comma-separated values after an operator.
    fn values(&mut self, key: &Key) -> Result<Vec<Piece>, FilterError> {
        let mut all = Vec::new();
        loop {
            let piece = self.piece(true)?;
            if piece.text.is_empty() && !piece.quoted {
                let hint = format!("like {}; an empty text is {key}=\"\"", example(key));
                return Err(self.at_piece(&piece, "expected a value", Some(&hint)));
            }
            all.push(piece);
            if !self.eat(",") {
                return Ok(all);
            }
        }
    }

    /// A quoted or bare piece. In a list a comma ends a bare one.
    fn piece(&mut self, list: bool) -> Result<Piece, FilterError> {
        if matches!(self.peek(), Some('"' | '\'')) {
            let piece = self.quoted()?;
            if !(list && self.peek() == Some(',')) {
                self.word_ends()?;
            }
            return Ok(piece);
        }
        let start = self.at;
        let mut open = 0_u32;
        while let Some(c) = self.peek() {
            match c {
                c if c.is_whitespace() => break,
                ',' if list && open == 0 => break,
                '(' => open += 1,
                ')' if open == 0 => break,
                ')' => open -= 1,
                _ => {}
            }
            self.bump();
            if c == '\\' && self.peek().is_some_and(|c| !c.is_whitespace()) {
                self.bump();
            }
        }
        let text = self.src.get(start..self.at).unwrap_or_default().to_owned();
        Ok(Piece { text, at: start, len: self.at - start, quoted: false })
    }

    /// `"…"` with escapes, or `'…'` without. An unknown escape keeps its backslash, so that
    /// patterns read the same inside quotes.
    fn quoted(&mut self) -> Result<Piece, FilterError> {
        let start = self.at;
        let quote = self.bump().unwrap_or('"');
        let mut text = String::new();
        loop {
            match self.bump() {
                None => return Err(self.error(start, 1, "this quote is never closed", None)),
                Some(c) if c == quote => break,
                Some('\\') if quote == '"' => self.escape(&mut text),
                Some(c) => text.push(c),
            }
        }
        Ok(Piece { text, at: start, len: self.at - start, quoted: true })
    }

    fn escape(&mut self, text: &mut String) {
        match self.peek() {
            Some(c @ ('"' | '\\')) => text.push(c),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let inside = self.rest().strip_prefix("u{").and_then(|r| r.split_once('}'));
                let c = inside.and_then(|(hex, _)| u32::from_str_radix(hex, 16).ok());
                match (inside, c.and_then(char::from_u32)) {
                    (Some((hex, _)), Some(c)) => {
                        self.at += "u{}".len() + hex.len();
                        text.push(c);
                    }
                    _ => text.push('\\'),
                }
                return;
            }
            _ => {
                text.push('\\');
                return;
            }
        }
        self.bump();
    }

    fn test(&self, key: Key, op: Op, values: &[Piece]) -> Result<Expr, FilterError> {
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
pub(super) fn kinds() -> Vec<&'static str> {
    let spans = SpanKind::ALL.iter().map(|k| k.word());
    let events = EventKind::ALL.iter().map(|k| k.word());
    let nodes = NodeKind::ALL.iter().map(|k| k.word());
    let metrics = MetricKind::ALL.iter().map(|k| k.word());
    spans.chain(events).chain(nodes).chain(metrics).collect()
}

fn example(key: &Key) -> String {
    match key {
        Key::Duration => "duration=250ms..2s".to_owned(),
        Key::Level => "level=warn..".to_owned(),
        Key::Status => "status=500..".to_owned(),
        Key::Error => "error=true".to_owned(),
        Key::Service => "service=checkout".to_owned(),
        key => format!("{key}=value"),
    }
}

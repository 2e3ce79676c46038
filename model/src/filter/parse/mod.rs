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

mod source;
mod value;

use super::ast::{Expr, Pattern, Term, Test, Value};
use super::error::FilterError;
use super::key::{KNOWN, Key};
use super::words::near_known;
use source::{Piece, is_key_char};

pub(super) use source::is_plain;
pub(super) use value::kinds;

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

//! The source under the parser: characters, pieces between them, and errors that point at both.

use super::Parser;
use crate::filter::error::FilterError;

/// Characters that may stand in an unquoted value, whatever stands next to them.
pub(in crate::filter) fn is_plain(c: char) -> bool {
    !c.is_whitespace()
        && !crate::text::is_hostile(c)
        && !matches!(c, '"' | '\'' | ',' | '(' | ')' | '=' | '<' | '>' | '~' | '\\')
}

pub(super) fn is_key_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | '@' | '$' | '#')
}

/// A piece of the source that a value was read from.
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) at: usize,
    pub(super) len: usize,
    pub(super) quoted: bool,
}

impl Parser<'_> {
    pub(super) fn rest(&self) -> &str {
        self.src.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    pub(super) fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.bump();
        }
    }

    pub(super) fn error(
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

    pub(super) fn at_piece(
        &self,
        piece: &Piece,
        what: impl Into<String>,
        hint: Option<&str>,
    ) -> FilterError {
        self.error(piece.at, piece.len, what, hint)
    }

    /// After something quoted, only a blank, a `)` or the end can follow.
    pub(super) fn word_ends(&self) -> Result<(), FilterError> {
        match self.peek() {
            None | Some(')') => Ok(()),
            Some(c) if c.is_whitespace() => Ok(()),
            Some(_) => Err(self.error(self.at, 1, "expected a blank here", None)),
        }
    }

    /// A quoted or bare piece. In a list a comma ends a bare one.
    pub(super) fn piece(&mut self, list: bool) -> Result<Piece, FilterError> {
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
    pub(super) fn quoted(&mut self) -> Result<Piece, FilterError> {
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

    pub(super) fn escape(&mut self, text: &mut String) {
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
}

//! A statement, or the beginning of one, cut into tokens as PostgreSQL cuts it
//! (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html>): as far as is needed to tell names
//! from literals and comments, which are passed over.

/// What is found in a statement; all else is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// A word: a name, a verb.
    Word(&'a [u8]),
    /// A name in quotes.
    Quoted(&'a [u8]),
    /// `(`.
    Open,
    /// `)`.
    Close,
    /// `.`.
    Dot,
    /// `;`.
    Semicolon,
    /// A literal, a parameter, a number, a sign.
    Other,
}

impl Token<'_> {
    /// Whether it is this word, in whatever letters.
    #[must_use]
    pub fn is(self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Which of these words it is.
    #[must_use]
    pub fn one_of(self, words: &[&'static str]) -> Option<&'static str> {
        words.iter().find(|word| self.is(word)).copied()
    }
}

/// A statement, or the beginning of one, cut into tokens.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    rest: &'a [u8],
    /// How deep in parentheses.
    pub depth: usize,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

impl<'a> Tokens<'a> {
    /// Those of a text.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Self { rest: text, depth: 0 }
    }

    /// What comes after an opening parenthesis, where one comes next.
    #[must_use]
    pub fn opened(mut self) -> Option<Self> {
        (self.next() == Some(Token::Open)).then_some(self)
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(n.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// What comes before the end mark, which is passed over too; all there is where it is missing.
    fn until(&mut self, end: &[u8]) -> &'a [u8] {
        let at = self.rest.windows(end.len()).position(|bytes| bytes == end);
        let before = self.take(at.unwrap_or(usize::MAX));
        self.take(end.len());
        before
    }

    fn blanks(&mut self) {
        loop {
            match self.rest {
                [b, ..] if b.is_ascii_whitespace() => _ = self.take(1),
                [b'-', b'-', ..] => _ = self.until(b"\n"),
                [b'/', b'*', ..] => self.comment(),
                _ => return,
            }
        }
    }

    /// They nest.
    fn comment(&mut self) {
        let mut depth = 0u32;
        loop {
            match self.rest {
                [] => return,
                [b'/', b'*', ..] => {
                    self.take(2);
                    depth += 1;
                }
                [b'*', b'/', ..] => {
                    self.take(2);
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                }
                _ => _ = self.take(1),
            }
        }
    }

    /// Up to a quote that is not doubled, nor escaped where that means something.
    fn quoted(&mut self, quote: u8, escapes: bool) -> &'a [u8] {
        self.take(1);
        let mut end = 0;
        loop {
            match self.rest.get(end..) {
                Some([b'\\', _, ..]) if escapes => end += 2,
                Some([a, b, ..]) if *a == quote && *b == quote => end += 2,
                Some([a, ..]) if *a == quote => {
                    let inside = self.take(end);
                    self.take(1);
                    return inside;
                }
                Some([_, ..]) => end += 1,
                _ => return self.take(usize::MAX),
            }
        }
    }

    /// `$tag$ … $tag$`, or a parameter.
    fn dollar(&mut self) {
        let tag = self.rest.iter().skip(1).take_while(|b| is_word(**b) && **b != b'$').count();
        let opens = self.rest.get(tag + 1) == Some(&b'$');
        let number = self.rest.get(1).is_some_and(u8::is_ascii_digit);
        if opens && !number {
            let mark = self.take(tag + 2);
            self.until(mark);
        } else {
            self.take(1 + tag);
        }
    }

    fn word(&mut self) -> Token<'a> {
        let length = self.rest.iter().take_while(|b| is_word(**b)).count();
        let word = self.take(length);
        // A literal of a kind: `E'it\'s'`.
        if self.rest.first() == Some(&b'\'')
            && matches!(word, [b'e' | b'E' | b'b' | b'B' | b'x' | b'X' | b'n' | b'N'])
        {
            self.quoted(b'\'', matches!(word, [b'e' | b'E']));
            return Token::Other;
        }
        Token::Word(word)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.blanks();
        let first = *self.rest.first()?;
        Some(match first {
            b'\'' => {
                self.quoted(b'\'', false);
                Token::Other
            }
            b'"' => Token::Quoted(self.quoted(b'"', false)),
            b'$' => {
                self.dollar();
                Token::Other
            }
            b'0'..=b'9' => {
                let number = |b: &&u8| is_word(**b) || **b == b'.';
                self.take(self.rest.iter().take_while(number).count());
                Token::Other
            }
            _ if is_word(first) => self.word(),
            _ => {
                self.take(1);
                match first {
                    b'(' => {
                        self.depth += 1;
                        Token::Open
                    }
                    b')' => {
                        self.depth = self.depth.saturating_sub(1);
                        Token::Close
                    }
                    b'.' => Token::Dot,
                    b';' => Token::Semicolon,
                    _ => Token::Other,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let word = |token: Token<'_>| match token {
            Token::Word(word) | Token::Quoted(word) => String::from_utf8_lossy(word).into_owned(),
            other => format!("{other:?}"),
        };
        Tokens::new(text.as_bytes()).map(word).collect()
    }

    #[test]
    fn literals_and_comments_are_passed_over() {
        assert_eq!(
            words("a.\"b c\"(1.5e3) -- it's\n;"),
            ["a", "Dot", "b c", "Open", "Other", "Close", "Semicolon"]
        );
        assert_eq!(words("'it''s' x E'it\\'s' y"), ["Other", "x", "Other", "y"]);
        assert_eq!(words("$$a$$ x $t$ $$ $t$ y $1z"), ["Other", "x", "Other", "y", "Other"]);
        assert_eq!(words("/* a /* b */ c */ \"x\"\"y\" b'01' z"), ["x\"\"y", "Other", "z"]);
        for cut in ["'a", "\"a", "/* a", "$$ a", "$t$ a $t", "E'\\", "-- a"] {
            assert!(words(cut).len() <= 1, "{cut}");
        }
    }
}

//! What could be typed next.
//!
//! The editor asks [`context`] what the cursor stands on, takes what is known here ([`known`]),
//! asks the colony for the rest, and puts the chosen word in with [`apply`].

use super::ast::Level;
use super::key::Key;

/// What the cursor stands on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// Where the word to be completed begins, in bytes.
    pub start: usize,
    /// What of it is typed already, without quotes.
    pub prefix: String,
    /// What it will be.
    pub want: Want,
}

/// What is wanted at a place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Want {
    /// A name, to be followed by `=`.
    Name,
    /// A name after `has:`, complete in itself.
    Presence,
    /// A value of this key.
    Value(Key),
    /// Nothing that could be known.
    Nothing,
}

/// What the cursor (a byte offset, moved back to a character) stands on.
#[must_use]
pub fn context(filter: &str, cursor: usize) -> Context {
    let mut cursor = cursor.min(filter.len());
    while !filter.is_char_boundary(cursor) {
        cursor = cursor.saturating_sub(1);
    }
    let before = filter.get(..cursor).unwrap_or_default();
    let mut start = word_start(before);
    let word = |start: usize| before.get(start..).unwrap_or_default();
    loop {
        let w = word(start);
        let skip = if w.starts_with('(') {
            1
        } else if w.starts_with("not:") {
            "not:".len()
        } else {
            break;
        };
        start += skip;
    }
    let w = word(start);
    if let Some(name) = w.strip_prefix("has:") {
        let start = start + "has:".len();
        return Context { start, prefix: name.to_owned(), want: Want::Presence };
    }
    let (pattern, w) = match w.strip_prefix("re:") {
        Some(rest) => {
            start += "re:".len();
            (true, rest)
        }
        None => (false, w),
    };
    let Some(op) = w.find(['=', '<', '>']) else {
        let want = if w.starts_with(['"', '\'']) { Want::Nothing } else { Want::Name };
        return Context { start, prefix: w.to_owned(), want };
    };
    let name = w.get(..op).unwrap_or_default().trim_end_matches('!');
    let value = w.get(op..).unwrap_or_default().trim_start_matches(['=', '<', '>']);
    let value_at = start + w.len() - value.len();
    // The last of a list, or the upper end of a range.
    let last = value.rfind(',').map_or(0, |i| i + 1);
    let last = value.rfind("..").map_or(last, |i| last.max(i + 2));
    let typed = value.get(last..).unwrap_or_default();
    Context {
        start: value_at + last,
        prefix: typed.trim_start_matches(['"', '\'']).to_owned(),
        want: if pattern { Want::Nothing } else { Want::Value(Key::from_name(name)) },
    }
}

/// Where the last word of `before` begins; blanks inside quotes do not end a word.
fn word_start(before: &str) -> usize {
    let mut start = 0;
    let mut quote = None;
    let mut escaped = false;
    let mut previous = ' ';
    for (i, c) in before.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c.is_whitespace() => start = i + c.len_utf8(),
            None if c == '"' || (c == '\'' && !previous.is_alphanumeric()) => quote = Some(c),
            None => {}
        }
        previous = c;
    }
    start
}

/// What is known without asking anybody: names, levels, kinds. `(word, what it is)`.
#[must_use]
pub fn known(context: &Context) -> Vec<(String, String)> {
    let words: Vec<(&str, &str)> = match &context.want {
        Want::Name => Key::known()
            .chain([
                ("not:", "what follows must not hold"),
                ("has:", "the field is there"),
                ("re:", "a regular expression: re:body=pool.*"),
            ])
            .collect(),
        Want::Presence => Key::known().collect(),
        Want::Value(Key::Level) => Level::ALL.iter().map(|l| (l.word(), "")).collect(),
        Want::Value(Key::Error) => vec![("true", ""), ("false", "")],
        Want::Value(Key::Kind) => super::parse::kinds().into_iter().map(|k| (k, "")).collect(),
        Want::Value(_) | Want::Nothing => Vec::new(),
    };
    words
        .into_iter()
        .filter(|(w, _)| w.starts_with(&context.prefix))
        .map(|(w, help)| (w.to_owned(), help.to_owned()))
        .collect()
}

/// The filter with the word under the cursor replaced by `choice`, and where the cursor goes.
#[must_use]
pub fn apply(filter: &str, cursor: usize, context: &Context, choice: &str) -> (String, usize) {
    let inserted = match &context.want {
        Want::Name if choice.ends_with(':') => choice.to_owned(),
        Want::Name => format!("{choice}="),
        Want::Value(key) => {
            // Printed as the value of a test: quoted where it must be.
            let value = super::ast::Value::Text(choice.to_owned());
            let test = super::ast::Test::Any(vec![value]);
            let term = super::ast::Term { key: key.clone(), test }.to_string();
            term.split_once('=').map_or_else(|| choice.to_owned(), |(_, v)| v.to_owned())
        }
        Want::Presence | Want::Nothing => choice.to_owned(),
    };
    let before = filter.get(..context.start).unwrap_or_default();
    let after = filter.get(cursor.min(filter.len())..).unwrap_or_default();
    (format!("{before}{inserted}{after}"), before.len() + inserted.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_end(filter: &str) -> (usize, String, Want) {
        let c = context(filter, filter.len());
        (c.start, c.prefix, c.want)
    }

    #[test]
    fn the_cursor_knows_what_it_stands_on() {
        assert_eq!(at_end(""), (0, String::new(), Want::Name));
        assert_eq!(at_end("service=a ser"), (10, "ser".into(), Want::Name));
        assert_eq!(at_end("(not:ser"), (5, "ser".into(), Want::Name));
        assert_eq!(at_end("has:us"), (4, "us".into(), Want::Presence));
        assert_eq!(at_end("service=che"), (8, "che".into(), Want::Value(Key::Service)));
        assert_eq!(at_end("service=a,b"), (10, "b".into(), Want::Value(Key::Service)));
        assert_eq!(at_end("level=info..w"), (12, "w".into(), Want::Value(Key::Level)));
        assert_eq!(
            at_end("operation=\"GET /c"),
            (10, "GET /c".into(), Want::Value(Key::Operation))
        );
        assert_eq!(at_end("re:bo"), (3, "bo".into(), Want::Name));
        assert_eq!(at_end("re:body=x"), (8, "x".into(), Want::Nothing));
        assert_eq!(at_end("\"some text"), (0, "\"some text".into(), Want::Nothing));
        // A cursor inside a character is moved, not a panic.
        assert_eq!(context("é", 1).start, 0);
    }

    #[test]
    fn a_choice_goes_in_quoted_where_it_must_be() {
        let filter = "level=warn.. operation=GE";
        let c = context(filter, filter.len());
        let (text, cursor) = apply(filter, filter.len(), &c, "GET /cart");
        assert_eq!(text, "level=warn.. operation=\"GET /cart\"");
        assert_eq!(cursor, text.len());
        assert!(super::super::parse(&text).is_ok());
        let c = context("ser", 3);
        assert_eq!(known(&c)[0].0, "service");
        assert_eq!(apply("ser", 3, &c, "service").0, "service=");
    }
}

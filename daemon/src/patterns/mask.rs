//! Replacing what is plainly a value.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of a line that are looked at.
const MAX_BYTES: usize = 2_000;
/// Hex digits in a row, letters among them, that are an id.
const HEX: usize = 8;

/// The line with numbers, hex ids, UUIDs, addresses and quoted text replaced by `<num>`, `<hex>`,
/// `<uuid>`, `<ip>` and `<str>`.
#[must_use]
pub fn mask(line: &str) -> String {
    let end = (0..=MAX_BYTES.min(line.len())).rev().find(|&n| line.is_char_boundary(n));
    let line = line.get(..end.unwrap_or(0)).unwrap_or_default();
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = quoted(rest, out.chars().next_back()) {
            out.push_str("<str>");
            rest = after;
        } else if is_word(c) {
            let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(len).unwrap_or((rest, ""));
            out.push_str(&value(word));
            rest = after;
        } else {
            out.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    out
}

/// Characters that values are made of.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '.' | ':' | '_')
}

/// What follows a quoted text that begins here. An apostrophe inside a word is none.
fn quoted(text: &str, before: Option<char>) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    if before.is_some_and(char::is_alphanumeric) {
        return None;
    }
    let inner = text.get(1..)?;
    let end = inner.find(quote)?;
    // On one line, and of a length somebody would quote.
    let said = inner.get(..end)?;
    (end <= 200 && !said.contains('\n')).then(|| inner.get(end + 1..)).flatten()
}

fn value(word: &str) -> String {
    let core = word.trim_end_matches(['.', ':', '-']);
    let tail = word.get(core.len()..).unwrap_or_default();
    let masked = whole(core).map_or_else(|| inside(core), str::to_owned);
    format!("{masked}{tail}")
}

/// A word that is one value.
fn whole(word: &str) -> Option<&'static str> {
    if !word.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    let groups: Vec<usize> = word.split('-').map(str::len).collect();
    let hex = |w: &str| w.bytes().all(|b| b.is_ascii_hexdigit());
    if groups == [8, 4, 4, 4, 12] && word.split('-').all(hex) {
        return Some("<uuid>");
    }
    let host = word.rsplit_once(':').map_or(word, |(host, _)| host);
    if word.parse::<Ipv4Addr>().is_ok()
        || host.parse::<Ipv4Addr>().is_ok()
        || (word.contains("::") || word.matches(':').count() == 7)
            && word.parse::<Ipv6Addr>().is_ok()
    {
        return Some("<ip>");
    }
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let letters = digits.bytes().any(|b| b.is_ascii_alphabetic());
    if hex(digits) && (letters && digits.len() >= HEX || digits.len() < word.len()) {
        return Some("<hex>");
    }
    None
}

/// Every run of digits, with what separates digits in one number or clock time.
fn inside(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut number = false;
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().is_some_and(char::is_ascii_digit);
        if c.is_ascii_digit() {
            if !number {
                out.push_str("<num>");
            }
            number = true;
        } else if number && next && matches!(c, '.' | ':' | '-') {
            // Within a number, a date or a time.
        } else {
            number = false;
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_replaced_and_words_are_kept() {
        for (line, masked) in [
            ("took 12ms", "took <num>ms"),
            ("took=12.5ms, tries=3", "took=<num>ms, tries=<num>"),
            ("at 2026-11-22T14:02:31.123Z", "at <num>T<num>Z"),
            ("order 4bf92f3577b34da6 failed", "order <hex> failed"),
            ("ptr 0x7f00", "ptr <hex>"),
            ("id=123e4567-e89b-12d3-a456-426614174000.", "id=<uuid>."),
            ("from 10.0.0.1:5432 to ::1", "from <ip> to <ip>"),
            ("user \"ada l.\" isn't here", "user <str> isn't here"),
            ("GET /api/v1/users/42/cart", "GET /api/v<num>/users/<num>/cart"),
            ("decade facade added", "decade facade added"),
            ("worker-7 done", "worker-<num> done"),
            ("", ""),
        ] {
            assert_eq!(mask(line), masked, "{line}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_line_it_ends_and_stays_bounded(line in ".{0,300}") {
            let masked = mask(&line);
            prop_assert!(masked.len() <= 5 * line.len() + 8);
        }
    }
}

//! Secrets out of what is shown to others.
//!
//! What is replaced is replaced by a pseudonym, `‹kind:1f2e3d4c›`: a keyed hash whose key is made for one
//! file and thrown away, so equal values stay equal within the file and mean nothing outside. Rules go by
//! the names of attributes, and by what texts look like; [`coral_model::redaction::RULES`] is the list a person
//! is shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

/// Replaces secrets; one for each file.
#[derive(Debug)]
pub struct Redactor {
    key: u64,
    more: Vec<String>,
    /// How often each rule applied.
    pub counts: BTreeMap<&'static str, u64>,
}

const NAMES: [&str; 14] = [
    "authorization",
    "cookie",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
    "sessionid",
    "signature",
];
/// Names that hold one of [`NAMES`] and are no secret.
const HARMLESS: [&str; 4] = ["tokens", "tokencount", "tokentype", "tokenlimit"];

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        static $name: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new($text).ok());
    };
}

pattern!(EMAIL, r"[A-Za-z0-9._%+\-]{1,64}@[A-Za-z0-9.\-]{1,190}\.[A-Za-z]{2,24}");
pattern!(
    BEARER,
    r"(?i)\b(?:bearer|basic)[ :]+[A-Za-z0-9+/=_\-.~]{8,}|\beyJ[A-Za-z0-9_\-]{6,}\.[A-Za-z0-9_\-]{6,}\.[A-Za-z0-9_\-]*|\bAKIA[0-9A-Z]{16}\b|\b(?:gh[pousr]|github_pat)_[A-Za-z0-9_]{20,}|\bxox[abprs]-[A-Za-z0-9\-]{10,}|\bsk[-_](?:live|test|proj)?[-_]?[A-Za-z0-9_\-]{16,}|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
);
pattern!(CARD, r"\b\d(?:[ \-]?\d){12,18}\b");
pattern!(
    NAMED,
    r#"(?i)([A-Za-z0-9_.\-]*(?:authorization|cookie|password|passwd|passphrase|pwd|secret|token|api[_\-]?key|access[_\-]?key|private[_\-]?key|credentials?|session[_\-]?id)[A-Za-z0-9_\-]*)(["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;&)}\]]+)"#
);
pattern!(USERINFO, r"([a-z][a-z0-9+.\-]*://)([^/\s:@]+:[^/\s@]+)@");
pattern!(QUERY, r"([?&][A-Za-z0-9_.\-\[\]%]+=)([^&\s#]+)");
pattern!(SQL, r#"'(?:[^']|'')*'|\$\$[\s\S]*?\$\$|\b0x[0-9A-Fa-f]+\b|\b\d+(?:\.\d+)?\b"#);

impl Redactor {
    /// With a key of its own; `more` are names of attributes whose values are replaced too.
    #[must_use]
    pub fn new(key: u64, more: Vec<String>) -> Self {
        Self { key, more, counts: BTreeMap::new() }
    }

    fn pseudonym(&mut self, rule: &'static str, value: &str) -> String {
        // What was replaced before is not replaced again.
        if value.starts_with('‹') && value.ends_with('›') {
            return value.to_owned();
        }
        *self.counts.entry(rule).or_default() += 1;
        let mut hash = Xxh3::with_seed(self.key);
        hash.update(value.as_bytes());
        format!("‹{rule}:{:08x}›", hash.digest() & 0xffff_ffff)
    }

    fn each(
        &mut self,
        pattern: &Option<Regex>,
        text: String,
        replace: impl Fn(&mut Self, &Captures<'_>) -> String,
    ) -> String {
        // The patterns are checked by a test; without one nothing may leave.
        let Some(pattern) = pattern else { return self.pseudonym("secret", &text) };
        if !pattern.is_match(&text) {
            return text;
        }
        pattern.replace_all(&text, |found: &Captures<'_>| replace(self, found)).into_owned()
    }

    /// Any text: bodies, messages, names.
    pub fn text(&mut self, text: &str) -> String {
        let inner = text.trim_start();
        if inner.starts_with(['{', '['])
            && let Ok(mut value) = serde_json::from_str::<Value>(text)
        {
            self.value("", &mut value);
            return value.to_string();
        }
        let whole = |c: &Captures<'_>| c.get(0).map_or("", |m| m.as_str()).to_owned();
        let part = |c: &Captures<'_>, n| c.get(n).map_or("", |m| m.as_str()).to_owned();
        let mut text = text.to_owned();
        text = self.each(&BEARER, text, |this, c| this.pseudonym("bearer", &whole(c)));
        text = self.each(&USERINFO, text, |this, c| {
            format!("{}{}@", part(c, 1), this.pseudonym("query", &part(c, 2)))
        });
        text = self.each(&NAMED, text, |this, c| {
            let (name, between, value) = (part(c, 1), part(c, 2), part(c, 3));
            if is_harmless(&name) {
                return whole(c);
            }
            let bare = value.trim_matches(['"', '\'']);
            let replaced = value.replace(bare, &this.pseudonym("secret", bare));
            format!("{name}{between}{replaced}")
        });
        text = self.each(&QUERY, text, |this, c| {
            format!("{}{}", part(c, 1), this.pseudonym("query", &part(c, 2)))
        });
        text = self.each(&EMAIL, text, |this, c| this.pseudonym("email", &whole(c)));
        self.each(&CARD, text, |this, c| {
            let found = whole(c);
            if is_card(&found) { this.pseudonym("card", &found) } else { found }
        })
    }

    /// The value of an attribute.
    pub fn attribute(&mut self, name: &str, value: &str) -> String {
        if self.more.iter().any(|more| more.eq_ignore_ascii_case(name)) {
            return self.pseudonym("asked", value);
        }
        if is_secret(name) {
            return self.pseudonym("secret", value);
        }
        let lower = name.to_ascii_lowercase();
        if lower == "db.statement" || lower == "db.query.text" {
            return self.sql(value);
        }
        if lower.starts_with("db.query.parameter") || lower.starts_with("db.operation.parameter") {
            return self.pseudonym("sql", value);
        }
        if lower == "url.query" {
            let with = self.text(&format!("?{value}"));
            return with.strip_prefix('?').unwrap_or(&with).to_owned();
        }
        self.text(value)
    }

    /// A statement without its literals.
    fn sql(&mut self, text: &str) -> String {
        let mut n = 0;
        let Some(pattern) = SQL.as_ref() else { return self.pseudonym("sql", text) };
        let out = pattern.replace_all(text, |_: &Captures<'_>| {
            n += 1;
            "?"
        });
        let out = out.into_owned();
        if n > 0 {
            *self.counts.entry("sql").or_default() += n;
        }
        // MySQL writes texts in double quotes too; PostgreSQL names, which say nothing of secrets.
        self.text(&out)
    }

    /// Everything in a row: objects by their keys, texts by what they are. Numbers stay.
    pub fn value(&mut self, name: &str, value: &mut Value) {
        match value {
            Value::String(text) => {
                *text = if name.is_empty() { self.text(text) } else { self.attribute(name, text) };
            }
            Value::Array(all) => all.iter_mut().for_each(|one| self.value(name, one)),
            Value::Object(fields) => {
                for (key, one) in fields.iter_mut() {
                    if one.is_number() && (is_secret(key) || self.is_asked(key)) {
                        *one = Value::String(self.pseudonym("secret", &one.to_string()));
                    }
                    self.value(key, one);
                }
                // A name can be a secret as well, as of a header somebody put one into.
                let odd: Vec<String> =
                    fields.keys().filter(|key| key.contains(['@', ' '])).cloned().collect();
                for key in odd {
                    let clean = self.text(&key);
                    if clean != key
                        && let Some(one) = fields.remove(&key)
                    {
                        fields.insert(clean, one);
                    }
                }
            }
            _ => {}
        }
    }

    fn is_asked(&self, name: &str) -> bool {
        self.more.iter().any(|more| more.eq_ignore_ascii_case(name))
    }

    /// What was done, for a person.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut out = String::new();
        for (rule, n) in &self.counts {
            // Writing to a String cannot fail.
            _ = write!(out, "{}{rule} {n}", if out.is_empty() { "" } else { ", " });
        }
        out
    }
}

/// A name without what writers put between its words.
fn bare(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

fn is_harmless(name: &str) -> bool {
    let bare = bare(name);
    HARMLESS.iter().any(|known| bare.ends_with(known))
}

fn is_secret(name: &str) -> bool {
    let bare = bare(name);
    NAMES.iter().any(|known| bare.contains(known)) && !is_harmless(name)
}

/// Luhn's check (ISO/IEC 7812-1), over 13 to 19 digits.
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, d)| match (at % 2, d * 2) {
            (0, _) => *d,
            (_, double) => double / 10 + double % 10,
        })
        .sum();
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10) && digits.iter().any(|d| *d > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        Redactor::new(7, vec!["customer.name".into()])
    }

    #[test]
    fn every_pattern_compiles() {
        for pattern in [&EMAIL, &BEARER, &CARD, &NAMED, &USERINFO, &QUERY, &SQL] {
            assert!(pattern.is_some());
        }
    }

    #[test]
    fn secrets_go_wherever_they_stand() {
        let mut r = redactor();
        for (text, secret) in [
            ("login of ann@example.com failed", "ann@example.com"),
            ("header Authorization: Bearer abc.def-123456", "abc.def"),
            ("jwt eyJhbGciOi.eyJzdWIiOiIx.c2lnbmF0dXJl end", "eyJzdWIiOiIx"),
            ("paid with 4111 1111 1111 1111 today", "1111 1111"),
            ("password=hunter2, user=ann", "hunter2"),
            ("{\"user\":\"ann\",\"api_key\":\"k-1234\"}", "k-1234"),
            ("connect postgres://ann:hunter2@db/shop", "hunter2"),
            ("GET /reset?code=s3cr3t&x=1", "s3cr3t"),
            ("AWS AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
            ("{\"event\":{\"set-cookie\":\"sid=1\"}}", "sid=1"),
            ("{\"pin_token\": 4711}", "4711"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "MIIE"),
        ] {
            let out = r.text(text);
            assert!(!out.contains(secret) && out.contains('‹'), "{text} → {out}");
        }
    }

    #[test]
    fn attributes_go_by_their_names() {
        let mut r = redactor();
        for name in [
            "http.request.header.authorization",
            "http.response.header.set-cookie",
            "db.password",
            "X-Api-Key",
            "aws.secret_access_key",
            "customer.name",
            "db.query.parameter.0",
        ] {
            assert!(r.attribute(name, "value-1").starts_with('‹'), "{name}");
        }
        assert_eq!(
            r.attribute("db.query.text", "SELECT * FROM t1 WHERE a = 'x''y' AND b = 42"),
            "SELECT * FROM t1 WHERE a = ? AND b = ?"
        );
        let query = r.attribute("url.query", "a=zzz&c=yyy");
        assert!(query.starts_with("a=‹") && !query.contains("zzz") && !query.contains("yyy"));
    }

    #[test]
    fn what_is_no_secret_stays() {
        let mut r = redactor();
        for text in [
            "GET /item 200 in 12 ms",
            "order 1234567890123 shipped",
            "2026-11-22T14:02:31Z pool exhausted",
            "trace 4bf92f3577b34da6a3ce929d0e0e4736",
            "used 12 tokens, prompt_tokens=5",
        ] {
            assert_eq!(r.text(text), text);
        }
        assert_eq!(r.attribute("gen_ai.usage.input_tokens", "12"), "12");
        assert!(r.counts.is_empty(), "{:?}", r.counts);
    }

    #[test]
    fn equal_values_stay_equal_and_files_differ() {
        let mut r = redactor();
        let (a, b) = (r.text("ann@example.com"), r.text("mail to ann@example.com"));
        assert!(b.ends_with(&a));
        assert_ne!(a, Redactor::new(8, Vec::new()).text("ann@example.com"));
        assert_eq!(r.text(&a), a, "twice changes nothing");
    }
}

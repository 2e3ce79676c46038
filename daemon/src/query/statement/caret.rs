//! An error with the line it is about and a caret under the place.

use coral_model::text::{clean, fit};

/// Columns of a line that are shown.
const WIDTH: usize = 100;

/// `what`, the line of `text` that holds byte `at`, a caret with `why`, and a hint.
pub fn point(what: &str, text: &str, at: Option<usize>, why: &str, hint: &str) -> String {
    let mut out = what.to_owned();
    let place = at.filter(|&at| at <= text.len() && text.is_char_boundary(at));
    match place {
        None => out.push_str(&format!(": {why}")),
        Some(at) => {
            let start = text.get(..at).and_then(|t| t.rfind('\n')).map_or(0, |n| n + 1);
            let line = text.get(start..).and_then(|t| t.lines().next()).unwrap_or_default();
            let before = text.get(start..at).unwrap_or_default();
            // A long line is shown from a little before the place.
            let skip = before.chars().count().saturating_sub(WIDTH / 2);
            let shown: String = line.chars().skip(skip).collect();
            let lead: String = before.chars().skip(skip).collect();
            let blanks = unicode_width::UnicodeWidthStr::width(clean(&lead).as_ref());
            out.push_str(&format!("\n  {}\n  {}^ {why}", fit(&shown, WIDTH), " ".repeat(blanks)));
        }
    }
    if !hint.is_empty() {
        out.push_str(&format!("\n  hint: {hint}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let text = "SELECT 1\nFROM ünï JOIN secrets";
        let at = text.find("secrets");
        assert_eq!(
            point("no", text, at, "not a view", "ask less"),
            "no\n  FROM ünï JOIN secrets\n                ^ not a view\n  hint: ask less"
        );
        assert_eq!(point("no", text, None, "why", ""), "no: why");
        // Neither a place inside a letter nor one beyond the end is one.
        assert_eq!(point("no", "ü", Some(1), "why", ""), "no: why");
        assert_eq!(point("no", "x", Some(99), "why", ""), "no: why");
        let long = format!("{}here", "x".repeat(500));
        assert!(point("no", &long, Some(500), "why", "").lines().all(|l| l.chars().count() < 120));
    }
}

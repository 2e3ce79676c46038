//! Colours of a statement.
//!
//! The grammar is loaded when a statement is first looked at, never before the first frame. Only the
//! lines that can be seen are coloured, and a few above them in which a remark or a text may have
//! begun.

use std::ops::Range;
use std::sync::OnceLock;

use syntect::parsing::{ParseState, Scope, ScopeStack, SyntaxReference, SyntaxSet};

use crate::theme::Role;

/// Lines looked at above the first visible one.
const ABOVE: usize = 40;
/// Bytes of a line that are coloured.
const WIDEST: usize = 400;
/// Bytes that are coloured at once.
const MOST: usize = 8 << 10;

struct Grammar {
    set: SyntaxSet,
    scopes: Vec<(Scope, Role)>,
}

fn grammar() -> &'static Grammar {
    static GRAMMAR: OnceLock<Grammar> = OnceLock::new();
    GRAMMAR.get_or_init(|| {
        let names = [
            ("comment", Role::Dim),
            ("string", Role::Literal),
            ("constant", Role::Literal),
            ("keyword.operator", Role::Text),
            ("keyword", Role::Keyword),
            ("storage", Role::Keyword),
            ("support.function", Role::Function),
            ("entity.name.function", Role::Function),
        ];
        let scopes = names.iter().filter_map(|(name, role)| Some((Scope::new(name).ok()?, *role)));
        Grammar { set: SyntaxSet::load_defaults_newlines(), scopes: scopes.collect() }
    })
}

impl Grammar {
    fn sql(&self) -> Option<&SyntaxReference> {
        self.set.find_syntax_by_extension("sql")
    }

    /// The innermost scope that has a role decides.
    fn role(&self, stack: &ScopeStack) -> Role {
        let role = |scope: &Scope| {
            self.scopes.iter().find(|(prefix, _)| prefix.is_prefix_of(*scope)).map(|(_, r)| *r)
        };
        stack.as_slice().iter().rev().find_map(role).unwrap_or(Role::Text)
    }
}

/// Byte ranges of the lines `from..to` and their roles; a line that is not coloured has none.
#[must_use]
pub fn sql_colours(lines: &[String], from: usize, to: usize) -> Vec<Vec<(Range<usize>, Role)>> {
    let grammar = grammar();
    let mut painted = Vec::with_capacity(to.saturating_sub(from));
    let Some(syntax) = grammar.sql() else { return painted };
    let mut state = ParseState::new(syntax);
    let mut stack = ScopeStack::new();
    let mut bytes = 0;
    let first = from.saturating_sub(ABOVE);
    for (n, line) in lines.iter().enumerate().take(to).skip(first) {
        bytes += line.len();
        if bytes > MOST {
            break;
        }
        let end = (0..=WIDEST.min(line.len())).rev().find(|i| line.is_char_boundary(*i));
        let text = format!("{}\n", line.get(..end.unwrap_or(0)).unwrap_or_default());
        let Ok(ops) = state.parse_line(&text, &grammar.set) else { break };
        let mut pieces = Vec::new();
        let mut at = 0;
        for (place, op) in ops {
            if place > at {
                pieces.push((at..place, grammar.role(&stack)));
                at = place;
            }
            if stack.apply(&op).is_err() {
                break;
            }
        }
        let end = text.len() - 1;
        if at < end {
            pieces.push((at..end, grammar.role(&stack)));
        }
        if n >= from {
            painted.push(pieces);
        }
    }
    painted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(text: &str) -> Vec<(String, Role)> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let painted = sql_colours(&lines, 0, lines.len());
        let pieces = lines.iter().zip(painted).flat_map(|(line, pieces)| {
            let pieces = pieces.into_iter();
            pieces.map(|(range, role)| {
                (line.get(range.start..range.end.min(line.len())).unwrap().to_owned(), role)
            })
        });
        pieces.filter(|(_, role)| *role != Role::Text).collect()
    }

    #[test]
    fn words_texts_and_remarks_are_told_apart() {
        let found = roles("SELECT 'it''s' AS x, 42 -- why\nFROM spans /* a\nb */ LIMIT 5");
        let is = |text: &str, role| found.iter().any(|(t, r)| t.contains(text) && *r == role);
        assert!(is("SELECT", Role::Keyword) && is("FROM", Role::Keyword), "{found:?}");
        assert!(is("it", Role::Literal) && is("42", Role::Literal), "{found:?}");
        assert!(is("why", Role::Dim) && is("b ", Role::Dim), "{found:?}");
    }

    #[test]
    fn much_and_hostile_text_is_bounded() {
        let lines: Vec<String> =
            (0..2_000).map(|n| format!("{} '{} é日\u{1b}[2J", "x".repeat(900), n)).collect();
        assert!(sql_colours(&lines, 1_000, 1_080).len() <= 80);
        assert!(sql_colours(&[], 0, 10).is_empty());
        assert!(sql_colours(&lines, 5_000, 5_010).is_empty());
    }
}

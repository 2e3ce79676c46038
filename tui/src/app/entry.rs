//! What lies over the panes: a line being typed, the palette, help.

use tui_textarea::TextArea;

use crate::command::{COMMANDS, CommandSpec, score};
use crate::keymap::{Code, Key};

/// What a typed line is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A filter.
    Filter,
    /// A time.
    Time,
    /// A place, trace id or service.
    Open,
    /// A note.
    Note,
    /// A command.
    Palette,
}

impl Purpose {
    /// What stands before the line.
    #[must_use]
    pub const fn prompt(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Time => "time",
            Self::Open => "open",
            Self::Note => "note",
            Self::Palette => ":",
        }
    }
}

/// A line being typed.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What for.
    pub purpose: Purpose,
    /// The text and its cursor.
    pub area: TextArea<'static>,
    /// What is wrong with it: a sentence, and the column it is about.
    pub error: Option<(String, usize)>,
    /// What could be typed next.
    pub completions: Vec<String>,
    /// Which of the completions, or which palette row.
    pub chosen: usize,
}

/// What lies over the panes.
#[derive(Clone, Debug)]
pub enum Overlay {
    /// A line being typed.
    Entry(Box<Entry>),
    /// Help, scrolled down by so many lines.
    Help(usize),
    /// The places of this session.
    Trail(usize),
}

impl Entry {
    /// A line that begins with `text`.
    #[must_use]
    pub fn new(purpose: Purpose, text: &str) -> Self {
        let mut area = TextArea::default();
        area.set_max_histories(50);
        let mut entry = Self { purpose, area, error: None, completions: Vec::new(), chosen: 0 };
        entry.insert(text);
        entry
    }

    /// The text so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.area.lines().first().cloned().unwrap_or_default()
    }

    /// Byte offset of the cursor.
    #[must_use]
    pub fn cursor(&self) -> usize {
        let column = self.area.cursor().1;
        let text = self.text();
        text.char_indices().nth(column).map_or(text.len(), |(i, _)| i)
    }

    /// Inserts text as text: one line, nothing hostile, bounded.
    pub fn insert(&mut self, text: &str) {
        let clean: String = coral_model::text::clean(text).chars().take(4_000).collect();
        self.area.insert_str(clean);
        self.error = None;
    }

    /// Replaces the whole text, cursor at byte `cursor`.
    pub fn replace(&mut self, text: &str, cursor: usize) {
        let column = text.get(..cursor).map_or(0, |head| head.chars().count());
        *self = Self {
            purpose: self.purpose,
            area: TextArea::default(),
            error: None,
            completions: Vec::new(),
            chosen: 0,
        };
        self.insert(text);
        self.area.move_cursor(tui_textarea::CursorMove::Jump(0, coral_model::num::u16_sat(column)));
    }

    /// A key that edits; says whether it did anything.
    pub fn edit(&mut self, key: Key) -> bool {
        // These would make a second line, or search within one.
        let refused = matches!(key.code, Code::Enter | Code::Esc | Code::Tab)
            || (key.ctrl && matches!(key.code, Code::Char('m' | 'j' | 'c' | 'p')));
        if refused {
            return false;
        }
        if key.ctrl && key.code == Code::Char('u') {
            self.area.delete_line_by_head();
        } else {
            self.area.input(key.to_input());
        }
        self.error = None;
        self.chosen = 0;
        true
    }
}

/// Commands that match what was typed in the palette, best first. The first word is matched; the
/// rest is the command's argument.
#[must_use]
pub fn matches(text: &str) -> Vec<&'static CommandSpec> {
    let word = text.split_whitespace().next().unwrap_or_default();
    let mut found: Vec<(i32, &CommandSpec)> = COMMANDS
        .iter()
        .filter_map(|spec| {
            if spec.name == word {
                return Some((i32::MAX, spec));
            }
            let by_name = score(word, spec.name).map(|s| s + 20);
            let by_help = score(word, spec.help).filter(|s| *s > 0 && word.len() > 2);
            by_name.or(by_help).map(|s| (s, spec))
        })
        .collect();
    found.sort_by_key(|(s, _)| std::cmp::Reverse(*s));
    found.into_iter().map(|(_, spec)| spec).collect()
}

/// What follows the command's name.
#[must_use]
pub fn argument(text: &str) -> &str {
    text.trim_start().split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim())
}

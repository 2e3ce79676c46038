//! The statement being written: its text, its past, what could be typed next, and running it.
//!
//! While the editor has the focus, keys are text; Esc gives them back. What was run is part of the
//! place ([`super::Here::statement`]), what is only typed is not.

mod flat;
mod words;
mod wrap;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::ops::Range;

use coral_model::question::View;
use coral_model::time::Time;
use coral_model::view::{Row, SqlColumns, SqlRow};
use tui_textarea::{CursorMove, TextArea};

use super::{App, Effect};
use crate::command::CommandId;
use crate::feed::{Slot, Want};
use crate::keymap::{Code, Key};
use crate::layout::{PaneId, ViewId};
use crate::theme::Role;
use crate::widget::sql_colours;
pub use flat::flat;
use words::Columns;
pub use words::question as columns_question;
pub use wrap::{row_of, wrapped};

/// Longest statement the colony takes, in bytes.
const LONGEST: usize = 64 << 10;
/// Statements remembered.
pub const REMEMBERED: usize = 500;
/// Rows asked for.
const ROWS: usize = 1_000;
/// Completions offered.
const OFFERED: usize = 12;

/// Pieces of a line and their roles.
pub type Painted = Vec<(Range<usize>, Role)>;

/// Colours of some lines, and what they are the colours of.
#[derive(Default)]
struct Paint {
    of: (u64, usize, usize),
    lines: Vec<Painted>,
}

/// The editor.
pub struct Sql {
    area: TextArea<'static>,
    /// Counts changes of the text.
    edition: u64,
    /// Statements that were run, oldest first.
    past: Vec<String>,
    /// Where in the past one stands; `None` at what is being written.
    at: Option<usize>,
    /// What was being written before one went into the past.
    draft: String,
    /// What could be typed next, and which of it is chosen.
    pub offers: Vec<String>,
    /// Which.
    pub chosen: usize,
    /// A run was called off.
    stopped: bool,
    /// When the statement was last run.
    began: Time,
    /// First column shown of the answer.
    pub left: usize,
    paint: RefCell<Paint>,
}

impl Default for Sql {
    fn default() -> Self {
        Self {
            area: area(""),
            edition: 0,
            past: Vec::new(),
            at: None,
            draft: String::new(),
            offers: Vec::new(),
            chosen: 0,
            stopped: false,
            began: Time::default(),
            left: 0,
            paint: RefCell::default(),
        }
    }
}

/// Text as text: tabs are blanks, nothing hostile but line ends.
fn cleaned(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n").replace('\t', "    ");
    let lines: Vec<_> = text.split('\n').map(coral_model::text::clean).collect();
    lines.join("\n")
}

fn area(text: &str) -> TextArea<'static> {
    let mut area = TextArea::new(cleaned(text).split('\n').map(str::to_owned).collect());
    area.set_max_histories(200);
    area.move_cursor(CursorMove::Bottom);
    area.move_cursor(CursorMove::End);
    area
}

impl Sql {
    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        self.area.lines().join("\n")
    }

    /// Its lines.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.area.lines()
    }

    /// Line and character of the cursor.
    #[must_use]
    pub fn cursor(&self) -> (usize, usize) {
        let at = self.area.cursor();
        (at.0, at.1)
    }

    /// Another text, the cursor behind it.
    pub fn set(&mut self, text: &str) {
        let cut = text.char_indices().map(|(i, _)| i).find(|i| *i > LONGEST);
        self.area = area(cut.and_then(|i| text.get(..i)).unwrap_or(text));
        self.changed();
    }

    fn changed(&mut self) {
        self.edition += 1;
        self.offers.clear();
        self.chosen = 0;
    }

    /// Puts text in at the cursor; `false` when it would be too long.
    fn insert(&mut self, text: &str) -> bool {
        let text = cleaned(text);
        let has: usize = self.area.lines().iter().map(|line| line.len() + 1).sum();
        if has + text.len() > LONGEST {
            return false;
        }
        self.area.insert_str(text);
        self.changed();
        true
    }

    /// Statements of earlier sessions, oldest first.
    pub fn remember(&mut self, past: Vec<String>) {
        self.past = past;
    }

    fn ran(&mut self, text: &str) -> bool {
        self.at = None;
        if self.past.last().is_some_and(|last| last == text) {
            return false;
        }
        self.past.push(text.to_owned());
        let over = self.past.len().saturating_sub(REMEMBERED);
        self.past.drain(..over);
        true
    }

    /// A statement earlier or later in the past; behind the newest is what was being written.
    fn recall(&mut self, later: bool) {
        let next = match (self.at, later) {
            (None, true) => return,
            (None, false) => self.past.len().checked_sub(1),
            (Some(at), false) => Some(at.saturating_sub(1)),
            (Some(at), true) => Some(at + 1).filter(|at| *at < self.past.len()),
        };
        if next.is_none() && !later {
            return;
        }
        if self.at.is_none() {
            self.draft = self.text();
        }
        let text = match next {
            Some(at) => self.past.get(at).cloned().unwrap_or_default(),
            None => std::mem::take(&mut self.draft),
        };
        self.set(&text);
        self.at = next;
    }

    /// The word before the cursor.
    fn prefix(&self) -> String {
        let (row, column) = self.cursor();
        let line = self.area.lines().get(row).map_or("", String::as_str);
        let head: Vec<char> = line.chars().take(column).collect();
        let word = head.iter().rev().take_while(|c| c.is_alphanumeric() || **c == '_');
        let mut word: Vec<char> = word.copied().collect();
        word.reverse();
        word.into_iter().collect()
    }

    fn offer(&mut self, columns: &Columns) {
        self.offers = words::matching(&self.prefix(), &self.text(), columns, OFFERED);
        self.chosen = 0;
    }

    /// Types the rest of the chosen completion; `false` when there is none.
    fn complete(&mut self) -> bool {
        let Some(word) = self.offers.get(self.chosen).cloned() else { return false };
        let typed = self.prefix().chars().count();
        for _ in 0..typed {
            self.area.delete_char();
        }
        self.area.insert_str(word);
        self.changed();
        true
    }

    /// Colours of the lines `from..to`, made when they are looked at and the text has changed.
    pub fn painted<T>(&self, from: usize, to: usize, f: impl FnOnce(&[Painted]) -> T) -> T {
        let mut paint = self.paint.borrow_mut();
        let of = (self.edition + 1, from, to);
        if paint.of != of {
            *paint = Paint { of, lines: sql_colours(self.area.lines(), from, to) };
        }
        f(&paint.lines)
    }
}

impl App {
    /// Keys are text now.
    #[must_use]
    pub fn is_typing(&self) -> bool {
        self.overlay.is_none() && self.here.focus == PaneId::Editor
    }

    /// The statement that was run, while its answer is awaited.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.is_loading(Slot::Sql) && self.data.known(Slot::Sql).is_none()
    }

    /// When the running statement was run.
    #[must_use]
    pub fn running_since(&self) -> Option<Time> {
        self.is_running().then_some(self.sql.began)
    }

    /// How long the answer shown took, in nanoseconds.
    #[must_use]
    pub fn took(&self) -> Option<u64> {
        let known = self.data.known(Slot::Sql)?;
        (known.at >= self.sql.began && self.sql.began > Time::default())
            .then(|| known.at.since(self.sql.began))
    }

    /// Why the statement that stands in the editor has no answer. What another one was refused for
    /// says nothing about it.
    #[must_use]
    pub fn sql_failure(&self) -> Option<&str> {
        self.data.failure(Slot::Sql).filter(|_| !self.is_rewritten())
    }

    /// What is in the editor is not what was run last.
    #[must_use]
    pub fn is_rewritten(&self) -> bool {
        statement(&self.sql.text()) != self.here.statement
    }

    /// A run was called off, and nothing was run since.
    #[must_use]
    pub fn was_stopped(&self) -> bool {
        self.sql.stopped
    }

    /// What the statement is asked as.
    pub(super) fn sql_want(&self) -> Option<Want> {
        if self.here.statement.is_empty() || self.sql.stopped {
            return None;
        }
        let mut want = Want::new(View::Sql, self.here.clock.span());
        want.mode = coral_model::question::Mode::Once;
        want.subject = Some(self.here.statement.clone());
        want.limit = ROWS;
        Some(want)
    }

    /// Columns of the answer.
    #[must_use]
    pub fn sql_columns(&self) -> Option<&SqlColumns> {
        self.data.rows(Slot::Sql).iter().find_map(|row| match row {
            Row::SqlColumns(head) => Some(&**head),
            _ => None,
        })
    }

    /// Rows of the answer in the order they came.
    pub fn sql_given(&self) -> impl Iterator<Item = &SqlRow> {
        self.data.rows(Slot::Sql).iter().filter_map(|row| match row {
            Row::Sql(row) => Some(&**row),
            _ => None,
        })
    }

    /// Opens the view; the editor has the keys.
    pub(super) fn open_sql(&mut self) {
        if self.here.view != ViewId::Sql || self.here.zoom {
            self.go(|here| {
                here.view = ViewId::Sql;
                here.zoom = false;
                here.focus = PaneId::Editor;
                here.operation = None;
            });
        }
        self.here.focus = PaneId::Editor;
    }

    /// Runs what is written.
    pub(super) fn run_statement(&mut self) -> Vec<Effect> {
        let text = statement(&self.sql.text()).to_owned();
        if text.is_empty() {
            self.open_sql();
            self.say("write a SELECT first; `DESCRIBE spans` lists columns");
            return Vec::new();
        }
        self.sql.stopped = false;
        self.sql.began = self.now;
        self.sql.left = 0;
        self.sql.offers.clear();
        // Asked anew although the words are the same: what is stored may be other by now.
        self.asked.remove(&Slot::Sql);
        self.data.forget(Slot::Sql);
        let new = self.sql.ran(&text);
        let focus = if self.here.focus == PaneId::Editor { PaneId::Editor } else { PaneId::Rows };
        let said = text.clone();
        self.go(|here| {
            here.view = ViewId::Sql;
            here.zoom = false;
            here.focus = focus;
            here.statement = said;
            for pane in [PaneId::Rows, PaneId::Values] {
                here.cursors.remove(&pane);
                here.orders.remove(&pane);
            }
        });
        if new { vec![Effect::Remember(text)] } else { Vec::new() }
    }

    /// Calls a running statement off; `false` when none runs.
    pub(super) fn stop_statement(&mut self) -> bool {
        let runs = self.is_running();
        if runs {
            self.sql.stopped = true;
            self.say("stopped");
        }
        runs
    }

    /// The text as it came back from the person's own editor.
    pub fn edited(&mut self, text: &str) {
        self.sql.set(text.trim_end());
        self.open_sql();
        self.touch();
    }

    /// The editor shows what a place was about.
    pub(super) fn follow_statement(&mut self) {
        let statement = self.here.statement.clone();
        if self.here.view == ViewId::Sql && !statement.is_empty() && self.sql.text() != statement {
            self.sql.set(&statement);
        }
    }

    /// Text that was pasted while typing.
    pub(super) fn paste_statement(&mut self, text: &str) {
        if !self.sql.insert(text) {
            self.say("a statement has at most 64 KiB: nothing was pasted");
        }
        self.touch();
    }

    /// A key while the editor has them.
    pub(super) fn sql_key(&mut self, key: Key) -> Vec<Effect> {
        let (row, _) = self.sql.cursor();
        let last = self.sql.lines().len().saturating_sub(1);
        match key.code {
            Code::Esc if !self.sql.offers.is_empty() => self.sql.offers.clear(),
            Code::Esc => self.leave_editor(),
            Code::Char('c') if key.ctrl => self.leave_editor(),
            Code::Enter if key.alt => return self.run_statement(),
            Code::Enter => {
                let text = self.sql.text();
                if text.trim_end().ends_with(';') && row == last {
                    return self.run_statement();
                }
                let indent: String = self
                    .sql
                    .lines()
                    .get(row)
                    .map(|line| line.chars().take_while(|c| *c == ' ').collect())
                    .unwrap_or_default();
                self.insert_or_say(&format!("\n{indent}"));
            }
            Code::Tab if key.shift && self.sql.offers.is_empty() => {
                return self.perform(CommandId::PreviousPane, "");
            }
            Code::Tab if key.shift => {
                let n = self.sql.offers.len().max(1);
                self.sql.chosen = (self.sql.chosen + n - 1) % n;
            }
            Code::Tab => {
                if self.sql.complete() {
                    return Vec::new();
                }
                if self.sql.prefix().is_empty() {
                    return self.perform(CommandId::NextPane, "");
                }
                self.say("nothing known begins like this");
            }
            Code::Char('n') if key.ctrl && !self.sql.offers.is_empty() => {
                self.sql.chosen = (self.sql.chosen + 1) % self.sql.offers.len();
            }
            Code::Char('u') if key.ctrl => {
                if self.sql.area.delete_line_by_head() {
                    self.sql.changed();
                }
                self.sql.offers.clear();
            }
            Code::Up if row == 0 => self.sql.recall(false),
            Code::Down if row >= last => self.sql.recall(true),
            _ => {
                let command = self.keymap.command(key);
                let reserved = key.ctrl || matches!(key.code, Code::F(_));
                if let Some(command) = command.filter(|c| reserved && kept(*c)) {
                    return self.perform(command, "");
                }
                self.type_key(key);
            }
        }
        Vec::new()
    }

    fn leave_editor(&mut self) {
        if !self.stop_statement() {
            self.here.focus = PaneId::Rows;
            if self.here.statement.is_empty() {
                self.back();
            }
        }
    }

    fn insert_or_say(&mut self, text: &str) {
        if !self.sql.insert(text) {
            self.say("a statement has at most 64 KiB");
        }
    }

    fn type_key(&mut self, key: Key) {
        if let (Code::Char(c), false, false) = (key.code, key.ctrl, key.alt) {
            self.insert_or_say(&c.to_string());
            if c.is_alphanumeric() || c == '_' {
                let columns = Columns::of(self.data.rows(Slot::Columns));
                self.sql.offer(&columns);
            }
            return;
        }
        let before = self.sql.area.lines().len();
        // A selection would not be seen.
        let changed = self.sql.area.input(Key { shift: false, ..key }.to_input());
        if changed || before != self.sql.area.lines().len() {
            self.sql.changed();
            if key.code == Code::Backspace && !self.sql.prefix().is_empty() {
                let columns = Columns::of(self.data.rows(Slot::Columns));
                self.sql.offer(&columns);
            }
        } else {
            self.sql.offers.clear();
        }
    }
}

/// What is run of a text: without blanks around it and the semicolon behind it.
fn statement(text: &str) -> &str {
    text.trim().trim_end_matches(';').trim_end()
}

/// Commands that keep their keys while typing.
fn kept(id: CommandId) -> bool {
    matches!(
        id,
        CommandId::Run
            | CommandId::Editor
            | CommandId::Palette
            | CommandId::Suspend
            | CommandId::Redraw
            | CommandId::Quit
    )
}

//! The one gate between text and cells.

use coral_model::num::u16_sat;
use coral_model::text;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthStr;

use crate::command::CommandId;
use crate::layout::PaneId;
use crate::theme::{Role, Theme};

/// What a place on the screen stands for, when the mouse points at it.
#[derive(Clone, PartialEq, Debug)]
pub enum Target {
    /// A pane: a click focuses it, the wheel scrolls it.
    Pane(PaneId),
    /// A row of a pane's list.
    Row(PaneId, usize),
    /// A command, as the bar and the palette show it.
    Run(CommandId),
}

/// A rectangle and what it stands for.
#[derive(Clone, PartialEq, Debug)]
pub struct Hit {
    /// Where.
    pub area: Rect,
    /// What.
    pub target: Target,
}

/// A piece of text and its look.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The text; cleaned when it is put on the canvas.
    pub text: String,
    /// How it looks.
    pub style: Style,
}

/// Cells, with a theme.
pub struct Canvas<'a> {
    /// The cells.
    pub buf: &'a mut Buffer,
    /// What lies where.
    pub hits: &'a mut Vec<Hit>,
    /// The looks.
    pub theme: &'a Theme,
}

/// Columns a text takes.
#[must_use]
pub fn width(text: &str) -> u16 {
    u16_sat(text.width())
}

/// `text` cut into lines of at most `width` columns, at word ends where there are any.
#[must_use]
pub fn folded(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let flat = text::clean(text);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in flat.split_whitespace() {
        if !line.is_empty() && line.width() + 1 + word.width() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        while line.width() > width {
            let mut head = String::new();
            let mut used = 0;
            let mut tail = String::new();
            for c in line.chars() {
                let w = unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
                if tail.is_empty() && used + w <= width {
                    used += w;
                    head.push(c);
                } else {
                    tail.push(c);
                }
            }
            lines.push(head);
            line = tail;
        }
        if lines.len() > 2_000 {
            break;
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

impl Canvas<'_> {
    /// How a role looks.
    #[must_use]
    pub fn style(&self, role: Role) -> Style {
        self.theme.style(role)
    }

    /// A piece in a role's look.
    #[must_use]
    pub fn piece(&self, role: Role, text: impl Into<String>) -> Piece {
        Piece { text: text.into(), style: self.style(role) }
    }

    /// Puts `text` at `x, y`, at most `room` columns of it, and returns the column after it.
    pub fn put(&mut self, x: u16, y: u16, room: u16, text: &str, style: Style) -> u16 {
        let area = self.buf.area;
        if room == 0 || y >= area.bottom() || y < area.top() || x >= area.right() {
            return x;
        }
        let room = room.min(area.right() - x);
        let fitted = text::fit(text, usize::from(room));
        let (end, _) = self.buf.set_stringn(x, y, &fitted, usize::from(room), style);
        end
    }

    /// Puts `text` in a role's look; returns the column after it.
    pub fn say(&mut self, x: u16, y: u16, room: u16, text: &str, role: Role) -> u16 {
        let style = self.style(role);
        self.put(x, y, room, text, style)
    }

    /// Puts `text` so that it ends before column `end`.
    pub fn say_right(&mut self, end: u16, y: u16, room: u16, text: &str, role: Role) {
        let w = width(text).min(room);
        self.say(end.saturating_sub(w), y, w, text, role);
    }

    /// Puts pieces one after the other; returns the column after them.
    pub fn line(&mut self, x: u16, y: u16, room: u16, pieces: &[Piece]) -> u16 {
        let end = x.saturating_add(room);
        let mut at = x;
        for piece in pieces {
            if at >= end {
                break;
            }
            at = self.put(at, y, end - at, &piece.text, piece.style);
        }
        at
    }

    /// A symbol, unchecked: for lines and charts of our own.
    pub fn mark(&mut self, x: u16, y: u16, symbol: &str, style: Style) {
        if let Some(cell) = self.buf.cell_mut(Position::new(x, y)) {
            // What was here before must not shine through: looks add up otherwise.
            cell.reset();
            cell.set_symbol(symbol).set_style(style);
        }
    }

    /// Marks the selected row, in the look of a focused pane or of another. A reversed row is
    /// reversed as a whole: colours of its parts would turn into a patchwork of grounds.
    pub fn select(&mut self, area: Rect, focused: bool) {
        let style = self.style(if focused { Role::Selected } else { Role::Marked });
        let area = area.intersection(self.buf.area);
        if style.add_modifier.contains(Modifier::REVERSED) {
            for y in area.top()..area.bottom() {
                for x in area.left()..area.right() {
                    if let Some(cell) = self.buf.cell_mut(Position::new(x, y)) {
                        cell.fg = Color::Reset;
                        cell.bg = Color::Reset;
                        cell.modifier.remove(Modifier::DIM);
                    }
                }
            }
        }
        self.buf.set_style(area, style);
    }

    /// Lays a look over cells that are already there.
    pub fn tint(&mut self, area: Rect, style: Style) {
        self.buf.set_style(area.intersection(self.buf.area), style);
    }

    /// Empties an area, for popups.
    pub fn clear(&mut self, area: Rect, role: Role) {
        let style = self.style(role);
        let area = area.intersection(self.buf.area);
        for y in area.top()..area.bottom() {
            for x in area.left()..area.right() {
                if let Some(cell) = self.buf.cell_mut(Position::new(x, y)) {
                    cell.reset();
                    cell.set_style(style);
                }
            }
        }
    }

    /// A horizontal line.
    pub fn rule(&mut self, x: u16, y: u16, room: u16, role: Role) {
        let style = self.style(role);
        for i in 0..room {
            self.mark(x.saturating_add(i), y, "─", style);
        }
    }

    /// A vertical line.
    pub fn post(&mut self, x: u16, y: u16, height: u16, role: Role) {
        let style = self.style(role);
        for i in 0..height {
            self.mark(x, y.saturating_add(i), "│", style);
        }
    }

    /// Remembers what lies here.
    pub fn hit(&mut self, area: Rect, target: Target) {
        self.hits.push(Hit { area, target });
    }

    /// Wraps `text` at word ends into at most `height` lines; returns the lines used.
    pub fn wrap(&mut self, area: Rect, text: &str, role: Role) -> u16 {
        let room = usize::from(area.width);
        if room == 0 || area.height == 0 {
            return 0;
        }
        let mut used = 0;
        let mut line = String::new();
        let flat = text::clean(text);
        for word in flat.split_whitespace() {
            if !line.is_empty() && line.width() + 1 + word.width() > room {
                self.say(area.x, area.y + used, area.width, &line, role);
                used += 1;
                line.clear();
                if used >= area.height {
                    return used;
                }
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        if !line.is_empty() {
            self.say(area.x, area.y + used, area.width, &line, role);
            used += 1;
        }
        used
    }
}

//! From cells to bytes.

use std::fmt::Write as _;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};

/// Remembers what the terminal shows, and says in bytes how to get from there to a new picture.
pub struct Painter {
    shown: Buffer,
    /// The terminal's content is not known: paint every cell.
    blank: bool,
    bytes: String,
}

impl Painter {
    /// For a terminal that was just cleared.
    #[must_use]
    pub fn new(size: (u16, u16)) -> Self {
        let area = Rect { x: 0, y: 0, width: size.0, height: size.1 };
        Self { shown: Buffer::empty(area), blank: true, bytes: String::new() }
    }

    /// Forgets what the terminal shows.
    pub fn forget(&mut self) {
        self.blank = true;
    }

    /// What the terminal shows.
    #[must_use]
    pub fn shown(&self) -> &Buffer {
        &self.shown
    }

    /// The bytes that make the terminal show `next`; empty when it does already. `next` is left
    /// with an old picture, to be drawn over.
    pub fn paint(&mut self, next: &mut Buffer) -> &[u8] {
        self.bytes.clear();
        let clear = self.blank || self.shown.area != next.area;
        if clear {
            self.shown = Buffer::empty(next.area);
        }
        let changes = self.shown.diff(next);
        if !clear && changes.is_empty() {
            return &[];
        }
        // Synchronized update: terminals that do not know the mode ignore it.
        // <https://gist.github.com/christianparpart/d8a62cc1ab659194337d73e399004036>
        self.bytes.push_str("\x1b[?2026h");
        if clear {
            self.bytes.push_str("\x1b[0m\x1b[2J");
        }
        let mut pen = Pen::default();
        let mut at: Option<(u16, u16)> = None;
        for (x, y, cell) in changes {
            if at != Some((x, y)) {
                let _ = write!(self.bytes, "\x1b[{};{}H", y.saturating_add(1), x.saturating_add(1));
            }
            pen.change(&mut self.bytes, cell.fg, cell.bg, cell.modifier);
            let symbol = cell.symbol();
            self.bytes.push_str(symbol);
            let wide = unicode_width::UnicodeWidthStr::width(symbol).max(1);
            at = Some((x.saturating_add(coral_model::num::u16_sat(wide)), y));
        }
        if pen != Pen::default() {
            self.bytes.push_str("\x1b[0m");
        }
        self.bytes.push_str("\x1b[?2026l");
        self.blank = false;
        std::mem::swap(&mut self.shown, next);
        self.bytes.as_bytes()
    }
}

/// What the terminal will draw the next character with.
#[derive(PartialEq, Eq, Clone, Copy)]
struct Pen {
    fg: Color,
    bg: Color,
    modifier: Modifier,
}

impl Default for Pen {
    fn default() -> Self {
        Self { fg: Color::Reset, bg: Color::Reset, modifier: Modifier::empty() }
    }
}

const MODIFIERS: [(Modifier, &str); 6] = [
    (Modifier::BOLD, "1"),
    (Modifier::DIM, "2"),
    (Modifier::ITALIC, "3"),
    (Modifier::UNDERLINED, "4"),
    (Modifier::REVERSED, "7"),
    (Modifier::CROSSED_OUT, "9"),
];

impl Pen {
    fn change(&mut self, out: &mut String, fg: Color, bg: Color, modifier: Modifier) {
        let next = Self { fg, bg, modifier };
        if next == *self {
            return;
        }
        let mut codes = String::new();
        let mut from = *self;
        if !(from.modifier - modifier).is_empty() {
            // Only a reset takes every attribute off on every terminal.
            codes.push_str("0;");
            from = Self::default();
        }
        for (bit, code) in MODIFIERS {
            if modifier.contains(bit) && !from.modifier.contains(bit) {
                codes.push_str(code);
                codes.push(';');
            }
        }
        if fg != from.fg {
            color(&mut codes, fg, 30);
        }
        if bg != from.bg {
            color(&mut codes, bg, 40);
        }
        codes.pop();
        let _ = write!(out, "\x1b[{codes}m");
        *self = next;
    }
}

/// SGR code of a colour, `base` being 30 for text and 40 for its ground.
fn color(codes: &mut String, color: Color, base: u8) {
    let named = |n: u8| if n < 8 { base + n } else { base + 60 + (n - 8) };
    let n = match color {
        Color::Reset => {
            let _ = write!(codes, "{};", base + 9);
            return;
        }
        Color::Rgb(r, g, b) => {
            let _ = write!(codes, "{};2;{r};{g};{b};", base + 8);
            return;
        }
        Color::Indexed(i) => {
            let _ = write!(codes, "{};5;{i};", base + 8);
            return;
        }
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        Color::Gray => 7,
        Color::DarkGray => 8,
        Color::LightRed => 9,
        Color::LightGreen => 10,
        Color::LightYellow => 11,
        Color::LightBlue => 12,
        Color::LightMagenta => 13,
        Color::LightCyan => 14,
        Color::White => 15,
    };
    let _ = write!(codes, "{};", named(n));
}

/// Replaces everything that is not ASCII by what comes closest, so that `--ascii` is a promise.
pub fn to_ascii(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        let symbol = cell.symbol();
        if symbol.is_ascii() {
            continue;
        }
        let plain = match symbol {
            "─" | "━" | "╌" | "–" | "—" => "-",
            "│" | "┃" | "┊" | "╎" | "▌" | "▏" | "▎" | "▍" => "|",
            "┌" | "┐" | "└" | "┘" | "├" | "┤" | "┬" | "┴" | "┼" | "╭" | "╮" | "╰" | "╯" => {
                "+"
            }
            "▸" | "▶" | "→" | "›" => ">",
            "◂" | "◀" | "←" | "‹" => "<",
            "▲" | "△" | "↑" => "^",
            "▼" | "▽" | "↓" => "v",
            "▁" => "_",
            "▂" | "▃" => ".",
            "▄" | "▅" => "o",
            "▆" | "▇" => "O",
            "█" | "▓" => "#",
            "▒" => "%",
            "░" => ":",
            "·" | "•" | "∙" => ".",
            "●" | "◆" | "■" => "*",
            "○" | "◇" | "□" => "o",
            "×" => "x",
            "µ" | "μ" => "u",
            "≈" | "…" | "∼" => "~",
            "±" => "+",
            "✓" => "y",
            "✗" => "n",
            "∞" => "8",
            _ => "?",
        };
        let style = cell.style();
        cell.set_symbol(plain).set_style(style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::style::Style;

    fn buffer(lines: &[&str]) -> Buffer {
        Buffer::with_lines(lines.iter().copied())
    }

    #[test]
    fn nothing_new_is_no_byte() {
        let mut painter = Painter::new((5, 2));
        assert!(!painter.paint(&mut buffer(&["hello", "coral"])).is_empty());
        assert!(painter.paint(&mut buffer(&["hello", "coral"])).is_empty());
        painter.forget();
        assert!(!painter.paint(&mut buffer(&["hello", "coral"])).is_empty());
    }

    #[test]
    fn a_real_terminal_shows_what_was_drawn() {
        let size = |n| std::num::NonZeroU16::new(n).unwrap();
        let mut parser = vt100::Parser::new(size(3), size(12), 0);
        let mut painter = Painter::new((12, 3));
        let mut first = buffer(&["abc 日本 x  ", "            ", "last line   "]);
        first.set_style(
            Rect { x: 0, y: 2, width: 4, height: 1 },
            Style::new().fg(Color::Red).bold(),
        );
        parser.process(painter.paint(&mut first.clone()));
        assert_eq!(parser.screen().contents().trim_end(), "abc 日本 x\n\nlast line");
        assert!(parser.screen().cell(2, 0).unwrap().bold());
        assert!(!parser.screen().cell(2, 5).unwrap().bold());

        let mut second = buffer(&["abc def x   ", "new         ", "last line   "]);
        second.set_style(
            Rect { x: 0, y: 2, width: 4, height: 1 },
            Style::new().fg(Color::Indexed(208)),
        );
        parser.process(painter.paint(&mut second.clone()));
        let shown: Vec<String> =
            parser.screen().rows(0, 12).map(|r| r.trim_end().to_owned()).collect();
        assert_eq!(shown, ["abc def x", "new", "last line"]);
        assert!(!parser.screen().cell(2, 0).unwrap().bold());
        assert_eq!(parser.screen().cell(2, 0).unwrap().fgcolor(), vt100::Color::Idx(208));
    }

    #[test]
    fn ascii_is_a_promise() {
        let mut b = buffer(&["─│┌▲█…日本é×"]);
        to_ascii(&mut b);
        assert!(b.content.iter().all(|c| c.symbol().is_ascii()));
    }
}

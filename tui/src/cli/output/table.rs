//! Columns that line up, and fit.

use std::borrow::Cow;
use std::io::{self, Write};

use coral_model::text::fit;
use unicode_width::UnicodeWidthStr;

use super::Reader;
use super::cell::{Cell, Look};

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    /// What stands over it.
    pub title: Cow<'static, str>,
    /// Numbers stand to the right.
    pub right: bool,
    /// Narrowest it is made where the terminal is; `None` keeps it whole.
    pub least: Option<usize>,
    /// Left out where the terminal is too narrow for all: the others say more.
    pub extra: bool,
}

impl Column {
    /// Left out where there is no room.
    #[must_use]
    pub const fn extra(mut self) -> Self {
        self.extra = true;
        self
    }
}

/// A column of text that may be cut.
#[must_use]
pub const fn text(title: &'static str, least: usize) -> Column {
    Column { title: Cow::Borrowed(title), right: false, least: Some(least), extra: false }
}

/// A column of text that is kept whole.
#[must_use]
pub const fn whole(title: &'static str) -> Column {
    Column { title: Cow::Borrowed(title), right: false, least: None, extra: false }
}

/// A column of numbers.
#[must_use]
pub const fn number(title: &'static str) -> Column {
    Column { title: Cow::Borrowed(title), right: true, least: None, extra: false }
}

/// Rows under columns, or plain lines.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Columns; none for plain lines, which have one cell each.
    pub columns: Vec<Column>,
    /// Rows of as many cells.
    pub rows: Vec<Vec<Cell>>,
}

/// Blanks between two columns.
const GAP: usize = 2;

impl Block {
    /// A table without rows.
    #[must_use]
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Lines without columns.
    #[must_use]
    pub fn lines(lines: Vec<Cell>) -> Self {
        Self { columns: Vec::new(), rows: lines.into_iter().map(|l| vec![l]).collect() }
    }

    /// Leaves out columns in which no row has anything to say.
    #[must_use]
    pub fn without_empty(mut self, titles: &[&str]) -> Self {
        let mut i = 0;
        while i < self.columns.len() {
            let named = self.columns.get(i).is_some_and(|c| titles.contains(&c.title.as_ref()));
            let silent = self
                .rows
                .iter()
                .all(|row| row.get(i).is_none_or(|c| matches!(c.text.as_str(), "" | "–" | "?")));
            if named && silent {
                self.remove(i);
            } else {
                i += 1;
            }
        }
        self
    }

    fn remove(&mut self, column: usize) {
        self.columns.remove(column);
        for row in &mut self.rows {
            if column < row.len() {
                row.remove(column);
            }
        }
    }

    /// Without the last extra columns, as far as `limit` makes that necessary.
    fn narrowed(&self, limit: usize) -> Self {
        let mut block = self.clone();
        loop {
            let widths = block.widths(Some(limit));
            let total = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
            let last = block.columns.iter().rposition(|c| c.extra);
            match last {
                Some(column) if total > limit => block.remove(column),
                _ => return block,
            }
        }
    }

    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let widest = |i: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(i));
            cells.map(|c| c.text.width()).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(i, c)| c.title.width().max(widest(i))).collect();
        let Some(limit) = limit else { return widths };
        let gaps = GAP * widths.len().saturating_sub(1);
        let mut over = (widths.iter().sum::<usize>() + gaps).saturating_sub(limit);
        // The widest column that may shrink gives first.
        while over > 0 {
            let candidate = self
                .columns
                .iter()
                .zip(&mut widths)
                .filter_map(|(c, w)| c.least.filter(|least| *w > *least).map(|_| w))
                .max_by_key(|w| **w);
            let Some(width) = candidate else { break };
            *width -= 1;
            over -= 1;
        }
        widths
    }

    /// Prints it.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn print(&self, out: &mut impl Write, reader: &Reader) -> io::Result<()> {
        if self.columns.is_empty() {
            for row in &self.rows {
                // A sentence or a record is kept whole: terminals wrap.
                for cell in row {
                    writeln!(out, "{}", painted(&cell.text, cell.look, reader.colour))?;
                }
            }
            return Ok(());
        }
        let fitting = reader.width.map(|limit| self.narrowed(limit));
        fitting.as_ref().unwrap_or(self).table(out, reader)
    }

    fn table(&self, out: &mut impl Write, reader: &Reader) -> io::Result<()> {
        let widths = self.widths(reader.width);
        let titles: Vec<Cell> =
            self.columns.iter().map(|c| Cell::text(&c.title).look(Look::Bold)).collect();
        for (i, part) in parts(&widths, reader.width.unwrap_or(usize::MAX)).iter().enumerate() {
            if i > 0 {
                writeln!(out)?;
            }
            self.line(out, &titles, &widths, part, reader)?;
            for row in &self.rows {
                self.line(out, row, &widths, part, reader)?;
            }
        }
        Ok(())
    }

    /// The columns of `part` in one row.
    fn line(
        &self,
        out: &mut impl Write,
        row: &[Cell],
        widths: &[usize],
        part: &[usize],
        reader: &Reader,
    ) -> io::Result<()> {
        let mut room = reader.width.unwrap_or(usize::MAX);
        // What is to the left of the next text; written only when a text follows.
        let mut blanks = 0;
        for i in part {
            let (Some(cell), Some(width), Some(column)) =
                (row.get(*i), widths.get(*i), self.columns.get(*i))
            else {
                continue;
            };
            let text = fit(&cell.text, (*width).min(room.saturating_sub(blanks)));
            let pad = width.saturating_sub(text.width());
            if column.right {
                blanks += pad;
            }
            if !text.is_empty() {
                let lead = blanks.min(room.saturating_sub(text.width()));
                write!(out, "{}{}", " ".repeat(lead), painted(&text, cell.look, reader.colour))?;
                room = room.saturating_sub(lead + text.width());
                blanks = 0;
            }
            blanks += GAP + if column.right { 0 } else { pad };
        }
        writeln!(out)
    }
}

/// Columns that stand beside each other. Those for which there is no room follow below, again behind
/// the first one: nothing is lost on a narrow terminal.
fn parts(widths: &[usize], limit: usize) -> Vec<Vec<usize>> {
    let lead = widths.first().copied().unwrap_or(0);
    let mut all = vec![vec![0]];
    let mut used = lead;
    for (i, width) in widths.iter().enumerate().skip(1) {
        if used + GAP + width > limit && all.last().is_some_and(|part| part.len() > 1) {
            all.push(vec![0]);
            used = lead;
        }
        used += GAP + width;
        if let Some(part) = all.last_mut() {
            part.push(i);
        }
    }
    all
}

fn painted(text: &str, look: Look, colour: bool) -> String {
    if colour && look != Look::Plain && !text.is_empty() {
        format!("{}{text}\x1b[0m", look.sequence())
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(width: Option<usize>, colour: bool) -> Reader {
        let clock =
            coral_model::when::Clock { now: coral_model::Time(0), zone: jiff::tz::TimeZone::UTC };
        Reader { clock, width, colour, dates: false }
    }

    fn printed(block: &Block, reader: &Reader) -> String {
        let mut out = Vec::new();
        block.print(&mut out, reader).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn sample() -> Block {
        let mut block = Block::new(vec![text("NAME", 4), number("N"), whole("TAIL")]);
        block.rows.push(vec![Cell::text("日本語 service"), Cell::text("7"), Cell::text("x")]);
        block.rows.push(vec![
            Cell::text("b"),
            Cell::text("1234"),
            Cell::text("yz").look(Look::Bad),
        ]);
        block
    }

    #[test]
    fn columns_line_up_by_what_a_terminal_shows() {
        assert_eq!(
            printed(&sample(), &reader(None, false)),
            "NAME               N  TAIL\n日本語 service     7  x\nb               1234  yz\n"
        );
    }

    #[test]
    fn a_narrow_terminal_cuts_text_not_numbers() {
        let out = printed(&sample(), &reader(Some(20), false));
        assert!(out.lines().all(|l| l.width() <= 20), "{out}");
        assert!(out.contains("1234"), "{out}");
        let tiny = printed(&sample(), &reader(Some(5), false));
        assert!(tiny.lines().all(|l| l.width() <= 5), "{tiny}");
    }

    #[test]
    fn colours_only_where_they_are_welcome() {
        assert!(!printed(&sample(), &reader(None, false)).contains('\x1b'));
        assert!(printed(&sample(), &reader(None, true)).contains("\x1b[31myz\x1b[0m"));
    }

    #[test]
    fn columns_nobody_fills_can_go() {
        let block = sample().without_empty(&["N"]);
        assert_eq!(block.columns.len(), 3);
        let mut block = sample();
        block.rows.iter_mut().for_each(|r| r[1] = Cell::none());
        assert_eq!(block.without_empty(&["N"]).columns.len(), 2);
    }
}

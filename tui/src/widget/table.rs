//! Tables of which only the visible rows exist.
//!
//! Columns say how wide they are, which may grow and which go first when room is short. The caller
//! is asked for the rows of the visible window only, so a million rows cost what thirty cost.

use std::borrow::Cow;
use std::cell::Cell;

use coral_model::num::u16_sat;
use ratatui::layout::Rect;

use super::canvas::{Canvas, Piece, Target, folded, width};
use crate::layout::PaneId;
use crate::theme::Role;

/// Where a column's text stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// At its left edge.
    Left,
    /// At its right edge.
    Right,
}

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    /// Heading.
    pub title: String,
    /// Columns it takes at least.
    pub width: u16,
    /// Share of the room left over; 0 does not grow.
    pub grow: u16,
    /// Where text stands.
    pub align: Align,
    /// The highest goes first when room is short; 0 never goes.
    pub yields: u8,
    /// Text that is too long goes on below, while there are lines that no row needs.
    pub folds: bool,
}

impl Column {
    /// Left-aligned.
    #[must_use]
    pub fn left(title: impl Into<String>, width: u16, yields: u8) -> Self {
        let title = title.into();
        Self { title, width, grow: 0, align: Align::Left, yields, folds: false }
    }

    /// Right-aligned.
    #[must_use]
    pub fn right(title: impl Into<String>, width: u16, yields: u8) -> Self {
        let title = title.into();
        Self { title, width, grow: 0, align: Align::Right, yields, folds: false }
    }

    /// Text that is too long goes on below, while there are lines that no row needs.
    #[must_use]
    pub fn folding(mut self) -> Self {
        self.folds = true;
        self
    }

    /// Takes a share of the room left over.
    #[must_use]
    pub fn grow(mut self, share: u16) -> Self {
        self.grow = share;
        self
    }
}

/// How far a list is scrolled. The offset follows the selection when the list is drawn: only then
/// is it known how many rows fit.
#[derive(Debug, Default, Clone)]
pub struct Scroll {
    offset: Cell<usize>,
    page: Cell<usize>,
    len: Cell<usize>,
}

impl Scroll {
    /// Rows that fitted when it was last drawn, at least 1.
    #[must_use]
    pub fn page(&self) -> usize {
        self.page.get().max(1)
    }

    /// First visible row.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset.get()
    }

    /// First visible row where the last one is at the bottom, as it was last drawn.
    #[must_use]
    pub fn furthest(&self) -> usize {
        self.len.get().saturating_sub(self.page())
    }

    /// Scrolled to `offset`, as far as there are rows when it is drawn.
    #[must_use]
    pub fn at(offset: usize) -> Self {
        Self { offset: Cell::new(offset), ..Self::default() }
    }

    /// Moves the offset as little as needed for `selected` to be among `height` rows.
    pub fn follow(&self, selected: Option<usize>, len: usize, height: usize) -> usize {
        self.page.set(height);
        self.len.set(len);
        if len == 0 {
            // The rows may be on their way.
            return 0;
        }
        let mut offset = self.offset.get().min(len.saturating_sub(height));
        if let Some(selected) = selected {
            offset = offset.min(selected);
            offset = offset.max((selected + 1).saturating_sub(height));
        }
        self.offset.set(offset);
        offset
    }
}

/// A table.
pub struct Table<'a> {
    /// The pane it belongs to, for the mouse.
    pub pane: PaneId,
    /// Columns.
    pub columns: &'a [Column],
    /// Rows there are.
    pub len: usize,
    /// The selected one.
    pub selected: Option<usize>,
    /// Heading of the column the rows are sorted by, and whether the greatest stands first.
    pub sorted: Option<(&'a str, bool)>,
    /// Its pane has the focus.
    pub focused: bool,
    /// Scroll state.
    pub scroll: &'a Scroll,
}

/// x offset and width of each column that fits; `None` for those that do not.
fn arrange(columns: &[Column], room: u16) -> Vec<Option<(u16, u16)>> {
    let mut kept: Vec<bool> = vec![true; columns.len()];
    let need = |kept: &[bool]| {
        let mut sum = 0_u16;
        for (column, _) in columns.iter().zip(kept).filter(|(_, k)| **k) {
            sum = sum.saturating_add(column.width + 1);
        }
        sum.saturating_sub(1)
    };
    while need(&kept) > room {
        let goes = columns
            .iter()
            .enumerate()
            .filter(|(i, c)| c.yields > 0 && kept.get(*i) == Some(&true))
            .max_by_key(|(i, c)| (c.yields, *i))
            .map(|(i, _)| i);
        match goes.and_then(|i| kept.get_mut(i)) {
            Some(slot) => *slot = false,
            None => break,
        }
    }
    let spare = room.saturating_sub(need(&kept));
    let shares: u16 = columns.iter().zip(&kept).filter(|(_, k)| **k).map(|(c, _)| c.grow).sum();
    let mut x = 0_u16;
    columns
        .iter()
        .zip(&kept)
        .map(|(column, kept)| {
            if !kept || x >= room {
                return None;
            }
            let extra = (spare * column.grow).checked_div(shares).unwrap_or(0);
            let w = (column.width + extra).min(room - x);
            let at = x;
            x = x.saturating_add(w + 1);
            Some((at, w))
        })
        .collect()
}

impl Table<'_> {
    /// The columns, that of the order marked by a shape: it has room for it, and stays.
    fn marked(&self) -> Cow<'_, [Column]> {
        let Some((title, falls)) = self.sorted else { return Cow::Borrowed(self.columns) };
        let mut columns = self.columns.to_vec();
        if let Some(column) = columns.iter_mut().find(|c| c.title == title) {
            column.title.push_str(if falls { " ▼" } else { " ▲" });
            column.width = column.width.max(width(&column.title));
            column.yields = 0;
        }
        Cow::Owned(columns)
    }

    /// Draws heading and visible rows; `row(i)` gives the cells of row `i`, each of which is a
    /// list of pieces.
    pub fn draw(
        &self,
        canvas: &mut Canvas<'_>,
        area: Rect,
        mut row: impl FnMut(&Canvas<'_>, usize) -> Vec<Vec<Piece>>,
    ) {
        if area.height == 0 || area.width == 0 {
            return;
        }
        let columns = self.marked();
        let places = arrange(&columns, area.width);
        let headed = columns.iter().any(|c| !c.title.is_empty()) && area.height > 1;
        if headed {
            for (column, place) in columns.iter().zip(&places) {
                let Some((x, w)) = *place else { continue };
                match column.align {
                    Align::Left => {
                        canvas.say(area.x + x, area.y, w, &column.title, Role::Heading);
                    }
                    Align::Right => {
                        canvas.say_right(area.x + x + w, area.y, w, &column.title, Role::Heading);
                    }
                }
            }
        }
        let top = area.y + u16::from(headed);
        let height = area.height - u16::from(headed);
        let offset = self.scroll.follow(self.selected, self.len, usize::from(height));
        let mut spare = height.saturating_sub(u16_sat(self.len));
        let mut y = top;
        for i in offset..self.len {
            if y >= top + height {
                break;
            }
            let cells = row(canvas, i);
            let mut more = 0;
            for ((column, place), cell) in columns.iter().zip(&places).zip(&cells) {
                let Some((x, w)) = *place else { continue };
                let x = area.x + x;
                let long = |piece: &Piece| column.folds && spare > 0 && width(&piece.text) > w;
                if let [piece] = cell.as_slice()
                    && long(piece)
                {
                    let mut parts = folded(&piece.text, usize::from(w));
                    let taken = usize::from(spare);
                    if parts.len() > taken + 1 {
                        let rest = parts.split_off(taken).join(" ");
                        parts.push(rest);
                    }
                    for (below, part) in (0..).zip(&parts) {
                        canvas.put(x, y + below, w, part, piece.style);
                    }
                    more = more.max(u16_sat(parts.len().saturating_sub(1)));
                    continue;
                }
                match column.align {
                    Align::Left => {
                        canvas.line(x, y, w, cell);
                    }
                    Align::Right => {
                        let mine: u16 = cell.iter().map(|p| width(&p.text)).sum();
                        let indent = w.saturating_sub(mine);
                        canvas.line(x + indent, y, w - indent, cell);
                    }
                }
            }
            let whole = Rect { x: area.x, y, width: area.width, height: 1 + more };
            canvas.hit(whole, Target::Row(self.pane, i));
            if self.selected == Some(i) {
                canvas.select(whole, self.focused);
            }
            spare -= more;
            y += 1 + more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_yield_in_their_order_and_the_rest_grows() {
        let columns = [
            Column::left("name", 10, 0).grow(1),
            Column::right("a", 6, 1),
            Column::right("b", 6, 2),
        ];
        assert_eq!(arrange(&columns, 40), [Some((0, 26)), Some((27, 6)), Some((34, 6))]);
        assert_eq!(arrange(&columns, 20), [Some((0, 13)), Some((14, 6)), None]);
        assert_eq!(arrange(&columns, 5), [Some((0, 5)), None, None]);
    }

    #[test]
    fn the_offset_moves_as_little_as_it_must() {
        let scroll = Scroll::default();
        assert_eq!(scroll.follow(Some(0), 100, 10), 0);
        assert_eq!(scroll.follow(Some(9), 100, 10), 0);
        assert_eq!(scroll.follow(Some(10), 100, 10), 1);
        assert_eq!(scroll.follow(Some(5), 100, 10), 1);
        assert_eq!(scroll.follow(Some(99), 100, 10), 90);
        assert_eq!(scroll.follow(Some(3), 4, 10), 0);
        assert_eq!(scroll.follow(None, 0, 0), 0);
    }
}

//! Lines between nodes, joined where they meet.

use ratatui::layout::Rect;

use crate::theme::Role;
use crate::widget::Canvas;

const UP: u8 = 1;
const RIGHT: u8 = 2;
const DOWN: u8 = 4;
const LEFT: u8 = 8;

/// The box-drawing character with these arms.
fn symbol(arms: u8) -> &'static str {
    match arms {
        0 => " ",
        a if a == UP || a == DOWN || a == UP | DOWN => "│",
        a if a == LEFT || a == RIGHT || a == LEFT | RIGHT => "─",
        a if a == UP | RIGHT => "╰",
        a if a == UP | LEFT => "╯",
        a if a == DOWN | RIGHT => "╭",
        a if a == DOWN | LEFT => "╮",
        a if a == UP | DOWN | RIGHT => "├",
        a if a == UP | DOWN | LEFT => "┤",
        a if a == LEFT | RIGHT | DOWN => "┬",
        a if a == LEFT | RIGHT | UP => "┴",
        _ => "┼",
    }
}

/// Arms per cell, and the look of the last line that went through.
pub(super) struct Lines {
    area: Rect,
    cells: Vec<(u8, Role)>,
}

impl Lines {
    pub(super) fn new(area: Rect) -> Self {
        let n = usize::from(area.width) * usize::from(area.height);
        Self { area, cells: vec![(0, Role::Rule); n] }
    }

    fn add(&mut self, x: u16, y: u16, arms: u8, role: Role) {
        if !self.area.contains(ratatui::layout::Position::new(x, y)) {
            return;
        }
        let i = usize::from(y - self.area.y) * usize::from(self.area.width)
            + usize::from(x - self.area.x);
        if let Some(cell) = self.cells.get_mut(i) {
            *cell = (cell.0 | arms, role);
        }
    }

    fn horizontal(&mut self, from: u16, to: u16, y: u16, role: Role) {
        for x in from..=to {
            let mut arms = 0;
            if x > from {
                arms |= LEFT;
            }
            if x < to {
                arms |= RIGHT;
            }
            self.add(x, y, if from == to { LEFT | RIGHT } else { arms }, role);
        }
    }

    fn vertical(&mut self, x: u16, from: u16, to: u16, role: Role) {
        let (top, bottom) = (from.min(to), from.max(to));
        for y in top..=bottom {
            let mut arms = 0;
            if y > top {
                arms |= UP;
            }
            if y < bottom {
                arms |= DOWN;
            }
            if top != bottom {
                self.add(x, y, arms, role);
            }
        }
    }

    /// From the right side of one node to the left side of another: out, down a channel of the
    /// caller's own before the callee's column, and in. A beginning that is not
    /// `real` is a place the line passes through, and is drawn through.
    pub(super) fn edge(
        &mut self,
        from: Rect,
        to: Rect,
        gap: u16,
        caller: usize,
        real: bool,
        role: Role,
    ) {
        let start = if real { from.right() + 1 } else { from.x.saturating_sub(2) };
        let end = to.x.saturating_sub(2);
        let channels = gap.saturating_sub(3).clamp(1, 3);
        let lane = coral_model::num::u16_sat(caller) % channels;
        let channel = to.x.saturating_sub(3 + lane).max(start);
        self.horizontal(start, channel, from.y, role);
        self.vertical(channel, from.y, to.y, role);
        self.horizontal(channel, end.max(channel), to.y, role);
    }

    pub(super) fn draw(&self, canvas: &mut Canvas<'_>, heads: impl Iterator<Item = Rect>) {
        let width = usize::from(self.area.width).max(1);
        for (i, (arms, role)) in self.cells.iter().enumerate().filter(|(_, (arms, _))| *arms != 0) {
            let x = self.area.x + coral_model::num::u16_sat(i % width);
            let y = self.area.y + coral_model::num::u16_sat(i / width);
            let style = canvas.style(*role);
            canvas.mark(x, y, symbol(*arms), style);
        }
        for head in heads {
            let x = head.x.saturating_sub(2);
            if head.y >= self.area.bottom() {
                continue;
            }
            let style =
                canvas.buf.cell((x, head.y)).map(ratatui::buffer::Cell::style).unwrap_or_default();
            canvas.mark(x, head.y, "▸", style);
        }
    }
}

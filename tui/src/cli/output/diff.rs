//! What tells the sides of `diff` apart.

use coral_model::text::count;
use coral_model::view::{DiffRow, DiffSides, Side};

use super::cell::{self, Cell, Look};
use super::table::{Block, number, text};

/// What was compared with what, and that nothing was found where nothing was.
#[must_use]
pub fn sides(head: &DiffSides) -> Block {
    let side = |s: &Side| {
        let sample = if s.looked_at < s.spans {
            format!(" (looked at {})", count(s.looked_at))
        } else {
            String::new()
        };
        format!("{} {}{sample}", count(s.spans), s.what)
    };
    let line = format!("{} · against {}", side(&head.selected), side(&head.baseline));
    let mut lines = vec![Cell::from(line).look(Look::Bold)];
    lines.extend(head.nothing.as_deref().map(Cell::text));
    if !head.unique.is_empty() {
        let line =
            format!("left out, as nearly every value is different: {}", head.unique.join(" "));
        lines.push(Cell::from(line).look(Look::Dim));
    }
    Block::lines(lines)
}

/// A line per value, the widest difference first.
#[must_use]
pub fn rows(rows: &[&DiffRow]) -> Block {
    let mut block = Block::new(vec![
        text("ATTRIBUTE", 10),
        text("VALUE", 10),
        number("SELECTED"),
        number("OTHERS"),
        number("COUNT").extra(),
        number("OF OTHERS").extra(),
        number("APART"),
        number("BY CHANCE").extra(),
        text("SAME SPANS AS", 10),
    ]);
    for row in rows {
        let value = match &row.value {
            Some(value) => Cell::text(value),
            None => Cell::text("(absent)").look(Look::Dim),
        };
        block.rows.push(vec![
            Cell::text(&row.attribute),
            value,
            Cell::text(&cell::percent(row.selected_share)),
            Cell::text(&cell::percent(row.baseline_share)),
            Cell::text(&count(row.selected)),
            Cell::text(&count(row.baseline)),
            Cell::from(format!("{:+.0}", row.score * 100.0)),
            Cell::from(chance(row.p_value)),
            Cell::from(row.same_as.join(" ")),
        ]);
    }
    block.without_empty(&["SAME SPANS AS"])
}

/// No more digits than a probability deserves.
fn chance(p: f64) -> String {
    if p < 1e-9 { "<1e-9".to_owned() } else { format!("{p:.0e}") }
}

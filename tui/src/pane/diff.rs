//! What tells slow or failed requests from the others.

use coral_model::text;
use coral_model::view::{DiffRow, DiffSides, Row, Side};
use ratatui::layout::Rect;

use super::folded;
use crate::app::App;
use crate::feed::Slot;
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::{Canvas, Column, Piece, Table};

pub(super) fn title(app: &App) -> String {
    let mut of = Vec::new();
    if let Some(service) = &app.here.service {
        of.push(text::fit(service, 24));
    }
    if let Some(operation) = &app.here.operation {
        of.push(text::fit(operation, 30));
    }
    let of = if of.is_empty() { String::new() } else { format!(" {}", of.join(" ")) };
    format!("diff{of} · what slow or failed requests have in common")
}

fn sides(app: &App) -> Option<&DiffSides> {
    app.data.rows(Slot::Diff).iter().find_map(|row| match row {
        Row::DiffSides(sides) => Some(&**sides),
        _ => None,
    })
}

fn side(side: &Side) -> String {
    let sample = if side.looked_at < side.spans {
        format!(" (looked at {})", text::count(side.looked_at))
    } else {
        String::new()
    };
    format!("{} {}{sample}", text::count(side.spans), text::clean(&side.what))
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 1.0 { "<1%".to_owned() } else { format!("{percent:.0}%") }
}

fn cells(canvas: &Canvas<'_>, row: &DiffRow) -> Vec<Vec<Piece>> {
    let more = row.score > 0.0;
    let role = if more { Role::Failing } else { Role::Good };
    let value = match &row.value {
        Some(value) => canvas.piece(Role::Strong, text::fit(value, 120)),
        None => canvas.piece(Role::Dim, "(absent)"),
    };
    let also = match row.same_as.len() {
        0 => String::new(),
        _ => format!("same spans as {}", row.same_as.join(" ")),
    };
    vec![
        vec![canvas.piece(Role::Text, row.attribute.clone())],
        vec![value],
        vec![canvas.piece(role, percent(row.selected_share))],
        vec![canvas.piece(Role::Text, percent(row.baseline_share))],
        vec![canvas.piece(role, format!("{:+.0}", row.score * 100.0))],
        vec![canvas.piece(Role::Dim, text::count(row.selected))],
        vec![canvas.piece(Role::Dim, text::count(row.baseline))],
        vec![canvas.piece(Role::Dim, also)],
    ]
}

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let Some(head) = sides(app) else { return };
    let mut y = area.y;
    let width = usize::from(area.width);
    let mut say = |canvas: &mut Canvas<'_>, text: &str, role: Role, most: usize| {
        for line in folded(text, width).into_iter().take(most) {
            if y < area.bottom() {
                canvas.say(area.x, y, area.width, &line, role);
                y += 1;
            }
        }
    };
    let most = if area.height > 12 { 3 } else { 1 };
    say(canvas, &side(&head.selected), Role::Strong, most);
    say(canvas, &format!("against {}", side(&head.baseline)), Role::Dim, most);
    if let Some(nothing) = &head.nothing {
        say(canvas, nothing, Role::Text, 4);
    }
    if !head.unique.is_empty() && area.height > 12 {
        let unique = head.unique.join(" ");
        say(canvas, &format!("left out, as every value differs: {unique}"), Role::Dim, 2);
    }
    let rows: Vec<&DiffRow> = app.data.diff().collect();
    let table = Rect { y, height: area.bottom().saturating_sub(y), ..area };
    if rows.is_empty() {
        return;
    }
    let widest = |f: &dyn Fn(&DiffRow) -> u16| rows.iter().map(|r| f(r)).max().unwrap_or(0);
    let named = widest(&|r| crate::widget::width_of(&r.attribute)).clamp(9, area.width / 3);
    let columns = [
        Column::left("ATTRIBUTE", named.max(9), 0),
        Column::left("value", 10, 0).grow(2),
        Column::right("these", 5, 0),
        Column::right("others", 6, 0),
        Column::right("apart", 5, 0),
        Column::right("count", 6, 2),
        Column::right("of others", 9, 3),
        Column::left("", 20, 4).grow(2),
    ];
    app.with_scroll(PaneId::Diff, |scroll| {
        Table {
            pane: PaneId::Diff,
            columns: &columns,
            len: rows.len(),
            selected: app.cursor(PaneId::Diff),
            sorted: None,
            focused,
            scroll,
        }
        .draw(canvas, table, |canvas, i| rows.get(i).map(|r| cells(canvas, r)).unwrap_or_default());
    });
}

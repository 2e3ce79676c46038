//! What an instance wrote before and after a record; what many records have in common.

use coral_model::text;
use coral_model::view::PatternRow;
use ratatui::layout::Rect;

use super::{logs, sorted};
use crate::app::App;
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::{Canvas, Column, Piece, Table, Target};

pub(super) fn title(app: &App) -> String {
    let rows = app.context();
    let Some(this) = rows.iter().find(|log| log.offset.unwrap_or(0) == 0) else {
        return "beside a log record".to_owned();
    };
    let whose = this.instance.as_deref().unwrap_or(&this.service);
    let before = rows.iter().filter(|log| log.offset.is_some_and(|n| n < 0)).count();
    let after = rows.iter().filter(|log| log.offset.is_some_and(|n| n > 0)).count();
    format!("{} · {before} before · {after} after", text::fit(whose, 32))
}

/// The record stands out by its mark, whatever is selected.
pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let rows = app.context();
    let selected = app.cursor(PaneId::Context);
    let height = usize::from(area.height);
    let this = rows.iter().position(|log| log.offset.unwrap_or(0) == 0);
    // What came before is what one asks for; and some of what followed.
    let shown = selected.or(this);
    let seen = shown.map(|i| (i + height / 3).min(rows.len().saturating_sub(1)));
    let at = app.with_scroll(PaneId::Context, |s| {
        s.follow(seen, rows.len(), height);
        s.follow(shown, rows.len(), height)
    });
    for (line, (i, log)) in (0..area.height).zip(rows.iter().enumerate().skip(at)) {
        let y = area.y + line;
        let whole = Rect { x: area.x, y, width: area.width, height: 1 };
        if Some(i) == this {
            canvas.say(area.x, y, 1, "▸", Role::Accent);
        }
        let room = Rect { x: area.x + 2, width: area.width.saturating_sub(2), ..whole };
        logs::line(app, canvas, room, y, log);
        canvas.hit(whole, Target::Row(PaneId::Context, i));
        if selected == Some(i) {
            canvas.select(whole, focused);
        }
    }
}

pub(super) fn patterns_title(app: &App) -> String {
    let whose =
        app.here.service.as_ref().map(|s| format!(" {}", text::fit(s, 24))).unwrap_or_default();
    let every = app.data.patterns().map(|row| row.sampled_every).max().unwrap_or(1);
    let sampled =
        if every > 1 { format!(" · one record in {every} was looked at") } else { String::new() };
    format!("patterns{whose}{sampled}")
}

fn cells(app: &App, canvas: &Canvas<'_>, row: &PatternRow) -> Vec<Vec<Piece>> {
    let role = match row.level.as_str() {
        "error" | "fatal" => Role::Failing,
        "warn" => Role::Moved,
        _ => Role::Dim,
    };
    let services = match row.services.as_slice() {
        [one] => Piece { text: one.clone(), style: canvas.theme.series(one) },
        many => canvas.piece(Role::Text, format!("{} services", many.len())),
    };
    vec![
        vec![canvas.piece(Role::Text, text::count(row.count))],
        vec![canvas.piece(role, row.level.clone())],
        vec![canvas.piece(Role::Dim, app.clock(row.first_seen))],
        vec![canvas.piece(Role::Dim, app.clock(row.last_seen))],
        vec![services],
        vec![canvas.piece(Role::Text, row.pattern.clone())],
    ]
}

/// Patterns, the most frequent first.
pub(super) fn patterns(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let rows = app.patterns();
    let columns = [
        Column::right("count", 6, 0),
        Column::left("level", 5, 2),
        Column::left("first", 8, 3),
        Column::left("last", 8, 4),
        Column::left("service", 10, 1),
        Column::left("PATTERN", 16, 0).grow(1),
    ];
    app.with_scroll(PaneId::Patterns, |scroll| {
        Table {
            pane: PaneId::Patterns,
            columns: &columns,
            len: rows.len(),
            selected: app.cursor(PaneId::Patterns),
            sorted: sorted(app, PaneId::Patterns),
            focused,
            scroll,
        }
        .draw(canvas, area, |canvas, i| {
            rows.get(i).map(|row| cells(app, canvas, row)).unwrap_or_default()
        });
    });
}

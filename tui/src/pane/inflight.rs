//! Requests that began and have not ended: hung work must look bad, not quiet.

use coral_model::text;
use coral_model::time::SECOND;
use coral_model::view::InflightRow;
use ratatui::layout::Rect;

use crate::app::App;
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::{Canvas, Column, Piece, Table};

fn cells(app: &App, canvas: &Canvas<'_>, row: &InflightRow) -> Vec<Vec<Piece>> {
    let bound = if row.exact { "" } else { "≥" };
    let old = row.oldest_ns.unwrap_or(0);
    let role = if old > 30 * SECOND {
        Role::Failing
    } else if old > 5 * SECOND {
        Role::Moved
    } else {
        Role::Text
    };
    let mark = if old > 30 * SECOND {
        "!!"
    } else if old > 5 * SECOND {
        "!"
    } else {
        ""
    };
    vec![
        vec![canvas.piece(Role::Text, row.service.clone())],
        vec![canvas.piece(Role::Text, row.operation.clone().unwrap_or_else(|| "–".into()))],
        vec![canvas.piece(Role::Strong, format!("{bound}{}", text::count(row.inflight)))],
        vec![match row.oldest_ns {
            Some(ns) => canvas.piece(role, format!("{bound}{}{mark}", text::duration(ns))),
            None => canvas.piece(Role::Dim, "–"),
        }],
        vec![canvas.piece(Role::Dim, app.clock(row.at))],
        vec![canvas.piece(Role::Dim, if row.exact { "exact" } else { "at least" })],
    ]
}

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let rows: Vec<&InflightRow> = app.data.inflight().collect();
    let columns = [
        Column::left("SERVICE", 12, 0).grow(1),
        Column::left("operation", 12, 2).grow(2),
        Column::right("inflight", 8, 0),
        // `≥59m59s!!`: the mark says more than the last digit.
        Column::right("oldest", 10, 0),
        Column::right("counted at", 10, 3),
        Column::left("count is", 8, 4),
    ];
    app.with_scroll(PaneId::Inflight, |scroll| {
        Table {
            pane: PaneId::Inflight,
            columns: &columns,
            len: rows.len(),
            selected: app.cursor(PaneId::Inflight),
            sorted: None,
            focused,
            scroll,
        }
        .draw(canvas, area, |canvas, i| {
            rows.get(i).map(|r| cells(app, canvas, r)).unwrap_or_default()
        });
    });
}

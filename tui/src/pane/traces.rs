//! Traces, ranked.

use coral_model::text;
use coral_model::view::TraceRow;
use ratatui::layout::Rect;

use super::sorted;
use crate::app::App;
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::{Canvas, Column, Piece, Table};

pub(super) fn title(app: &App) -> String {
    let order = match app.here.trace_order() {
        coral_model::question::TraceOrder::Recent => "newest",
        coral_model::question::TraceOrder::Slow => "slowest",
        coral_model::question::TraceOrder::Error => "failed",
        coral_model::question::TraceOrder::Unusual => "unusual",
    };
    let whose =
        app.here.service.as_ref().map(|s| format!(" {}", text::fit(s, 24))).unwrap_or_default();
    let reversed = app.here.order(PaneId::Traces).is_some_and(|order| order.reversed);
    format!("traces{whose} · {order} {}", if reversed { "last" } else { "first" })
}

fn cells(app: &App, canvas: &Canvas<'_>, row: &TraceRow) -> Vec<Vec<Piece>> {
    let failed = row.errors > 0;
    let mark = if row.complete { "" } else { "…" };
    vec![
        vec![canvas.piece(Role::Dim, app.clock(row.start))],
        vec![canvas.piece(
            if failed { Role::Failing } else { Role::Text },
            format!("{}{mark}", text::duration(row.duration_ns)),
        )],
        vec![if failed {
            canvas.piece(Role::Failing, format!("{}!", text::count(row.errors)))
        } else {
            canvas.piece(Role::Dim, "0")
        }],
        vec![canvas.piece(Role::Dim, text::count(row.spans))],
        vec![Piece { text: row.service.clone(), style: canvas.theme.series(&row.service) }],
        vec![canvas.piece(Role::Text, row.operation.clone())],
        vec![canvas.piece(Role::Dim, row.status.clone().unwrap_or_default())],
        vec![canvas.piece(Role::Dim, row.services.join(" "))],
        vec![canvas.piece(Role::Dim, row.trace_id.to_string().get(..8).unwrap_or_default())],
    ]
}

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let rows = app.traces();
    let columns = [
        Column::left("START", 8, 0),
        Column::right("duration", 8, 0),
        Column::right("errors", 6, 2),
        Column::right("spans", 5, 3),
        Column::left("root", 11, 0),
        Column::left("operation", 14, 0).grow(2),
        Column::left("status", 6, 4),
        Column::left("services", 12, 6).grow(1),
        Column::left("trace", 8, 5),
    ];
    app.with_scroll(PaneId::Traces, |scroll| {
        Table {
            pane: PaneId::Traces,
            columns: &columns,
            len: rows.len(),
            selected: app.cursor(PaneId::Traces),
            sorted: sorted(app, PaneId::Traces),
            focused,
            scroll,
        }
        .draw(canvas, area, |canvas, i| {
            rows.get(i).map(|r| cells(app, canvas, r)).unwrap_or_default()
        });
    });
}

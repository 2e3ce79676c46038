//! The selected service by operation, or by what it is split by.

use coral_model::text;
use coral_model::view::{RedRow, State};
use ratatui::layout::Rect;

use crate::app::App;
use crate::feed::Slot;
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::{Canvas, Column, Piece, Table, latency};

pub(super) fn title(app: &App) -> String {
    let by = app.here.split.map_or("operation", |d| d.word());
    match &app.here.service {
        Some(service) => {
            let seen = app.data.operations().find_map(|row| super::services::seen(Some(&row.red)));
            let seen = seen.map(|seen| format!(", {seen}")).unwrap_or_default();
            let of = super::window_words(app);
            format!("{} by {by}{seen} · {of}", text::fit(service, 30))
        }
        None => "operations".into(),
    }
}

/// What a row is about.
fn name(row: &RedRow) -> String {
    match row.by.values().next() {
        Some(Some(value)) => value.clone(),
        Some(None) => "(not said)".into(),
        None => row.operation.clone().unwrap_or_else(|| "(unnamed)".into()),
    }
}

fn cells(canvas: &Canvas<'_>, row: &RedRow) -> Vec<Vec<Piece>> {
    let failing = row.red.error_ratio.is_some_and(|e| e > 0.0);
    let [rate, errors, p99] =
        super::services::numbers(canvas, row.state, Some(&row.red), u8::from(failing));
    let quiet = if row.state == State::Active { Role::Text } else { Role::Dim };
    let trace = match (row.slowest_trace, row.slowest_ns) {
        (Some(_), Some(ns)) => text::duration(ns),
        _ => "–".into(),
    };
    vec![
        vec![canvas.piece(quiet, name(row))],
        vec![rate],
        vec![errors],
        vec![canvas.piece(Role::Dim, latency(row.red.p50_ns))],
        vec![p99],
        vec![super::services::moved(canvas, row.baseline.as_ref(), 0)],
        vec![canvas.piece(Role::Dim, trace)],
    ]
}

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    if app.here.service.is_none() {
        let inner = area;
        canvas.wrap(
            inner,
            "select a service above to see its operations; s splits it further",
            Role::Dim,
        );
        return;
    }
    let stranger = app.here.service.as_deref().and_then(|name| app.unknown_service(name));
    let empty = stranger.unwrap_or_else(|| "no request of this service in this window".into());
    if super::nothing(app, canvas, Slot::Operations, &empty, area) {
        return;
    }
    let rows: Vec<&RedRow> = app.data.operations().collect();
    let heading = app.here.split.map_or("OPERATION", |_| "VALUE");
    let columns = [
        Column::left(heading, 16, 0).grow(1),
        Column::right("rate", 7, 0),
        Column::right("err", 5, 0),
        Column::right("p50", 6, 2),
        Column::right("p99", 6, 0),
        Column::right("vs", 6, 3),
        Column::right("slowest", 7, 4),
    ];
    app.with_scroll(PaneId::Operations, |scroll| {
        Table {
            pane: PaneId::Operations,
            columns: &columns,
            len: rows.len(),
            selected: app.cursor(PaneId::Operations),
            sorted: None,
            focused,
            scroll,
        }
        .draw(canvas, area, |canvas, i| rows.get(i).map(|r| cells(canvas, r)).unwrap_or_default());
    });
}

//! One log record in full.

use coral_model::view::LogRow;
use ratatui::layout::Rect;

use super::folded;
use crate::app::App;
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::Canvas;

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, _focused: bool) {
    let Some(log) = app.selected_log() else {
        canvas.wrap(area, "no record is selected", Role::Dim);
        return;
    };
    super::page(app, canvas, PaneId::Record, area, &about(app, log, usize::from(area.width)));
}

/// A record, everything there is.
pub(super) fn about(app: &App, log: &LogRow, width: usize) -> Vec<Vec<(Role, String)>> {
    let zone = app.shown_zone();
    let mut lines: Vec<Vec<(Role, String)>> = Vec::new();
    for line in folded(&log.body, width) {
        lines.push(vec![(Role::Strong, line)]);
    }
    lines.push(Vec::new());
    let mut pair = |key: &str, value: &str| {
        let room = width.saturating_sub(18);
        for (i, part) in folded(value, room).into_iter().enumerate() {
            let label = if i == 0 {
                format!("{:<17} ", coral_model::text::fit(key, 17))
            } else {
                " ".repeat(18)
            };
            lines.push(vec![(Role::Dim, label), (Role::Text, part)]);
        }
    };
    pair("time", &log.time.format(&zone, "%Y-%m-%d %H:%M:%S%.9f %Z"));
    pair("beside it", "c shows what this instance wrote before and after");
    pair("level", if log.level.is_empty() { "not said" } else { &log.level });
    pair("service", &log.service);
    if let Some(instance) = &log.instance {
        pair("instance", instance);
    }
    if let Some(host) = &log.host {
        pair("host", host);
    }
    match log.trace_id {
        Some(trace) => pair("trace", &format!("{trace}  (enter opens it)")),
        None => pair("trace", "none named"),
    }
    for (key, value) in &log.attributes {
        pair(key, value);
    }
    lines
}

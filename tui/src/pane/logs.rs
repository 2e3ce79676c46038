//! Log records: the newest at the bottom, following unless one is selected.

use coral_model::text;
use coral_model::view::LogRow;
use ratatui::layout::Rect;

use crate::app::{App, ClockMode};
use crate::feed::Slot;
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::{Canvas, Target};

pub(super) fn title(app: &App) -> String {
    let what = match app.here.clock.mode {
        ClockMode::Live if app.here.cursors.contains_key(&PaneId::Logs) => "held at a record",
        ClockMode::Live => "live tail",
        ClockMode::Paused(_) => "paused",
        ClockMode::Fixed(_) => "in this window",
    };
    let whose =
        app.here.service.as_ref().map(|s| format!(" {}", text::fit(s, 24))).unwrap_or_default();
    let count = |n: u64, what: &str| match n {
        0 => String::new(),
        n => format!(" · {} {what}", text::count(n)),
    };
    let skipped = count(app.data.logs.skipped, "not shown");
    let gone = count(app.data.logs.let_go, "older let go");
    format!("logs{whose} · {what}{skipped}{gone}")
}

/// The word of a severity, and how it looks.
pub(super) fn level(severity: u8) -> (&'static str, Role) {
    match severity {
        0 => ("·    ", Role::Dim),
        1..=4 => ("trace", Role::Dim),
        5..=8 => ("debug", Role::Dim),
        9..=12 => ("info ", Role::Dim),
        13..=16 => ("WARN ", Role::Moved),
        17..=20 => ("ERROR", Role::Failing),
        _ => ("FATAL", Role::Failing),
    }
}

/// A record on a line.
pub(super) fn line(app: &App, canvas: &mut Canvas<'_>, area: Rect, y: u16, row: &LogRow) {
    let zone = app.shown_zone();
    let time = row.time.format(&zone, if area.width >= 70 { "%H:%M:%S%.3f" } else { "%H:%M:%S" });
    let (word, role) = level(row.severity);
    let right = area.right();
    let mut x = canvas.say(area.x, y, area.width, &time, Role::Dim);
    x = canvas.say(x + 1, y, right.saturating_sub(x + 1), word, role);
    let one = app.here.service.as_deref() == Some(&row.service);
    if !one {
        let w = if area.width >= 100 { 14 } else { 10 };
        let name = text::fit(&row.service, usize::from(w));
        let style = canvas.theme.series(&row.service);
        canvas.put(x + 1, y, w.min(right.saturating_sub(x + 1)), &name, style);
        x += w + 1;
    }
    canvas.say(x + 1, y, right.saturating_sub(x + 1), &row.body, Role::Text);
}

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let len = app.data.logs.len();
    let height = usize::from(area.height);
    if len == 0 {
        let stranger = app.stranger().map(|why| format!(": {why}")).unwrap_or_default();
        let empty = &format!("no log record in this window matches{stranger}");
        match app.data.known(Slot::Logs) {
            Some(known) => super::unseen(canvas, area, empty, &known.end.blind),
            None => {
                super::nothing(app, canvas, Slot::Logs, empty, area);
            }
        }
        return;
    }
    let selected = app.cursor(PaneId::Logs);
    // Without a selection the newest record is the last line.
    let follow = selected.or(Some(len - 1));
    let offset = app.with_scroll(PaneId::Logs, |s| s.follow(follow, len, height));
    let shown = len.saturating_sub(offset).min(height);
    for i in 0..shown {
        let y = area.y + coral_model::num::u16_sat(i);
        let Some(numbered) = app.data.logs.get(offset + i) else { break };
        line(app, canvas, area, y, &numbered.row);
        let whole = Rect { x: area.x, y, width: area.width, height: 1 };
        canvas.hit(whole, Target::Row(PaneId::Logs, offset + i));
        if selected == Some(offset + i) {
            canvas.select(whole, focused);
        }
    }
}

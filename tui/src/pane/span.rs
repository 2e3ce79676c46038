//! The selected span of a trace, or the log record among its spans, in full.

use coral_model::text;
use coral_model::view::{SpanRow, SpanStatus};
use ratatui::layout::Rect;

use super::folded;
use crate::app::{App, TraceLine};
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::Canvas;

/// What is selected in the trace.
pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, _focused: bool) {
    let lines = match app.trace_line() {
        Some(TraceLine::Span(span)) => about(app, span, usize::from(area.width)),
        Some(TraceLine::Log(log, _)) => super::record::about(app, log, usize::from(area.width)),
        None => return,
    };
    super::page(app, canvas, PaneId::Span, area, &lines);
}

fn about(app: &App, span: &SpanRow, width: usize) -> Vec<Vec<(Role, String)>> {
    let mut lines: Vec<Vec<(Role, String)>> = Vec::new();
    for line in folded(&format!("{} · {}", span.service, span.operation), width) {
        lines.push(vec![(Role::Strong, line)]);
    }
    let mut pair = |key: &str, value: &str, role: Role| {
        // Semantic conventions have names like `http.response.status_code`: 25 letters.
        let named = if width >= 60 { 26 } else { 19 };
        for (i, part) in folded(value, width.saturating_sub(named + 1)).into_iter().enumerate() {
            let name = if i == 0 { text::fit(key, named) } else { String::new() };
            let label = format!("{name:<named$} ");
            lines.push(vec![(Role::Dim, label), (role, part)]);
        }
    };
    let zone = app.shown_zone();
    pair(
        "time",
        &format!(
            "{} · self {} · {}",
            text::duration(span.duration_ns),
            text::duration(span.self_ns),
            span.start.format(&zone, "%H:%M:%S%.6f %Z")
        ),
        Role::Text,
    );
    if span.critical_ns > 0 {
        let whole = app.trace_head().map_or(0, |head| head.duration_ns);
        let share = coral_model::num::f64_from(span.critical_ns) * 100.0
            / coral_model::num::f64_from(whole.max(1));
        let said = format!(
            "{} of the trace's time passed here: {share:.0}%",
            text::duration(span.critical_ns)
        );
        pair("● critical path", &said, Role::Accent);
    }
    if span.shift_ns != 0 {
        let off = text::duration(span.shift_ns.unsigned_abs());
        let way = if span.shift_ns > 0 { "later" } else { "earlier" };
        pair("~ clock", &format!("shown {off} {way} than its host's clock said"), Role::Moved);
    }
    let failed = span.status == SpanStatus::Error;
    let status = match &span.message {
        Some(message) => format!("{} · {}: {message}", span.kind, span.status),
        None => format!("{} · {}", span.kind, span.status),
    };
    pair("kind · status", &status, if failed { Role::Failing } else { Role::Text });
    if span.orphan {
        pair("parent", "named, but has not arrived", Role::Blind);
    }
    for gap in &span.gaps {
        let at = text::duration(gap.start.since(span.start));
        let said = format!("{} in which nothing below it ran", text::duration(gap.duration_ns));
        pair(&format!("gap +{at}"), &said, Role::Dim);
    }
    for (key, value) in &span.attributes {
        pair(key, value, Role::Text);
    }
    for event in &span.events {
        let at = text::duration(event.time.since(span.start));
        let said: Vec<String> = event.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let role = if event.name == "exception" { Role::Failing } else { Role::Text };
        pair(&format!("◆ +{at}"), &format!("{} {}", event.name, said.join(" ")), role);
    }
    for (i, link) in span.links.iter().enumerate() {
        let enter = if i == 0 { "  (enter opens it)" } else { "" };
        pair("→ link", &format!("{}{enter}", link.trace_id), Role::Text);
    }
    for (key, value) in &span.resource {
        pair(key, value, Role::Dim);
    }
    lines
}

//! One trace: who worked when, and for how long by itself.

use coral_model::num::{f64_from, u16_sat, u64_from_f64};
use coral_model::text;
use coral_model::view::{SpanKind, SpanRow, SpanStatus};
use ratatui::layout::Rect;

use super::folded;
use crate::app::App;
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::{Canvas, Target};

pub(super) fn title(app: &App) -> String {
    let spans: Vec<&SpanRow> = app.data.spans().collect();
    let id = app.here.trace.map(|t| t.to_string()).unwrap_or_default();
    let short = id.get(..8).unwrap_or_default();
    if spans.is_empty() {
        return format!("trace {short}");
    }
    let (from, to) = extent(&spans);
    let errors = spans.iter().filter(|s| s.status == SpanStatus::Error).count();
    let failed = if errors > 0 { format!(" · {errors} failed") } else { String::new() };
    format!(
        "trace {short} · {} spans · {}{failed}",
        spans.len(),
        text::duration(to.saturating_sub(from))
    )
}

fn extent(spans: &[&SpanRow]) -> (u64, u64) {
    let from = spans.iter().map(|s| s.start.0).min().unwrap_or(0);
    let to = spans.iter().map(|s| s.start.0.saturating_add(s.duration_ns)).max().unwrap_or(1);
    (from, to.max(from + 1))
}

/// The bar of a span.
fn bar(canvas: &mut Canvas<'_>, area: Rect, y: u16, span: &SpanRow, from: u64, length: f64) {
    let width = f64::from(area.width);
    let start = f64_from(span.start.0.saturating_sub(from)) / length * width;
    let long = f64_from(span.duration_ns) / length * width;
    let x0 = u16_sat(u64_from_f64(start)).min(area.width.saturating_sub(1));
    let cells = u16_sat(u64_from_f64(long.ceil())).max(1).min(area.width - x0);
    let failed = span.status == SpanStatus::Error;
    let style =
        if failed { canvas.style(Role::Failing) } else { canvas.theme.series(&span.service) };
    // Thick where the span itself worked for a good part of its time, thin where it waited for
    // its children: the eye goes to where time is spent.
    let own = span.self_ns.saturating_mul(4) >= span.duration_ns;
    let symbol = if long < 0.25 {
        "▏"
    } else if own {
        "█"
    } else {
        "━"
    };
    for i in 0..cells {
        canvas.mark(area.x + x0 + i, y, symbol, style);
    }
}

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let spans: Vec<&SpanRow> = app.data.spans().collect();
    let (from, to) = extent(&spans);
    let length = f64_from(to - from);
    let names = (area.width * 2 / 5).clamp(16.min(area.width), 60);
    let numbers: u16 = if area.width >= 60 { 15 } else { 7 };
    let bars = area.width.saturating_sub(names + numbers + 2);
    // The heading is the axis.
    let axis = Rect { x: area.x + names + 1, y: area.y, width: bars, height: 1 };
    canvas.say(area.x, area.y, names, "SPAN", Role::Heading);
    if bars > 20 {
        canvas.say(axis.x, axis.y, bars, "0", Role::Heading);
        canvas.say_right(axis.right(), axis.y, 8, &text::duration(to - from), Role::Heading);
        canvas.say(axis.x + bars / 2, axis.y, 8, &text::duration((to - from) / 2), Role::Heading);
    }
    canvas.say_right(
        area.right(),
        area.y,
        7,
        if numbers > 7 { "self" } else { "time" },
        Role::Heading,
    );
    if numbers > 7 {
        canvas.say_right(area.right() - 8, area.y, 7, "time", Role::Heading);
    }
    let rows = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let selected = app.cursor(PaneId::Waterfall);
    let offset = app.with_scroll(PaneId::Waterfall, |s| {
        s.follow(selected, spans.len(), usize::from(rows.height))
    });
    for (y, (i, span)) in (rows.y..rows.bottom()).zip(spans.iter().enumerate().skip(offset)) {
        let indent = u16_sat(span.depth).min(12);
        let failed = span.status == SpanStatus::Error;
        let mut x = area.x + indent.min(names);
        let right = area.x + names;
        if span.orphan {
            x = canvas.say(x, y, right.saturating_sub(x), "?", Role::Blind);
        }
        let service = canvas.theme.series(&span.service);
        // A call and its answer have the same name; the arrow says which end this is.
        let end = match span.kind {
            SpanKind::Client => "▸",
            SpanKind::Producer => "»",
            _ => "",
        };
        x = canvas.put(
            x,
            y,
            right.saturating_sub(x),
            &format!("{end}{}", text::fit(&span.service, 14)),
            service,
        );
        x = canvas.say(x, y, right.saturating_sub(x), " ", Role::Text);
        let name = format!("{}{}", span.operation, if failed { " !!" } else { "" });
        canvas.say(
            x,
            y,
            right.saturating_sub(x),
            &name,
            if failed { Role::Failing } else { Role::Text },
        );
        if bars > 0 {
            bar(
                canvas,
                Rect { x: area.x + names + 1, y, width: bars, height: 1 },
                y,
                span,
                from,
                length,
            );
        }
        let own = span.self_ns.saturating_mul(4) >= span.duration_ns;
        if numbers > 7 {
            canvas.say_right(area.right() - 8, y, 7, &text::duration(span.duration_ns), Role::Text);
            canvas.say_right(
                area.right(),
                y,
                7,
                &text::duration(span.self_ns),
                if own { Role::Text } else { Role::Dim },
            );
        } else {
            canvas.say_right(area.right(), y, 7, &text::duration(span.duration_ns), Role::Text);
        }
        let whole = Rect { x: area.x, y, width: area.width, height: 1 };
        canvas.hit(whole, Target::Row(PaneId::Waterfall, i));
        if selected == Some(i) {
            canvas.select(whole, focused);
        }
    }
}

/// The selected span in full.
pub(super) fn span(app: &App, canvas: &mut Canvas<'_>, area: Rect, _focused: bool) {
    let i = app.cursor(PaneId::Waterfall).unwrap_or(0);
    let Some(span) = app.data.spans().nth(i) else { return };
    let width = usize::from(area.width);
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
    pair(
        "time",
        &format!(
            "{} · self {} · {}",
            text::duration(span.duration_ns),
            text::duration(span.self_ns),
            span.start.format(&app.shown_zone(), "%H:%M:%S%.6f %Z")
        ),
        Role::Text,
    );
    let failed = span.status == SpanStatus::Error;
    let status = match &span.message {
        Some(message) => format!("{} · {}: {message}", span.kind, span.status),
        None => format!("{} · {}", span.kind, span.status),
    };
    pair("kind · status", &status, if failed { Role::Failing } else { Role::Text });
    if span.orphan {
        pair("parent", "named, but has not arrived", Role::Blind);
    }
    for (key, value) in &span.attributes {
        pair(key, value, Role::Text);
    }
    for event in &span.events {
        let at = text::duration(event.time.since(span.start));
        let said: Vec<String> = event.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        pair(&format!("event +{at}"), &format!("{} {}", event.name, said.join(" ")), Role::Text);
    }
    for link in &span.links {
        pair("link", &link.trace_id.to_string(), Role::Text);
    }
    for (key, value) in &span.resource {
        pair(key, value, Role::Dim);
    }
    super::page(app, canvas, PaneId::Span, area, &lines);
}

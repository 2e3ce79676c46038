//! One trace: who worked when, for how long by itself, and what decided how long it took.

use coral_model::num::{f64_from, u16_sat, u64_from_f64};
use coral_model::text;
use coral_model::time::Time;
use coral_model::view::{ClockShift, LogRow, SpanKind, SpanRow, SpanStatus};
use ratatui::layout::Rect;

use crate::app::{App, TraceLine};
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::{Canvas, Target};

/// Spans of the critical path that are named above the waterfall.
const NAMED: usize = 3;
/// From this height up the path is named, from [`CLOCKS`] on also whose clock was corrected.
const PATH: u16 = 7;
const CLOCKS: u16 = 12;

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
    let logs = match app.trace_logs().count() {
        0 => String::new(),
        n => format!(" · {n} logs"),
    };
    format!(
        "trace {short} · {} spans · {}{failed}{logs}",
        spans.len(),
        text::duration(to.saturating_sub(from))
    )
}

fn extent(spans: &[&SpanRow]) -> (u64, u64) {
    let from = spans.iter().map(|s| s.start.0).min().unwrap_or(0);
    let to = spans.iter().map(|s| s.start.0.saturating_add(s.duration_ns)).max().unwrap_or(1);
    (from, to.max(from + 1))
}

/// Where the columns are, and what time they stand for.
#[derive(Clone, Copy)]
struct Scale {
    /// Columns of names.
    names: u16,
    /// Columns of numbers.
    numbers: u16,
    /// Where bars are drawn.
    bars: Rect,
    /// First moment.
    from: u64,
    /// Nanoseconds from the first to the last.
    length: f64,
}

impl Scale {
    fn column(&self, at: Time) -> u16 {
        let part = f64_from(at.0.saturating_sub(self.from)) / self.length;
        let x = u16_sat(u64_from_f64(part * f64::from(self.bars.width)));
        self.bars.x + x.min(self.bars.width.saturating_sub(1))
    }
}

/// What stands above the waterfall: where the time went, and whose clock was off.
fn said(app: &App, area: Rect) -> Vec<Vec<(Role, String)>> {
    let mut lines = Vec::new();
    let Some(head) = app.trace_head() else { return lines };
    if area.height >= PATH && !head.critical.is_empty() {
        let mut line =
            vec![(Role::Accent, "● ".to_owned()), (Role::Dim, "time went to ".to_owned())];
        for (i, part) in head.critical.iter().take(NAMED).enumerate() {
            let lead = if i > 0 { " · " } else { "" };
            let share = format!(" {} {:.0}%", text::duration(part.critical_ns), part.share * 100.0);
            line.push((
                Role::Text,
                format!("{lead}{} {}", part.service, text::fit(&part.operation, 40)),
            ));
            line.push((if i == 0 { Role::Strong } else { Role::Dim }, share));
        }
        lines.push(line);
    }
    if area.height >= CLOCKS {
        lines.extend(head.clocks.iter().take(2).map(|clock| vec![(Role::Moved, corrected(clock))]));
        if head.clocks.len() > 2 {
            let more = format!("~ clocks of {} more hosts were corrected", head.clocks.len() - 2);
            lines.push(vec![(Role::Moved, more)]);
        }
    }
    lines
}

fn corrected(clock: &ClockShift) -> String {
    let off = text::duration(clock.shift_ns.unsigned_abs());
    // Added to its times: a clock that is behind is moved forwards.
    let way = if clock.shift_ns < 0 { "ahead" } else { "behind" };
    match (clock.contradictory, clock.shift_ns) {
        (true, 0) => format!(
            "~ clock of {}: its calls contradict each other, nothing was corrected",
            clock.host
        ),
        (true, _) => format!(
            "~ clock of {} was about {off} {way}: its calls contradict each other",
            clock.host
        ),
        (false, _) => format!(
            "~ clock of {} was {off} {way}, ±{} by {} calls: corrected",
            clock.host,
            text::duration(clock.within_ns),
            clock.calls
        ),
    }
}

/// The bar of a span.
fn bar(canvas: &mut Canvas<'_>, scale: &Scale, y: u16, span: &SpanRow) {
    let bars = scale.bars;
    let long = f64_from(span.duration_ns) / scale.length * f64::from(bars.width);
    let x0 = scale.column(span.start);
    let cells = u16_sat(u64_from_f64(long.ceil())).max(1).min(bars.right().saturating_sub(x0));
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
        canvas.mark(x0 + i, y, symbol, style);
    }
    // Between its children nothing ran: neither here, as far as is known, nor below.
    let faint = canvas.style(Role::Dim);
    for gap in &span.gaps {
        let (a, b) = (scale.column(gap.start), scale.column(gap.start.plus(gap.duration_ns)));
        for x in a + 1..b.min(x0 + cells) {
            canvas.mark(x, y, "╌", faint);
        }
    }
    for event in &span.events {
        let bad = event.name == "exception";
        let style = canvas.style(if bad { Role::Failing } else { Role::Accent });
        canvas.mark(scale.column(event.time), y, "◆", style);
    }
}

fn axis(canvas: &mut Canvas<'_>, area: Rect, scale: &Scale, length: u64) {
    let bars = scale.bars;
    canvas.say(area.x, area.y, scale.names, "SPAN", Role::Heading);
    if bars.width > 20 {
        canvas.say(bars.x, area.y, bars.width, "0", Role::Heading);
        canvas.say_right(bars.right(), area.y, 8, &text::duration(length), Role::Heading);
        canvas.say(bars.x + bars.width / 2, area.y, 8, &text::duration(length / 2), Role::Heading);
    }
    for (i, title) in titles(scale.numbers).iter().rev().enumerate() {
        let end = area.right().saturating_sub(8 * u16_sat(i));
        canvas.say_right(end, area.y, 7, title, Role::Heading);
    }
}

const fn titles(numbers: u16) -> &'static [&'static str] {
    match numbers {
        0..=7 => &["time"],
        8..=15 => &["time", "self"],
        _ => &["time", "self", "path"],
    }
}

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let spans: Vec<&SpanRow> = app.data.spans().collect();
    let (from, to) = extent(&spans);
    let mut area = area;
    for line in said(app, area) {
        let mut x = area.x;
        for (role, text) in &line {
            x = canvas.say(x, area.y, area.right().saturating_sub(x), text, *role);
        }
        area = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    }
    let names = (area.width * 2 / 5).clamp(16.min(area.width), 60);
    let numbers: u16 = match area.width {
        0..60 => 7,
        60..100 => 15,
        _ => 23,
    };
    let bars = Rect {
        x: area.x + names + 1,
        width: area.width.saturating_sub(names + numbers + 2),
        height: 1,
        ..area
    };
    let scale = Scale { names, numbers, bars, from, length: f64_from(to - from) };
    // The heading is the axis.
    axis(canvas, area, &scale, to - from);
    let rows = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let lines = app.trace_lines();
    let selected = app.cursor(PaneId::Waterfall);
    let offset = app.with_scroll(PaneId::Waterfall, |s| {
        s.follow(selected, lines.len(), usize::from(rows.height))
    });
    for (y, (i, line)) in (rows.y..rows.bottom()).zip(lines.iter().enumerate().skip(offset)) {
        let row = Rect { y, height: 1, ..area };
        match line {
            TraceLine::Span(span) => one(canvas, row, &scale, span),
            TraceLine::Log(log, depth) => record(canvas, row, &scale, log, *depth),
        }
        canvas.hit(row, Target::Row(PaneId::Waterfall, i));
        if selected == Some(i) {
            canvas.select(row, focused);
        }
    }
}

/// A span: its name, its bar, its numbers.
fn one(canvas: &mut Canvas<'_>, row: Rect, scale: &Scale, span: &SpanRow) {
    let y = row.y;
    let failed = span.status == SpanStatus::Error;
    let right = row.x + scale.names;
    // The path that decided how long it took, from top to bottom.
    if span.critical_ns > 0 {
        canvas.say(row.x, y, 1, "●", Role::Accent);
    }
    let mut x = row.x + 1 + u16_sat(span.depth).min(12).min(scale.names);
    let room = |x: u16| right.saturating_sub(x);
    if span.orphan {
        x = canvas.say(x, y, room(x), "?", Role::Blind);
    }
    let service = canvas.theme.series(&span.service);
    // A call and its answer have the same name; the arrow says which end this is.
    let end = match span.kind {
        SpanKind::Client => "▸",
        SpanKind::Producer => "»",
        _ => "",
    };
    let name = format!("{end}{}", text::fit(&span.service, 14));
    x = canvas.put(x, y, room(x), &name, service);
    if span.shift_ns != 0 {
        x = canvas.say(x, y, room(x), "~", Role::Moved);
    }
    x = canvas.say(x, y, room(x), " ", Role::Text);
    let linked = if span.links.is_empty() { "" } else { " →" };
    let name = format!("{}{}{linked}", span.operation, if failed { " !!" } else { "" });
    canvas.say(x, y, room(x), &name, if failed { Role::Failing } else { Role::Text });
    if scale.bars.width > 0 {
        bar(canvas, scale, y, span);
    }
    let own = span.self_ns.saturating_mul(4) >= span.duration_ns;
    let path = if span.critical_ns == 0 { String::new() } else { text::duration(span.critical_ns) };
    let values = [
        (Role::Text, text::duration(span.duration_ns)),
        (if own { Role::Text } else { Role::Dim }, text::duration(span.self_ns)),
        (Role::Accent, path),
    ];
    let shown = titles(scale.numbers).len();
    for (i, (role, value)) in values.iter().take(shown).rev().enumerate() {
        let end = row.right().saturating_sub(8 * u16_sat(i));
        canvas.say_right(end, y, 7, value, *role);
    }
}

/// A log record: where in time it was written, and what it says.
fn record(canvas: &mut Canvas<'_>, row: Rect, scale: &Scale, log: &LogRow, depth: u32) {
    let y = row.y;
    let (word, role) = super::logs::level(log.severity);
    let mut x = row.x + 1 + u16_sat(depth).min(13).min(scale.names);
    let room = |x: u16| row.right().saturating_sub(x);
    x = canvas.say(x, y, room(x), "┊ ", Role::Dim);
    let at = format!("+{} ", text::duration(log.time.0.saturating_sub(scale.from)));
    x = canvas.say(x, y, room(x), &at, Role::Dim);
    x = canvas.say(x, y, room(x), word.trim_end(), role);
    canvas.say(x + 1, y, room(x + 1), &log.body, Role::Text);
}

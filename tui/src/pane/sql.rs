//! A statement of one's own: the editor, the answer as a table, a row of it in full.

use std::ops::Range;

use coral_model::num::{u16_sat, u64_sat};
use coral_model::text;
use coral_model::view::{SqlColumn, SqlRow};
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use serde_json::Value;

use super::folded;
use crate::app::{App, row_of, wrapped};
use crate::feed::Slot;
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::{Canvas, Column, Piece, Table, width_of};

/// Rows whose widths decide how wide a column is.
const MEASURED: usize = 200;
/// Columns a value takes at most beside others.
const WIDEST: u16 = 36;
/// Types whose values stand to the right.
const NUMBERS: [&str; 8] = ["INT", "FLOAT", "DOUBLE", "REAL", "DECIMAL", "UINT", "HUGE", "BIG"];

pub(super) fn title(app: &App) -> String {
    let run = app.keymap.keys(crate::command::CommandId::Run).first().map(ToString::to_string);
    match run {
        Some(key) if app.is_typing() => format!("sql · {key} or ; and enter runs"),
        _ => "sql".to_owned(),
    }
}

/// The editor.
pub(super) fn editor(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    if area.height == 0 || area.width < 4 {
        return;
    }
    let offers = focused && !app.sql.offers.is_empty() && area.height > 1;
    let height = usize::from(area.height - u16::from(offers));
    let lines = app.sql.lines();
    let rows = wrapped(lines, area.width);
    let (line, column) = app.sql.cursor();
    let text = lines.get(line).map_or("", String::as_str);
    let at = text.char_indices().nth(column).map_or(text.len(), |(i, _)| i);
    let row = row_of(&rows, line, at);
    let offset = app.with_scroll(PaneId::Editor, |s| s.follow(Some(row), rows.len(), height));
    let shown: Vec<&(usize, Range<usize>)> = rows.iter().skip(offset).take(height).collect();
    if lines.iter().all(String::is_empty) {
        let hint = "SELECT service, count(*) FROM spans GROUP BY ALL ORDER BY 2 DESC";
        canvas.say(area.x + 1, area.y, area.width.saturating_sub(1), hint, Role::Dim);
    }
    let first = shown.first().map_or(0, |(n, _)| *n);
    let last = shown.last().map_or(0, |(n, _)| *n);
    app.sql.painted(first, last + 1, |painted| {
        for (y, (n, range)) in (area.y..).zip(&shown) {
            let Some(line) = lines.get(*n) else { break };
            let pieces = painted.get(n - first).map_or(&[][..], Vec::as_slice);
            coloured(canvas, Rect { y, height: 1, ..area }, line, range, pieces);
        }
    });
    if focused && let Some((_, range)) = rows.get(row) {
        let before = text.get(range.start..at).map_or(0, width_of);
        let (x, y) = (area.x + before.min(area.width - 1), area.y + u16_sat(row - offset));
        if let Some(cell) = canvas.buf.cell_mut((x, y)) {
            cell.modifier.insert(Modifier::REVERSED);
        }
    }
    if offers {
        let y = area.bottom() - 1;
        let mut x = canvas.say(area.x, y, area.width, "tab ", Role::Key);
        for (i, word) in app.sql.offers.iter().enumerate() {
            let word = text::fit(word, 28);
            if x + width_of(&word) > area.right() {
                break;
            }
            let role = if i == app.sql.chosen { Role::Selected } else { Role::Dim };
            x = canvas.say(x, y, area.right() - x, &word, role) + 2;
        }
    }
}

/// Puts a part of a line in its colours; what has none is plain.
fn coloured(
    canvas: &mut Canvas<'_>,
    area: Rect,
    line: &str,
    part: &Range<usize>,
    pieces: &[(Range<usize>, Role)],
) {
    let mut x = area.x;
    let mut at = part.start;
    let plain = [(part.end..part.end, Role::Text)];
    for (range, role) in pieces.iter().chain(&plain) {
        for (from, to, role) in [(at, range.start, Role::Text), (range.start, range.end, *role)] {
            let (from, to) = (from.max(at), to.min(part.end));
            if let Some(text) = line.get(from..to).filter(|text| !text.is_empty()) {
                x = canvas.say(x, area.y, area.right().saturating_sub(x), text, role);
                at = to;
            }
        }
    }
}

/// One value as it stands in a table.
fn value(row: &SqlRow, column: &SqlColumn) -> (Role, String) {
    match row.values.get(&column.name) {
        None | Some(Value::Null) => (Role::Dim, "NULL".to_owned()),
        Some(Value::String(text)) => (Role::Text, text.clone()),
        Some(other) => (Role::Text, other.to_string()),
    }
}

fn is_number(column: &SqlColumn) -> bool {
    let kind = column.kind.trim_start_matches(['U', 'S', 'T']);
    let base = kind.split('(').next().unwrap_or_default();
    !column.kind.ends_with(']')
        && (NUMBERS.iter().any(|n| base.starts_with(n))
            || base.starts_with("MALLINT")
            || base.starts_with("INYINT"))
}

pub(super) fn rows_title(app: &App) -> String {
    let Some(known) = app.data.known(Slot::Sql) else { return "answer".to_owned() };
    let n = app.sql_given().count();
    let mut title = format!("{} {}", text::count(u64_sat(n)), if n == 1 { "row" } else { "rows" });
    if known.end.truncated {
        title = format!("first {title}, there are more");
    }
    if let Some(ns) = app.took().filter(|ns| *ns > 0) {
        title.push_str(&format!(" · {}", text::duration(ns)));
    }
    if matches!(app.link, crate::app::Link::Down(_)) {
        let age = app.now.since(known.at).max(coral_model::time::SECOND);
        title.push_str(&format!(" · stale {}", text::duration(age)));
    }
    let left = app.sql.left;
    if left > 0 {
        title.push_str(&format!(" · ◂ {left} more to the left"));
    }
    title
}

/// The answer.
pub(super) fn rows(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    if let Some(why) = app.sql_failure() {
        refusal(canvas, area, why);
        return;
    }
    if app.data.failure(Slot::Sql).is_some() {
        let run = super::head::key(app, crate::command::CommandId::Run);
        canvas.wrap(area, &format!("not run yet; {run} runs it"), Role::Dim);
        return;
    }
    let Some(head) = app.sql_columns() else {
        waiting(app, canvas, area);
        return;
    };
    let given: Vec<&SqlRow> = app.sql_given().take(MEASURED).collect();
    let left = app.sql.left.min(head.columns.len().saturating_sub(1));
    let shown: Vec<&SqlColumn> = head.columns.iter().skip(left).collect();
    let alone = shown.len() == 1;
    let columns: Vec<Column> = shown
        .iter()
        .enumerate()
        .map(|(i, column)| {
            let content = given.iter().map(|row| width_of(&value(row, column).1)).max();
            let most = if alone { area.width } else { WIDEST };
            let title = text::clean(&column.name).into_owned();
            let wide = content.unwrap_or(0).max(width_of(&title)).clamp(1, most);
            let yields = u8::from(i > 0);
            if is_number(column) {
                Column::right(title, wide, yields)
            } else {
                Column::left(title, wide, yields)
            }
        })
        .collect();
    let order = app.sql_order();
    let marked = order.and_then(|(at, falls)| {
        let column = columns.get(at.checked_sub(left)?)?;
        Some((column.title.as_str(), falls))
    });
    let rows = app.sql_rows();
    app.with_scroll(PaneId::Rows, |scroll| {
        Table {
            pane: PaneId::Rows,
            columns: &columns,
            len: rows.len(),
            selected: app.cursor(PaneId::Rows),
            sorted: marked,
            focused,
            scroll,
        }
        .draw(canvas, area, |canvas, i| {
            let Some((_, row)) = rows.get(i) else { return Vec::new() };
            let cell = |column: &&SqlColumn| -> Vec<Piece> {
                let (role, text) = value(row, column);
                vec![canvas.piece(role, text)]
            };
            shown.iter().map(cell).collect()
        });
    });
    if rows.is_empty() && area.height > 1 {
        let below = Rect { y: area.y + 1, height: area.height - 1, ..area };
        canvas.wrap(below, "no row", Role::Dim);
    }
}

/// Why there is no answer: as the colony says it, its caret under the place.
fn refusal(canvas: &mut Canvas<'_>, area: Rect, why: &str) {
    let mut y = area.y;
    for line in why.lines() {
        let caret = line.trim_start().starts_with('^');
        let role = match line.trim_start() {
            _ if caret => Role::Failing,
            hint if hint.starts_with("hint:") => Role::Dim,
            _ if y == area.y => Role::Failing,
            _ => Role::Text,
        };
        // Lines that carry a place must not be broken; others are.
        let used = if caret || line.starts_with("  ") && role == Role::Text {
            canvas.say(area.x, y, area.width, line, role);
            1
        } else {
            let left = Rect { y, height: area.bottom().saturating_sub(y), ..area };
            canvas.wrap(left, line, role)
        };
        y = y.saturating_add(used);
        if y >= area.bottom() {
            break;
        }
    }
}

/// What there is instead of an answer.
fn waiting(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    if app.was_stopped() {
        canvas.wrap(area, "stopped; nothing was changed by it", Role::Dim);
    } else if app.here.statement.is_empty() {
        let mut y = area.y;
        for text in [
            "One SELECT over what is stored: spans logs metrics red edges events resources hosts inflight.",
            "DESCRIBE spans lists columns. Times are Unix nanoseconds: time_of(start_ns); the window of the screen is window_from() and window_to(). trace_hex(trace_hi, trace_lo) is an id that enter opens.",
            "It can only read, for 20 s at most; esc stops it.",
        ] {
            let left = Rect { y, height: area.bottom().saturating_sub(y), ..area };
            y += canvas.wrap(left, text, Role::Dim) + 1;
        }
    } else {
        match (&app.link, app.running_since()) {
            (crate::app::Link::Up, Some(since))
                if app.now.since(since) >= coral_model::time::SECOND =>
            {
                let long = coral_model::when::print_duration(app.age(since));
                canvas.wrap(area, &format!("running {long} … esc stops it"), Role::Dim);
            }
            (crate::app::Link::Up, _) => {
                canvas.wrap(area, "running … esc stops it", Role::Dim);
            }
            _ => {
                super::nothing(app, canvas, Slot::Sql, "", area);
            }
        }
    }
}

/// The selected row in full.
pub(super) fn values(app: &App, canvas: &mut Canvas<'_>, area: Rect, _focused: bool) {
    let rows = app.sql_rows();
    let row = rows.get(app.cursor(PaneId::Rows).unwrap_or(0));
    let (Some(head), Some((_, row))) = (app.sql_columns(), row) else {
        canvas.wrap(area, "no row is selected", Role::Dim);
        return;
    };
    let width = usize::from(area.width);
    let named = head.columns.iter().map(|c| usize::from(width_of(&c.name))).max().unwrap_or(0);
    let named = named.clamp(4, (width / 3).max(4));
    let mut lines: Vec<Vec<(Role, String)>> = Vec::new();
    for column in &head.columns {
        let (role, text) = value(row, column);
        let parts = folded(&text, width.saturating_sub(named + 1));
        let parts = if parts.is_empty() { vec![String::new()] } else { parts };
        for (i, part) in parts.into_iter().enumerate() {
            let name = if i == 0 { text::fit(&column.name, named) } else { String::new() };
            let pad = named.saturating_sub(usize::from(width_of(&name)));
            lines.push(vec![(Role::Dim, format!("{name}{} ", " ".repeat(pad))), (role, part)]);
        }
    }
    if app.sql_trace().is_some() {
        lines.push(vec![(Role::Dim, "enter opens the trace".to_owned())]);
    }
    super::page(app, canvas, PaneId::Values, area, &lines);
}

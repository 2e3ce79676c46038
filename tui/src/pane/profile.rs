//! A profile: a flame graph, what is called below what calls it, and the functions as a table.

use coral_model::num::{f64_from, u16_sat, u64_from_f64, u64_sat};
use coral_model::text;
use coral_proto::pprof::TopRow;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use crate::app::{App, Flame};
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::{Canvas, Column, Piece, Table};

pub(super) fn title(app: &App) -> String {
    let Some(flame) = &app.flame else { return "profile".to_owned() };
    let name = flame.path.file_name().map(|n| n.to_string_lossy().into_owned());
    let mut title = format!("profile {}", text::fit(&name.unwrap_or_default(), 32));
    if let Some(measure) = flame.measure() {
        title.push_str(&format!(
            " · {} {}",
            text::fit(&measure.name, 20),
            flame.amount(flame.total)
        ));
    }
    if let Some(ns) = flame.duration_ns() {
        title.push_str(&format!(" over {}", text::duration(ns)));
    }
    let others = flame.measures().len().saturating_sub(1);
    if others > 0 {
        title.push_str(&format!(" · s: {others} more measured"));
    }
    title
}

pub(super) fn functions_title(app: &App) -> String {
    let Some(flame) = &app.flame else { return "functions".to_owned() };
    match flame.left_out {
        0 => format!("functions {}", flame.top.len()),
        n => {
            format!("functions {} · {} too small to keep", flame.top.len(), text::count(u64_sat(n)))
        }
    }
}

/// What to do where nothing is open.
fn none(canvas: &mut Canvas<'_>, area: Rect) {
    let mut y = area.y;
    for (role, text) in [
        (Role::Strong, "No profile is open."),
        (
            Role::Text,
            "o and the name of a pprof file opens one here, as `coral open FILE` does from a shell.",
        ),
        (
            Role::Dim,
            "Coral does not take profiles by itself yet. 8 shows CPU, memory and pressure per host and process; 4 and enter show where a trace's own time goes.",
        ),
    ] {
        let left = Rect { y, height: area.bottom().saturating_sub(y), ..area };
        y += canvas.wrap(left, text, role) + 1;
    }
}

/// The flame graph: callers above what they call, as wide as what it took.
pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let Some(flame) = &app.flame else { return none(canvas, area) };
    if area.height < 2 {
        return;
    }
    let root = app.flame_root();
    let cursor = app.flame_cursor();
    let (base, from, whole) = match root.and_then(|i| flame.branches.get(i)) {
        Some(branch) => (branch.row.depth, branch.from, branch.row.cumulative),
        None => (0, 0, flame.total),
    };
    told(flame, canvas, area, cursor);
    let rows = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let deepest = flame.branches.iter().map(|b| b.row.depth + 1).max().unwrap_or(0);
    let depth = flame.branches.get(cursor).map_or(0, |b| b.row.depth.saturating_sub(base));
    let offset = app.with_scroll(PaneId::Profile, |s| {
        s.follow(Some(depth), deepest.saturating_sub(base), usize::from(rows.height))
    });
    let width = f64::from(rows.width);
    let place = |n: i64| u16_sat(u64_from_f64((Flame::part(n, whole) * width).round()));
    let inside = flame.within(root);
    let branches = flame.branches.iter().enumerate().take(inside.end).skip(inside.start);
    for (i, branch) in branches {
        let level = branch.row.depth.saturating_sub(base);
        if level < offset || level >= offset + usize::from(rows.height) {
            continue;
        }
        let start = branch.from.saturating_sub(from);
        let (x0, x1) = (place(start), place(start.saturating_add(branch.row.cumulative)));
        if x1 <= x0 && i != cursor {
            continue;
        }
        let y = rows.y + u16_sat(level - offset);
        let x0 = x0.min(rows.width.saturating_sub(1));
        let wide = x1.saturating_sub(x0).clamp(1, rows.width - x0);
        let cell = Rect { x: rows.x + x0, y, width: wide, height: 1 };
        bar(canvas, cell, &branch.row.name, i == cursor, focused);
    }
}

/// One branch. The last column of a wide one stays free, so that neighbours are told apart.
fn bar(canvas: &mut Canvas<'_>, area: Rect, name: &str, chosen: bool, focused: bool) {
    let room = if area.width >= 3 { area.width - 1 } else { area.width };
    let mut style = canvas.theme.series(name).add_modifier(Modifier::REVERSED);
    if chosen {
        style = canvas.style(if focused { Role::Selected } else { Role::Marked });
        style = style.add_modifier(Modifier::REVERSED | Modifier::BOLD);
    }
    for x in area.x..area.x + room {
        canvas.mark(x, area.y, " ", style);
    }
    let mark = if chosen { "▸" } else { "" };
    if room > 2 || chosen {
        canvas.put(area.x, area.y, room, &format!("{mark}{}", short(name)), style);
    }
}

/// The end of a path says more than its beginning.
fn short(name: &str) -> &str {
    let plain = name.split('(').next().unwrap_or(name);
    let path = !plain.contains(char::is_whitespace);
    let at = plain.rfind('/').filter(|_| path).map_or(0, |i| i + 1);
    name.get(at..).filter(|rest| !rest.is_empty()).unwrap_or(name)
}

/// The branch under the cursor in words.
fn told(flame: &Flame, canvas: &mut Canvas<'_>, area: Rect, cursor: usize) {
    let Some(branch) = flame.branches.get(cursor) else { return };
    let row = &branch.row;
    let numbers = format!(
        "{} {} · itself {} ",
        flame.amount(row.cumulative),
        flame.share(row.cumulative),
        flame.amount(row.flat)
    );
    let x = canvas.say(area.x, area.y, area.width, &numbers, Role::Dim);
    canvas.say(x, area.y, area.right().saturating_sub(x), &row.name, Role::Strong);
}

fn cells(flame: &Flame, canvas: &Canvas<'_>, row: &TopRow) -> Vec<Vec<Piece>> {
    let share = f64_from(row.flat.unsigned_abs()) * 10.0;
    let hot = share >= f64_from(flame.total.unsigned_abs());
    vec![
        vec![canvas.piece(Role::Text, flame.amount(row.flat))],
        vec![canvas.piece(if hot { Role::Moved } else { Role::Dim }, flame.share(row.flat))],
        vec![canvas.piece(Role::Text, flame.amount(row.cumulative))],
        vec![canvas.piece(Role::Dim, flame.share(row.cumulative))],
        vec![Piece { text: row.name.clone(), style: canvas.theme.series(&row.name) }],
    ]
}

/// The functions.
pub(super) fn functions(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let Some(flame) = &app.flame else { return };
    let rows = app.functions();
    let columns = [
        Column::right("itself", 8, 0),
        Column::right("", 6, 3),
        Column::right("with calls", 10, 0),
        Column::right("", 6, 2),
        Column::left("FUNCTION", 14, 0).grow(1),
    ];
    app.with_scroll(PaneId::Functions, |scroll| {
        Table {
            pane: PaneId::Functions,
            columns: &columns,
            len: rows.len(),
            selected: app.cursor(PaneId::Functions),
            sorted: super::sorted(app, PaneId::Functions),
            focused,
            scroll,
        }
        .draw(canvas, area, |canvas, i| {
            rows.get(i).map(|row| cells(flame, canvas, row)).unwrap_or_default()
        });
    });
}

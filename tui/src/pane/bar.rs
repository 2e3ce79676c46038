//! The last line: what just happened, a line being typed, or the keys that matter here.

use coral_model::text;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;

use crate::app::{App, Overlay, Purpose};
use crate::command::{COMMANDS, CommandId, CommandSpec};
use crate::layout::{PaneId, ViewId};
use crate::theme::Role;
use crate::widget::{Canvas, Target, width_of};

/// Lines a sentence takes at most.
const LINES: usize = 3;

/// Commands that mean something at this place, most useful first.
fn useful(app: &App, id: CommandId) -> bool {
    match id {
        CommandId::Split => matches!(
            app.here.focus,
            PaneId::Services | PaneId::Operations | PaneId::Topology | PaneId::Charts
        ),
        CommandId::Context => matches!(app.here.view, ViewId::Logs | ViewId::Context),
        CommandId::Run | CommandId::Editor => app.here.view == ViewId::Sql,
        CommandId::Diff => !matches!(
            app.here.view,
            ViewId::Sql
                | ViewId::Diff
                | ViewId::Context
                | ViewId::Patterns
                | ViewId::Profile
                | ViewId::Hosts
                | ViewId::Agents
                | ViewId::Trace
                | ViewId::Logs
        ),
        CommandId::Filter => app.here.view != ViewId::Sql,
        CommandId::Order => !crate::app::orders(app.here.focus).is_empty(),
        CommandId::Why => app.here.view == ViewId::Incident,
        CommandId::Zoom => app.frame().panes.len() > 1 || app.here.zoom,
        _ => true,
    }
}

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    if area.height == 0 {
        return;
    }
    if let Some(Overlay::Entry(entry)) = &app.overlay {
        line(app, canvas, area, entry);
        return;
    }
    if let Some(notice) = &app.notice {
        above(canvas, area, notice, Role::Accent);
        return;
    }
    if app.is_typing() {
        typing(app, canvas, area);
        return;
    }
    // Help is always there; the rest as far as it fits, zooming last.
    let mut specs: Vec<&CommandSpec> =
        COMMANDS.iter().filter(|c| !c.bar.is_empty() && useful(app, c.id)).collect();
    specs.sort_by_key(|c| match c.id {
        CommandId::Palette => 1,
        CommandId::CopyPlace => 2,
        CommandId::Zoom => 3,
        CommandId::Order => 4,
        _ => 0,
    });
    let width = |spec: &CommandSpec| {
        let key = app.keymap.keys(spec.id).first()?.to_string();
        Some((width_of(&key) + 1 + width_of(spec.bar), key))
    };
    let help = CommandId::Help.spec();
    let mut room = area.width.saturating_sub(width(help).map_or(0, |(w, _)| w + 2));
    let mut shown = Vec::new();
    for spec in specs.into_iter().filter(|c| c.id != CommandId::Help) {
        if let Some((wide, key)) = width(spec)
            && wide <= room
        {
            room = room.saturating_sub(wide + 2);
            shown.push((spec, key));
        }
    }
    if let Some((_, key)) = width(help) {
        shown.push((help, key));
    }
    let mut x = area.x;
    for (spec, key) in shown {
        let from = x;
        x = canvas.say(x, area.y, area.right().saturating_sub(x), &key, Role::Key);
        x = canvas.say(x + 1, area.y, area.right().saturating_sub(x + 1), spec.bar, Role::Label);
        canvas.hit(Rect { x: from, y: area.y, width: x - from, height: 1 }, Target::Run(spec.id));
        x += 2;
    }
}

/// A sentence that ends on the line `area`, and begins on lines above where it is too long for one.
fn above(canvas: &mut Canvas<'_>, area: Rect, text: &str, role: Role) {
    // What was copied need not be read to its end.
    let fits = width_of(text) <= area.width || text.starts_with("copied ");
    let width = usize::from(area.width);
    let mut parts = if fits { vec![text.to_owned()] } else { super::folded(text, width) };
    if parts.len() > LINES {
        let rest = parts.split_off(LINES - 1).join(" ");
        parts.push(rest);
    }
    let most = coral_model::num::u16_sat(parts.len());
    for (part, up) in parts.iter().zip((0..most).rev()) {
        let row = Rect { y: area.y.saturating_sub(up), height: 1, ..area };
        canvas.clear(row, Role::Text);
        canvas.say(row.x, row.y, row.width, part, role);
    }
}

/// What keys do while the statement has them.
fn typing(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let key = |id| app.keymap.keys(id).first().map(ToString::to_string).unwrap_or_default();
    let esc = if app.is_running() { "stop" } else { "leave" };
    let keys = [
        (Some(CommandId::Run), key(CommandId::Run), "run"),
        (None, "esc".to_owned(), esc),
        (None, "tab".to_owned(), "complete"),
        (None, "up".to_owned(), "earlier"),
        (Some(CommandId::Editor), key(CommandId::Editor), "$EDITOR"),
        (Some(CommandId::Palette), "ctrl-p".to_owned(), "command"),
    ];
    let mut x = area.x;
    for (id, key, word) in keys {
        if x + width_of(&key) + 1 + width_of(word) > area.right() {
            break;
        }
        let from = x;
        x = canvas.say(x, area.y, area.right().saturating_sub(x), &key, Role::Key);
        x = canvas.say(x + 1, area.y, area.right().saturating_sub(x + 1), word, Role::Label);
        if let Some(id) = id {
            canvas.hit(Rect { x: from, y: area.y, width: x - from, height: 1 }, Target::Run(id));
        }
        x += 2;
    }
}

/// A line being typed: prompt, text, cursor.
fn line(app: &App, canvas: &mut Canvas<'_>, area: Rect, entry: &crate::app::Entry) {
    canvas.clear(area, Role::Text);
    let prompt = if entry.purpose == Purpose::Palette {
        ":".to_owned()
    } else {
        format!("{} ", entry.purpose.prompt())
    };
    let x = canvas.say(area.x, area.y, area.width, &prompt, Role::Key);
    let field = Rect { x, y: area.y, width: area.right().saturating_sub(x), height: 1 };
    if field.width == 0 {
        return;
    }
    let mut text = entry.area.clone();
    text.set_style(canvas.style(Role::Entry));
    text.set_cursor_line_style(ratatui::style::Style::default());
    text.set_cursor_style(
        ratatui::style::Style::default().add_modifier(ratatui::style::Modifier::REVERSED),
    );
    (&text).render(field, canvas.buf);
    // What is wrong, and where: a caret above the line.
    let above = area.y.saturating_sub(1);
    if let Some((error, column)) = &entry.error {
        let row = Rect { x: area.x, y: above, width: area.width, height: 1 };
        canvas.clear(row, Role::Text);
        let at = field
            .x
            .saturating_add(coral_model::num::u16_sat(*column))
            .min(area.right().saturating_sub(2));
        // The sentence goes to the side of the caret that has room for it, else above it.
        let room = area.right().saturating_sub(at + 2);
        if width_of(error) <= room {
            let x = canvas.say(at, above, 1, "^", Role::Failing);
            canvas.say(x + 1, above, room, error, Role::Failing);
        } else {
            canvas.say(at, above, 1, "^", Role::Failing);
            if width_of(error) < at {
                canvas.say(area.x, above, at.saturating_sub(1), error, Role::Failing);
            } else {
                let row = Rect { y: above.saturating_sub(1), ..row };
                self::above(canvas, row, error, Role::Failing);
            }
        }
    } else if !entry.completions.is_empty() {
        let row = Rect { x: area.x, y: above, width: area.width, height: 1 };
        canvas.clear(row, Role::Text);
        let mut x = canvas.say(area.x, above, area.width, "tab ", Role::Key);
        for (i, choice) in entry.completions.iter().enumerate() {
            let choice = text::fit(choice, 24);
            if x + width_of(&choice) + 2 > area.right() {
                break;
            }
            let role = if i == entry.chosen { Role::Selected } else { Role::Dim };
            x = canvas.say(x, above, area.right() - x, &choice, role) + 2;
        }
    } else if entry.purpose == Purpose::Time {
        let row = Rect { x: area.x, y: above, width: area.width, height: 1 };
        canvas.clear(row, Role::Text);
        let zone = app.newest().format(&app.shown_zone(), "%Z");
        let hint = format!(
            "14:02 · -2h · yesterday 14:00 · 13:50..14:10 · 30m (the last) · times are {zone}"
        );
        canvas.say(area.x, above, area.width, &hint, Role::Dim);
    } else if entry.purpose == Purpose::Open {
        let row = Rect { x: area.x, y: above, width: area.width, height: 1 };
        canvas.clear(row, Role::Text);
        canvas.say(
            area.x,
            above,
            area.width,
            "a place (what Y copies), a trace id, or a service",
            Role::Dim,
        );
    }
}

//! What lies over the panes: palette, help, trail.

use coral_model::num::u16_sat;
use ratatui::layout::Rect;

use crate::app::{App, Overlay, Purpose, matches};
use crate::command::{COMMANDS, Group};
use crate::theme::Role;
use crate::widget::{Canvas, Target, width_of};

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>) {
    match &app.overlay {
        Some(Overlay::Help(from)) => help(app, canvas, *from),
        Some(Overlay::Trail(from)) => trail(app, canvas, *from),
        Some(Overlay::Entry(entry)) if entry.purpose == Purpose::Palette => {
            palette(app, canvas, &entry.text(), entry.chosen);
        }
        _ => {}
    }
}

/// A box with a title; gives the room inside.
fn boxed(canvas: &mut Canvas<'_>, area: Rect, title: &str) -> Rect {
    canvas.clear(area, Role::Popup);
    let style = canvas.style(Role::Rule);
    let (right, bottom) = (area.right().saturating_sub(1), area.bottom().saturating_sub(1));
    for x in area.x..=right {
        canvas.mark(x, area.y, "─", style);
        canvas.mark(x, bottom, "─", style);
    }
    for y in area.y..=bottom {
        canvas.mark(area.x, y, "│", style);
        canvas.mark(right, y, "│", style);
    }
    for (x, y, corner) in
        [(area.x, area.y, "╭"), (right, area.y, "╮"), (area.x, bottom, "╰"), (right, bottom, "╯")]
    {
        canvas.mark(x, y, corner, style);
    }
    canvas.say(
        area.x + 2,
        area.y,
        area.width.saturating_sub(4),
        &format!(" {title} "),
        Role::Focus,
    );
    Rect {
        x: area.x + 2,
        y: area.y + 1,
        width: area.width.saturating_sub(4),
        height: area.height.saturating_sub(2),
    }
}

fn keys(app: &App, id: crate::command::CommandId) -> String {
    app.keymap.keys(id).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn palette(app: &App, canvas: &mut Canvas<'_>, text: &str, chosen: usize) {
    let found = matches(text);
    let screen = canvas.buf.area;
    let height = (u16_sat(found.len()) + 2).min(screen.height.saturating_sub(2)).clamp(3, 18);
    let width = screen.width.min(86);
    let area = Rect {
        x: 0,
        y: screen.height.saturating_sub(1 + height),
        width,
        height: height.min(screen.height),
    };
    let inner = boxed(canvas, area, "commands");
    let chosen = chosen.min(found.len().saturating_sub(1));
    let offset = (chosen + 1).saturating_sub(usize::from(inner.height));
    if found.is_empty() {
        canvas.say(inner.x, inner.y, inner.width, "no command matches", Role::Dim);
    }
    for (y, (i, spec)) in (inner.y..inner.bottom()).zip(found.iter().enumerate().skip(offset)) {
        let takes = spec.takes.map(|t| format!(" {t}")).unwrap_or_default();
        let mut x = canvas.say(inner.x, y, inner.width, spec.name, Role::Strong);
        x = canvas.say(x, y, inner.right().saturating_sub(x), &takes, Role::Dim);
        let help_at = (inner.x + 22).max(x + 1);
        let keys = keys(app, spec.id);
        let keys_width = width_of(&keys);
        let room = inner.right().saturating_sub(help_at + keys_width + 1);
        canvas.say(help_at, y, room, spec.help, Role::Text);
        canvas.say_right(inner.right(), y, keys_width, &keys, Role::Key);
        let whole = Rect { x: inner.x, y, width: inner.width, height: 1 };
        canvas.hit(whole, Target::Run(spec.id));
        if i == chosen {
            canvas.select(whole, true);
        }
    }
}

/// The command a line runs when clicked, and its pieces.
type HelpLine = (Option<crate::command::CommandId>, Vec<(Role, String)>);

fn help(app: &App, canvas: &mut Canvas<'_>, from: usize) {
    let screen = canvas.buf.area;
    let width = screen.width.min(100);
    let area = Rect {
        x: (screen.width - width) / 2,
        y: 0,
        width,
        height: screen.height.saturating_sub(1),
    };
    let inner = boxed(canvas, area, "keys and commands · any other key closes");
    let mut lines: Vec<HelpLine> = Vec::new();
    for group in Group::ALL {
        lines.push((None, vec![(Role::Title, group.title().to_owned())]));
        for spec in COMMANDS.iter().filter(|c| c.group == *group) {
            let mut keys = keys(app, spec.id);
            if keys.is_empty() {
                keys = format!(":{}", spec.name);
            }
            lines.push((
                Some(spec.id),
                vec![
                    (Role::Key, format!("  {keys:<17} ")),
                    (Role::Strong, format!("{:<14} ", spec.name)),
                    (Role::Text, spec.help.to_owned()),
                ],
            ));
        }
    }
    lines.push((None, Vec::new()));
    for text in [
        "0 is none counted · – no traffic · ? not observed · stale: nobody reports any more",
        "dim p99: fewer than 100 requests · ≥ at least · ~ sampled · ! moved · !! failing",
        "charts: · not observed · ▁ none · ▒ may still grow · ┊ deploy or onset",
    ] {
        lines.push((None, vec![(Role::Dim, text.to_owned())]));
    }
    let from = from.min(lines.len().saturating_sub(usize::from(inner.height)));
    for (y, (id, line)) in (inner.y..inner.bottom()).zip(lines.iter().skip(from)) {
        let mut x = inner.x;
        for (role, text) in line {
            x = canvas.say(x, y, inner.right().saturating_sub(x), text, *role);
        }
        if let Some(id) = id {
            canvas.hit(Rect { x: inner.x, y, width: inner.width, height: 1 }, Target::Run(*id));
        }
    }
    let more = lines.len().saturating_sub(from + usize::from(inner.height));
    if more > 0 {
        let text = format!(" j: {more} more ");
        canvas.say_right(area.right() - 2, area.bottom().saturating_sub(1), 20, &text, Role::Dim);
    }
}

fn trail(app: &App, canvas: &mut Canvas<'_>, from: usize) {
    let screen = canvas.buf.area;
    let area = Rect { height: screen.height.saturating_sub(1), ..screen };
    let inner = boxed(canvas, area, "places of this session, oldest first");
    if app.trail.is_empty() {
        canvas.say(inner.x, inner.y, inner.width, "nowhere but here yet", Role::Dim);
    }
    let from = from.min(app.trail.len().saturating_sub(usize::from(inner.height)));
    for (y, line) in (inner.y..inner.bottom()).zip(app.trail.iter().skip(from)) {
        canvas.say(inner.x, y, inner.width, line, Role::Text);
    }
}

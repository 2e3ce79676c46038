//! Agents: what they sense, what they lost, what they cost.

use coral_model::num::f64_from;
use coral_model::text;
use coral_model::time::SECOND;
use coral_model::view::{AgentRow, SenseState, State, is_loss, losses, lost};
use ratatui::layout::Rect;

use super::sorted;
use crate::app::App;
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::{Canvas, Column, Piece, Table, signed};

fn selected(app: &App) -> Option<&AgentRow> {
    let i = app.cursor(PaneId::Agents).unwrap_or(0);
    app.agents().get(i).copied()
}

pub(super) fn title(app: &App) -> String {
    selected(app).map_or_else(|| "agent".into(), |a| format!("agent on {}", text::fit(&a.host, 40)))
}

fn cells(app: &App, canvas: &Canvas<'_>, row: &AgentRow) -> Vec<Vec<Piece>> {
    let state = match row.state {
        State::Active => canvas.piece(Role::Good, "connected"),
        State::NoTraffic => canvas.piece(Role::Dim, "quiet"),
        State::NotObserved => canvas.piece(Role::Blind, "?"),
        State::Stale => {
            canvas.piece(Role::Failing, format!("lost {}", text::duration(app.age(row.last_seen))))
        }
    };
    let on = row.senses.iter().filter(|s| s.state == SenseState::On).count();
    let all = row.senses.len();
    let senses =
        canvas.piece(if on < all { Role::Moved } else { Role::Text }, format!("{on}/{all}"));
    let full = if row.spool_capacity_bytes > 0 {
        f64_from(row.spool_bytes) / f64_from(row.spool_capacity_bytes)
    } else {
        0.0
    };
    let spool = canvas.piece(
        if full > 0.9 {
            Role::Failing
        } else if full > 0.5 {
            Role::Moved
        } else {
            Role::Text
        },
        text::bytes(row.spool_bytes),
    );
    let lag = canvas.piece(
        if row.lag_ns > 5 * SECOND { Role::Moved } else { Role::Dim },
        if row.lag_ns == 0 { "0".into() } else { text::duration(row.lag_ns) },
    );
    let dropped = match lost(&row.counters) {
        0 => canvas.piece(Role::Dim, "0"),
        n => canvas.piece(Role::Failing, format!("{}!", text::count(n))),
    };
    vec![
        vec![canvas.piece(Role::Strong, row.host.clone())],
        vec![canvas.piece(Role::Dim, row.scope.clone())],
        vec![state],
        vec![senses],
        vec![spool],
        vec![lag],
        vec![dropped],
        vec![canvas.piece(
            Role::Text,
            row.cpu.map_or_else(|| "?".into(), |c| format!("{:.1}%", c * 100.0)),
        )],
        vec![canvas.piece(Role::Text, row.rss_bytes.map_or_else(|| "?".into(), text::bytes))],
        vec![canvas.piece(Role::Dim, row.clock_offset_ns.map_or_else(|| "?".into(), signed))],
    ]
}

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let rows = app.agents();
    let columns = [
        Column::left("HOST", 12, 0).grow(1),
        Column::left("scope", 6, 6),
        Column::left("state", 9, 0),
        Column::right("senses", 6, 1),
        Column::right("spool", 8, 3),
        Column::right("behind", 7, 2),
        Column::right("dropped", 7, 0),
        Column::right("cpu", 6, 4),
        Column::right("rss", 8, 4),
        Column::right("clock", 8, 5),
    ];
    app.with_scroll(PaneId::Agents, |scroll| {
        Table {
            pane: PaneId::Agents,
            columns: &columns,
            len: rows.len(),
            selected: app.cursor(PaneId::Agents),
            sorted: sorted(app, PaneId::Agents),
            focused,
            scroll,
        }
        .draw(canvas, area, |canvas, i| {
            rows.get(i).map(|r| cells(app, canvas, r)).unwrap_or_default()
        });
    });
}

/// A counter in its unit, which its name ends with.
fn amount(name: &str, n: u64) -> String {
    if name.ends_with("_bytes") { text::bytes(n) } else { text::count(n) }
}

/// One agent in full: its senses first.
pub(super) fn one(app: &App, canvas: &mut Canvas<'_>, area: Rect, _focused: bool) {
    let Some(agent) = selected(app) else { return };
    let room = usize::from(area.width).saturating_sub(24);
    let mut lines: Vec<Vec<(Role, String)>> = Vec::new();
    for sense in &agent.senses {
        let (mark, word, role) = match sense.state {
            SenseState::On => ("●", "on", Role::Good),
            SenseState::Partial => ("◐", "partly", Role::Moved),
            SenseState::Off => ("○", "off", Role::Blind),
        };
        let mut first = true;
        for part in super::folded(&sense.why, room.max(20)) {
            let lead = if first {
                vec![
                    (role, format!("{mark} {word:<7}")),
                    (Role::Strong, format!("{:<13} ", text::fit(&sense.name, 13))),
                ]
            } else {
                vec![(Role::Text, " ".repeat(23))]
            };
            first = false;
            lines.push(lead.into_iter().chain([(Role::Text, part)]).collect());
        }
        if first {
            lines.push(vec![
                (role, format!("{mark} {word:<7}")),
                (Role::Strong, text::fit(&sense.name, 13)),
            ]);
        }
        if let Some(remedy) = &sense.remedy {
            lines.push(vec![
                (Role::Dim, format!("{:23}turn on: ", "")),
                (Role::Accent, remedy.clone()),
            ]);
        }
    }
    lines.push(Vec::new());
    let mut pair = |key: &str, value: String| {
        lines.push(vec![(Role::Dim, format!("{key:<23}")), (Role::Text, value)]);
    };
    pair("agent", agent.agent.clone());
    pair("process", format!("{} · {}", agent.pid, agent.build));
    pair("connected since", agent.since.format(&app.shown_zone(), "%Y-%m-%d %H:%M:%S %Z"));
    pair(
        "spool",
        format!(
            "{} of {}",
            text::bytes(agent.spool_bytes),
            text::bytes(agent.spool_capacity_bytes)
        ),
    );
    for (name, n) in &agent.counters {
        let role = if *n > 0 && (is_loss(name) || name.contains("refused")) {
            Role::Failing
        } else {
            Role::Text
        };
        let mark = if role == Role::Failing { " !" } else { "" };
        lines.push(vec![
            (Role::Dim, format!("{:<22} ", text::fit(name, 22))),
            (role, format!("{}{mark}", amount(name, *n))),
        ]);
    }
    // What the colony itself lost concerns every agent's data.
    let colony = app.data.status.iter().flat_map(|status| losses(&status.counters));
    for (i, (name, n)) in colony.enumerate() {
        if i == 0 {
            lines.push(Vec::new());
            lines.push(vec![(Role::Heading, "LOST IN THE COLONY".to_owned())]);
        }
        lines.push(vec![
            (Role::Dim, format!("{:<22} ", text::fit(name, 22))),
            (Role::Failing, format!("{} !", amount(name, n))),
        ]);
    }
    super::page(app, canvas, PaneId::Agent, area, &lines);
}

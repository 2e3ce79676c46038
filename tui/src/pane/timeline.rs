//! What happened: newest first; in an incident, since its onset.

use coral_model::text;
use coral_model::view::{Change, DigestRow, EventKind, EventRow, Health, Mover};
use ratatui::layout::Rect;

use crate::app::App;
use crate::feed::Slot;
use crate::layout::{PaneId, ViewId};
use crate::theme::Role;
use crate::widget::{Canvas, Column, Piece, Table, error_share, hertz, ratio};

pub(super) fn title(app: &App) -> String {
    let incident = app.data.digest().filter(|d| d.health != Health::Calm);
    let began = |d: &DigestRow| Some((d.onset?, d.ended));
    match incident.and_then(began) {
        Some((onset, Some(ended))) if app.here.view == ViewId::Incident => {
            format!("INCIDENT {}–{} AND SINCE", app.clock(onset), app.clock(ended))
        }
        Some((onset, None)) if app.here.view == ViewId::Incident => {
            format!("SINCE ONSET {}", app.clock(onset))
        }
        _ if app.here.view == ViewId::Incident => "MOVERS AND CHANGES".into(),
        _ => "timeline".into(),
    }
}

/// One short word per kind, and how it looks.
fn kind(kind: EventKind) -> (&'static str, Role) {
    match kind {
        EventKind::ServiceAppeared => ("new", Role::Good),
        EventKind::ServiceVanished => ("gone", Role::Moved),
        EventKind::Deploy => ("deploy", Role::Change),
        EventKind::Restart => ("restart", Role::Moved),
        EventKind::ProcessEnded => ("ended", Role::Moved),
        EventKind::OomKill => ("OOM", Role::Failing),
        EventKind::ErrorBurst => ("errors", Role::Failing),
        EventKind::NewPattern => ("new log", Role::Change),
        EventKind::AgentConnected => ("agent", Role::Good),
        EventKind::AgentLost => ("lost", Role::Failing),
        EventKind::ClockJumped => ("clock", Role::Moved),
        EventKind::NearBound => ("bound", Role::Moved),
        EventKind::Dropped => ("dropped", Role::Failing),
        EventKind::SourceLost => ("unread", Role::Blind),
        EventKind::SourceBack => ("read", Role::Good),
        EventKind::StoreDamaged => ("damaged", Role::Failing),
        EventKind::Note => ("note", Role::Accent),
    }
}

fn event(app: &App, canvas: &Canvas<'_>, row: &EventRow) -> Vec<Vec<Piece>> {
    let (word, role) = kind(row.kind);
    // Days differ in long windows; then the day is said.
    let far = app.window().length() > 20 * 3600 * coral_model::time::SECOND;
    let time = row.time.format(&app.shown_zone(), if far { "%m-%d %H:%M" } else { "%H:%M:%S" });
    let whom = row.service.as_deref().or(row.host.as_deref()).unwrap_or("–");
    let told = row.service.as_deref().is_some_and(|service| row.text.starts_with(service));
    let text = if told {
        row.text.get(whom.len()..).unwrap_or_default().trim_start_matches([':', ' ']).to_owned()
    } else {
        row.text.clone()
    };
    vec![
        vec![canvas.piece(Role::Dim, time)],
        vec![canvas.piece(role, word)],
        vec![canvas.piece(Role::Text, whom)],
        vec![canvas.piece(Role::Text, text)],
    ]
}

fn mover(app: &App, canvas: &mut Canvas<'_>, area: Rect, y: u16, row: &Mover) {
    let print = |v: f64| match row.measure {
        Change::P99 | Change::P90 | Change::P50 => {
            text::duration(coral_model::num::u64_from_f64(v))
        }
        Change::Errors => error_share(v),
        Change::Rate => hertz(v),
        Change::Inflight | Change::Deaths => text::count(coral_model::num::u64_from_f64(v)),
        Change::Silence => "silent".into(),
    };
    let what = match row.measure {
        Change::P99 => "p99",
        Change::P90 => "p90",
        Change::P50 => "p50",
        Change::Errors => "errors",
        Change::Rate => "rate",
        Change::Inflight => "inflight",
        Change::Silence => "silence",
        Change::Deaths => "died",
    };
    let at = row.since.map(|t| app.clock(t)).unwrap_or_default();
    let before = row.before.map_or_else(|| "?".into(), print);
    let mut x = canvas.say(area.x, y, area.width, &format!("{at:<9}"), Role::Dim);
    for (role, text) in [
        (Role::Moved, format!("{what:<9}")),
        (Role::Text, format!("{:<15} ", text::fit(&row.service, 15))),
        (Role::Dim, format!("{before} → ")),
        (Role::Strong, print(row.now)),
        (Role::Dim, row.ratio.map(|r| format!("  {}", ratio(r))).unwrap_or_default()),
    ] {
        x = canvas.say(x, y, area.right().saturating_sub(x), &text, role);
    }
}

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let mut area = area;
    let digest = app.data.digest();
    // Without an incident the digest shows what moved most, before what changed.
    if app.here.view == ViewId::Incident
        && let Some(digest) = digest.filter(|d| matches!(d.health, Health::Calm | Health::Moved))
    {
        let most = usize::from(area.height / 2).min(4);
        for row in digest.movers.iter().take(most) {
            mover(app, canvas, area, area.y, row);
            area.y += 1;
            area.height -= 1;
        }
        if digest.movers.is_empty() && area.height > 2 && digest.health == Health::Calm {
            canvas.say(area.x, area.y, area.width, "nothing moved", Role::Dim);
            area.y += 1;
            area.height -= 1;
        }
    }
    let known = app.data.known(Slot::Events);
    let events = app.timeline();
    let len = events.len();
    if len == 0 {
        let empty = match known {
            Some(known) if !known.rows.is_empty() => {
                "nothing is known to have changed since 3 minutes before"
            }
            _ => "no deploy, restart or burst in this window",
        };
        match known {
            Some(known) => super::unseen(canvas, area, empty, &known.end.blind),
            None => {
                super::nothing(app, canvas, Slot::Events, empty, area);
            }
        }
        return;
    }
    let wide = app.window().length() > 20 * 3600 * coral_model::time::SECOND;
    let columns = [
        Column::left("", if wide { 11 } else { 8 }, 0),
        // Whom it happened to says more than the kind, which the text says too.
        Column::left("", 8, 1),
        Column::left("", if area.width < 50 { 9 } else { 15 }, 0),
        Column::left("", 12, 0).grow(1).folding(),
    ];
    app.with_scroll(PaneId::Timeline, |scroll| {
        Table {
            pane: PaneId::Timeline,
            columns: &columns,
            len,
            selected: app.cursor(PaneId::Timeline),
            sorted: None,
            focused,
            scroll,
        }
        .draw(canvas, area, |canvas, i| {
            events.get(i).map(|e| event(app, canvas, e)).unwrap_or_default()
        });
    });
}

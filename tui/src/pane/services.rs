//! Services, worst first.

use coral_model::text;
use coral_model::time::{SECOND, Window};
use coral_model::view::{Baseline, Evidence, Red, ServiceRow, State};
use ratatui::layout::Rect;

use super::sorted;
use crate::app::{Absence, App};
use crate::command::CommandId;
use crate::feed::Slot;
use crate::layout::PaneId;
use crate::theme::{Role, Theme};
use crate::widget::{
    Bars, Canvas, Column, Piece, Table, error_share, hertz, latency, ratio, width_of,
};

/// Fewer requests than this say little about a 99th percentile.
const ENOUGH: u64 = 100;

pub(super) fn title(app: &App) -> String {
    let of = match app.data.digest().and_then(|digest| digest.ended.or(digest.onset)) {
        // The digest looks at everything since the onset, or since it ended; the services' question at
        // the window.
        Some(since) if !app.data.is_known(Slot::Services) => format!("since {}", app.clock(since)),
        _ => super::window_words(app),
    };
    match app.data.services().len() {
        0 => "services".into(),
        n => format!("services {n} · {of}"),
    }
}

/// The word beside the colour of a level.
pub(super) const fn bangs(level: u8) -> &'static str {
    match level {
        0 => "",
        1 => "!",
        _ => "!!",
    }
}

/// Rate, errors and p99 of a row, by its state.
pub(super) fn numbers(
    canvas: &Canvas<'_>,
    state: State,
    red: Option<&Red>,
    level: u8,
) -> [Piece; 3] {
    let none = |mark: &str, role| {
        [canvas.piece(role, mark), canvas.piece(role, mark), canvas.piece(role, mark)]
    };
    let Some(red) = red else {
        return match state {
            State::NoTraffic => none("–", Role::Dim),
            State::NotObserved | State::Stale | State::Active => none("?", Role::Blind),
        };
    };
    match state {
        State::NoTraffic => return none("–", Role::Dim),
        State::NotObserved => return none("?", Role::Blind),
        State::Active | State::Stale => {}
    }
    let old = state == State::Stale;
    let plain = if old { Role::Dim } else { Role::Text };
    let errors = match red.error_ratio {
        None => canvas.piece(Role::Dim, "–"),
        Some(share) if share > 0.0 => {
            let role = if old {
                Role::Dim
            } else if level > 0 {
                Theme::level(level)
            } else {
                Role::Text
            };
            canvas.piece(role, error_share(share))
        }
        Some(_) => canvas.piece(Role::Dim, "0"),
    };
    let p99_role = if red.requests < ENOUGH || old { Role::Dim } else { Role::Text };
    let sampled = if red.sampled { "~" } else { "" };
    [
        canvas.piece(plain, format!("{sampled}{}", hertz(red.rate))),
        errors,
        canvas.piece(p99_role, latency(red.p99_ns)),
    ]
}

/// How far it moved, and from what.
pub(super) fn moved(canvas: &Canvas<'_>, baseline: Option<&Baseline>, level: u8) -> Piece {
    let Some(baseline) = baseline else { return canvas.piece(Role::Dim, "") };
    if baseline.red.is_none() {
        return canvas.piece(Role::Dim, "new");
    }
    match baseline.p99_ratio {
        Some(r) => {
            let role = if level > 0 && r >= 1.5 { Theme::level(level) } else { Role::Dim };
            canvas.piece(role, ratio(r))
        }
        None => canvas.piece(Role::Dim, "–"),
    }
}

/// With what the rows are compared: the digest's are of the time since the onset and compared with
/// the time before it, others are of the whole window and compared with the one before. Where rows are
/// compared with several, none can stand for all.
fn compared(app: &App, rows: &[&ServiceRow]) -> Option<Window> {
    let mut told = rows.iter().filter_map(|row| Some(row.baseline.as_ref()?.window));
    match told.next() {
        Some(first) => told.all(|other| other == first).then_some(first),
        None => Some(app.data.digest()?.compared_with),
    }
}

/// That numbers do not rest on what the service reports.
pub(super) fn seen(red: Option<&Red>) -> Option<String> {
    let evidence = red.map(|red| red.evidence).filter(|e| *e != Evidence::Otlp)?;
    Some(format!("seen by {evidence}"))
}

fn row(app: &App, canvas: &Canvas<'_>, row: &ServiceRow, room: u16) -> Vec<Vec<Piece>> {
    let [rate, errors, p99] = numbers(canvas, row.state, row.red.as_ref(), row.level);
    let name_role = match row.level {
        0 if row.state == State::Active => Role::Text,
        0 => Role::Dim,
        level => Theme::level(level),
    };
    // A name is cut before the mark of its level, never the mark.
    let marks = bangs(row.level);
    let room = usize::from(room).saturating_sub(marks.len());
    let name = canvas.piece(name_role, format!("{}{marks}", text::fit(&row.service, room)));
    let bound = if row.inflight_exact { "" } else { "≥" };
    let inflight = match row.inflight {
        None => canvas.piece(Role::Blind, "?"),
        Some(0) => canvas.piece(Role::Dim, "0"),
        Some(n) => canvas.piece(Role::Text, format!("{bound}{}", text::count(n))),
    };
    let oldest = match (row.inflight, row.oldest_ns) {
        (None, _) => canvas.piece(Role::Blind, "?"),
        (_, None) => canvas.piece(Role::Dim, "–"),
        (_, Some(ns)) => {
            let role = if ns > 10 * SECOND { Role::Moved } else { Role::Text };
            canvas.piece(role, text::duration(ns))
        }
    };
    let place = match row.state {
        State::Stale => {
            let age = row.last_seen.map_or("?".into(), |seen| text::duration(app.age(seen)));
            canvas.piece(Role::Blind, format!("stale {age}"))
        }
        State::NotObserved => canvas.piece(Role::Blind, "not observed"),
        State::NoTraffic => canvas.piece(Role::Dim, "no traffic"),
        State::Active => match &row.place {
            Some(place) => canvas.piece(Role::Text, place.clone()),
            None if row.level == 0 => canvas.piece(
                Role::Dim,
                match row.instances {
                    0 | 1 => row.versions.last().cloned().or_else(|| seen(row.red.as_ref())),
                    n => Some(format!("{n} instances")),
                }
                .unwrap_or_default(),
            ),
            None => canvas.piece(Role::Dim, ""),
        },
    };
    let spark_role = if row.level > 0 { Role::Rate } else { Role::Dim };
    let spark = canvas.piece(spark_role, Bars::spark(&row.spark, 16));
    vec![
        vec![name],
        vec![rate],
        vec![errors],
        vec![p99],
        vec![moved(canvas, row.baseline.as_ref(), row.level)],
        vec![inflight],
        vec![oldest],
        vec![place],
        vec![spark],
    ]
}

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let services = app.services();
    if services.is_empty() {
        // The head says so, and more.
        let absence = app.absence();
        if absence.is_some() && app.here.view == crate::layout::ViewId::Incident {
            return;
        }
        let text = match absence {
            Some(Absence::Filtered) => app.stranger().unwrap_or_else(|| {
                let drop = super::head::key(app, CommandId::Clear);
                format!("no request in this time passes the filter; {drop} drops it")
            }),
            _ => "no service has reported in this window".to_owned(),
        };
        canvas.wrap(area, &text, Role::Dim);
        return;
    }
    let versus = compared(app, &services).map_or_else(
        || "vs usual".into(),
        |w| {
            let at = |t| app.clock(t).get(..5).unwrap_or_default().to_owned();
            format!("vs {}–{}", at(w.from), at(w.to))
        },
    );
    let longest = services
        .iter()
        .map(|s| width_of(&text::fit(&s.service, 30)) + u16::from(s.level.min(2)))
        .max()
        .unwrap_or(0);
    let name = longest.clamp(10, (area.width / 5).max(12));
    let columns = [
        Column::left("SERVICE", name, 0).grow(1),
        Column::right("rate", 7, 0),
        Column::right("err", 5, 0),
        Column::right("p99", 6, 0),
        Column::right(versus, 14, 4),
        Column::right("inflight", 8, 3),
        Column::right("oldest", 6, 2),
        Column::left("where", 10, 5).grow(3),
        Column::left("rate over time", 16, 6),
    ];
    app.with_scroll(PaneId::Services, |scroll| {
        Table {
            pane: PaneId::Services,
            columns: &columns,
            len: services.len(),
            selected: app.cursor(PaneId::Services),
            sorted: sorted(app, PaneId::Services),
            focused,
            scroll,
        }
        .draw(canvas, area, |canvas, i| {
            services.get(i).map(|s| row(app, canvas, s, name)).unwrap_or_default()
        });
    });
}

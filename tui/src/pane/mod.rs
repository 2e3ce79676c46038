//! Every pane: a function from the state to cells.
//!
//! The list in [`PANES`] says what each pane is called, which answer it waits for and how it is
//! drawn; title, focus, "asking", "not observed" and "cannot be shown" are the same for all and
//! live here. A pane draws only what it was given and only inside its area.

mod agents;
mod ask;
mod bar;
mod charts;
mod context;
mod diff;
mod head;
mod header;
mod hosts;
mod inflight;
mod logs;
mod operations;
mod overlay;
mod profile;
mod record;
mod services;
mod span;
mod spoken;
mod sql;
mod timeline;
mod topology;
mod traces;
mod waterfall;
mod why;

#[cfg(test)]
mod snapshots;

use coral_model::time::SECOND;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

pub use hosts::{disk_used, memory_used};
pub use spoken::plain_lines;

use crate::app::{App, ClockMode, Link};
use crate::feed::Slot;
use crate::layout::{PaneId, ViewId};
use crate::theme::Role;
use crate::widget::{Canvas, Target, folded};

/// A pane, as the table has it.
pub struct PaneSpec {
    /// Which.
    pub id: PaneId,
    /// The answer it waits for.
    pub slot: Option<Slot>,
    /// What it is called, and about what.
    pub title: fn(&App) -> String,
    /// What it says when the answer has no rows and nothing is blind.
    pub empty: &'static str,
    /// Draws it.
    pub draw: fn(&App, &mut Canvas<'_>, Rect, bool),
}

/// Every pane.
pub const PANES: &[PaneSpec] = &[
    PaneSpec {
        id: PaneId::Services,
        slot: Some(Slot::Digest),
        title: services::title,
        empty: "no service has reported in this window",
        draw: services::draw,
    },
    PaneSpec {
        id: PaneId::Operations,
        slot: None,
        title: operations::title,
        empty: "",
        draw: operations::draw,
    },
    PaneSpec {
        id: PaneId::Charts,
        slot: Some(Slot::Series),
        title: charts::title,
        empty: "no requests in this window",
        draw: charts::draw,
    },
    PaneSpec {
        id: PaneId::Topology,
        slot: Some(Slot::Topology),
        title: |app| format!("topology · {}", window_words(app)),
        empty: "nobody has called anybody in this window",
        draw: topology::draw,
    },
    PaneSpec { id: PaneId::Logs, slot: None, title: logs::title, empty: "", draw: logs::draw },
    PaneSpec {
        id: PaneId::Record,
        slot: None,
        title: |_| "log record".into(),
        empty: "",
        draw: record::draw,
    },
    PaneSpec {
        id: PaneId::Timeline,
        slot: None,
        title: timeline::title,
        empty: "",
        draw: timeline::draw,
    },
    PaneSpec {
        id: PaneId::Traces,
        slot: Some(Slot::Traces),
        title: traces::title,
        empty: "no trace in this window matches",
        draw: traces::draw,
    },
    PaneSpec {
        id: PaneId::Waterfall,
        slot: Some(Slot::Trace),
        title: waterfall::title,
        empty: "no span of this trace is known",
        draw: waterfall::draw,
    },
    PaneSpec {
        id: PaneId::Span,
        slot: Some(Slot::Trace),
        title: |_| "span".into(),
        empty: "",
        draw: span::draw,
    },
    PaneSpec {
        id: PaneId::Profile,
        slot: None,
        title: profile::title,
        empty: "",
        draw: profile::draw,
    },
    PaneSpec {
        id: PaneId::Functions,
        slot: None,
        title: profile::functions_title,
        empty: "",
        draw: profile::functions,
    },
    PaneSpec {
        id: PaneId::Hosts,
        slot: Some(Slot::Hosts),
        title: |_| "hosts".into(),
        empty: "no host has reported in this window",
        draw: hosts::draw,
    },
    PaneSpec { id: PaneId::Host, slot: None, title: hosts::title, empty: "", draw: hosts::one },
    PaneSpec {
        id: PaneId::Agents,
        slot: Some(Slot::Agents),
        title: |_| "agents".into(),
        empty: "no agent has ever connected; `coral up` starts one here",
        draw: agents::draw,
    },
    PaneSpec { id: PaneId::Agent, slot: None, title: agents::title, empty: "", draw: agents::one },
    PaneSpec {
        id: PaneId::Inflight,
        slot: Some(Slot::Inflight),
        title: |_| "in flight: begun, not answered".into(),
        empty: "no request is waiting for an answer",
        draw: inflight::draw,
    },
    PaneSpec {
        id: PaneId::Why,
        slot: Some(Slot::Digest),
        title: |_| "why".into(),
        empty: "",
        draw: why::draw,
    },
    PaneSpec { id: PaneId::Ask, slot: None, title: |_| "ask".into(), empty: "", draw: ask::draw },
    PaneSpec {
        id: PaneId::Diff,
        slot: Some(Slot::Diff),
        title: diff::title,
        empty: "no request in this window matches",
        draw: diff::draw,
    },
    PaneSpec {
        id: PaneId::Context,
        slot: Some(Slot::Context),
        title: context::title,
        empty: "this record is not stored any more",
        draw: context::draw,
    },
    PaneSpec {
        id: PaneId::Patterns,
        slot: Some(Slot::Patterns),
        title: context::patterns_title,
        empty: "no log record in this window matches",
        draw: context::patterns,
    },
    PaneSpec { id: PaneId::Editor, slot: None, title: sql::title, empty: "", draw: sql::editor },
    PaneSpec { id: PaneId::Rows, slot: None, title: sql::rows_title, empty: "", draw: sql::rows },
    PaneSpec {
        id: PaneId::Values,
        slot: None,
        title: |_| "row".into(),
        empty: "",
        draw: sql::values,
    },
];

/// Lines the digest's head takes.
#[must_use]
pub fn head_height(app: &App) -> u16 {
    head::height(app)
}

/// Names of the topology's nodes in the order they are walked through.
#[must_use]
pub fn topology_order(app: &App) -> Vec<String> {
    topology::order(app)
}

/// The node beside the selected one, towards callees when `right`.
#[must_use]
pub fn topology_beside(app: &App, right: bool) -> Option<String> {
    topology::beside(app, right)
}

/// Draws the whole screen.
pub fn draw(app: &mut App, buf: &mut Buffer) {
    let mut hits = std::mem::take(&mut app.hits);
    hits.clear();
    {
        let mut canvas = Canvas { buf: &mut *buf, hits: &mut hits, theme: &app.theme };
        if app.too_small() {
            too_small(app, &mut canvas);
        } else {
            let area = canvas.buf.area;
            let text = canvas.style(Role::Text);
            canvas.tint(area, text);
            let frame = app.frame();
            header::draw(app, &mut canvas, frame.header);
            head::draw(app, &mut canvas, frame.why);
            for post in &frame.posts {
                canvas.post(post.x, post.y, post.height, Role::Rule);
            }
            for (pane, area) in &frame.panes {
                one(app, &mut canvas, *pane, *area);
            }
            for post in &frame.posts {
                canvas.mark(post.x, post.y, "┬", app.theme.style(Role::Rule));
                let below =
                    canvas.buf.cell((post.x, post.bottom())).is_some_and(|c| c.symbol() == "─");
                if below {
                    canvas.mark(post.x, post.bottom(), "┴", app.theme.style(Role::Rule));
                }
            }
            bar::draw(app, &mut canvas, frame.bar);
            overlay::draw(app, &mut canvas);
        }
    }
    if app.ascii {
        crate::terminal::to_ascii(buf);
    }
    app.hits = hits;
}

/// Draws one pane with its title; what snapshots look at.
pub fn one(app: &App, canvas: &mut Canvas<'_>, pane: PaneId, area: Rect) {
    let Some(spec) = PANES.iter().find(|spec| spec.id == pane) else { return };
    if area.height == 0 || area.width == 0 {
        return;
    }
    let focused = app.here.focus == pane && app.overlay.is_none();
    canvas.hit(area, Target::Pane(pane));
    // In the small digest the table's own heading is its title.
    let bare = pane == PaneId::Services
        && app.here.view == ViewId::Incident
        && !app.here.zoom
        && app.size.0 < crate::layout::WORKSTATION.0;
    let body = if bare || area.height < 2 {
        area
    } else {
        title(app, canvas, spec, area, focused);
        Rect { y: area.y + 1, height: area.height - 1, ..area }
    };
    // A column of air beside every line between panes.
    let left = u16::from(body.x > 0);
    let right = u16::from(body.right() < app.size.0);
    let body = Rect {
        x: body.x + left.min(body.width),
        width: body.width.saturating_sub(left + right),
        ..body
    };
    if let Some(slot) = spec.slot
        && nothing(app, canvas, slot, spec.empty, body)
    {
        return;
    }
    (spec.draw)(app, canvas, body, focused);
}

fn title(app: &App, canvas: &mut Canvas<'_>, spec: &PaneSpec, area: Rect, focused: bool) {
    // The focused pane has a heavier line, not only another colour.
    if focused {
        let style = canvas.style(Role::Focus);
        for x in area.x..area.right() {
            canvas.mark(x, area.y, "━", style);
        }
    } else {
        canvas.rule(area.x, area.y, area.width, Role::Rule);
    }
    let note = spec.slot.map(|slot| note(app, slot)).unwrap_or_default();
    let role = if focused { Role::Focus } else { Role::Title };
    let text = format!(" {} ", (spec.title)(app));
    let room = area.width.saturating_sub(2);
    let end = canvas.say(area.x + 1.min(area.width - 1), area.y, room, &text, role);
    if !note.is_empty() {
        let left = area.right().saturating_sub(end + 2);
        canvas.say_right(
            area.right().saturating_sub(1),
            area.y,
            left,
            &format!(" {note} "),
            Role::Dim,
        );
    }
}

/// What stands at the right end of a title: that the answer is old, cut or awaited.
fn note(app: &App, slot: Slot) -> String {
    let mut notes = Vec::new();
    if let Some(known) = app.data.known(slot) {
        if matches!(app.link, Link::Down(_)) {
            let age = app.now.since(known.at) / SECOND * SECOND;
            notes.push(format!("stale {}", coral_model::text::duration(age.max(SECOND))));
        }
        if known.end.truncated {
            notes.push(format!("first {}", known.end.rows));
        }
        if known.error.is_some() {
            notes.push("old: asking again failed".into());
        }
        if app.is_loading(slot) {
            notes.push("asking".into());
        }
    }
    notes.join(" · ")
}

/// Says why there are no rows; `false` when there are.
fn nothing(app: &App, canvas: &mut Canvas<'_>, slot: Slot, empty: &str, area: Rect) -> bool {
    let known = app.data.known(slot);
    if known.is_some_and(|k| !k.rows.is_empty()) {
        return false;
    }
    let inner = area;
    let Some(known) = known else {
        let (role, text) = match (&app.link, app.data.failure(slot)) {
            (_, Some(why)) => (Role::Failing, format!("cannot be shown: {why}")),
            (Link::Connecting(what), _) => (Role::Dim, format!("{what} …")),
            (Link::Down(why), _) => (Role::Failing, format!("no colony: {why}; trying again")),
            (Link::Up, _) => (Role::Dim, "asking …".into()),
        };
        canvas.wrap(inner, &text, role);
        return true;
    };
    // Whoever named a service that nobody knows is told so where the rows would be.
    let stranger = (!known.want.filter.is_empty()).then(|| app.stranger()).flatten();
    let empty = stranger.map_or_else(|| empty.to_owned(), |why| format!("{empty}: {why}"));
    unseen(canvas, inner, &empty, &known.end.blind);
    true
}

/// Says that there is nothing, and what there could be that cannot be seen.
fn unseen(canvas: &mut Canvas<'_>, area: Rect, empty: &str, blind: &[String]) {
    let text =
        if blind.is_empty() { empty.to_owned() } else { format!("{empty}, as far as can be seen") };
    let mut y = area.y + canvas.wrap(area, &text, Role::Dim);
    for sentence in blind {
        let left = Rect { y, height: area.bottom().saturating_sub(y), ..area };
        y += canvas.wrap(left, &format!("? {sentence}"), Role::Blind);
    }
}

/// The window shown, in a few words for a title.
fn window_words(app: &App) -> String {
    let length = coral_model::when::print_duration(app.here.clock.length);
    let window = app.window();
    let clock = |t| app.clock(t).get(..5).unwrap_or_default().to_owned();
    match app.here.clock.mode {
        ClockMode::Live => format!("last {length}"),
        ClockMode::Paused(to) => format!("{length} up to {}", clock(to)),
        ClockMode::Fixed(_) => format!("{}–{}", clock(window.from), clock(window.to)),
    }
}

/// The heading a table is sorted by, and whether its greatest stands first.
fn sorted(app: &App, pane: PaneId) -> Option<(&'static str, bool)> {
    let order = app.here.order(pane)?;
    (!order.spec.column.is_empty()).then(|| (order.spec.column, order.falls()))
}

/// Lines of text from `from` on; says how far it was scrolled.
fn page(
    app: &App,
    canvas: &mut Canvas<'_>,
    pane: PaneId,
    area: Rect,
    lines: &[Vec<(Role, String)>],
) {
    let at: usize = app.here.cursors.get(&pane).and_then(|t| t.parse().ok()).unwrap_or(0);
    let height = usize::from(area.height);
    let at = at.min(lines.len().saturating_sub(height));
    app.with_scroll(pane, |s| s.follow(None, lines.len(), height));
    for (y, line) in (area.y..area.bottom()).zip(lines.iter().skip(at)) {
        let mut x = area.x;
        for (role, text) in line {
            x = canvas.say(x, y, area.right().saturating_sub(x), text, *role);
        }
    }
    if lines.len() > at + height {
        let text = format!(" {} more ", lines.len() - at - height);
        canvas.say_right(
            area.right(),
            area.bottom().saturating_sub(1),
            area.width,
            &text,
            Role::Dim,
        );
    }
}

fn too_small(app: &App, canvas: &mut Canvas<'_>) {
    let area = canvas.buf.area;
    let (w, h) = crate::layout::SMALLEST;
    let text = format!("Coral needs {w}×{h}; this is {}×{}", app.size.0, app.size.1);
    canvas.wrap(area, &text, Role::Text);
}

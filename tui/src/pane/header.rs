//! The first line: which colony, which time, how it is, and what is being looked for.
//!
//! Room is taken from what the rest of the screen also says, then from the filter, then from
//! particulars; that time is held, which window is shown and how the colony is are never cut.

use coral_model::text;
use coral_model::time::{SECOND, Time};
use coral_model::view::Health;
use coral_model::when;
use ratatui::layout::Rect;

use crate::app::{Absence, App, ClockMode, Link};
use crate::layout::ViewId;
use crate::theme::Role;
use crate::widget::{Canvas, width_of};

/// Words and their roles.
type Words = Vec<(Role, String)>;

/// What is left out for want of room, one after the other.
const STEPS: [Step; 9] = [
    Step::Selected,
    Step::View,
    Step::Filter(24),
    Step::Age,
    Step::Filter(18),
    Step::Clock,
    Step::Filter(10),
    Step::Since,
    Step::Colony,
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// What is selected; panes' titles say it too.
    Selected,
    /// The view's name.
    View,
    /// The filter, down to so many columns.
    Filter(usize),
    /// How long it has been so: the clock says it too.
    Age,
    /// The clock; the window stays.
    Clock,
    /// Since when.
    Since,
    /// The colony's name, on the smallest of terminals.
    Colony,
}

/// How the colony is, whatever is being looked for.
fn health(app: &App, left_out: &[Step]) -> Words {
    let Some(digest) = app.data.colony() else {
        return match &app.link {
            Link::Connecting(what) => vec![(Role::Dim, format!("{what} …"))],
            Link::Down(_) => vec![(Role::Failing, "NO COLONY".into())],
            Link::Up => vec![(Role::Dim, "asking …".into())],
        };
    };
    match app.absence() {
        Some(Absence::Ever) => return vec![(Role::Blind, "NO DATA YET".to_owned())],
        Some(Absence::Here) => return vec![(Role::Blind, "NO TRAFFIC".to_owned())],
        Some(Absence::Filtered) | None => {}
    }
    let (role, word) = match digest.health {
        Health::NoData => (Role::Blind, "NO TRAFFIC"),
        Health::Calm => {
            // Calm is said of what is seen; what is not seen stands beside it.
            let blind = app.data.blind().len();
            let mut words = vec![(Role::Good, "calm".to_owned())];
            if blind > 0 {
                words.push((Role::Blind, format!(" ?{blind} not seen")));
            }
            return words;
        }
        Health::Moved => (Role::Moved, "MOVED"),
        Health::Failing => (Role::Failing, "INCIDENT"),
        Health::Recovered => (Role::Moved, "INCIDENT over"),
    };
    if let (Some(onset), Some(ended)) = (digest.onset, digest.ended) {
        let mut words = vec![(role, word.to_owned())];
        if !left_out.contains(&Step::Since) {
            words.push((role, format!(" since {}", minute(app, ended))));
        }
        if !left_out.contains(&Step::Age) {
            words.push((Role::Dim, format!(" lasted {}", age(ended.since(onset)))));
        }
        return words;
    }
    let Some(onset) = digest.onset.filter(|_| !left_out.contains(&Step::Since)) else {
        return vec![(role, word.to_owned())];
    };
    let mut words = vec![(role, format!("{word} since {}", minute(app, onset)))];
    if !left_out.contains(&Step::Age) {
        words.push((Role::Dim, format!(" {}", age(app.newest().since(onset)))));
    }
    words
}

fn minute(app: &App, at: Time) -> String {
    app.clock(at).get(..5).unwrap_or_default().to_owned()
}

/// How long something lasts, in whole seconds, since what is not over goes on.
fn age(ns: u64) -> String {
    match ns / SECOND {
        n @ 0..60 => format!("{}s", n.max(1)),
        n => text::duration(n * SECOND),
    }
}

/// Whether time follows, is held, or is another, and which.
fn time(app: &App) -> Words {
    let zone = app.shown_zone();
    let length = when::print_duration(app.here.clock.length);
    match app.here.clock.mode {
        ClockMode::Live => {
            vec![(Role::Strong, "LIVE".into()), (Role::Dim, format!(" last {length}"))]
        }
        ClockMode::Paused(_) => {
            vec![(Role::Moved, "PAUSED".into()), (Role::Dim, format!(" last {length}"))]
        }
        ClockMode::Fixed(_) => {
            let window = app.window();
            let far = app.newest().since(window.from) > 20 * 3600 * SECOND;
            let day = if far { "%m-%d %H:%M" } else { "%H:%M:%S" };
            let (from, to) = (window.from.format(&zone, day), window.to.format(&zone, day));
            vec![(Role::Strong, format!("{from}–{to}"))]
        }
    }
}

/// What is said, without some of it.
fn items(app: &App, left_out: &[Step]) -> Vec<Words> {
    let without = |step| left_out.contains(&step);
    let mut items = Vec::new();
    if !without(Step::Colony) {
        let name = if app.colony.is_empty() { "coral" } else { &app.colony };
        items.push(vec![(Role::Accent, text::fit(name, 20))]);
    }
    items.push(time(app));
    if !without(Step::Clock) {
        // A clock without its zone is a guess.
        let followed = app.data.newest.is_some() || app.here.clock.is_live();
        let at = if followed { app.newest() } else { app.window().to };
        items.push(vec![(Role::Text, at.format(&app.shown_zone(), "%H:%M:%S %Z"))]);
    }
    items.push(health(app, left_out));
    if app.here.view != ViewId::Incident && !without(Step::View) {
        items.push(vec![(Role::Title, app.here.view.word().to_owned())]);
    }
    let mut selected = Vec::new();
    if let Some(service) = app.here.service.as_ref().filter(|_| app.here.view != ViewId::Incident) {
        selected.push((Role::Accent, text::fit(service, 24)));
    }
    if let Some(operation) = &app.here.operation {
        selected.push((Role::Accent, format!(" {}", text::fit(operation, 30))));
    }
    if !selected.is_empty() && !without(Step::Selected) {
        items.push(selected);
    }
    items
}

/// Columns that items take with what stands between them.
fn width(items: &[Words]) -> usize {
    let words = |words: &Words| words.iter().map(|(_, t)| usize::from(width_of(t))).sum::<usize>();
    items.iter().map(|item| words(item) + 3).sum::<usize>().saturating_sub(3)
}

/// As much as `room` columns hold, the filter last and never the reason that something else goes
/// which is said nowhere else.
fn fitted(app: &App, room: usize) -> Vec<Words> {
    let whole = usize::from(width_of(&app.here.filter));
    let mut least = whole;
    for n in 0..=STEPS.len() {
        let left_out = STEPS.get(..n).unwrap_or_default();
        if let Some(Step::Filter(columns)) = left_out.last() {
            least = whole.min(*columns);
        }
        let mut items = items(app, left_out);
        let used = width(&items);
        let last = n == STEPS.len();
        if app.here.filter.is_empty() {
            if used <= room || last {
                return items;
            }
            continue;
        }
        // Between it and the rest, and its slash.
        let left = room.saturating_sub(used + 4);
        if left >= least || last {
            if left > 1 {
                items.push(vec![
                    (Role::Dim, "/".into()),
                    (Role::Accent, text::fit(&app.here.filter, left)),
                ]);
            }
            return items;
        }
    }
    Vec::new()
}

/// What is wrong with what is shown.
fn losses(app: &App) -> Words {
    let mut right = Vec::new();
    if let Link::Down(_) = app.link {
        right.push((Role::Failing, "COLONY LOST".into()));
    }
    if let Some(lag) = app.lag() {
        right.push((Role::Moved, format!("lag {}", when::print_duration(lag))));
    }
    let dropped = app.data.dropped();
    if dropped > 0 {
        right.push((Role::Failing, format!("dropped {}", text::count(dropped))));
    }
    let refused = app.data.refused();
    if refused > 0 {
        right.push((Role::Moved, format!("refused {}", text::count(refused))));
    }
    right
}

/// Draws the line.
pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let right = losses(app);
    let right_text: Vec<&str> = right.iter().map(|(_, t)| t.as_str()).collect();
    let right_width = width_of(&right_text.join(" · "));
    let room = area.width.saturating_sub(if right_width > 0 { right_width + 2 } else { 0 });
    let end = area.x + room;
    let mut x = area.x;
    for (i, words) in fitted(app, usize::from(room)).iter().enumerate() {
        if i > 0 {
            x = canvas.say(x, area.y, end.saturating_sub(x), " · ", Role::Dim);
        }
        for (role, text) in words {
            x = canvas.say(x, area.y, end.saturating_sub(x), text, *role);
        }
    }
    let mut x = area.right().saturating_sub(right_width);
    for (i, (role, text)) in right.iter().enumerate() {
        if i > 0 {
            x = canvas.say(x, area.y, area.right().saturating_sub(x), " · ", Role::Dim);
        }
        x = canvas.say(x, area.y, area.right().saturating_sub(x), text, *role);
    }
}

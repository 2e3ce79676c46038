//! The first line, and the digest's head: WHY and PATH.

use coral_model::text;
use coral_model::time::SECOND;
use coral_model::view::{DigestRow, Health, SenseState};
use coral_model::when;
use ratatui::layout::Rect;

use crate::app::{App, ClockMode, Link};
use crate::command::CommandId;
use crate::layout::ViewId;
use crate::theme::Role;
use crate::widget::{Canvas, Target};

/// Words and their roles; the first ones to go when room is short have the highest number.
type Item = (u8, Vec<(Role, String)>);

fn health(app: &App) -> Item {
    let Some(digest) = app.data.digest() else {
        return match &app.link {
            Link::Connecting(what) => (1, vec![(Role::Dim, format!("{what} …"))]),
            Link::Down(_) => (1, vec![(Role::Failing, "NO COLONY".into())]),
            Link::Up => (1, vec![(Role::Dim, "asking …".into())]),
        };
    };
    let since = digest.onset.map(|onset| {
        let age = app.newest().since(onset) / SECOND * SECOND;
        let age = match age / SECOND {
            n @ 0..60 => format!("{}s", n.max(1)),
            _ => text::duration(age),
        };
        (app.clock(onset).get(..5).unwrap_or_default().to_owned(), age)
    });
    let words = match (digest.health, since) {
        (Health::NoData, _) => {
            let when = if digest.services_known > 0 { "HERE" } else { "YET" };
            vec![(Role::Blind, format!("NO DATA {when}"))]
        }
        (Health::Calm, _) => {
            // Calm is said of what is seen; what is not seen stands beside it.
            let blind = app.data.blind().len();
            let mut words = vec![(Role::Good, "calm".to_owned())];
            if blind > 0 {
                words.push((Role::Blind, format!(" ?{blind} not seen")));
            }
            words
        }
        (Health::Moved, Some((at, age))) => {
            vec![(Role::Moved, format!("MOVED since {at}")), (Role::Dim, format!(" {age}"))]
        }
        (Health::Moved, None) => vec![(Role::Moved, "MOVED".to_owned())],
        (Health::Failing, Some((at, age))) => {
            vec![(Role::Failing, format!("INCIDENT since {at}")), (Role::Dim, format!(" {age}"))]
        }
        (Health::Failing, None) => vec![(Role::Failing, "INCIDENT".to_owned())],
    };
    (1, words)
}

/// The header line.
pub(super) fn header(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    let zone = app.shown_zone();
    let newest = app.newest();
    let length = when::print_duration(app.here.clock.length);
    let window = app.window();
    let mut items: Vec<Item> = Vec::new();
    let name = if app.colony.is_empty() { "coral" } else { &app.colony };
    items.push((4, vec![(Role::Accent, text::fit(name, 20))]));
    match app.here.clock.mode {
        ClockMode::Live => items
            .push((3, vec![(Role::Strong, "LIVE".into()), (Role::Dim, format!(" last {length}"))])),
        ClockMode::Paused(_) => items.push((
            0,
            vec![(Role::Moved, "PAUSED".into()), (Role::Dim, format!(" last {length}"))],
        )),
        ClockMode::Fixed(_) => {
            let day = if newest.since(window.from) > 20 * 3600 * SECOND {
                "%m-%d %H:%M"
            } else {
                "%H:%M:%S"
            };
            items.push((
                0,
                vec![(
                    Role::Strong,
                    format!("{}–{}", window.from.format(&zone, day), window.to.format(&zone, day)),
                )],
            ));
        }
    }
    // A clock without its zone is a guess.
    let clock = if app.data.newest.is_some() || app.here.clock.is_live() {
        newest.format(&zone, "%H:%M:%S %Z")
    } else {
        window.to.format(&zone, "%H:%M:%S %Z")
    };
    items.push((2, vec![(Role::Text, clock)]));
    items.push(health(app));
    if app.here.view != ViewId::Incident {
        items.push((3, vec![(Role::Title, app.here.view.word().to_owned())]));
    }
    let mut selected = Vec::new();
    if let Some(service) = app.here.service.as_ref().filter(|_| app.here.view != ViewId::Incident) {
        selected.push((Role::Accent, text::fit(service, 24)));
    }
    if let Some(operation) = &app.here.operation {
        selected.push((Role::Accent, format!(" {}", text::fit(operation, 30))));
    }
    if !selected.is_empty() {
        items.push((4, selected));
    }
    if !app.here.filter.is_empty() {
        items.push((
            0,
            vec![(Role::Dim, "/".into()), (Role::Accent, text::fit(&app.here.filter, 36))],
        ));
    }

    let mut right: Vec<(Role, String)> = Vec::new();
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
    let right_text: Vec<String> = right.iter().map(|(_, t)| t.clone()).collect();
    let right_width = crate::widget::width_of(&right_text.join(" · "));
    let room = area.width.saturating_sub(if right_width > 0 { right_width + 2 } else { 0 });

    let width = |items: &[Item]| -> u16 {
        items
            .iter()
            .map(|(_, words)| {
                words.iter().map(|(_, t)| crate::widget::width_of(t)).sum::<u16>() + 3
            })
            .fold(0_u16, u16::saturating_add)
            .saturating_sub(3)
    };
    while width(&items) > room && items.len() > 1 {
        let goes = items.iter().enumerate().max_by_key(|(i, (p, _))| (*p, *i)).map(|(i, _)| i);
        match goes {
            Some(i) if items.get(i).is_some_and(|(p, _)| *p > 0) => {
                items.remove(i);
            }
            _ => break,
        }
    }
    let mut x = area.x;
    for (i, (_, words)) in items.iter().enumerate() {
        if i > 0 {
            x = canvas.say(x, area.y, (area.x + room).saturating_sub(x), " · ", Role::Dim);
        }
        for (role, text) in words {
            x = canvas.say(x, area.y, (area.x + room).saturating_sub(x), text, *role);
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

/// The line to put into an application's environment.
pub(super) fn exporter(app: &App) -> Option<String> {
    let status = app.data.status.as_ref()?;
    let find = |name: &str| {
        status
            .agents
            .iter()
            .flat_map(|agent| &agent.senses)
            .find(|sense| sense.name == name && sense.state == SenseState::On)
            .map(|sense| sense.why.clone())
    };
    let address = find("otlp/grpc").or_else(|| find("otlp/http"))?;
    Some(format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{address}"))
}

fn no_data(app: &App) -> Vec<Vec<(Role, String)>> {
    let mut lines = vec![vec![
        (Role::Blind, "NO DATA YET".to_owned()),
        (Role::Text, "  no application has sent anything to this colony".to_owned()),
    ]];
    if let Some(line) = exporter(app) {
        lines.push(vec![(Role::Dim, "send here     ".into()), (Role::Strong, line)]);
    } else {
        let text = match &app.link {
            Link::Up => "no agent is listening for OpenTelemetry; `coral doctor` says why",
            _ => "waiting for the colony",
        };
        lines.push(vec![(Role::Dim, "send here     ".into()), (Role::Text, text.into())]);
    }
    // What to send where is said above already.
    let blind = app.data.blind().into_iter().filter(|s| !s.contains("OTEL_EXPORTER_OTLP"));
    for sentence in blind.take(3) {
        let room = usize::from(app.size.0).saturating_sub(14);
        for (i, part) in super::folded(sentence, room).into_iter().take(3).enumerate() {
            let label = if i == 0 { "not seen      " } else { "              " };
            lines.push(vec![(Role::Dim, label.into()), (Role::Blind, part)]);
        }
    }
    lines
}

fn found(app: &App, digest: &DigestRow) -> Vec<Vec<(Role, String)>> {
    let mut lines: Vec<Vec<(Role, String)>> = Vec::new();
    let calm = digest.health == Health::Calm;
    let compared = digest.services.iter().filter_map(|s| s.baseline.as_ref()?.red.as_ref()).count();
    let new = calm && compared == 0 && !digest.services.is_empty();
    if new {
        // Calm beside nothing is no comparison, and must not sound like one.
        let clock = |t| app.clock(t).get(..5).unwrap_or_default().to_owned();
        let (from, to) = (clock(digest.compared_with.from), clock(digest.compared_with.to));
        lines.push(vec![
            (Role::Title, "WHY  ".to_owned()),
            (Role::Text, format!("nothing to compare with yet: no traffic {from}–{to}")),
        ]);
    }
    for (i, line) in digest.why.iter().take(4).enumerate().skip(usize::from(new)) {
        let label = text::clean(&line.label);
        let strong = i == 0 && digest.health != Health::Calm;
        let lead = if i == 0 { "WHY  " } else { "     " };
        let mut pieces = vec![(Role::Title, lead.to_owned())];
        if !label.eq_ignore_ascii_case("why") && !label.is_empty() {
            pieces.push((Role::Dim, format!("{label}: ")));
        }
        pieces.push((if strong { Role::Strong } else { Role::Text }, line.text.clone()));
        lines.push(pieces);
    }
    if lines.is_empty() && digest.health == Health::Calm {
        let compared = &digest.compared_with;
        let clock = |t| app.clock(t).get(..5).unwrap_or_default().to_owned();
        lines.push(vec![
            (Role::Good, "calm ".to_owned()),
            (
                Role::Text,
                format!(
                    "{} services as they were {}–{}",
                    digest.services_known,
                    clock(compared.from),
                    clock(compared.to)
                ),
            ),
        ]);
        for sentence in app.data.blind().into_iter().take(2) {
            lines.push(vec![
                (Role::Title, "     ".into()),
                (Role::Dim, "not seen: ".into()),
                (Role::Blind, sentence.to_owned()),
            ]);
        }
    }
    lines
}

fn lines(app: &App) -> Vec<Vec<(Role, String)>> {
    let mut lines = match app.data.digest() {
        Some(digest) if digest.health == Health::NoData && digest.services_known == 0 => {
            return no_data(app);
        }
        Some(digest) => found(app, digest),
        None => Vec::new(),
    };
    // On a small terminal the services are worth more than the particulars, which `w` has.
    lines.truncate(match app.size.1 {
        0..=12 => 1,
        13..=17 => 2,
        _ => 4,
    });
    lines
}

fn has_path(app: &App) -> bool {
    app.data.digest().is_some_and(|d| !d.path.is_empty())
}

/// Lines the head takes.
pub(super) fn height(app: &App) -> u16 {
    coral_model::num::u16_sat(lines(app).len() + usize::from(has_path(app)))
}

/// Draws WHY and PATH.
pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    if area.height == 0 {
        return;
    }
    canvas.hit(area, Target::Run(CommandId::Why));
    let has_path = has_path(app);
    let whys = area.height - u16::from(has_path);
    for (y, line) in (area.y..area.y + whys).zip(lines(app)) {
        let mut x = area.x;
        for (role, text) in &line {
            x = canvas.say(x, y, area.right().saturating_sub(x), text, *role);
        }
    }
    let Some(digest) = app.data.digest().filter(|_| has_path) else { return };
    let y = area.bottom() - 1;
    let blast = format!("blast: {} of {} services", digest.affected, digest.services_known);
    let blast_width = crate::widget::width_of(&blast);
    let steps: u16 = digest
        .path
        .iter()
        .map(|s| crate::widget::width_of(&s.name) + u16::from(s.level.min(2)) + 3)
        .fold(5, u16::saturating_add);
    // The path comes first: the blast radius stands only where it fits beside it.
    let beside = steps.saturating_add(blast_width) <= area.width;
    let room = if beside { area.width - blast_width - 1 } else { area.width };
    let end = area.x + room;
    let mut x = canvas.say(area.x, y, room, "PATH ", Role::Title);
    for (i, step) in digest.path.iter().enumerate() {
        if i > 0 {
            x = canvas.say(x, y, end.saturating_sub(x), " ▸ ", Role::Dim);
        }
        let text = format!("{}{}", text::clean(&step.name), super::services::bangs(step.level));
        let role = crate::theme::Theme::level(step.level);
        x = canvas.say(x, y, end.saturating_sub(x), &text, role);
    }
    if beside {
        canvas.say_right(area.right(), y, blast_width, &blast, Role::Dim);
    }
}

//! The digest's head: WHY and PATH, or why there is nothing.

use coral_model::num::u16_sat;
use coral_model::text;
use coral_model::view::{DigestRow, Health, SenseState};
use ratatui::layout::Rect;

use crate::app::{Absence, App, Link};
use crate::command::CommandId;
use crate::feed::Slot;
use crate::layout::WORKSTATION;
use crate::theme::Role;
use crate::widget::{Canvas, Target, width_of};

/// Pieces of a line.
type Words = Vec<(Role, String)>;
/// Lines that a head on a large terminal may take for what does not fit into one each.
const MORE: usize = 4;

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

/// A line of what is not there.
fn lacking(title: &str, text: String) -> Words {
    vec![(Role::Blind, format!("{title:<14}")), (Role::Text, text)]
}

/// Lines below it.
fn advice(role: Role, text: impl Into<String>) -> Words {
    vec![(Role::Dim, " ".repeat(14)), (role, text.into())]
}

/// The key of a command.
pub(super) fn key(app: &App, id: CommandId) -> String {
    app.keymap.keys(id).first().map(ToString::to_string).unwrap_or_default()
}

/// Nothing was heard in this window, but the colony may have data of others.
fn no_traffic(app: &App) -> Vec<Words> {
    let window = app.window();
    let mut lines = vec![lacking(
        "NO TRAFFIC",
        format!("between {} and {}", app.clock(window.from), app.clock(window.to)),
    )];
    let known = app.data.colony().map_or(0, |digest| digest.services_known);
    lines.push(advice(
        Role::Dim,
        match known {
            0 => "nothing is known to have sent anything in this time".to_owned(),
            1 => "1 service is known from other times".to_owned(),
            n => format!("{n} services are known from other times"),
        },
    ));
    let wider = key(app, CommandId::Wider);
    let other = if app.here.clock.is_live() {
        format!("{wider} looks back further, {} goes to a time", key(app, CommandId::Time))
    } else {
        format!("{} goes live, {wider} looks further", key(app, CommandId::Live))
    };
    lines.push(advice(Role::Dim, other));
    lines
}

/// There is traffic, but none of it passes the filter.
fn filtered_out(app: &App) -> Vec<Words> {
    let filter = text::fit(&app.here.filter, 200);
    let mut lines = vec![lacking("NO MATCH", format!("no request in this time passes /{filter}"))];
    if let Some(stranger) = app.stranger() {
        lines.push(advice(Role::Strong, stranger));
    } else {
        let logs = key(app, CommandId::Logs);
        lines.push(advice(Role::Dim, format!("log records may: {logs} shows those that do")));
    }
    let (change, drop) = (key(app, CommandId::Filter), key(app, CommandId::Clear));
    lines.push(advice(Role::Dim, format!("{change} changes the filter, {drop} drops it")));
    lines
}

fn no_data(app: &App) -> Vec<Words> {
    let mut lines = vec![vec![
        (Role::Blind, "NO DATA YET".to_owned()),
        (Role::Text, "  ".to_owned()),
        (Role::Text, "no application has sent anything to this colony".to_owned()),
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

fn found(app: &App, digest: &DigestRow) -> Vec<Words> {
    let mut lines: Vec<Words> = Vec::new();
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

/// Everything there is to say, one line each.
fn lines(app: &App) -> Vec<Words> {
    let mut lines = match app.absence() {
        Some(Absence::Ever) => return no_data(app),
        Some(Absence::Here) => no_traffic(app),
        Some(Absence::Filtered) => filtered_out(app),
        None => app.data.digest().map(|digest| found(app, digest)).unwrap_or_default(),
    };
    // What is shown below is of another filter then: the sentence comes before it.
    if let Some(why) = app.data.failure(Slot::Digest).filter(|_| !app.here.filter.is_empty()) {
        let short = why.lines().last().unwrap_or(why);
        let title = "this filter cannot be asked here: ".to_owned();
        lines.insert(0, vec![(Role::Failing, title), (Role::Text, short.to_owned())]);
    }
    // On a small terminal the services are worth more than the particulars, which `w` has.
    lines.truncate(match app.size.1 {
        0..=12 => 1,
        13..=17 => 2,
        _ => 4,
    });
    lines
}

/// Lines as they are drawn: what does not fit goes on below, as far as `spare` lines reach.
fn wrapped(app: &App, mut spare: usize) -> Vec<Words> {
    let width = usize::from(app.size.0);
    let mut out = Vec::new();
    for mut line in lines(app) {
        let lead: usize =
            line.iter().rev().skip(1).map(|(_, text)| usize::from(width_of(text))).sum();
        let Some((role, text)) = line.pop() else { continue };
        let room = width.saturating_sub(lead);
        // A column of a few letters is no place for a sentence.
        let fits = room < 20 || usize::from(width_of(&text)) <= room;
        let mut parts = if fits { vec![text] } else { super::folded(&text, room) };
        let more = parts.len().saturating_sub(1).min(spare);
        spare -= more;
        if parts.len() > more + 1 {
            let rest = parts.split_off(more).join(" ");
            parts.push(rest);
        }
        for (i, part) in parts.into_iter().enumerate() {
            let mut pieces = if i == 0 { std::mem::take(&mut line) } else { Vec::new() };
            if i > 0 {
                pieces.push((Role::Text, " ".repeat(lead)));
            }
            pieces.push((role, part));
            out.push(pieces);
        }
    }
    out
}

/// Lines that nothing else needs: below the lists on a small terminal, a few on a large one.
fn spare(app: &App) -> usize {
    if app.size.0 >= WORKSTATION.0 && app.size.1 >= WORKSTATION.1 {
        return MORE;
    }
    let lists = app.rows(crate::layout::PaneId::Services) + 1 + app.changes() + 1;
    let used = 2 + lines(app).len() + usize::from(has_path(app)) + lists;
    usize::from(app.size.1).saturating_sub(used)
}

fn has_path(app: &App) -> bool {
    app.data.digest().is_some_and(|d| !d.path.is_empty())
}

/// Lines the head takes.
pub(super) fn height(app: &App) -> u16 {
    u16_sat(wrapped(app, spare(app)).len() + usize::from(has_path(app)))
}

/// Draws WHY and PATH.
pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect) {
    if area.height == 0 {
        return;
    }
    canvas.hit(area, Target::Run(CommandId::Why));
    let has_path = has_path(app);
    let whys = area.height - u16::from(has_path);
    for (y, line) in (area.y..area.y + whys).zip(wrapped(app, spare(app))) {
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

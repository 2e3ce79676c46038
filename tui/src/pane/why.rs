//! Everything that is measured about the trouble, in full.

use coral_model::text;
use ratatui::layout::Rect;

use super::folded;
use crate::app::App;
use crate::layout::PaneId;
use crate::theme::{Role, Theme};
use crate::widget::{Canvas, ratio};

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, _focused: bool) {
    let Some(digest) = app.data.digest() else { return };
    let width = usize::from(area.width).saturating_sub(14);
    let mut lines: Vec<Vec<(Role, String)>> = Vec::new();
    let mut say = |label: &str, role: Role, text: &str| {
        for (i, part) in folded(text, width).into_iter().enumerate() {
            let label = if i == 0 { text::fit(label, 13) } else { String::new() };
            lines.push(vec![(Role::Dim, format!("{label:<14}")), (role, part)]);
        }
    };
    if digest.why.is_empty() {
        say("why", Role::Text, "nothing is out of line with the window before");
    }
    for (i, line) in digest.why.iter().enumerate() {
        say(&line.label, if i == 0 { Role::Strong } else { Role::Text }, &line.text);
    }
    if let Some(suspect) = &digest.suspect {
        say("suspect", Role::Failing, suspect);
    }
    if let Some(onset) = digest.onset {
        say("since", Role::Text, &onset.format(&app.shown_zone(), "%Y-%m-%d %H:%M:%S %Z"));
    }
    if let Some(ended) = digest.ended {
        say("until", Role::Text, &ended.format(&app.shown_zone(), "%Y-%m-%d %H:%M:%S %Z"));
    }
    let compared = digest.compared_with;
    say(
        "compared with",
        Role::Text,
        &format!("{}–{}", app.clock(compared.from), app.clock(compared.to)),
    );
    if !digest.path.is_empty() {
        let path: Vec<String> = digest
            .path
            .iter()
            .map(|s| format!("{}{}", s.name, super::services::bangs(s.level)))
            .collect();
        say("path", Role::Text, &path.join(" ▸ "));
    }
    say("blast", Role::Text, &format!("{} of {} services", digest.affected, digest.services_known));
    for mover in &digest.movers {
        let change = mover.ratio.map(ratio).unwrap_or_default();
        say(
            "moved",
            Theme::level(1),
            &format!(
                "{} {} {change}",
                mover.service,
                format!("{:?}", mover.measure).to_lowercase()
            ),
        );
    }
    for sentence in app.data.blind() {
        say("not seen", Role::Blind, sentence);
    }
    super::page(app, canvas, PaneId::Why, area, &lines);
}

//! The digest in sentences, for `--plain`.

use coral_model::text;
use coral_model::view::{Health, State};

use crate::app::{Absence, App, Link};
use crate::widget::{error_share, hertz, latency};

/// What there is to say now, one statement a line, the most important first.
#[must_use]
pub fn plain_lines(app: &App) -> Vec<String> {
    let mut lines = Vec::new();
    match &app.link {
        Link::Connecting(_) | Link::Up => {}
        Link::Down(why) => lines.push(format!("no colony: {}", text::clean(why))),
    }
    let Some(digest) = app.data.digest() else { return lines };
    let since = digest.onset.map(|t| format!(" since {}", app.clock(t))).unwrap_or_default();
    let until = digest.ended.map(|t| format!(" until {}", app.clock(t))).unwrap_or_default();
    lines.push(match digest.health {
        Health::NoData => match app.absence() {
            Some(Absence::Here) => {
                let window = app.window();
                let (from, to) = (app.clock(window.from), app.clock(window.to));
                format!("no traffic between {from} and {to}")
            }
            Some(Absence::Filtered) => {
                let stranger = app.stranger().map(|why| format!(": {why}")).unwrap_or_default();
                format!("nothing in this time passes the filter{stranger}")
            }
            _ => "no data yet: no application has sent anything".into(),
        },
        Health::Calm => format!("calm: {} services as before", digest.services_known),
        Health::Moved => format!("moved{since}"),
        Health::Failing => {
            format!("incident{since}: {} of {} services", digest.affected, digest.services_known)
        }
        Health::Recovered => format!(
            "incident over:{since}{until}, {} of {} services",
            digest.affected, digest.services_known
        ),
    });
    if app.absence() == Some(Absence::Ever)
        && let Some(line) = super::head::exporter(app)
    {
        lines.push(line);
    }
    for line in &digest.why {
        lines.push(format!("{}: {}", text::clean(&line.label), text::clean(&line.text)));
    }
    for sentence in app.data.blind() {
        lines.push(format!("not seen: {}", text::clean(sentence)));
    }
    for service in digest.services.iter().filter(|s| s.level > 0) {
        let word = if service.level > 1 { "failing" } else { "moved" };
        let name = text::clean(&service.service);
        lines.push(match (service.state, &service.red) {
            (State::Active, Some(red)) => format!(
                "{name} {word}: {} requests, {} errors, p99 {}",
                hertz(red.rate),
                red.error_ratio.map_or_else(|| "no".into(), error_share),
                latency(red.p99_ns)
            ),
            _ => format!("{name} {word}"),
        });
    }
    for change in digest.changes.iter().take(10) {
        lines.push(format!(
            "{} {}: {}",
            app.clock(change.time),
            change.kind,
            text::clean(&change.text)
        ));
    }
    let mut said = Vec::new();
    lines.retain(|line| {
        let new = !said.contains(line);
        said.push(line.clone());
        new
    });
    lines
}

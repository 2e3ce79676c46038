//! Where it is bad: whether the trouble of a service is everywhere, or only at one version, host,
//! zone or instance.
//!
//! A value is bad or calm when it has requests enough to say so; the answer names the bad ones only
//! where at least one other value is demonstrably calm.

use coral_model::Dimension;
use coral_model::time::{Time, Window};

use super::cells::Cells;
use super::group::observed_seconds;
use super::rules::{self, Stretch};
use super::symbols::Symbol;

/// Dimensions in the order they explain: a version causes, a host hosts, an instance is the rest.
const ORDER: [Dimension; 4] =
    [Dimension::Version, Dimension::Host, Dimension::Zone, Dimension::Instance];
/// Requests a value needs to be called calm or bad.
const ENOUGH: u64 = rules::P90_REQUESTS;
/// Everywhere, as the table says it where a version came with the trouble.
pub const ALL: &str = "all hosts";
/// How long before the trouble another version counts as the one before.
const BEFORE: u64 = 15 * 60 * coral_model::time::SECOND;
/// More bad values than this are not named one by one.
const NAMED: usize = 2;

/// Where the service is bad in `window`, against what it was like.
pub fn place(
    cells: &mut Cells,
    service: Symbol,
    window: Window,
    reference: &Stretch,
    now: Time,
) -> Option<String> {
    let selected = cells.select(|series, _| series.service == service);
    let mut judged = false;
    for dimension in ORDER {
        let groups = cells.group(&selected, window, &[dimension], None);
        let (mut bad, mut calm) = (Vec::new(), 0usize);
        for key in &groups.keys {
            let Some((sum, first)) = groups.sum(key, window.from) else { continue };
            let stretch = sum.stretch(observed_seconds(window, first, sum, now));
            if stretch.requests < ENOUGH {
                continue;
            }
            // How many requests one of several gets says nothing about it.
            let off = rules::judge(&stretch, Some(reference));
            let is_bad =
                off.iter().any(|o| !matches!(o.what, rules::What::Rate | rules::What::Silence));
            match (is_bad, key.first().and_then(|&s| cells.symbols.word(s))) {
                (true, Some(name)) => bad.push(name.to_owned()),
                (true, None) => {}
                (false, _) => calm += 1,
            }
        }
        judged |= !bad.is_empty();
        if calm > 0 && (1..=NAMED).contains(&bad.len()) {
            bad.sort_unstable();
            let names = bad.join(", ");
            return Some(match dimension {
                Dimension::Version => names,
                other => format!("{other} {names}"),
            });
        }
    }
    judged.then(|| match only_version(cells, &selected, window) {
        Some(version) => format!("{ALL}, {version}"),
        None => "all".to_owned(),
    })
}

/// The version that runs everywhere in `window` and ran nowhere shortly before.
fn only_version(cells: &mut Cells, selected: &[bool], window: Window) -> Option<String> {
    let mut versions = |window: Window| -> Vec<Symbol> {
        let groups = cells.group(selected, window, &[Dimension::Version], None);
        let requests = |key| groups.sum(key, window.from).map_or(0, |(sum, _)| sum.requests);
        let enough = groups.keys.iter().filter(|key| requests(*key) >= ENOUGH);
        enough.filter_map(|key| key.first().copied()).collect()
    };
    let now = versions(window);
    let before = versions(Window::before(window.from, BEFORE));
    match now.as_slice() {
        [only] if !before.is_empty() && !before.contains(only) => cells.symbols.owned(*only),
        _ => None,
    }
}

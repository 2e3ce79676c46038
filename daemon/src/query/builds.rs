//! One build of a service beside another.
//!
//! Which two: those that were named, else the one that appeared last and the one before it, for every
//! service by itself. The later one's requests are those of the window; the earlier one's those of the
//! window and of the equal one before it, since a deploy is mostly asked about shortly after.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use coral_model::question::Builds;
use coral_model::time::{Time, Window};
use coral_model::view::{Baseline, ServiceRow, Versions};
use coral_model::{Dimension, Question};
use hashbrown::HashMap;

use super::QueryError;
use super::cells::Cells;
use super::group::{Groups, Key, Sum, baseline, observed_seconds};
use super::plan::Plan;
use super::shift::{self, Side};
use super::symbols::Symbol;

/// Where the earlier build's requests are looked for.
pub fn reach(window: Window) -> Window {
    Window::new(window.previous().from, window.to)
}

/// The two builds of every service that ran two.
#[derive(Debug, Default)]
pub struct Pairs(HashMap<Symbol, (Symbol, Symbol)>);

/// Which series are of the earlier and which of the later build.
pub struct Selected {
    /// Of the earlier.
    pub from: Vec<bool>,
    /// Of the later.
    pub to: Vec<bool>,
}

/// Digits by their number, all else by its letters: `v9` before `v10`.
fn natural(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| {
        let mut out: Vec<(bool, String)> = Vec::new();
        for c in text.chars() {
            let digit = c.is_ascii_digit();
            match out.last_mut() {
                Some((number, part)) if *number == digit => part.push(c),
                _ => out.push((digit, c.to_string())),
            }
        }
        out
    };
    let number = |text: &str| {
        let digits = text.trim_start_matches('0');
        (digits.len(), digits.to_owned())
    };
    for (x, y) in parts(a).iter().zip(&parts(b)) {
        let order = match (x.0, y.0) {
            (true, true) => number(&x.1).cmp(&number(&y.1)),
            _ => x.1.cmp(&y.1),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// The two builds of every service that had requests of both.
///
/// # Errors
/// No service had.
pub fn pairs(
    cells: &Cells,
    selected: &[bool],
    window: Window,
    builds: &Builds,
) -> Result<Pairs, QueryError> {
    let reach = reach(window);
    // Services, their builds, and when each was first seen.
    let mut seen: BTreeMap<Symbol, BTreeMap<Symbol, Time>> = BTreeMap::new();
    for cell in cells.cells.iter().filter(|c| reach.contains(c.bucket) && c.requests > 0) {
        let at = coral_model::num::usize_sat(cell.series);
        let (Some(true), Some(series)) = (selected.get(at), cells.series.get(at)) else { continue };
        let Some(resource) = cells.resources.get(&series.resource) else { continue };
        if resource.version == 0 {
            continue;
        }
        let first = seen.entry(series.service).or_default().entry(resource.version);
        let first = first.or_insert(resource.first);
        *first = (*first).min(resource.first);
    }
    let word = |symbol: Symbol| cells.symbols.word(symbol).unwrap_or_default();
    let mut pairs = Pairs::default();
    for (service, versions) in &seen {
        let versions = versions.iter().map(|(version, first)| (*first, word(*version).to_owned()));
        if let Some((from, to)) = pick(versions.collect(), builds) {
            let ends = cells.symbols.known(&from).zip(cells.symbols.known(&to));
            pairs.0.extend(ends.map(|ends| (*service, ends)));
        }
    }
    if pairs.0.is_empty() {
        return Err(none(builds, window));
    }
    Ok(pairs)
}

/// Of the builds a service had, with when each was first seen, the two that are compared.
pub fn pick(mut seen: Vec<(Time, String)>, builds: &Builds) -> Option<(String, String)> {
    if let (Some(from), Some(to)) = (&builds.from, &builds.to) {
        let ran = |version: &String| seen.iter().any(|(_, v)| v == version);
        return (ran(from) && ran(to)).then(|| (from.clone(), to.clone()));
    }
    seen.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| natural(&a.1, &b.1)));
    match seen.as_slice() {
        [.., (_, from), (_, to)] => Some((from.clone(), to.clone())),
        _ => None,
    }
}

/// No service ran two builds.
pub fn none(builds: &Builds, window: Window) -> QueryError {
    let what = match (&builds.from, &builds.to) {
        (Some(from), Some(to)) => format!("no service had requests of both {from} and {to}"),
        _ => "no service had requests of two builds (service.version)".to_owned(),
    };
    let reach = reach(window);
    QueryError::Nothing(format!(
        "{what} between {} and {}: ask about more time, or compare by time",
        reach.from, reach.to
    ))
}

impl Pairs {
    /// Which of the selected series are of which build.
    pub fn select(&self, cells: &Cells, selected: &[bool]) -> Selected {
        let side = |pick: fn(&(Symbol, Symbol)) -> Symbol| {
            cells
                .series
                .iter()
                .zip(selected)
                .map(|(series, keep)| {
                    let version = cells.resources.get(&series.resource).map_or(0, |r| r.version);
                    let wanted = self.0.get(&series.service).map(pick);
                    *keep && wanted == Some(version)
                })
                .collect()
        };
        Selected { from: side(|p| p.0), to: side(|p| p.1) }
    }

    /// Their names.
    pub fn versions(&self, cells: &Cells, service: Symbol) -> Option<Versions> {
        let (from, to) = self.0.get(&service)?;
        Some(Versions { from: cells.symbols.owned(*from)?, to: cells.symbols.owned(*to)? })
    }
}

/// A build's requests of a group, and how long it was observed.
fn side(groups: &Groups, key: &Key, window: Window, now: Time) -> (Sum, f64) {
    let found = groups.sum(key, window.from).map(|(sum, first)| (sum.clone(), first));
    let (sum, first) = found.unwrap_or_default();
    let seconds = observed_seconds(window, first, &sum, now);
    (sum, seconds)
}

/// The comparison of a group's builds.
pub fn compare(
    plan: &Plan,
    (from, to): (&Groups, &Groups),
    key: &Key,
    versions: Option<Versions>,
) -> Baseline {
    let reach = reach(plan.window);
    let (then, then_seconds) = side(from, key, reach, plan.now);
    let (now, seconds) = side(to, key, plan.window, plan.now);
    let red = (then.requests > 0).then(|| then.red(then_seconds));
    let mut baseline = baseline(reach, &now.red(seconds), red);
    baseline.versions = versions;
    baseline.shifts = shift::shifts(&Side::of(&then, then_seconds), &Side::of(&now, seconds));
    baseline
}

/// Puts the comparison of builds into rows of services; a service that ran one has none.
///
/// # Errors
/// None ran two.
pub fn of_services(
    plan: &Plan,
    cells: &mut Cells,
    selected: &[bool],
    builds: &Builds,
    rows: &mut [ServiceRow],
) -> Result<(), QueryError> {
    let pairs = pairs(cells, selected, plan.window, builds)?;
    let sides = pairs.select(cells, selected);
    let by = [Dimension::Service];
    let from = cells.group(&sides.from, reach(plan.window), &by, None);
    let to = cells.group(&sides.to, plan.window, &by, None);
    for row in rows {
        let service = cells.symbols.known(&row.service).unwrap_or_default();
        let mut key = Key::default();
        if let Some(slot) = key.first_mut() {
            *slot = service;
        }
        row.baseline = pairs
            .versions(cells, service)
            .map(|versions| compare(plan, (&from, &to), &key, Some(versions)));
    }
    Ok(())
}

/// What rows are grouped by: builds belong to a service.
pub fn dimensions(question: &Question, mut by: Vec<Dimension>) -> Vec<Dimension> {
    if question.builds.is_some() && !by.contains(&Dimension::Service) {
        by.insert(0, Dimension::Service);
    }
    by
}

#[cfg(test)]
mod tests {
    use coral_model::question::View;
    use coral_model::time::MILLI;
    use coral_model::view::Quantity;

    use super::super::fixture::{Fixture, RedRow, ago, last, question, rows};
    use super::*;

    #[test]
    fn versions_are_in_the_order_people_count_in() {
        for (a, b) in [("v9", "v10"), ("1.2.9", "1.2.10"), ("v41", "v42"), ("v1", "v1-rc")] {
            assert_eq!(
                (natural(a, b), natural(b, a)),
                (Ordering::Less, Ordering::Greater),
                "{a} {b}"
            );
        }
    }

    /// v41 ran until 300 s ago, v42 since; v42 is slower and fails.
    fn deployed() -> Fixture {
        let fixture = Fixture::default();
        fixture.resource(1, "pay", ["i1", "h", "v41"], ago(90_000));
        fixture.resource(2, "pay", ["i2", "h", "v42"], ago(300));
        fixture.resource(3, "cart", ["i3", "h", "v7"], ago(90_000));
        let mut red = Vec::new();
        for n in 1..=60u64 {
            let old = n > 30;
            let mut row = RedRow::new(
                ago(n * 10),
                if old { 1 } else { 2 },
                "pay",
                &[if old { 5 } else { 50 } * MILLI; 20],
            );
            row.errors = if old { 0 } else { 5 };
            red.push(row);
            red.push(RedRow::new(ago(n * 10), 3, "cart", &[MILLI; 5]));
        }
        fixture.red(&red);
        fixture
    }

    #[test]
    fn the_newest_build_is_compared_with_the_one_before() {
        let fixture = deployed();
        let mut q = question(View::Red, last(600), "");
        q.builds = Some(Builds::default());
        let rows = rows!(fixture.ask(&q).unwrap(), Red);
        // `cart` ran one build only.
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].service.as_deref(), rows[0].red.requests), (Some("pay"), 600));
        let baseline = rows[0].baseline.as_ref().unwrap();
        let versions = baseline.versions.as_ref().unwrap();
        assert_eq!((versions.from.as_str(), versions.to.as_str()), ("v41", "v42"));
        assert_eq!(baseline.red.as_ref().unwrap().requests, 600);
        let marked: Vec<Quantity> =
            baseline.shifts.iter().filter(|s| s.significant).map(|s| s.what).collect();
        assert_eq!(marked, [Quantity::Errors, Quantity::P50, Quantity::P99]);
        // Named, and the other way round.
        q.builds = Some(Builds { from: Some("v42".into()), to: Some("v41".into()) });
        let rows = rows!(fixture.ask(&q).unwrap(), Red);
        assert!(rows[0].baseline.as_ref().unwrap().shifts[1].delta.unwrap() < 0.0);
        q.builds = Some(Builds { from: Some("v1".into()), to: Some("v2".into()) });
        let none = fixture.ask(&q).unwrap();
        assert!(none.rows.is_empty() && none.end.blind[0].contains("both v1 and v2"));
        let mut q = question(View::Services, last(600), "");
        q.builds = Some(Builds::default());
        let rows = rows!(fixture.ask(&q).unwrap(), Service);
        let of = |name: &str| rows.iter().find(|r| r.service == name).unwrap();
        assert_eq!(of("pay").baseline.as_ref().unwrap().red.as_ref().unwrap().requests, 600);
        assert!(of("cart").baseline.is_none());
    }

    #[test]
    fn what_builds_cannot_be_compared_in_says_so() {
        let fixture = deployed();
        for view in [View::Topology, View::Traces, View::Logs] {
            let mut q = question(view, last(600), "");
            q.builds = Some(Builds::default());
            let error = fixture.ask(&q).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("coral query red"), "{error}");
        }
    }
}

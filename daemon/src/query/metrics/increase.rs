//! What happened between two points of a series.

use coral_model::num::f64_from;
use coral_model::time::{Time, Window};

use super::{Point, is_delta};
use crate::query::distribution::Distribution;

/// What happened between a point and the one before it.
pub struct Increase {
    /// Of a sum.
    pub value: Option<f64>,
    /// Of a histogram or summary.
    pub distribution: Option<Distribution>,
    /// Since when.
    pub from: Time,
    /// Up to the point.
    pub to: Time,
}

/// `None` where there is nothing to measure from.
pub fn increase(before: Option<&Point>, point: &Point, window: Window) -> Option<Increase> {
    let whole = |from: Time| Increase {
        value: point.row.value.filter(|_| point.distribution.is_none()),
        distribution: point.distribution.clone(),
        from,
        to: point.at,
    };
    if is_delta(&point.row) {
        let from = if point.start.0 > 0 { point.start } else { before.map_or(point.at, |b| b.at) };
        return Some(whole(from));
    }
    // A point that begins at its own time is a level to measure from: how long the series had been
    // rising is not known (data model, "Cumulative streams: handling unknown start time").
    let level = point.start == point.at;
    let Some(before) = before else {
        if level {
            return None;
        }
        // Without a point before it, only a series that began in sight is known whole.
        return (point.start >= window.from && point.start.0 > 0).then(|| whole(point.start));
    };
    let anew = point.start > before.at && !level;
    let start = if anew { point.start } else { before.at };
    let since =
        |value, distribution| Increase { value, distribution, from: before.at, to: point.at };
    match (&point.distribution, &before.distribution) {
        (Some(now), Some(then)) if !anew => Some(match now.since(then) {
            Some(distribution) => since(None, Some(distribution)),
            None if level => return None,
            None => whole(before.at),
        }),
        (Some(_), _) => Some(whole(start)),
        (None, _) => {
            let (now, then) = (point.row.value?, before.row.value?);
            if level && now < then {
                return None;
            }
            if anew || now < then {
                return Some(whole(start));
            }
            Some(since(Some(now - then), None))
        }
    }
}

/// Seconds that at least one of these covers.
pub fn covered(increases: &[Increase]) -> f64 {
    let mut spans: Vec<(Time, Time)> =
        increases.iter().map(|i| (i.from.min(Time(i.to.0.saturating_sub(1))), i.to)).collect();
    spans.sort_unstable();
    let (mut total, mut reached) = (0u64, Time(0));
    for (from, to) in spans {
        total = total.saturating_add(to.since(from.max(reached)));
        reached = reached.max(to);
    }
    f64_from(total) / 1e9
}

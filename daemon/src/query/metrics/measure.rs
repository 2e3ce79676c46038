//! Series of a metric as one number: rate, sum, mean, least, greatest, a quantile.
//!
//! Cumulative series are first turned into what happened between points, each by itself, so that one
//! that begins anew does not disturb the others; only that is added up. A rate is what was added,
//! over the seconds that the group's points cover: short-lived series that take turns count once. What
//! cannot be said honestly is not said, and the row's note says why.

use std::collections::{BTreeMap, BTreeSet};

use coral_model::filter::Key;
use coral_model::num::{f64_from, u64_sat};
use coral_model::question::Measure;
use coral_model::time::{Time, Window};
use coral_model::view::{MetricKind, MetricRow};

use super::increase::{Increase, covered, increase};
use super::{FOLDED, Point, is_delta};
use crate::query::QueryError;
use crate::query::distribution::{Distribution, Shape};
use crate::query::group::OTHER;

/// One series: its points, oldest first, those before the window among them.
pub type Series = Vec<Point>;

/// What the series of a group have in common besides their labels.
type Kind = (MetricKind, String);

/// The value a series has in a label; `None` where it has none.
fn value(point: &Point, label: &str) -> Option<String> {
    let of_resource = match Key::from_name(label) {
        Key::Service => &point.row.service,
        Key::Instance => &point.row.instance,
        Key::Host => &point.host,
        Key::Version => &point.version,
        _ => {
            if point.row.attributes.contains_key(FOLDED) {
                return Some(OTHER.to_owned());
            }
            let name = label.strip_prefix("attr.").unwrap_or(label);
            return point.row.attributes.get(name).cloned();
        }
    };
    of_resource.clone()
}

/// Whether a measure can be taken of a shape; else why not.
fn fits(measure: Measure, kind: MetricKind) -> Result<(), &'static str> {
    use MetricKind as K;
    match (measure, kind) {
        (Measure::Rate, K::Gauge | K::UpDownCounter) => {
            Err("is a level, which rises and falls; ask for mean, min, max or sum")
        }
        (Measure::Mean | Measure::Min | Measure::Max, K::Counter) => {
            Err("only rises; ask for rate or sum")
        }
        (Measure::Min | Measure::Max, K::Histogram | K::ExponentialHistogram | K::Summary) => {
            Err("is a distribution; ask for p1 or p99 instead")
        }
        (Measure::Quantile(_), K::Gauge | K::Counter | K::UpDownCounter) => {
            Err("is no distribution; ask for mean, min, max, sum or rate")
        }
        _ => Ok(()),
    }
}

/// Series by group, the groups of one kind of metric.
struct Group {
    labels: BTreeMap<String, String>,
    kind: Kind,
    series: Vec<Series>,
}

/// One row per group, or per group and step.
///
/// # Errors
/// No series has a shape the measure can be taken of.
pub fn measured(
    all: Vec<Series>,
    labels: &[String],
    measure: Measure,
    window: Window,
    step: Option<u64>,
    top: Option<usize>,
) -> Result<Vec<MetricRow>, QueryError> {
    let mut refused = None;
    let mut groups: BTreeMap<(BTreeMap<String, String>, &'static str, String), Group> =
        BTreeMap::new();
    for series in all {
        let Some(point) = series.last() else { continue };
        if let Err(why) = fits(measure, point.row.kind) {
            refused = Some(format!("`{}` {why}", point.row.metric));
            continue;
        }
        let named: BTreeMap<String, String> =
            labels.iter().filter_map(|l| Some((l.clone(), value(point, l)?))).collect();
        let kind = (point.row.kind, point.row.unit.clone());
        let key = (named.clone(), kind.0.word(), kind.1.clone());
        let group = Group { labels: named, kind, series: Vec::new() };
        groups.entry(key).or_insert(group).series.push(series);
    }
    if let (true, Some(why)) = (groups.is_empty(), refused) {
        return Err(QueryError::Question(why));
    }
    let groups = folded(groups.into_values().collect(), labels, measure, window, top);
    let mut rows = Vec::new();
    for group in &groups {
        rows.extend(group.rows(measure, window, step));
    }
    Ok(rows)
}

/// Keeps the `top` groups of the greatest value apart; all others are one.
fn folded(
    mut groups: Vec<Group>,
    labels: &[String],
    measure: Measure,
    window: Window,
    top: Option<usize>,
) -> Vec<Group> {
    let Some(top) = top.filter(|top| groups.len() > *top) else { return groups };
    groups.sort_by_cached_key(|group| {
        let value = group.row(measure, window, window).and_then(|row| row.value);
        // Greatest first, unknown last; numbers as ordered bits.
        std::cmp::Reverse(value.map(|x| {
            let bits = x.to_bits();
            if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
        }))
    });
    let rest = groups.split_off(top);
    let mut other: BTreeMap<(&'static str, String), Group> = BTreeMap::new();
    for group in rest {
        let key = (group.kind.0.word(), group.kind.1.clone());
        let labels = labels.iter().map(|l| (l.clone(), OTHER.to_owned())).collect();
        let into = Group { labels, kind: group.kind.clone(), series: Vec::new() };
        other.entry(key).or_insert(into).series.extend(group.series);
    }
    groups.extend(other.into_values());
    groups
}

impl Group {
    fn rows(&self, measure: Measure, window: Window, step: Option<u64>) -> Vec<MetricRow> {
        let Some(step) = step.filter(|s| *s > 0) else {
            return self.row(measure, window, window).into_iter().collect();
        };
        // Only where there are points: a step may be far shorter than the time between them.
        let points = self.series.iter().flatten().filter(|p| window.contains(p.at));
        let starts: BTreeSet<Time> =
            points.map(|p| window.from.plus(p.at.since(window.from) / step * step)).collect();
        let bucket = |start: Time| Window::new(start, start.plus(step).min(window.to));
        starts.into_iter().filter_map(|s| self.row(measure, bucket(s), window)).collect()
    }

    /// What the group comes to in a part of the window; `None` without any point in it.
    fn row(&self, measure: Measure, bucket: Window, window: Window) -> Option<MetricRow> {
        let found = Found::in_bucket(&self.series, bucket, window);
        let last = found.last?;
        let (kind, unit) = (self.kind.0, self.kind.1.as_str());
        let mut row = MetricRow {
            attributes: self.labels.clone(),
            service: common(&self.series, |p| p.row.service.clone()),
            instance: common(&self.series, |p| p.row.instance.clone()),
            series: found.series,
            time: Some(bucket.from),
            value: None,
            count: None,
            sum: None,
            quantiles: BTreeMap::new(),
            note: None,
            ..last.row.clone()
        };
        let mut notes = Vec::new();
        if found.mixed > 0 {
            notes.push(format!(
                "{} series beyond the bound of {FOLDED} were stored together by an earlier build and are left out",
                found.mixed
            ));
        }
        if found.unmeasured > 0 && measure_needs_increase(measure, kind) {
            notes.push(format!(
                "{} of {} series have no earlier point to measure from",
                found.unmeasured, found.series
            ));
        }
        match kind {
            MetricKind::Gauge | MetricKind::UpDownCounter => {
                row.value = level(measure, &found, kind);
            }
            MetricKind::Counter => {
                let total: f64 = found.increases.iter().filter_map(|i| i.value).sum();
                let seconds = covered(&found.increases);
                row.value = match measure {
                    Measure::Rate => (seconds > 0.0).then(|| total / seconds),
                    _ => (!found.increases.is_empty()).then_some(total),
                };
            }
            MetricKind::Histogram | MetricKind::ExponentialHistogram | MetricKind::Summary => {
                self.distribution(measure, &found, &mut row, &mut notes);
            }
        }
        if measure == Measure::Rate {
            row.unit = if kind == MetricKind::Counter { format!("{unit}/s") } else { "1/s".into() };
        }
        row.note = (!notes.is_empty()).then(|| notes.join("; "));
        Some(row)
    }

    fn distribution(
        &self,
        measure: Measure,
        found: &Found<'_>,
        row: &mut MetricRow,
        notes: &mut Vec<String>,
    ) {
        let mut sum = Distribution::default();
        let mut known = false;
        for one in found.increases.iter().filter_map(|i| i.distribution.as_ref()) {
            sum.add(one);
            known = true;
        }
        row.count = known.then_some(sum.count);
        row.sum = sum.sum.filter(|_| known);
        match measure {
            Measure::Rate => {
                let seconds = covered(&found.increases);
                row.value = (known && seconds > 0.0).then(|| f64_from(sum.count) / seconds);
            }
            Measure::Sum => row.value = row.sum,
            Measure::Quantile(_) if row.kind == MetricKind::Summary => {
                // Its quantiles were computed by the application over a time of its own.
                let newest = found.newest.as_slice();
                row.value = match newest {
                    [one] => one.row.quantiles.get(&measure.to_string()).copied(),
                    _ => None,
                };
                if row.value.is_none() {
                    notes.push(match newest {
                        [one] => format!(
                            "this summary has no {measure}, but {}",
                            one.row.quantiles.keys().cloned().collect::<Vec<_>>().join(" ")
                        ),
                        _ => "quantiles of several summaries cannot be combined: group by what tells them apart, like instance".to_owned(),
                    });
                }
            }
            Measure::Quantile(q) => {
                row.value = sum.quantile(q);
                if row.value.is_none() && sum.count > 0 {
                    notes.push(match sum.shape {
                        Shape::None => {
                            "series have different buckets, or none: group by what tells them apart"
                                .to_owned()
                        }
                        _ => "its buckets are empty".to_owned(),
                    });
                }
            }
            _ => {
                row.value = sum.mean();
                if row.kind != MetricKind::Summary {
                    row.quantiles = sum.quantiles();
                }
            }
        }
        if let (Measure::Quantile(_), Some(x)) = (measure, row.value) {
            row.quantiles.insert(measure.to_string(), x);
        }
    }
}

fn measure_needs_increase(measure: Measure, kind: MetricKind) -> bool {
    match kind {
        MetricKind::Gauge | MetricKind::UpDownCounter => false,
        MetricKind::Summary => !matches!(measure, Measure::Quantile(_)),
        _ => true,
    }
}

/// A level, which is the newest of every series; of deltas their sum.
fn level(measure: Measure, found: &Found<'_>, kind: MetricKind) -> Option<f64> {
    let n = f64_from(u64_sat(found.means.len()));
    match measure {
        _ if found.means.is_empty() => None,
        Measure::Sum if kind == MetricKind::UpDownCounter && found.delta => {
            Some(found.values.iter().sum())
        }
        Measure::Sum => Some(found.newest.iter().filter_map(|p| p.row.value).sum()),
        Measure::Min => found.values.iter().copied().reduce(f64::min),
        Measure::Max => found.values.iter().copied().reduce(f64::max),
        _ => Some(found.means.iter().sum::<f64>() / n),
    }
}

/// What all series agree on.
fn common(series: &[Series], of: impl Fn(&Point) -> Option<String>) -> Option<String> {
    let mut all = series.iter().filter_map(|s| s.last()).map(of);
    let first = all.next()??;
    all.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

/// Points of a group's series in a part of the window.
#[derive(Default)]
struct Found<'a> {
    /// Newest of all.
    last: Option<&'a Point>,
    /// Newest of every series.
    newest: Vec<&'a Point>,
    /// Values.
    values: Vec<f64>,
    /// Mean of every series.
    means: Vec<f64>,
    /// What happened between points.
    increases: Vec<Increase>,
    /// Series with a point in it.
    series: u64,
    /// Of these without anything to measure from.
    unmeasured: u64,
    /// Left out: several series under one name.
    mixed: u64,
    /// Points are deltas.
    delta: bool,
}

impl<'a> Found<'a> {
    fn in_bucket(series: &'a [Series], bucket: Window, window: Window) -> Self {
        let mut found = Self::default();
        for points in series {
            let from = points.partition_point(|p| p.at < bucket.from);
            let to = points.partition_point(|p| p.at < bucket.to);
            let inside = points.get(from..to).unwrap_or_default();
            let Some(newest) = inside.last() else { continue };
            found.series += 1;
            if found.last.is_none_or(|last| newest.at >= last.at) {
                found.last = Some(newest);
            }
            let delta = is_delta(&newest.row);
            if !delta && mixed(points) {
                found.mixed += 1;
                continue;
            }
            found.delta |= delta;
            found.newest.push(newest);
            let values: Vec<f64> = inside.iter().filter_map(|p| p.row.value).collect();
            if !values.is_empty() {
                let n = f64_from(u64_sat(values.len()));
                found.means.push(values.iter().sum::<f64>() / n);
            }
            found.values.extend(values);
            let before = |at: usize| at.checked_sub(1).and_then(|at| points.get(at));
            let had = found.increases.len();
            let increases = inside
                .iter()
                .enumerate()
                .filter_map(|(n, point)| increase(before(from + n), point, window));
            found.increases.extend(increases);
            found.unmeasured += u64::from(found.increases.len() == had);
        }
        found
    }
}

/// Whether several series beyond the bound lie under one name, as an earlier build stored them: no
/// series has two values at one moment.
fn mixed(points: &[Point]) -> bool {
    let folded = points.first().is_some_and(|p| p.row.attributes.contains_key(FOLDED));
    let pairs = points.iter().zip(points.iter().skip(1));
    let mut twice = pairs.filter(|(a, b)| a.at == b.at);
    folded && twice.any(|(a, b)| (a.row.value, a.row.count) != (b.row.value, b.row.count))
}

/// The measure that says most of a shape: what a series comes to when nobody asked for one.
pub fn usual(kind: MetricKind) -> Measure {
    match kind {
        MetricKind::Gauge => Measure::Mean,
        MetricKind::UpDownCounter => Measure::Sum,
        MetricKind::Counter => Measure::Rate,
        MetricKind::Histogram | MetricKind::ExponentialHistogram | MetricKind::Summary => {
            Measure::Mean
        }
    }
}

/// Series under one name, in the measure that says most of their shape.
pub fn one(
    labels: BTreeMap<String, String>,
    series: Vec<Series>,
    measure: Measure,
    window: Window,
    step: Option<u64>,
) -> Vec<MetricRow> {
    let Some(point) = series.first().and_then(|s| s.last()) else { return Vec::new() };
    let kind = (point.row.kind, point.row.unit.clone());
    Group { labels, kind, series }.rows(measure, window, step)
}

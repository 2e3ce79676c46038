//! `metrics`: what applications measure themselves: a list of them, or the points of one.
//!
//! Without a subject: one row per metric and service. With one: its points as they were sent, or,
//! with a step, one row per series and step: the mean of a gauge, the rate per second of a counter,
//! the distribution of a histogram. Cumulative series are turned into what happened between two
//! points; a point that has less than the one before, or says it started later, began anew and counts
//! whole.

use std::collections::BTreeMap;

use coral_model::filter::Key;
use coral_model::num::{f64_from, i64_sat};
use coral_model::question::View;
use coral_model::time::{SECOND, Time, Window};
use coral_model::view::{MetricKind, MetricRow, Row};

use super::QueryError;
use super::answer::Found;
use super::distribution::{Distribution, Extra, Shape};
use super::fetch::{self, Batch, Sql};
use super::plan::Plan;
use super::sql::{Field, Layout};
use crate::store::Reading;
use crate::store::schema::Signal;

/// The point before the window that a cumulative series is compared with is looked for this far
/// back: longer than any usual export interval.
const BACK: u64 = 300 * SECOND;
/// Points that are looked at.
const MAX_POINTS: usize = 500_000;

/// How the filter sees metric points.
pub const LAYOUT: Layout = Layout {
    view: View::Metrics,
    column,
    texts: &["t.metric", "t.description"],
    attributes: true,
    resource: true,
};

fn column(key: &Key) -> Option<Field> {
    Some(match key {
        Key::Name | Key::Metric => Field::Text("t.metric"),
        Key::Kind => Field::Text("t.kind"),
        Key::Service => Field::Text("t.service"),
        Key::Host => Field::Text("r.host"),
        Key::Instance => Field::Text("r.instance"),
        Key::Version => Field::Text("r.version"),
        Key::Zone => Field::Text("r.zone"),
        Key::Namespace => Field::Text("r.namespace"),
        _ => return None,
    })
}

/// Points of a window with their resources.
fn from(conn: &Reading<'_>, from: Time, to: Time) -> String {
    let (metrics, resources) = (conn.relation(Signal::Metrics, from, to), conn.resources());
    format!(" FROM {metrics} t LEFT JOIN {resources} r ON r.id = t.resource WHERE true")
}

/// Answers the question.
pub fn answer(conn: &Reading<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let mut rows = match &plan.question.subject {
        None => list(conn, plan)?,
        Some(metric) => points(conn, plan, metric)?,
    };
    let truncated = rows.len() > plan.limit();
    rows.truncate(plan.limit());
    let newest = rows.iter().filter_map(|r| r.time).max();
    let rows = rows.into_iter().map(|r| Row::Metric(Box::new(r))).collect();
    Ok(Found { rows, truncated, newest, ..Found::default() })
}

fn kind(text: Option<&str>) -> MetricKind {
    text.and_then(|t| t.parse().ok()).unwrap_or(MetricKind::Gauge)
}

fn list(conn: &Reading<'_>, plan: &Plan) -> Result<Vec<MetricRow>, QueryError> {
    let sql = Sql::new(
        "SELECT t.metric, t.kind, any_value(t.unit), any_value(t.description), t.temporality, \
         t.service, count(DISTINCT hash(t.resource, t.attributes))::UBIGINT, max(t.time_ns), \
         arg_max(t.value, t.time_ns)",
    )
    .then(&from(conn, plan.window.from, plan.window.to))
    .within("t.time_ns", plan.window.from, plan.window.to)
    .then(" AND ")
    .part(LAYOUT.condition(&plan.filter)?)
    .then(" GROUP BY t.metric, t.kind, t.temporality, t.service ORDER BY t.metric, t.service, t.kind LIMIT ")
    .bind(i64_sat(plan.limit() + 1));
    let mut rows = Vec::new();
    fetch::run(conn, &sql, |batch| {
        let (metric, shape, unit) = (batch.texts(0)?, batch.texts(1)?, batch.texts(2)?);
        let (description, temporality) = (batch.texts(3)?, batch.texts(4)?);
        let (service, series) = (batch.texts(5)?, batch.u64s(6)?);
        let (at, value) = (batch.i64s(7)?, batch.f64s(8)?);
        for row in 0..batch.len() {
            let series = fetch::uint(series, row);
            rows.push(MetricRow {
                metric: fetch::owned(metric, row).unwrap_or_default(),
                kind: kind(fetch::text(shape, row)),
                unit: fetch::owned(unit, row).unwrap_or_default(),
                description: fetch::owned(description, row).unwrap_or_default(),
                temporality: fetch::owned(temporality, row),
                service: fetch::owned(service, row),
                instance: None,
                series,
                time: Some(fetch::time(at, row)),
                attributes: BTreeMap::new(),
                // One of several series' values would be anybody's.
                value: fetch::some_float(value, row).filter(|_| series == 1),
                count: None,
                sum: None,
                quantiles: BTreeMap::new(),
            });
        }
        Ok(())
    })?;
    Ok(rows)
}

/// What tells series of one metric apart.
type Series = (Option<String>, u64, &'static str, BTreeMap<String, String>);

#[derive(Debug, Clone)]
struct Point {
    at: Time,
    start: Time,
    row: MetricRow,
    distribution: Option<Distribution>,
}

fn points(conn: &Reading<'_>, plan: &Plan, metric: &str) -> Result<Vec<MetricRow>, QueryError> {
    let back = if plan.question.step.is_some() { BACK } else { 0 };
    let sql = Sql::new(
        "SELECT t.time_ns, t.start_ns, t.kind, t.unit, t.description, t.temporality, t.service, \
         r.instance, t.resource, t.attributes, t.value, t.count, t.sum, t.bounds, t.counts, t.extra",
    )
    .then(&from(conn, plan.window.from.minus(back), plan.window.to))
    .within("t.time_ns", plan.window.from.minus(back), plan.window.to)
    .then(" AND t.metric = ")
    .bind(metric.to_owned())
    .then(" AND ")
    .part(LAYOUT.condition(&plan.filter)?)
    .then(" ORDER BY t.time_ns DESC LIMIT ")
    .bind(i64_sat(if plan.question.step.is_some() { MAX_POINTS } else { plan.limit() + 1 }));
    let mut series: BTreeMap<Series, Vec<Point>> = BTreeMap::new();
    fetch::run(conn, &sql, |batch| read(batch, metric, &mut series))?;
    let mut rows = Vec::new();
    for mut points in series.into_values() {
        // The statement gives the newest first, so that a limit keeps those.
        points.reverse();
        match plan.question.step {
            None => rows.extend(points.into_iter().map(|p| p.row)),
            Some(step) => rows.extend(stepped(&points, plan.window, step)),
        }
    }
    if plan.question.step.is_none() {
        rows.sort_by_key(|r| r.time);
    }
    Ok(rows)
}

fn read(
    batch: &Batch,
    metric: &str,
    series: &mut BTreeMap<Series, Vec<Point>>,
) -> Result<(), QueryError> {
    let (at, start, shape) = (batch.i64s(0)?, batch.i64s(1)?, batch.texts(2)?);
    let (unit, description) = (batch.texts(3)?, batch.texts(4)?);
    let (temporality, service) = (batch.texts(5)?, batch.texts(6)?);
    let (instance, resource, attributes) = (batch.texts(7)?, batch.u64s(8)?, batch.maps(9)?);
    let (value, count, sum) = (batch.f64s(10)?, batch.u64s(11)?, batch.f64s(12)?);
    let (bounds, counts, extra) = (batch.lists(13)?, batch.lists(14)?, batch.texts(15)?);
    for row in 0..batch.len() {
        let kind = kind(fetch::text(shape, row));
        let extra = Extra::read(fetch::text(extra, row));
        let distribution = fetch::some_uint(count, row).map(|count| Distribution {
            count,
            sum: fetch::some_float(sum, row),
            shape: match kind {
                MetricKind::Histogram => {
                    let bounds = fetch::f64_values(bounds).get(fetch::range(bounds, row));
                    let counts = fetch::u64_values(counts).get(fetch::range(counts, row));
                    match counts.unwrap_or_default() {
                        [] => Shape::None,
                        counts => {
                            Shape::Explicit(bounds.unwrap_or_default().to_vec(), counts.to_vec())
                        }
                    }
                }
                _ => extra.exponential().map_or(Shape::None, Shape::Exponential),
            },
        });
        let quantiles = match kind {
            MetricKind::Summary => named(&extra.quantiles),
            _ => distribution.as_ref().map(Distribution::quantiles).unwrap_or_default(),
        };
        let point = MetricRow {
            metric: metric.to_owned(),
            kind,
            unit: fetch::owned(unit, row).unwrap_or_default(),
            description: fetch::owned(description, row).unwrap_or_default(),
            temporality: fetch::owned(temporality, row),
            service: fetch::owned(service, row),
            instance: fetch::owned(instance, row),
            series: 1,
            time: Some(fetch::time(at, row)),
            attributes: fetch::map(attributes, row),
            value: fetch::some_float(value, row)
                .or_else(|| distribution.as_ref().and_then(Distribution::mean)),
            count: distribution.as_ref().map(|d| d.count),
            sum: distribution.as_ref().and_then(|d| d.sum),
            quantiles,
        };
        let key = (
            point.service.clone(),
            fetch::uint(resource, row),
            kind.word(),
            point.attributes.clone(),
        );
        series.entry(key).or_default().push(Point {
            at: fetch::time(at, row),
            start: fetch::time(start, row),
            row: point,
            distribution,
        });
    }
    Ok(())
}

/// `0.99` as `p99`.
fn named(quantiles: &BTreeMap<String, Option<f64>>) -> BTreeMap<String, f64> {
    let name = |q: &str| {
        let x: f64 = q.parse().ok()?;
        let percent = (x * 1e6).round() / 1e4;
        Some(format!("p{percent}"))
    };
    quantiles.iter().filter_map(|(q, value)| Some((name(q)?, (*value)?))).collect()
}

/// What happened between a point and the one before it.
struct Increase {
    /// Of a sum.
    value: Option<f64>,
    /// Of a histogram or summary.
    distribution: Option<Distribution>,
    /// Over how long, in seconds.
    seconds: f64,
}

fn increase(before: Option<&Point>, point: &Point, window: Window) -> Option<Increase> {
    let seconds = |from: Time| f64_from(point.at.since(from).max(1)) / 1e9;
    let whole = |from: Time| Increase {
        value: point.row.value.filter(|_| point.distribution.is_none()),
        distribution: point.distribution.clone(),
        seconds: seconds(from),
    };
    if point.row.temporality.as_deref() == Some("delta") {
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
    match (&point.distribution, &before.distribution) {
        (Some(now), Some(then)) if !anew => Some(match now.since(then) {
            Some(distribution) => Increase {
                value: None,
                distribution: Some(distribution),
                seconds: seconds(before.at),
            },
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
            Some(Increase {
                value: Some(now - then),
                distribution: None,
                seconds: seconds(before.at),
            })
        }
    }
}

fn stepped(points: &[Point], window: Window, step: u64) -> Vec<MetricRow> {
    let mut rows = Vec::new();
    let mut rest = points.iter().enumerate().filter(|(_, p)| p.at >= window.from).peekable();
    while let Some((_, first)) = rest.peek() {
        let start = Time(window.from.0 + first.at.since(window.from) / step.max(1) * step);
        let end = start.plus(step);
        let mut bucket = Vec::new();
        while let Some((n, point)) = rest.next_if(|(_, p)| p.at < end) {
            let before = n.checked_sub(1).and_then(|n| points.get(n));
            bucket.push((before, point));
        }
        rows.extend(step_row(&bucket, start, window));
    }
    rows
}

fn step_row(bucket: &[(Option<&Point>, &Point)], start: Time, window: Window) -> Option<MetricRow> {
    let (_, last) = bucket.last()?;
    let mut row = MetricRow { time: Some(start), ..last.row.clone() };
    let increases = || bucket.iter().filter_map(|(before, p)| increase(*before, p, window));
    match last.row.kind {
        MetricKind::Gauge => {
            let values: Vec<f64> = bucket.iter().filter_map(|(_, p)| p.row.value).collect();
            let n = f64_from(coral_model::num::u64_sat(values.len()));
            row.value = (n > 0.0).then(|| values.iter().sum::<f64>() / n);
        }
        MetricKind::UpDownCounter => {
            if last.row.temporality.as_deref() == Some("delta") {
                row.value = Some(bucket.iter().filter_map(|(_, p)| p.row.value).sum());
            }
        }
        MetricKind::Counter => {
            let (mut total, mut seconds) = (0.0, 0.0);
            for one in increases() {
                total += one.value.unwrap_or(0.0);
                seconds += one.seconds;
            }
            row.value = (seconds > 0.0).then(|| total / seconds);
            row.unit = format!("{}/s", row.unit);
        }
        MetricKind::Histogram | MetricKind::ExponentialHistogram | MetricKind::Summary => {
            let mut sum = Distribution::default();
            let mut known = false;
            for one in increases() {
                if let Some(distribution) = one.distribution {
                    sum.add(&distribution);
                    known = true;
                }
            }
            row.count = known.then_some(sum.count);
            row.sum = sum.sum.filter(|_| known);
            row.value = sum.mean();
            if last.row.kind != MetricKind::Summary {
                row.quantiles = sum.quantiles();
            }
        }
    }
    Some(row)
}

//! `metrics`: what applications measure themselves: a list of them, or the points of one.
//!
//! Without a subject: one row per metric and service. With one: its points as they were sent, or,
//! with a step, one row per series and step: the mean of a gauge, the rate per second of a counter,
//! the distribution of a histogram ([`measure`] of one series each). With a measure, the series of
//! every group come to one number; or their labels are listed ([`labels`]). Cumulative series are turned
//! into what happened between two points ([`increase`]); a point that has less than the one before, or
//! says it started later, began anew and counts whole.
//!
//! Points of series beyond the bound carry the mark of their series ([`FOLDED`]), so that cumulative ones
//! can be told apart here and only their increases are added up under one name.

mod increase;
mod labels;
mod measure;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use coral_model::filter::Key;
use coral_model::num::i64_sat;
use coral_model::question::{Measure, View};
use coral_model::time::{SECOND, Time, Window};
use coral_model::view::{MetricKind, MetricRow, Row};

use self::measure::{Series, measured, usual};
use super::answer::Found;
use super::distribution::{Distribution, Extra, Shape};
use super::fetch::{self, Batch, Sql};
use super::plan::Plan;
use super::sql::{Field, Layout};
use super::{QueryError, homes};
use crate::store::Reading;
use crate::store::schema::Signal;

/// The point before the window that a cumulative series is compared with is looked for this far
/// back: longer than any usual export interval.
const BACK: u64 = 300 * SECOND;
/// Points that are looked at.
const MAX_POINTS: usize = 500_000;
/// The attribute of points beyond the bound of series; its value tells their series apart.
pub const FOLDED: &str = crate::intake::decode::FOLDED;
/// The value it has where all of them are shown as one.
const ALL_FOLDED: &str = "true";

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
    format!(" FROM {} t{} WHERE true", conn.relation(Signal::Metrics, from, to), homes::join(conn))
}

/// Answers the question.
pub fn answer(conn: &Reading<'_>, plan: &Plan) -> Result<Found, QueryError> {
    let metric = plan.question.subject.as_deref();
    if let (Some(Measure::Labels), Some(metric)) = (plan.question.measure, metric) {
        let mut rows = labels::labels(conn, plan, metric)?;
        let truncated = rows.len() > plan.limit();
        rows.truncate(plan.limit());
        let rows = rows.into_iter().map(|r| Row::Label(Box::new(r))).collect();
        return Ok(Found { rows, truncated, ..Found::default() });
    }
    let (mut rows, cut) = match metric {
        None if plan.question.measure.is_some() => {
            return Err(QueryError::Question("a measure is of one metric: name it".into()));
        }
        None => (list(conn, plan)?, false),
        Some(metric) => points(conn, plan, metric)?,
    };
    let truncated = cut || rows.len() > plan.limit();
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
                note: None,
            });
        }
        Ok(())
    })?;
    Ok(rows)
}

/// What tells series of one metric apart.
type SeriesKey = (Option<String>, u64, &'static str, BTreeMap<String, String>);

/// A point as stored.
#[derive(Debug, Clone)]
pub struct Point {
    /// When it was taken.
    at: Time,
    /// Since when it counts.
    start: Time,
    /// `host.name` of its resource.
    host: Option<String>,
    /// `service.version` of its resource.
    version: Option<String>,
    /// The point as a row.
    row: MetricRow,
    /// Of a histogram or summary.
    distribution: Option<Distribution>,
}

/// Whether points say what happened since the one before.
fn is_delta(row: &MetricRow) -> bool {
    row.temporality.as_deref() == Some("delta")
}

/// Rows of one metric, and whether there were more points than are looked at.
fn points(
    conn: &Reading<'_>,
    plan: &Plan,
    metric: &str,
) -> Result<(Vec<MetricRow>, bool), QueryError> {
    let measure = plan.question.measure;
    let computed = plan.question.step.is_some() || measure.is_some();
    let back = if computed { BACK } else { 0 };
    let sql = Sql::new(
        "SELECT t.time_ns, t.start_ns, t.kind, t.unit, t.description, t.temporality, t.service, \
         r.instance, t.resource, t.attributes, t.value, t.count, t.sum, t.bounds, t.counts, \
         t.extra, r.host, r.version",
    )
    .then(&from(conn, plan.window.from.minus(back), plan.window.to))
    .within("t.time_ns", plan.window.from.minus(back), plan.window.to)
    .then(" AND t.metric = ")
    .bind(metric.to_owned())
    .then(" AND ")
    .part(LAYOUT.condition(&plan.filter)?)
    .then(" ORDER BY t.time_ns DESC LIMIT ")
    .bind(i64_sat(if computed { MAX_POINTS } else { plan.limit() + 1 }));
    let mut series: BTreeMap<SeriesKey, Series> = BTreeMap::new();
    let mut looked = 0;
    fetch::run(conn, &sql, |batch| {
        looked += batch.len();
        read(batch, metric, &mut series)
    })?;
    let cut = computed && looked >= MAX_POINTS;
    // The statement gives the newest first, so that a limit keeps those.
    let mut all: Vec<Series> = series.into_values().collect();
    all.iter_mut().for_each(|points| points.reverse());
    if !computed {
        let mut rows: Vec<MetricRow> = all.into_iter().flatten().map(|p| p.row).collect();
        rows.sort_by_key(|r| r.time);
        return Ok((rows, cut));
    }
    let (window, step) = (plan.window, plan.question.step);
    if let Some(measure) = measure {
        let rows = measured(all, &plan.question.labels, measure, window, step, plan.question.top)?;
        return Ok((rows, cut));
    }
    Ok((each(all, window, step), cut))
}

/// Every series by itself; those beyond the bound as one.
fn each(all: Vec<Series>, window: Window, step: Option<u64>) -> Vec<MetricRow> {
    let mut rows = Vec::new();
    let mut folded: BTreeMap<(Option<String>, &'static str), Vec<Series>> = BTreeMap::new();
    for series in all {
        let Some(point) = series.last() else { continue };
        let kind = point.row.kind;
        if point.row.attributes.contains_key(FOLDED) {
            folded.entry((point.row.service.clone(), kind.word())).or_default().push(series);
            continue;
        }
        let attributes = point.row.attributes.clone();
        rows.extend(measure::one(attributes, vec![series], usual(kind), window, step));
    }
    for series in folded.into_values() {
        let Some(point) = series.first().and_then(|s| s.last()) else { continue };
        let (kind, name) = (point.row.kind, (FOLDED.to_owned(), ALL_FOLDED.to_owned()));
        rows.extend(measure::one([name].into(), series, usual(kind), window, step));
    }
    rows
}

fn read(
    batch: &Batch,
    metric: &str,
    series: &mut BTreeMap<SeriesKey, Series>,
) -> Result<(), QueryError> {
    let (at, start, shape) = (batch.i64s(0)?, batch.i64s(1)?, batch.texts(2)?);
    let (unit, description) = (batch.texts(3)?, batch.texts(4)?);
    let (temporality, service) = (batch.texts(5)?, batch.texts(6)?);
    let (instance, resource, attributes) = (batch.texts(7)?, batch.u64s(8)?, batch.maps(9)?);
    let (value, count, sum) = (batch.f64s(10)?, batch.u64s(11)?, batch.f64s(12)?);
    let (bounds, counts, extra) = (batch.lists(13)?, batch.lists(14)?, batch.texts(15)?);
    let (host, version) = (batch.texts(16)?, batch.texts(17)?);
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
            note: None,
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
            host: fetch::owned(host, row),
            version: fetch::owned(version, row),
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

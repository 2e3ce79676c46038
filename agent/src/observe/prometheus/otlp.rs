//! An answer as OTLP metrics.
//!
//! By "Prometheus and OpenMetrics Compatibility" of the OpenTelemetry specification: counters become
//! monotonic cumulative sums, histograms lose their running totals, summaries stay summaries, gauges,
//! infos, states and what nobody typed become gauges. Names stay as they are, so that people find
//! what their dashboards call it.

use coral_model::Time;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, metric::Data,
    number_data_point::Value as Number, summary_data_point::ValueAtQuantile,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::families::{Answer, Family, Labels, Point};
use super::series::{Memory, key};
use super::text::Kind;
use super::{Limits, OTHER};

/// Points of one request; a record of the spool stays far below its bound.
const POINTS: usize = 10_000;
/// Prometheus' mark of a series that ended (`model/value/value.go`, `StaleNaN`).
const STALE: u64 = 0x7ff0_0000_0000_0002;
/// The mark of a point without a value.
const NO_VALUE: u32 = 1;
/// Scope of everything scraped.
const SCOPE: &str = "coral-agent/scrape";

/// Whose metrics these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `service.name`.
    pub service: String,
    /// `service.instance.id`: host and port.
    pub instance: String,
    /// `host.name`, for what runs here.
    pub host: Option<String>,
}

/// What a scrape came to, for its `up`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Whether it was read.
    pub up: bool,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Samples in it.
    pub samples: u64,
}

/// Writes an answer. `turned` in it grows by the series that found no room.
pub fn requests(
    answer: &mut Answer,
    origin: &Origin,
    memory: &mut Memory,
    limits: Limits,
    outcome: Outcome,
    now: Time,
) -> Vec<ExportMetricsServiceRequest> {
    let mut metrics: Vec<Metric> = Vec::new();
    let mut turned = 0;
    for family in &answer.families {
        metrics.extend(metric(family, memory, limits, now, &mut turned));
    }
    answer.turned.series += turned;
    metrics.extend(health(outcome, now));
    let resource = resource(origin, &answer.target);
    let mut requests = Vec::new();
    let mut part = Vec::new();
    let mut points = 0;
    for metric in metrics {
        let n = points_of(&metric);
        if points + n > POINTS && !part.is_empty() {
            requests.push(request(&resource, std::mem::take(&mut part)));
            points = 0;
        }
        points += n;
        part.push(metric);
    }
    requests.push(request(&resource, part));
    requests
}

/// The requests of a scrape that failed: only that it did.
#[must_use]
pub fn failed(origin: &Origin, outcome: Outcome, now: Time) -> ExportMetricsServiceRequest {
    request(&resource(origin, &Labels::new()), health(outcome, now))
}

fn points_of(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
        _ => 0,
    }
}

fn request(resource: &Resource, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope = InstrumentationScope { name: SCOPE.to_owned(), ..Default::default() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource.clone()),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..Default::default() }],
            ..Default::default()
        }],
    }
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }),
        ..Default::default()
    }
}

fn resource(origin: &Origin, target: &Labels) -> Resource {
    let mut attributes =
        vec![pair("service.name", &origin.service), pair("service.instance.id", &origin.instance)];
    if let Some(host) = &origin.host {
        attributes.push(pair("host.name", host));
    }
    // What the configuration says wins over what the application says of itself.
    let known = ["service.name", "service.instance.id", "host.name", "job", "instance"];
    for (key, value) in target {
        if !known.contains(&key.as_str()) {
            attributes.push(pair(key, value));
        }
    }
    Resource { attributes, ..Default::default() }
}

fn attributes(labels: &Labels) -> Vec<KeyValue> {
    labels.iter().map(|(key, value)| pair(key, value)).collect()
}

fn number(labels: Vec<KeyValue>, start: Option<Time>, at: Time, value: f64) -> NumberDataPoint {
    let stale = value.to_bits() == STALE;
    NumberDataPoint {
        attributes: labels,
        start_time_unix_nano: start.map_or(0, |t| t.0),
        time_unix_nano: at.0,
        flags: if stale { NO_VALUE } else { 0 },
        value: (!stale).then_some(Number::AsDouble(value)),
        ..Default::default()
    }
}

/// UCUM for the base units that names end with ("Metric and label naming"), else as written.
fn unit(family: &Family) -> String {
    let name = family.name.strip_suffix("_total").unwrap_or(&family.name);
    let word = if family.unit.is_empty() {
        name.rsplit_once('_').map_or("", |(_, last)| last)
    } else {
        family.unit.as_str()
    };
    match word {
        "seconds" => "s".to_owned(),
        "bytes" => "By".to_owned(),
        "ratio" => "1".to_owned(),
        "celsius" => "Cel".to_owned(),
        "volts" => "V".to_owned(),
        "joules" => "J".to_owned(),
        _ => family.unit.clone(),
    }
}

fn metric(
    family: &Family,
    memory: &mut Memory,
    limits: Limits,
    now: Time,
    turned: &mut u64,
) -> Vec<Metric> {
    let shape = |data: Data| Metric {
        name: family.name.clone(),
        description: family.help.clone(),
        unit: unit(family),
        data: Some(data),
        ..Default::default()
    };
    let mut room = Room { family, memory, limits, now, turned };
    match family.kind {
        Kind::Counter => {
            let data_points = room.counters();
            vec![shape(Data::Sum(Sum {
                data_points,
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
            }))]
        }
        Kind::Histogram => vec![shape(Data::Histogram(Histogram {
            data_points: room.histograms(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        }))],
        Kind::Summary => vec![shape(Data::Summary(Summary { data_points: room.summaries() }))],
        // OTLP has no histogram of a present state: its samples stay as they are.
        Kind::GaugeHistogram => {
            let mut metrics = Vec::new();
            for (suffix, data_points) in room.gauge_histogram() {
                let mut metric = shape(Data::Gauge(Gauge { data_points }));
                metric.name.push_str(suffix);
                metrics.push(metric);
            }
            metrics
        }
        Kind::Gauge | Kind::Info | Kind::StateSet | Kind::Unknown => {
            vec![shape(Data::Gauge(Gauge { data_points: room.gauges() }))]
        }
    }
    .into_iter()
    .filter(|metric| points_of(metric) > 0)
    .collect()
}

/// The series of one metric, as far as there is room.
struct Room<'a> {
    family: &'a Family,
    memory: &'a mut Memory,
    limits: Limits,
    now: Time,
    turned: &'a mut u64,
}

impl<'a> Room<'a> {
    /// Points that may stand for themselves, with their series and time.
    fn admitted(
        &mut self,
        mut beyond: impl FnMut(&mut Memory, u64, &Point),
    ) -> Vec<(u64, &'a Labels, &'a Point, Time)> {
        let mut out = Vec::new();
        for (labels, point) in &self.family.points {
            let series = key(&self.family.name, labels);
            let bound = self.limits.series;
            if self.memory.admit(&self.family.name, series, bound, self.now) {
                out.push((series, labels, point, point.time_ns.map_or(self.now, Time)));
            } else {
                *self.turned += 1;
                beyond(self.memory, series, point);
            }
        }
        out
    }

    fn counters(&mut self) -> Vec<NumberDataPoint> {
        let (family, now) = (self.family, self.now);
        let mut other = None;
        let admitted = self.admitted(|memory, series, point| {
            if let Some(value) = point.value {
                other = Some(memory.fold(&family.name, series, value, now));
            }
        });
        let mut out = Vec::new();
        for (series, labels, point, at) in admitted {
            let Some(value) = point.value else { continue };
            let start = self.memory.start(series, value, point.created_ns.map(Time), at);
            out.push(number(attributes(labels), Some(start), at, value));
        }
        if let Some((risen, since)) = other {
            out.push(number(vec![pair(OTHER, "true")], Some(since), now, risen));
        }
        out
    }

    fn gauges(&mut self) -> Vec<NumberDataPoint> {
        let points = self.admitted(|_, _, _| {}).into_iter();
        let gauge = |(_, labels, point, at): (u64, &Labels, &Point, Time)| {
            Some(number(attributes(labels), None, at, point.value?))
        };
        points.filter_map(gauge).collect()
    }

    fn histograms(&mut self) -> Vec<HistogramDataPoint> {
        let mut out = Vec::new();
        for (series, labels, point, at) in self.admitted(|_, _, _| {}) {
            let (bounds, counts) = apart(&point.buckets);
            let total =
                point.count.or_else(|| point.buckets.iter().map(|(_, n)| *n).reduce(f64::max));
            let Some(total) = total else { continue };
            let start = self.memory.start(series, total, point.created_ns.map(Time), at);
            let summed: u64 = counts.iter().sum();
            out.push(HistogramDataPoint {
                attributes: attributes(labels),
                start_time_unix_nano: start.0,
                time_unix_nano: at.0,
                // OTLP: the count is the sum of the buckets where there are any.
                count: if counts.is_empty() { whole(total) } else { summed },
                sum: point.sum.filter(|sum| sum.is_finite()),
                bucket_counts: counts,
                explicit_bounds: bounds,
                ..Default::default()
            });
        }
        out
    }

    fn summaries(&mut self) -> Vec<SummaryDataPoint> {
        let mut out = Vec::new();
        for (series, labels, point, at) in self.admitted(|_, _, _| {}) {
            let count = point.count.unwrap_or_default();
            let start = self.memory.start(series, count, point.created_ns.map(Time), at);
            // A quantile of nothing is NaN, which is to say: unknown.
            let known = point.quantiles.iter().filter(|(_, value)| value.is_finite());
            let value_at = |&(quantile, value): &(f64, f64)| ValueAtQuantile { quantile, value };
            out.push(SummaryDataPoint {
                attributes: attributes(labels),
                start_time_unix_nano: start.0,
                time_unix_nano: at.0,
                count: whole(count),
                sum: point.sum.unwrap_or_default(),
                quantile_values: known.map(value_at).collect(),
                ..Default::default()
            });
        }
        out
    }

    fn gauge_histogram(&mut self) -> [(&'static str, Vec<NumberDataPoint>); 3] {
        let mut out = [("_bucket", Vec::new()), ("_gsum", Vec::new()), ("_gcount", Vec::new())];
        let [(_, buckets), (_, sums), (_, counts)] = &mut out;
        for (_, labels, point, at) in self.admitted(|_, _, _| {}) {
            for (le, n) in &point.buckets {
                let mut with = attributes(labels);
                with.push(pair("le", &le.to_string()));
                buckets.push(number(with, None, at, *n));
            }
            sums.extend(point.sum.map(|sum| number(attributes(labels), None, at, sum)));
            counts.extend(point.count.map(|n| number(attributes(labels), None, at, n)));
        }
        out
    }
}

/// Cumulative buckets as bounds and what lies between them. The last count is beyond the last bound.
fn apart(cumulative: &[(f64, f64)]) -> (Vec<f64>, Vec<u64>) {
    let mut sorted: Vec<(f64, f64)> =
        cumulative.iter().copied().filter(|(le, _)| !le.is_nan()).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    sorted.dedup_by(|b, a| a.0 == b.0);
    let mut before = 0;
    let mut bounds = Vec::new();
    let mut counts = Vec::new();
    for (le, n) in sorted {
        // Read while requests went on, a later bucket may be behind an earlier one.
        let upto = whole(n).max(before);
        counts.push(upto - before);
        before = upto;
        if le.is_finite() {
            bounds.push(le);
        }
    }
    if counts.len() == bounds.len() && !counts.is_empty() {
        counts.push(0);
    }
    (bounds, counts)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and a count that is none counts nothing"
)]
fn whole(n: f64) -> u64 {
    n.round() as u64
}

/// What every scrape says of itself, under the names that Prometheus gives it.
fn health(outcome: Outcome, now: Time) -> Vec<Metric> {
    let gauge = |name: &str, description: &str, unit: &str, value: f64| Metric {
        name: name.to_owned(),
        description: description.to_owned(),
        unit: unit.to_owned(),
        data: Some(Data::Gauge(Gauge { data_points: vec![number(Vec::new(), None, now, value)] })),
        ..Default::default()
    };
    let up = if outcome.up { 1.0 } else { 0.0 };
    let samples = coral_model::num::f64_from(outcome.samples);
    vec![
        gauge("up", "1: the scrape was read, 0: it failed", "1", up),
        gauge("scrape_duration_seconds", "How long the scrape took", "s", outcome.seconds),
        gauge("scrape_samples_scraped", "Samples in the answer", "1", samples),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::families;
    use super::super::text::Dialect;
    use super::*;
    use coral_model::time::SECOND;

    fn origin() -> Origin {
        Origin { service: "pay".into(), instance: "127.0.0.1:9".into(), host: Some("h".into()) }
    }

    fn scrape(
        text: &str,
        memory: &mut Memory,
        limits: Limits,
        second: u64,
    ) -> (Vec<Metric>, Answer) {
        let mut answer = families::read(text.as_bytes(), Dialect::Classic, limits).unwrap();
        let outcome = Outcome { up: true, seconds: 0.5, samples: answer.samples };
        let now = Time(second * SECOND);
        let requests = requests(&mut answer, &origin(), memory, limits, outcome, now);
        let metrics = requests.into_iter().flat_map(|r| r.resource_metrics);
        let scopes = metrics.flat_map(|r| r.scope_metrics);
        (scopes.flat_map(|s| s.metrics).collect(), answer)
    }

    fn once(text: &str) -> Vec<Metric> {
        scrape(text, &mut Memory::default(), Limits::default(), 7).0
    }

    #[test]
    fn a_histogram_loses_its_running_totals() {
        let metrics = once(
            "# TYPE d_seconds histogram\nd_seconds_bucket{le=\"0.5\"} 4\nd_seconds_bucket{le=\"0.1\"} 3\n\
             d_seconds_bucket{le=\"+Inf\"} 9\nd_seconds_sum 8.5\nd_seconds_count 9\n",
        );
        let Some(Data::Histogram(data)) = &metrics[0].data else { panic!("{metrics:?}") };
        let point = &data.data_points[0];
        assert_eq!(point.explicit_bounds, [0.1, 0.5]);
        assert_eq!(point.bucket_counts, [3, 1, 5]);
        assert_eq!((point.count, point.sum), (9, Some(8.5)));
        assert_eq!((metrics[0].unit.as_str(), data.aggregation_temporality), ("s", 2));
        let names: Vec<_> = metrics.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["d_seconds", "up", "scrape_duration_seconds", "scrape_samples_scraped"]);
    }

    #[test]
    fn buckets_that_disagree_or_have_no_end_stay_consistent() {
        assert_eq!(
            apart(&[(0.1, 5.0), (0.5, 3.0), (f64::INFINITY, 6.0)]),
            (vec![0.1, 0.5], vec![5, 0, 1])
        );
        assert_eq!(apart(&[(0.1, 5.0)]), (vec![0.1], vec![5, 0]));
        assert_eq!(apart(&[]), (vec![], vec![]));
        assert_eq!(apart(&[(f64::NAN, 5.0), (f64::INFINITY, -1.0)]), (vec![], vec![0]));
    }

    #[test]
    fn counters_know_since_when_and_gauges_need_not() {
        let mut memory = Memory::default();
        let text =
            |n: u32| format!("# TYPE hits_total counter\nhits_total {n}\n# TYPE g gauge\ng -2\n");
        let start = |metrics: &[Metric]| {
            let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("{metrics:?}") };
            assert!(sum.is_monotonic);
            sum.data_points[0].start_time_unix_nano / SECOND
        };
        assert_eq!(start(&scrape(&text(5), &mut memory, Limits::default(), 10).0), 10);
        assert_eq!(start(&scrape(&text(9), &mut memory, Limits::default(), 20).0), 10);
        assert_eq!(start(&scrape(&text(1), &mut memory, Limits::default(), 30).0), 20);
    }

    #[test]
    fn what_is_stale_or_unknown_has_no_value() {
        let metrics = once("# TYPE s summary\ns{quantile=\"0.5\"} NaN\ns_count 0\ns_sum 0\n");
        let Some(Data::Summary(data)) = &metrics[0].data else { panic!("{metrics:?}") };
        assert_eq!(data.data_points[0].quantile_values, []);
        let point = number(Vec::new(), None, Time(1), f64::from_bits(STALE));
        assert_eq!((point.value, point.flags), (None, NO_VALUE));
    }

    #[test]
    fn series_beyond_the_bound_are_added_up_and_counted() {
        let limits = Limits { series: 2, ..Limits::default() };
        let mut memory = Memory::default();
        let text = |n: u32| {
            let lines: Vec<String> =
                (0..5).map(|u| format!("hits_total{{u=\"{u}\"}} {n}")).collect();
            let gauges: Vec<String> = (0..5).map(|u| format!("g{{u=\"{u}\"}} {n}")).collect();
            format!("# TYPE hits_total counter\n{}\n{}\n", lines.join("\n"), gauges.join("\n"))
        };
        scrape(&text(10), &mut memory, limits, 1);
        let (metrics, answer) = scrape(&text(12), &mut memory, limits, 2);
        let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("{metrics:?}") };
        assert_eq!(sum.data_points.len(), 3);
        let other = &sum.data_points[2];
        assert_eq!(other.attributes[0].key, OTHER);
        assert_eq!(other.value, Some(Number::AsDouble(6.0)), "three series rose by two each");
        let Some(Data::Gauge(gauge)) = &metrics[1].data else { panic!("{metrics:?}") };
        assert_eq!(gauge.data_points.len(), 2);
        assert_eq!(answer.turned.series, 6);
    }

    #[test]
    fn large_answers_are_cut_into_requests() {
        let mut text = String::new();
        for metric in 0..30 {
            for n in 0..1_000 {
                text.push_str(&format!("m{metric}{{n=\"{n}\"}} {n}\n"));
            }
        }
        let limits = Limits::default();
        let mut answer = families::read(text.as_bytes(), Dialect::Classic, limits).unwrap();
        let outcome = Outcome { up: true, seconds: 0.0, samples: answer.samples };
        let all =
            requests(&mut answer, &origin(), &mut Memory::default(), limits, outcome, Time(1));
        assert_eq!(all.len(), 4);
    }
}

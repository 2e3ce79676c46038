//! Metric points of every OTLP shape into columns.
//!
//! Metrics come seldom (once a minute and process, mostly) and in five shapes, so here the message
//! tree is built; spans and logs, which come in floods, are walked.

use std::sync::PoisonError;

use coral_model::num::f64_from;
use coral_model::time::Time;
use coral_model::view::MetricKind;
use coral_proto::otlp::value::Value;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use otlp::exponential_histogram_data_point::Buckets;
use otlp::metric::Data;
use otlp::number_data_point::Value as Number;
use prost::Message as _;
use serde_json::{Map, Value as Json, json};

use super::{Decoded, Decoder, Trouble};
use crate::store::Resource;
use crate::store::columns::metrics::Point;

/// `DataPointFlags::NO_RECORDED_VALUE_MASK`: the series ended; its value means nothing.
const NO_VALUE: u32 = 1;
/// The attribute that marks a point of a series beyond the bound. Its value is a hash of the series:
/// cumulative points of different series must not be taken for one.
pub const FOLDED: &str = "__other__";

/// What all points of a metric share.
struct Metric<'a> {
    name: &'a str,
    unit: &'a str,
    description: &'a str,
    kind: MetricKind,
    temporality: &'static str,
    resource: &'a Resource,
    received: u64,
    now: Time,
}

/// What a point adds to its metric.
#[derive(Default)]
struct Values {
    value: Option<f64>,
    count: Option<u64>,
    sum: Option<f64>,
    bounds: Vec<f64>,
    counts: Vec<u64>,
    extra: Map<String, Json>,
}

impl Decoder {
    pub(super) fn metrics(
        &mut self,
        body: &[u8],
        received: u64,
        now: Time,
        out: &mut Decoded,
    ) -> Result<(), String> {
        let request = ExportMetricsServiceRequest::decode(body).map_err(|e| e.to_string())?;
        let mut trouble = Trouble::default();
        for found in request.resource_metrics {
            let bytes = found.resource.map(|r| r.encode_to_vec()).unwrap_or_default();
            let resource = match self.resources.meet(&bytes, &mut out.batch) {
                Ok(resource) => resource,
                Err(error) => {
                    trouble.note(error);
                    continue;
                }
            };
            for metric in found.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                let Some(data) = &metric.data else {
                    out.invalid += 1;
                    continue;
                };
                let (kind, temporality) = shape(data);
                let metric = Metric {
                    name: &metric.name,
                    unit: &metric.unit,
                    description: &metric.description,
                    kind,
                    temporality,
                    resource: &resource,
                    received,
                    now,
                };
                self.points(&metric, data, out, &mut trouble);
            }
        }
        trouble.result()
    }

    fn points(&self, metric: &Metric<'_>, data: &Data, out: &mut Decoded, trouble: &mut Trouble) {
        let mut point = |attributes: &[KeyValue], times: (u64, u64), values: Values| {
            if let Err(error) = self.push(metric, attributes, times, values, out) {
                trouble.note(error);
            }
        };
        match data {
            Data::Gauge(otlp::Gauge { data_points }) | Data::Sum(otlp::Sum { data_points, .. }) => {
                for p in data_points {
                    let times = (p.time_unix_nano, p.start_time_unix_nano);
                    point(&p.attributes, times, number(p));
                }
            }
            Data::Histogram(histogram) => {
                for p in &histogram.data_points {
                    let times = (p.time_unix_nano, p.start_time_unix_nano);
                    point(&p.attributes, times, explicit(p));
                }
            }
            Data::ExponentialHistogram(histogram) => {
                for p in &histogram.data_points {
                    let times = (p.time_unix_nano, p.start_time_unix_nano);
                    point(&p.attributes, times, exponential(p));
                }
            }
            Data::Summary(summary) => {
                for p in &summary.data_points {
                    let times = (p.time_unix_nano, p.start_time_unix_nano);
                    point(&p.attributes, times, quantiles(p));
                }
            }
        }
    }

    fn push(
        &self,
        metric: &Metric<'_>,
        attributes: &[KeyValue],
        (time, start): (u64, u64),
        values: Values,
        out: &mut Decoded,
    ) -> Result<(), String> {
        let resource = metric.resource;
        let mut pairs = Vec::with_capacity(attributes.len());
        for pair in attributes {
            pairs.push((pair.key.clone(), text(pair.value.as_ref())?));
        }
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let beyond = series.beyond(&resource.service, metric.name, resource.id, &pairs, metric.now);
        drop(series);
        let map = &mut out.batch.metrics.attributes;
        match beyond {
            None => {
                for (key, value) in &pairs {
                    out.attributes_dropped += u64::from(!map.pair(key, value));
                }
            }
            Some(mark) => {
                out.folded += 1;
                map.pair(FOLDED, &format!("{mark:016x}"));
            }
        }
        let extra = if values.extra.is_empty() {
            String::new()
        } else {
            Json::Object(values.extra).to_string()
        };
        let point = Point {
            time_ns: if time > 0 { time } else { metric.received },
            start_ns: start,
            metric: metric.name,
            kind: metric.kind,
            unit: metric.unit,
            description: metric.description,
            temporality: metric.temporality,
            service: &resource.service,
            resource: resource.id,
            value: values.value,
            count: values.count,
            sum: values.sum,
            bounds: &values.bounds,
            counts: &values.counts,
            extra: &extra,
        };
        out.batch.metrics.push(&point).map_err(|e| e.to_string())
    }
}

fn shape(data: &Data) -> (MetricKind, &'static str) {
    match data {
        Data::Gauge(_) => (MetricKind::Gauge, ""),
        Data::Sum(sum) => {
            let kind =
                if sum.is_monotonic { MetricKind::Counter } else { MetricKind::UpDownCounter };
            (kind, temporality(sum.aggregation_temporality))
        }
        Data::Histogram(h) => (MetricKind::Histogram, temporality(h.aggregation_temporality)),
        Data::ExponentialHistogram(h) => {
            (MetricKind::ExponentialHistogram, temporality(h.aggregation_temporality))
        }
        Data::Summary(_) => (MetricKind::Summary, ""),
    }
}

/// `AggregationTemporality`.
fn temporality(number: i32) -> &'static str {
    match number {
        1 => "delta",
        2 => "cumulative",
        _ => "",
    }
}

fn number(point: &otlp::NumberDataPoint) -> Values {
    let value = match point.value {
        _ if point.flags & NO_VALUE != 0 => None,
        Some(Number::AsDouble(value)) => Some(value),
        Some(Number::AsInt(value)) => {
            let size = f64_from(value.unsigned_abs());
            Some(if value < 0 { -size } else { size })
        }
        None => None,
    };
    Values { value, ..Values::default() }
}

fn explicit(point: &otlp::HistogramDataPoint) -> Values {
    if point.flags & NO_VALUE != 0 {
        return Values::default();
    }
    Values {
        count: Some(point.count),
        sum: point.sum,
        bounds: point.explicit_bounds.clone(),
        counts: point.bucket_counts.clone(),
        extra: extremes(point.min, point.max),
        ..Values::default()
    }
}

fn exponential(point: &otlp::ExponentialHistogramDataPoint) -> Values {
    if point.flags & NO_VALUE != 0 {
        return Values::default();
    }
    let mut extra = extremes(point.min, point.max);
    extra.insert("scale".into(), point.scale.into());
    extra.insert("zero_count".into(), point.zero_count.into());
    extra.insert("zero_threshold".into(), json!(point.zero_threshold));
    let mut side = |name: &str, buckets: Option<&Buckets>| {
        if let Some(buckets) = buckets {
            let value = json!({ "offset": buckets.offset, "counts": buckets.bucket_counts });
            extra.insert(name.to_owned(), value);
        }
    };
    side("positive", point.positive.as_ref());
    side("negative", point.negative.as_ref());
    Values { count: Some(point.count), sum: point.sum, extra, ..Values::default() }
}

fn quantiles(point: &otlp::SummaryDataPoint) -> Values {
    if point.flags & NO_VALUE != 0 {
        return Values::default();
    }
    let quantiles = &point.quantile_values;
    let quantiles: Map<String, Json> =
        quantiles.iter().map(|q| (q.quantile.to_string(), json!(q.value))).collect();
    let extra = [("quantiles".to_owned(), Json::Object(quantiles))].into_iter().collect();
    Values { count: Some(point.count), sum: Some(point.sum), extra, ..Values::default() }
}

fn extremes(min: Option<f64>, max: Option<f64>) -> Map<String, Json> {
    let named = [("min", min), ("max", max)];
    named.into_iter().filter_map(|(name, x)| x.map(|x| (name.to_owned(), json!(x)))).collect()
}

/// A value as text, exactly as [`Value::write_text`] writes it.
fn text(value: Option<&AnyValue>) -> Result<String, String> {
    match value.and_then(|v| v.value.as_ref()) {
        None => Ok(String::new()),
        Some(any_value::Value::StringValue(text)) => Ok(text.clone()),
        Some(_) => {
            let bytes = value.map(AnyValue::encode_to_vec).unwrap_or_default();
            Value::parse(&bytes).and_then(|v| v.to_text()).map_err(|e| e.to_string())
        }
    }
}

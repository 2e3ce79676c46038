//! The shape of OTLP's messages as tables, and a check of bytes against them.
//!
//! A body that is accepted must be readable by whoever comes later. [`check`] walks every field of
//! a message once, without building anything: lengths, wire types, UTF-8 and depth. The same tables
//! carry OTLP's JSON names, so that a JSON body can be turned into protobuf by them.
//! Source: opentelemetry-proto v1.

use super::value::MAX_DEPTH;
use super::wire::{Field, Fields, WireError};

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    /// `uint32`, `uint64`, `int32`, `int64`.
    Int,
    /// `sint32`: zigzag.
    ZigZag,
    /// `bool`.
    Bool,
    /// An enum, and the prefix-less names of its values in order.
    Enum(&'static [&'static str]),
    /// `fixed64`.
    Fixed64,
    /// `sfixed64`.
    SFixed64,
    /// `double`.
    Double,
    /// `fixed32`.
    Fixed32,
    /// `string`.
    Text,
    /// `bytes`; base64 in JSON.
    Bytes,
    /// `bytes`; hex in JSON (trace and span ids).
    Hex,
    /// A message.
    Message(&'static Schema),
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Field number.
    pub number: u32,
    /// Name in JSON.
    pub json: &'static str,
    /// What it holds.
    pub ty: Type,
    /// Whether it may occur more than once (and, for numbers, come packed).
    pub repeated: bool,
}

/// A message.
#[derive(Debug)]
pub struct Schema {
    /// Its name, for errors.
    pub name: &'static str,
    /// Its fields, ascending by number.
    pub fields: &'static [Shape],
    /// Whether it adds a level of nesting that a sender may choose freely.
    nests: bool,
}

impl Schema {
    /// The field with this number.
    #[inline]
    #[must_use]
    pub fn by_number(&self, number: u32) -> Option<&'static Shape> {
        // Most messages number their fields without gaps: try that place first.
        let guess = usize::try_from(number).ok()?.checked_sub(1)?;
        match self.fields.get(guess) {
            Some(shape) if shape.number == number => Some(shape),
            _ => self.fields.iter().find(|shape| shape.number == number),
        }
    }

    /// The field with this JSON name (or its protobuf name, which JSON parsers must accept too).
    #[must_use]
    pub fn by_json(&self, name: &str) -> Option<&'static Shape> {
        self.fields.iter().find(|shape| shape.json == name || is_snake_of(name, shape.json))
    }
}

/// Whether `snake` is the snake_case spelling of the camelCase `camel`.
fn is_snake_of(snake: &str, camel: &str) -> bool {
    let mut rest = snake.bytes();
    for c in camel.bytes() {
        if c.is_ascii_uppercase() {
            if rest.next() != Some(b'_') || rest.next() != Some(c.to_ascii_lowercase()) {
                return false;
            }
        } else if rest.next() != Some(c) {
            return false;
        }
    }
    rest.next().is_none()
}

/// Checks that `message` can be read as `schema` in full.
pub fn check(schema: &Schema, message: &[u8]) -> Result<(), WireError> {
    check_at(schema, message, 0)
}

fn check_at(schema: &Schema, message: &[u8], depth: usize) -> Result<(), WireError> {
    let depth = depth + usize::from(schema.nests);
    if depth > MAX_DEPTH {
        return Err(WireError::TooDeep);
    }
    for field in Fields::new(message) {
        let (number, field) = field?;
        if let Some(shape) = schema.by_number(number) {
            check_field(shape, field, depth)?;
        }
    }
    Ok(())
}

#[inline]
pub(super) fn check_field(shape: &Shape, field: Field<'_>, depth: usize) -> Result<(), WireError> {
    let packed = shape.repeated;
    match (shape.ty, field) {
        (Type::Message(schema), Field::Bytes(body)) => check_at(schema, body, depth),
        (Type::Text, Field::Bytes(body)) => check_text(body),
        (Type::Bytes | Type::Hex, Field::Bytes(_))
        | (Type::Int | Type::ZigZag | Type::Bool | Type::Enum(_), Field::Varint(_))
        | (Type::Fixed64 | Type::SFixed64 | Type::Double, Field::Fixed64(_))
        | (Type::Fixed32, Field::Fixed32(_)) => Ok(()),
        (Type::Fixed64 | Type::SFixed64 | Type::Double, Field::Bytes(body)) if packed => {
            if body.len().is_multiple_of(8) { Ok(()) } else { Err(WireError::Truncated) }
        }
        (Type::Int | Type::ZigZag | Type::Bool | Type::Enum(_), Field::Bytes(body)) if packed => {
            super::wire::varints(body).try_for_each(|n| n.map(|_| ()))
        }
        _ => Err(WireError::WrongType(shape.number)),
    }
}

/// Checks that bytes are UTF-8; short ASCII, which nearly everything is, takes the short way.
#[inline]
pub fn check_text(bytes: &[u8]) -> Result<(), WireError> {
    if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() {
        Ok(())
    } else {
        Err(WireError::Utf8)
    }
}

macro_rules! schema {
    ($(#[$doc:meta])* $name:ident, $text:literal, nests: $nests:literal,
     [$($number:literal $json:literal $ty:expr, $repeated:literal;)*]) => {
        $(#[$doc])*
        pub static $name: Schema = Schema {
            name: $text,
            nests: $nests,
            fields: &[$(Shape { number: $number, json: $json, ty: $ty, repeated: $repeated }),*],
        };
    };
}

const KINDS: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
const STATUSES: &[&str] = &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];
const TEMPORALITIES: &[&str] = &[
    "AGGREGATION_TEMPORALITY_UNSPECIFIED",
    "AGGREGATION_TEMPORALITY_DELTA",
    "AGGREGATION_TEMPORALITY_CUMULATIVE",
];
const SEVERITIES: &[&str] = &[
    "SEVERITY_NUMBER_UNSPECIFIED",
    "SEVERITY_NUMBER_TRACE",
    "SEVERITY_NUMBER_TRACE2",
    "SEVERITY_NUMBER_TRACE3",
    "SEVERITY_NUMBER_TRACE4",
    "SEVERITY_NUMBER_DEBUG",
    "SEVERITY_NUMBER_DEBUG2",
    "SEVERITY_NUMBER_DEBUG3",
    "SEVERITY_NUMBER_DEBUG4",
    "SEVERITY_NUMBER_INFO",
    "SEVERITY_NUMBER_INFO2",
    "SEVERITY_NUMBER_INFO3",
    "SEVERITY_NUMBER_INFO4",
    "SEVERITY_NUMBER_WARN",
    "SEVERITY_NUMBER_WARN2",
    "SEVERITY_NUMBER_WARN3",
    "SEVERITY_NUMBER_WARN4",
    "SEVERITY_NUMBER_ERROR",
    "SEVERITY_NUMBER_ERROR2",
    "SEVERITY_NUMBER_ERROR3",
    "SEVERITY_NUMBER_ERROR4",
    "SEVERITY_NUMBER_FATAL",
    "SEVERITY_NUMBER_FATAL2",
    "SEVERITY_NUMBER_FATAL3",
    "SEVERITY_NUMBER_FATAL4",
];

schema!(
    /// `AnyValue`.
    ANY_VALUE, "AnyValue", nests: true, [
        1 "stringValue" Type::Text, false;
        2 "boolValue" Type::Bool, false;
        3 "intValue" Type::Int, false;
        4 "doubleValue" Type::Double, false;
        5 "arrayValue" Type::Message(&ARRAY), false;
        6 "kvlistValue" Type::Message(&KEY_VALUE_LIST), false;
        7 "bytesValue" Type::Bytes, false;
        // Of profiles only; elsewhere it is read and has no meaning, as that of a key.
        8 "stringValueStrindex" Type::Int, false;
    ]
);
schema!(
    /// `ArrayValue`.
    ARRAY, "ArrayValue", nests: false, [
        1 "values" Type::Message(&ANY_VALUE), true;
    ]
);
schema!(
    /// `KeyValueList`.
    KEY_VALUE_LIST, "KeyValueList", nests: false, [
        1 "values" Type::Message(&KEY_VALUE), true;
    ]
);
schema!(
    /// `KeyValue`.
    KEY_VALUE, "KeyValue", nests: false, [
        1 "key" Type::Text, false;
        2 "value" Type::Message(&ANY_VALUE), false;
        3 "keyStrindex" Type::Int, false;
    ]
);
schema!(
    /// `InstrumentationScope`.
    SCOPE, "InstrumentationScope", nests: false, [
        1 "name" Type::Text, false;
        2 "version" Type::Text, false;
        3 "attributes" Type::Message(&KEY_VALUE), true;
        4 "droppedAttributesCount" Type::Int, false;
    ]
);
schema!(
    /// `EntityRef`.
    ENTITY, "EntityRef", nests: false, [
        1 "schemaUrl" Type::Text, false;
        2 "type" Type::Text, false;
        3 "idKeys" Type::Text, true;
        4 "descriptionKeys" Type::Text, true;
    ]
);
schema!(
    /// `Resource`.
    RESOURCE, "Resource", nests: false, [
        1 "attributes" Type::Message(&KEY_VALUE), true;
        2 "droppedAttributesCount" Type::Int, false;
        3 "entityRefs" Type::Message(&ENTITY), true;
    ]
);
schema!(
    /// `ExportTraceServiceRequest`.
    TRACES, "ExportTraceServiceRequest", nests: false, [
        1 "resourceSpans" Type::Message(&RESOURCE_SPANS), true;
    ]
);
schema!(
    /// `ResourceSpans`.
    RESOURCE_SPANS, "ResourceSpans", nests: false, [
        1 "resource" Type::Message(&RESOURCE), false;
        2 "scopeSpans" Type::Message(&SCOPE_SPANS), true;
        3 "schemaUrl" Type::Text, false;
    ]
);
schema!(
    /// `ScopeSpans`.
    SCOPE_SPANS, "ScopeSpans", nests: false, [
        1 "scope" Type::Message(&SCOPE), false;
        2 "spans" Type::Message(&SPAN), true;
        3 "schemaUrl" Type::Text, false;
    ]
);
schema!(
    /// `Span`.
    SPAN, "Span", nests: false, [
        1 "traceId" Type::Hex, false;
        2 "spanId" Type::Hex, false;
        3 "traceState" Type::Text, false;
        4 "parentSpanId" Type::Hex, false;
        5 "name" Type::Text, false;
        6 "kind" Type::Enum(KINDS), false;
        7 "startTimeUnixNano" Type::Fixed64, false;
        8 "endTimeUnixNano" Type::Fixed64, false;
        9 "attributes" Type::Message(&KEY_VALUE), true;
        10 "droppedAttributesCount" Type::Int, false;
        11 "events" Type::Message(&SPAN_EVENT), true;
        12 "droppedEventsCount" Type::Int, false;
        13 "links" Type::Message(&SPAN_LINK), true;
        14 "droppedLinksCount" Type::Int, false;
        15 "status" Type::Message(&STATUS), false;
        16 "flags" Type::Fixed32, false;
    ]
);
schema!(
    /// `Span.Event`.
    SPAN_EVENT, "Span.Event", nests: false, [
        1 "timeUnixNano" Type::Fixed64, false;
        2 "name" Type::Text, false;
        3 "attributes" Type::Message(&KEY_VALUE), true;
        4 "droppedAttributesCount" Type::Int, false;
    ]
);
schema!(
    /// `Span.Link`.
    SPAN_LINK, "Span.Link", nests: false, [
        1 "traceId" Type::Hex, false;
        2 "spanId" Type::Hex, false;
        3 "traceState" Type::Text, false;
        4 "attributes" Type::Message(&KEY_VALUE), true;
        5 "droppedAttributesCount" Type::Int, false;
        6 "flags" Type::Fixed32, false;
    ]
);
schema!(
    /// `Status`.
    STATUS, "Status", nests: false, [
        2 "message" Type::Text, false;
        3 "code" Type::Enum(STATUSES), false;
    ]
);
schema!(
    /// `ExportLogsServiceRequest`.
    LOGS, "ExportLogsServiceRequest", nests: false, [
        1 "resourceLogs" Type::Message(&RESOURCE_LOGS), true;
    ]
);
schema!(
    /// `ResourceLogs`.
    RESOURCE_LOGS, "ResourceLogs", nests: false, [
        1 "resource" Type::Message(&RESOURCE), false;
        2 "scopeLogs" Type::Message(&SCOPE_LOGS), true;
        3 "schemaUrl" Type::Text, false;
    ]
);
schema!(
    /// `ScopeLogs`.
    SCOPE_LOGS, "ScopeLogs", nests: false, [
        1 "scope" Type::Message(&SCOPE), false;
        2 "logRecords" Type::Message(&LOG_RECORD), true;
        3 "schemaUrl" Type::Text, false;
    ]
);
schema!(
    /// `LogRecord`.
    LOG_RECORD, "LogRecord", nests: false, [
        1 "timeUnixNano" Type::Fixed64, false;
        2 "severityNumber" Type::Enum(SEVERITIES), false;
        3 "severityText" Type::Text, false;
        5 "body" Type::Message(&ANY_VALUE), false;
        6 "attributes" Type::Message(&KEY_VALUE), true;
        7 "droppedAttributesCount" Type::Int, false;
        8 "flags" Type::Fixed32, false;
        9 "traceId" Type::Hex, false;
        10 "spanId" Type::Hex, false;
        11 "observedTimeUnixNano" Type::Fixed64, false;
        12 "eventName" Type::Text, false;
    ]
);
schema!(
    /// `ExportMetricsServiceRequest`.
    METRICS, "ExportMetricsServiceRequest", nests: false, [
        1 "resourceMetrics" Type::Message(&RESOURCE_METRICS), true;
    ]
);
schema!(
    /// `ResourceMetrics`.
    RESOURCE_METRICS, "ResourceMetrics", nests: false, [
        1 "resource" Type::Message(&RESOURCE), false;
        2 "scopeMetrics" Type::Message(&SCOPE_METRICS), true;
        3 "schemaUrl" Type::Text, false;
    ]
);
schema!(
    /// `ScopeMetrics`.
    SCOPE_METRICS, "ScopeMetrics", nests: false, [
        1 "scope" Type::Message(&SCOPE), false;
        2 "metrics" Type::Message(&METRIC), true;
        3 "schemaUrl" Type::Text, false;
    ]
);
schema!(
    /// `Metric`.
    METRIC, "Metric", nests: false, [
        1 "name" Type::Text, false;
        2 "description" Type::Text, false;
        3 "unit" Type::Text, false;
        5 "gauge" Type::Message(&GAUGE), false;
        7 "sum" Type::Message(&SUM), false;
        9 "histogram" Type::Message(&HISTOGRAM), false;
        10 "exponentialHistogram" Type::Message(&EXP_HISTOGRAM), false;
        11 "summary" Type::Message(&SUMMARY), false;
        12 "metadata" Type::Message(&KEY_VALUE), true;
    ]
);
schema!(
    /// `Gauge`.
    GAUGE, "Gauge", nests: false, [
        1 "dataPoints" Type::Message(&NUMBER_POINT), true;
    ]
);
schema!(
    /// `Sum`.
    SUM, "Sum", nests: false, [
        1 "dataPoints" Type::Message(&NUMBER_POINT), true;
        2 "aggregationTemporality" Type::Enum(TEMPORALITIES), false;
        3 "isMonotonic" Type::Bool, false;
    ]
);
schema!(
    /// `Histogram`.
    HISTOGRAM, "Histogram", nests: false, [
        1 "dataPoints" Type::Message(&HISTOGRAM_POINT), true;
        2 "aggregationTemporality" Type::Enum(TEMPORALITIES), false;
    ]
);
schema!(
    /// `ExponentialHistogram`.
    EXP_HISTOGRAM, "ExponentialHistogram", nests: false, [
        1 "dataPoints" Type::Message(&EXP_POINT), true;
        2 "aggregationTemporality" Type::Enum(TEMPORALITIES), false;
    ]
);
schema!(
    /// `Summary`.
    SUMMARY, "Summary", nests: false, [
        1 "dataPoints" Type::Message(&SUMMARY_POINT), true;
    ]
);
schema!(
    /// `NumberDataPoint`.
    NUMBER_POINT, "NumberDataPoint", nests: false, [
        2 "startTimeUnixNano" Type::Fixed64, false;
        3 "timeUnixNano" Type::Fixed64, false;
        4 "asDouble" Type::Double, false;
        5 "exemplars" Type::Message(&EXEMPLAR), true;
        6 "asInt" Type::SFixed64, false;
        7 "attributes" Type::Message(&KEY_VALUE), true;
        8 "flags" Type::Int, false;
    ]
);
schema!(
    /// `HistogramDataPoint`.
    HISTOGRAM_POINT, "HistogramDataPoint", nests: false, [
        2 "startTimeUnixNano" Type::Fixed64, false;
        3 "timeUnixNano" Type::Fixed64, false;
        4 "count" Type::Fixed64, false;
        5 "sum" Type::Double, false;
        6 "bucketCounts" Type::Fixed64, true;
        7 "explicitBounds" Type::Double, true;
        8 "exemplars" Type::Message(&EXEMPLAR), true;
        9 "attributes" Type::Message(&KEY_VALUE), true;
        10 "flags" Type::Int, false;
        11 "min" Type::Double, false;
        12 "max" Type::Double, false;
    ]
);
schema!(
    /// `ExponentialHistogramDataPoint`.
    EXP_POINT, "ExponentialHistogramDataPoint", nests: false, [
        1 "attributes" Type::Message(&KEY_VALUE), true;
        2 "startTimeUnixNano" Type::Fixed64, false;
        3 "timeUnixNano" Type::Fixed64, false;
        4 "count" Type::Fixed64, false;
        5 "sum" Type::Double, false;
        6 "scale" Type::ZigZag, false;
        7 "zeroCount" Type::Fixed64, false;
        8 "positive" Type::Message(&EXP_BUCKETS), false;
        9 "negative" Type::Message(&EXP_BUCKETS), false;
        10 "flags" Type::Int, false;
        11 "exemplars" Type::Message(&EXEMPLAR), true;
        12 "min" Type::Double, false;
        13 "max" Type::Double, false;
        14 "zeroThreshold" Type::Double, false;
    ]
);
schema!(
    /// `ExponentialHistogramDataPoint.Buckets`.
    EXP_BUCKETS, "Buckets", nests: false, [
        1 "offset" Type::ZigZag, false;
        2 "bucketCounts" Type::Int, true;
    ]
);
schema!(
    /// `SummaryDataPoint`.
    SUMMARY_POINT, "SummaryDataPoint", nests: false, [
        2 "startTimeUnixNano" Type::Fixed64, false;
        3 "timeUnixNano" Type::Fixed64, false;
        4 "count" Type::Fixed64, false;
        5 "sum" Type::Double, false;
        6 "quantileValues" Type::Message(&QUANTILE), true;
        7 "attributes" Type::Message(&KEY_VALUE), true;
        8 "flags" Type::Int, false;
    ]
);
schema!(
    /// `SummaryDataPoint.ValueAtQuantile`.
    QUANTILE, "ValueAtQuantile", nests: false, [
        1 "quantile" Type::Double, false;
        2 "value" Type::Double, false;
    ]
);
schema!(
    /// `Exemplar`.
    EXEMPLAR, "Exemplar", nests: false, [
        2 "timeUnixNano" Type::Fixed64, false;
        3 "asDouble" Type::Double, false;
        4 "spanId" Type::Hex, false;
        5 "traceId" Type::Hex, false;
        6 "asInt" Type::SFixed64, false;
        7 "filteredAttributes" Type::Message(&KEY_VALUE), true;
    ]
);

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1 as otlp;
    use proptest::prelude::*;
    use prost::Message as _;

    fn metrics() -> ExportMetricsServiceRequest {
        let point = otlp::ExponentialHistogramDataPoint {
            scale: -3,
            count: 9,
            positive: Some(otlp::exponential_histogram_data_point::Buckets {
                offset: -7,
                bucket_counts: vec![1, 2, 300],
            }),
            ..Default::default()
        };
        let explicit = otlp::HistogramDataPoint {
            bucket_counts: vec![1, 2, 3],
            explicit_bounds: vec![0.5, 1.5],
            sum: Some(3.0),
            ..Default::default()
        };
        let metric =
            |data| otlp::Metric { name: "m".into(), data: Some(data), ..Default::default() };
        ExportMetricsServiceRequest {
            resource_metrics: vec![otlp::ResourceMetrics {
                scope_metrics: vec![otlp::ScopeMetrics {
                    metrics: vec![
                        metric(otlp::metric::Data::ExponentialHistogram(
                            otlp::ExponentialHistogram {
                                data_points: vec![point],
                                aggregation_temporality: 2,
                            },
                        )),
                        metric(otlp::metric::Data::Histogram(otlp::Histogram {
                            data_points: vec![explicit],
                            aggregation_temporality: 1,
                        })),
                    ],
                    ..Default::default()
                }],
                ..Default::default()
            }],
        }
    }

    #[test]
    fn what_prost_writes_passes() {
        assert_eq!(check(&METRICS, &metrics().encode_to_vec()), Ok(()));
    }

    #[test]
    fn names_are_found_in_both_spellings() {
        assert_eq!(SPAN.by_json("startTimeUnixNano").unwrap().number, 7);
        assert_eq!(SPAN.by_json("start_time_unix_nano").unwrap().number, 7);
        assert!(SPAN.by_json("start_timeUnixNano").is_none());
    }

    proptest! {
        /// Whatever passes, prost can read too: nothing accepted is a puzzle to the colony.
        #[test]
        fn what_passes_decodes(at in 0usize..400, byte: u8, cut in 0usize..400) {
            let mut bytes = metrics().encode_to_vec();
            let len = bytes.len();
            bytes[at % len] = byte;
            bytes.truncate(cut.min(len));
            if check(&METRICS, &bytes).is_ok() {
                prop_assert!(ExportMetricsServiceRequest::decode(&bytes[..]).is_ok());
            }
        }
    }
}

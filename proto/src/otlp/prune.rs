//! Which log records and metric points of a request can be taken, and the request without the others.
//!
//! A record that cannot be read, or a point that the specification calls invalid, is rejected alone;
//! damage around them (a scope, a resource, the request itself) refuses the request. Nothing is copied
//! unless something is rejected.

use super::schema::{self, Schema, Shape, Type};
use super::wire::{Field, Fields, WireError};

/// Why a record or point is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It cannot be read.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A gauge's or sum's point needs `asDouble` or `asInt`, unless flagged as having none
    /// (metrics.proto, `NumberDataPoint.value`).
    #[error("it has no value")]
    NoValue,
    /// One bucket more than there are bounds (metrics.proto, `HistogramDataPoint.bucket_counts`).
    #[error("its buckets do not fit its bounds")]
    Buckets,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Records or points that can be taken.
    pub kept: u64,
    /// Those that cannot.
    pub rejected: u64,
    /// The first of these: its place in the request, from 0, and why.
    pub first: Option<(u64, Reason)>,
}

/// Looks at every record of an `ExportLogsServiceRequest` or point of an
/// `ExportMetricsServiceRequest`.
///
/// # Errors
/// When the request around them cannot be read.
pub fn survey(schema: &'static Schema, request: &[u8]) -> Result<Survey, WireError> {
    let mut found = Survey::default();
    look(schema, request, &mut found)?;
    Ok(found)
}

fn look(schema: &'static Schema, message: &[u8], found: &mut Survey) -> Result<(), WireError> {
    for field in Fields::new(message) {
        let (number, field) = field?;
        let Some(shape) = schema.by_number(number) else { continue };
        match inner(shape, field) {
            None => schema::check_field(shape, field, 0)?,
            Some((Role::Around, inner, body)) => look(inner, body, found)?,
            Some((Role::Record, inner, body)) => match judge(inner, body) {
                Ok(()) => found.kept += 1,
                Err(reason) => {
                    found.first.get_or_insert((found.kept + found.rejected, reason));
                    found.rejected += 1;
                }
            },
        }
    }
    Ok(())
}

/// The request without the records and points that cannot be taken.
///
/// # Errors
/// When the request around them cannot be read.
pub fn without_rejected(schema: &'static Schema, request: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(request.len());
    copy(schema, request, &mut out)?;
    Ok(out)
}

fn copy(schema: &'static Schema, message: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    let mut fields = Fields::new(message);
    loop {
        let before = fields.rest();
        let Some(field) = fields.next() else { return Ok(()) };
        let (number, field) = field?;
        let whole = before.len().saturating_sub(fields.rest().len());
        let whole = before.get(..whole).unwrap_or_default();
        match schema.by_number(number).and_then(|shape| inner(shape, field)) {
            None => out.extend_from_slice(whole),
            Some((Role::Record, inner, body)) => {
                if judge(inner, body).is_ok() {
                    out.extend_from_slice(whole);
                }
            }
            Some((Role::Around, inner, body)) => {
                let mut kept = Vec::with_capacity(body.len());
                copy(inner, body, &mut kept)?;
                varint(out, u64::from(number) << 3 | 2);
                varint(out, kept.len() as u64);
                out.extend_from_slice(&kept);
            }
        }
    }
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(u8::try_from(n & 0x7f).unwrap_or(0) | 0x80);
        n >>= 7;
    }
    out.push(u8::try_from(n).unwrap_or(0));
}

#[derive(Clone, Copy)]
enum Role {
    /// It holds records, or what holds them.
    Around,
    /// It is one.
    Record,
}

/// The message in a field, if it is a record or leads to some.
fn inner<'a>(shape: &Shape, field: Field<'a>) -> Option<(Role, &'static Schema, &'a [u8])> {
    let (Type::Message(schema), Field::Bytes(body)) = (shape.ty, field) else { return None };
    let is = |known: &[&'static Schema]| known.iter().any(|k| std::ptr::eq(*k, schema));
    let role = if is(&[
        &schema::LOG_RECORD,
        &schema::NUMBER_POINT,
        &schema::HISTOGRAM_POINT,
        &schema::EXP_POINT,
        &schema::SUMMARY_POINT,
    ]) {
        Role::Record
    } else if is(&[
        &schema::RESOURCE_LOGS,
        &schema::SCOPE_LOGS,
        &schema::RESOURCE_METRICS,
        &schema::SCOPE_METRICS,
        &schema::METRIC,
        &schema::GAUGE,
        &schema::SUM,
        &schema::HISTOGRAM,
        &schema::EXP_HISTOGRAM,
        &schema::SUMMARY,
    ]) {
        Role::Around
    } else {
        return None;
    };
    Some((role, schema, body))
}

fn judge(schema: &'static Schema, body: &[u8]) -> Result<(), Reason> {
    schema::check(schema, body)?;
    if std::ptr::eq(schema, &schema::NUMBER_POINT) {
        number_point(body)
    } else if std::ptr::eq(schema, &schema::HISTOGRAM_POINT) {
        histogram_point(body)
    } else {
        Ok(())
    }
}

/// `DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`.
const NO_RECORDED_VALUE: u64 = 1;

fn number_point(body: &[u8]) -> Result<(), Reason> {
    let (mut value, mut none) = (false, false);
    for field in Fields::new(body) {
        match field? {
            (4 | 6, _) => value = true,
            (8, Field::Varint(flags)) => none = flags & NO_RECORDED_VALUE != 0,
            _ => {}
        }
    }
    if value || none { Ok(()) } else { Err(Reason::NoValue) }
}

fn histogram_point(body: &[u8]) -> Result<(), Reason> {
    let (mut counts, mut bounds) = (0usize, 0usize);
    for field in Fields::new(body) {
        let (number, field) = field?;
        let n = match field {
            Field::Bytes(packed) => packed.len() / 8,
            _ => 1,
        };
        match number {
            6 => counts += n,
            7 => bounds += n,
            _ => {}
        }
    }
    let fit = if counts == 0 { bounds == 0 } else { counts == bounds + 1 };
    if fit { Ok(()) } else { Err(Reason::Buckets) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::logs::v1 as logs;
    use opentelemetry_proto::tonic::metrics::v1 as metrics;
    use proptest::prelude::*;
    use prost::Message as _;

    fn lines(n: usize) -> ExportLogsServiceRequest {
        let record = |n| logs::LogRecord {
            time_unix_nano: 5,
            severity_text: format!("LEVEL{n}"),
            ..Default::default()
        };
        let scope =
            logs::ScopeLogs { log_records: (0..n).map(record).collect(), ..Default::default() };
        let resource = logs::ResourceLogs {
            scope_logs: vec![scope],
            schema_url: "after".into(),
            ..Default::default()
        };
        ExportLogsServiceRequest { resource_logs: vec![resource] }
    }

    #[test]
    fn a_bad_record_goes_alone() {
        let mut request = lines(4);
        let mut body = request.encode_to_vec();
        let at = body.windows(6).position(|w| w == b"LEVEL2").unwrap();
        body[at] = 0xff;
        let found = survey(&schema::LOGS, &body).unwrap();
        assert_eq!((found.kept, found.rejected), (3, 1));
        assert_eq!(found.first, Some((2, Reason::Wire(WireError::Utf8))));
        let rest = without_rejected(&schema::LOGS, &body).unwrap();
        request.resource_logs[0].scope_logs[0].log_records.remove(2);
        assert_eq!(ExportLogsServiceRequest::decode(&rest[..]).unwrap(), request);
        // Around the records nothing may be damaged.
        let at = body.windows(5).position(|w| w == b"after").unwrap();
        body[at] = 0xff;
        assert_eq!(survey(&schema::LOGS, &body), Err(WireError::Utf8));
    }

    #[test]
    fn points_without_a_value_or_with_wrong_buckets_go_alone() {
        let value = Some(metrics::number_data_point::Value::AsInt(0));
        let number = |value, flags| metrics::NumberDataPoint { value, flags, ..Default::default() };
        let sum = metrics::Sum {
            data_points: vec![number(value, 0), number(None, 0), number(None, 1)],
            ..Default::default()
        };
        let explicit = |counts: &[u64], bounds: &[f64]| metrics::HistogramDataPoint {
            bucket_counts: counts.to_vec(),
            explicit_bounds: bounds.to_vec(),
            ..Default::default()
        };
        let histogram = metrics::Histogram {
            data_points: vec![
                explicit(&[1, 2], &[0.5]),
                explicit(&[1, 2], &[0.5, 1.0]),
                explicit(&[], &[]),
            ],
            ..Default::default()
        };
        let metric = |data| metrics::Metric { data: Some(data), ..Default::default() };
        let all = vec![
            metric(metrics::metric::Data::Sum(sum)),
            metric(metrics::metric::Data::Histogram(histogram)),
        ];
        let scope = metrics::ScopeMetrics { metrics: all, ..Default::default() };
        let resource =
            metrics::ResourceMetrics { scope_metrics: vec![scope], ..Default::default() };
        let body = ExportMetricsServiceRequest { resource_metrics: vec![resource] }.encode_to_vec();
        let found = survey(&schema::METRICS, &body).unwrap();
        assert_eq!((found.kept, found.rejected), (4, 2));
        assert_eq!(found.first, Some((1, Reason::NoValue)));
        let rest = without_rejected(&schema::METRICS, &body).unwrap();
        let again = survey(&schema::METRICS, &rest).unwrap();
        assert_eq!((again.kept, again.rejected), (4, 0));
        ExportMetricsServiceRequest::decode(&rest[..]).unwrap();
    }

    proptest! {
        /// Whatever is left of a damaged request is whole, and what was whole is left as it was.
        #[test]
        fn what_is_left_is_whole(at in 0usize..400, byte: u8, cut in 0usize..400) {
            let mut bytes = lines(8).encode_to_vec();
            let len = bytes.len();
            bytes[at % len] = byte;
            bytes.truncate(cut.min(len));
            if let Ok(found) = survey(&schema::LOGS, &bytes) {
                let rest = without_rejected(&schema::LOGS, &bytes).unwrap();
                prop_assert_eq!(schema::check(&schema::LOGS, &rest), Ok(()));
                let again = survey(&schema::LOGS, &rest).unwrap();
                prop_assert_eq!((again.kept, again.rejected), (found.kept, 0));
                prop_assert!(ExportLogsServiceRequest::decode(&rest[..]).is_ok());
            }
        }
    }
}

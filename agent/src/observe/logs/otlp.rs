//! Records as an OTLP logs request.

use std::collections::BTreeMap;

use coral_model::Time;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::line::Said;
use super::places::{PLACE, Place, SCOPE};

/// Scope of what processes said before they ended.
const KEPT: &str = "coral-agent/last-output";

/// Attributes by name.
pub type Pairs = Vec<(String, String)>;

/// A request of these parts.
#[must_use]
pub fn request(resource_logs: Vec<ResourceLogs>) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest { resource_logs }
}

/// Records of one resource, and the place they were read up to.
#[must_use]
pub fn part(resource: Pairs, log_records: Vec<LogRecord>, place: &Place) -> ResourceLogs {
    let place = serde_json::to_string(place).unwrap_or_default();
    let scope = InstrumentationScope {
        name: SCOPE.to_owned(),
        attributes: pairs([(PLACE.to_owned(), place)]),
        ..Default::default()
    };
    ResourceLogs {
        resource: Some(Resource { attributes: pairs(resource), ..Default::default() }),
        scope_logs: vec![ScopeLogs { scope: Some(scope), log_records, ..Default::default() }],
        ..Default::default()
    }
}

/// Records of one resource that have no place to read on from.
#[must_use]
pub fn kept(resource: Pairs, log_records: Vec<LogRecord>) -> ResourceLogs {
    let scope = InstrumentationScope { name: KEPT.to_owned(), ..Default::default() };
    ResourceLogs {
        resource: Some(Resource { attributes: pairs(resource), ..Default::default() }),
        scope_logs: vec![ScopeLogs { scope: Some(scope), log_records, ..Default::default() }],
        ..Default::default()
    }
}

/// One record. `time` is what its container or journal says; the line's own word is weaker only than
/// that.
#[must_use]
pub fn record(said: Said, time: Option<Time>, more: Pairs, now: Time) -> LogRecord {
    let mut attributes: BTreeMap<String, String> = said.attributes;
    attributes.extend(more);
    LogRecord {
        time_unix_nano: time.or(said.time).map_or(0, |t| t.0),
        observed_time_unix_nano: now.0,
        severity_number: i32::from(said.severity),
        body: Some(AnyValue { value: Some(Value::StringValue(said.body)) }),
        attributes: pairs(attributes),
        trace_id: said.trace.map(|id| id.0.to_vec()).unwrap_or_default(),
        span_id: said.span.map(|id| id.0.to_vec()).unwrap_or_default(),
        ..Default::default()
    }
}

fn pairs(all: impl IntoIterator<Item = (String, String)>) -> Vec<KeyValue> {
    all.into_iter()
        .map(|(key, value)| KeyValue {
            key,
            value: Some(AnyValue { value: Some(Value::StringValue(value)) }),
            ..Default::default()
        })
        .collect()
}

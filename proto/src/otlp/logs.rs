//! Log records of an `ExportLogsServiceRequest`.
//! Field numbers: opentelemetry-proto v1, `logs.proto`, `collector/logs/v1/logs_service.proto`.

use super::value::{Attributes, Value};
use super::wire::{Fields, Repeated, WireError};

/// The `ResourceLogs` of an export request.
pub fn resource_logs(
    request: &[u8],
) -> impl Iterator<Item = Result<ResourceLogs<'_>, WireError>> + Clone {
    Repeated::new(request, 1).map(|body| body.and_then(ResourceLogs::parse))
}

/// Log records of one resource.
#[derive(Debug, Clone, Copy)]
pub struct ResourceLogs<'a> {
    body: &'a [u8],
    resource: &'a [u8],
}

impl<'a> ResourceLogs<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        // The resource may come after its records on the wire.
        let mut resource: &[u8] = &[];
        for found in Repeated::new(body, 1) {
            resource = found?;
        }
        Ok(Self { body, resource })
    }

    /// The resource's bytes.
    #[must_use]
    pub fn resource_bytes(&self) -> &'a [u8] {
        self.resource
    }

    /// The records, scope by scope.
    pub fn records(&self) -> impl Iterator<Item = Result<LogRecord<'a>, WireError>> + use<'a> {
        Repeated::new(self.body, 2).flat_map(|scope| {
            let (body, error) = match scope {
                Ok(body) => (body, None),
                Err(error) => (&[][..], Some(Err(error))),
            };
            let records = Repeated::new(body, 2);
            error.into_iter().chain(records.map(|record| record.and_then(LogRecord::parse)))
        })
    }
}

/// A log record, borrowed from the request.
#[derive(Debug, Clone, Copy)]
pub struct LogRecord<'a> {
    message: &'a [u8],
    /// When it was written, Unix ns; 0: not said.
    pub time_ns: u64,
    /// When a collector saw it, Unix ns; 0: not said.
    pub observed_ns: u64,
    /// Severity number.
    pub severity: u64,
    /// What the writer calls its severity.
    pub severity_text: &'a str,
    /// What it says.
    pub body: Value<'a>,
    /// As sent; valid when 16 bytes and not all zero.
    pub trace_id: &'a [u8],
    /// As sent; valid when 8 bytes and not all zero.
    pub span_id: &'a [u8],
    /// Its event name, where it is an event.
    pub event_name: &'a str,
}

impl<'a> LogRecord<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, WireError> {
        let mut record = Self {
            message,
            time_ns: 0,
            observed_ns: 0,
            severity: 0,
            severity_text: "",
            body: Value::Empty,
            trace_id: &[],
            span_id: &[],
            event_name: "",
        };
        for field in Fields::new(message) {
            match field? {
                (1, field) => record.time_ns = field.fixed64(1)?,
                (2, field) => record.severity = field.varint(2)?,
                (3, field) => record.severity_text = field.text(3)?,
                (5, field) => record.body = Value::parse(field.bytes(5)?)?,
                (9, field) => record.trace_id = field.bytes(9)?,
                (10, field) => record.span_id = field.bytes(10)?,
                (11, field) => record.observed_ns = field.fixed64(11)?,
                (12, field) => record.event_name = field.text(12)?,
                _ => {}
            }
        }
        Ok(record)
    }

    /// Its attributes.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.message, 6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
    use opentelemetry_proto::tonic::logs::v1 as otlp;
    use prost::Message as _;

    #[test]
    fn the_walk_sees_what_prost_decodes() {
        let record = otlp::LogRecord {
            time_unix_nano: 5,
            observed_time_unix_nano: 6,
            severity_number: 17,
            severity_text: "ERROR".into(),
            body: Some(AnyValue { value: Some(any_value::Value::StringValue("boom".into())) }),
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            event_name: "e".into(),
            ..Default::default()
        };
        let scope = otlp::ScopeLogs { log_records: vec![record], ..Default::default() };
        let resource = otlp::ResourceLogs { scope_logs: vec![scope], ..Default::default() };
        let bytes = ExportLogsServiceRequest { resource_logs: vec![resource] }.encode_to_vec();
        let resource = resource_logs(&bytes).next().unwrap().unwrap();
        let record = resource.records().next().unwrap().unwrap();
        assert_eq!((record.time_ns, record.observed_ns, record.severity), (5, 6, 17));
        assert_eq!((record.severity_text, record.event_name), ("ERROR", "e"));
        assert_eq!(record.body, Value::Text("boom"));
        assert_eq!((record.trace_id, record.span_id), (&[1u8; 16][..], &[2u8; 8][..]));
    }
}

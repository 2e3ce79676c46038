//! Export requests and spool records. What Coral accepts, the official decoder must be able to read
//! too, and find as many records in it: anything else would be data lost after its acknowledgement.

use bytes::Bytes;
use coral_agent::receive::{Signal, json};
use coral_agent::reduce::decode::Batch;
use coral_proto::otlp::{logs, schema, trace, value};
use coral_proto::record;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

/// Records of a spool segment, back to back: each that is read packs to the same bytes' meaning again.
pub fn spool_record(data: &[u8]) {
    let mut bytes = Bytes::copy_from_slice(data);
    loop {
        let before = bytes.len();
        let Ok(read) = record::take(&mut bytes) else { break };
        assert!(bytes.len() < before, "a record of no bytes");
        let Ok(body) = read.body() else { continue };
        let mut again = Vec::new();
        record::append(&mut again, read.kind, read.seq, read.time_ns, &body).unwrap();
        let mut again = Bytes::from(again);
        let twin = record::take(&mut again).unwrap();
        assert_eq!((twin.kind, twin.seq, twin.time_ns), (read.kind, read.seq, read.time_ns));
        assert_eq!(twin.body().unwrap(), body);
    }
}

fn walk(attributes: value::Attributes<'_>) {
    for (_, value) in attributes.map_while(Result::ok) {
        let _ = value.to_text();
    }
}

/// An `ExportTraceServiceRequest`.
pub fn otlp_traces(data: &[u8]) {
    for resource in trace::resource_spans(data).map_while(Result::ok) {
        walk(resource.resource());
        for span in resource.spans().map_while(Result::ok) {
            let _ = (span.ids(), span.parent(), span.duration_ns());
            walk(span.attributes());
            for event in span.events().map_while(Result::ok) {
                walk(event.attributes());
            }
            let _ = span.links().map_while(Result::ok).count();
        }
    }
    let mut batch = Batch::default();
    if batch.decode(data).is_ok() {
        let official = ExportTraceServiceRequest::decode(data).expect("accepted, yet unreadable");
        let spans = official.resource_spans.iter().flat_map(|r| &r.scope_spans);
        let spans: usize = spans.map(|scope| scope.spans.len()).sum();
        assert_eq!(u64::try_from(spans), Ok(batch.spans));
        assert!(batch.rejected <= batch.spans);
    }
}

/// An `ExportLogsServiceRequest`.
pub fn otlp_logs(data: &[u8]) {
    let mut whole = true;
    let mut count = 0;
    for resource in logs::resource_logs(data) {
        let Ok(resource) = resource else {
            whole = false;
            break;
        };
        for record in resource.records() {
            let Ok(record) = record else {
                whole = false;
                break;
            };
            count += 1;
            walk(record.attributes());
        }
    }
    if schema::check(&schema::LOGS, data).is_ok() {
        assert!(whole, "accepted, yet it cannot be walked");
        let official = ExportLogsServiceRequest::decode(data).expect("accepted, yet unreadable");
        let records = official.resource_logs.iter().flat_map(|r| &r.scope_logs);
        assert_eq!(records.map(|scope| scope.log_records.len()).sum::<usize>(), count);
    }
}

/// An `ExportMetricsServiceRequest`.
pub fn otlp_metrics(data: &[u8]) {
    if schema::check(&schema::METRICS, data).is_ok() {
        ExportMetricsServiceRequest::decode(data).expect("accepted, yet unreadable");
    }
}

/// OTLP/JSON of each signal: what is taken becomes protobuf that is taken too.
pub fn otlp_json(data: &[u8]) {
    if let Ok(bytes) = json::to_protobuf(Signal::Traces, data) {
        ExportTraceServiceRequest::decode(bytes.as_slice()).expect("JSON became no request");
        otlp_traces(&bytes);
    }
    if let Ok(bytes) = json::to_protobuf(Signal::Logs, data) {
        ExportLogsServiceRequest::decode(bytes.as_slice()).expect("JSON became no request");
        otlp_logs(&bytes);
    }
    if let Ok(bytes) = json::to_protobuf(Signal::Metrics, data) {
        ExportMetricsServiceRequest::decode(bytes.as_slice()).expect("JSON became no request");
        otlp_metrics(&bytes);
    }
}

//! Log records into columns.

use coral_model::id::{SpanId, TraceId};
use coral_model::severity::severity_of;
use coral_proto::otlp::logs::{LogRecord, resource_logs};
use coral_proto::otlp::value::Value;

use super::spans::attributes;
use super::{Decoded, Decoder, Scratch, Trouble};
use crate::store::Resource;
use crate::store::columns::logs::Log;

impl Decoder {
    pub(super) fn logs(
        &mut self,
        body: &[u8],
        received: u64,
        out: &mut Decoded,
    ) -> Result<(), String> {
        let mut trouble = Trouble::default();
        for resource_logs in resource_logs(body) {
            let found = resource_logs.and_then(|found| {
                let bytes = found.resource_bytes();
                self.resources.meet(bytes, &mut out.batch).map(|resource| (found, resource))
            });
            let (found, resource) = match found {
                Ok(found) => found,
                Err(error) => {
                    trouble.note(error);
                    continue;
                }
            };
            for record in found.records() {
                match record {
                    Ok(record) => {
                        let scratch = &mut self.scratch;
                        push(&record, &resource, received, scratch, out, &mut trouble);
                    }
                    Err(error) => trouble.note(error),
                }
            }
        }
        trouble.result()
    }
}

fn push(
    record: &LogRecord<'_>,
    resource: &Resource,
    received: u64,
    scratch: &mut Scratch,
    out: &mut Decoded,
    trouble: &mut Trouble,
) {
    let map = &mut out.batch.logs.attributes;
    out.attributes_dropped +=
        attributes(record.attributes(), map, &mut scratch.value, trouble, |_, _| {});
    if !record.event_name.is_empty() {
        map.pair("event.name", record.event_name);
    }
    scratch.value.clear();
    let body = match record.body {
        Value::Text(text) => text,
        other => {
            if let Err(error) = other.write_text(&mut scratch.value) {
                trouble.note(error);
            }
            &scratch.value
        }
    };
    let time = [record.time_ns, record.observed_ns, received];
    let row = Log {
        time_ns: time.into_iter().find(|t| *t > 0).unwrap_or(0),
        service: &resource.service,
        severity: severity(record),
        body,
        trace: TraceId::from_slice(record.trace_id).filter(|id| !id.is_zero()),
        span: SpanId::from_slice(record.span_id).filter(|id| !id.is_zero()),
        resource: resource.id,
    };
    if let Err(error) = out.batch.logs.push(&row) {
        trouble.note(error);
    }
}

/// The severity number; where only a text was sent, the number that text begins.
fn severity(record: &LogRecord<'_>) -> u8 {
    if let Some(number) = u8::try_from(record.severity).ok().filter(|n| (1..=24).contains(n)) {
        return number;
    }
    severity_of(record.severity_text).unwrap_or(0)
}

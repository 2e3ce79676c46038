//! Spans into columns.

use std::collections::BTreeMap;

use coral_model::id::{SpanId, TraceId};
use coral_model::num::u64_sat;
use coral_model::time::Time;
use coral_model::view::{SEEN_BY, SpanEvent, SpanLink};
use coral_proto::otlp::meaning::{Code, Meaning};
use coral_proto::otlp::trace::{Span, resource_spans};
use coral_proto::otlp::value::{Attributes, Value};
use coral_proto::otlp::wire::WireError;

use super::{Decoded, Decoder, Scratch, Trouble};
use crate::store::Resource;
use crate::store::columns::MapBuilder;
use crate::store::columns::spans as columns;

impl Decoder {
    pub(super) fn traces(&mut self, body: &[u8], out: &mut Decoded) -> Result<(), String> {
        let mut trouble = Trouble::default();
        for resource_spans in resource_spans(body) {
            let resource_spans = match resource_spans {
                Ok(found) => found,
                Err(error) => {
                    trouble.note(error);
                    continue;
                }
            };
            let bytes = resource_spans.resource_bytes();
            let resource = match self.resources.meet(bytes, &mut out.batch) {
                Ok(resource) => resource,
                Err(error) => {
                    trouble.note(error);
                    continue;
                }
            };
            let before = out.batch.spans.rows();
            for span in resource_spans.spans() {
                match span {
                    Ok(span) => push(&span, &resource, &mut self.scratch, out, &mut trouble),
                    Err(error) => trouble.note(error),
                }
            }
            // Nobody who speaks for himself has this.
            if resource.attributes.iter().any(|(key, _)| &**key == SEEN_BY) {
                out.batch.made += u64_sat(out.batch.spans.rows() - before);
            }
        }
        trouble.result()
    }
}

fn push(
    span: &Span<'_>,
    resource: &Resource,
    scratch: &mut Scratch,
    out: &mut Decoded,
    trouble: &mut Trouble,
) {
    let Some((trace, id)) = span.ids() else {
        out.invalid += 1;
        return;
    };
    let mut meaning = Meaning::default();
    let map = &mut out.batch.spans.attributes;
    let dropped = attributes(span.attributes(), map, &mut scratch.value, trouble, |key, value| {
        if Meaning::concerns(key.as_bytes()) {
            meaning.see(key.as_bytes(), value);
        }
    });
    out.attributes_dropped += dropped;
    if let Err(error) = events(span, &mut scratch.events).and(links(span, &mut scratch.links)) {
        trouble.note(error);
    }
    let mut digits = itoa();
    let code = match meaning.code() {
        Code::Unknown => "",
        Code::Word(word) => word,
        Code::Number(n) => decimal(n, &mut digits),
    };
    let operation = meaning.operation(span.name, &mut scratch.operation);
    let peer = meaning.peer(span.kind, &mut scratch.peer);
    let row = columns::Span {
        start_ns: span.start_ns,
        duration_ns: span.duration_ns(),
        trace,
        span: id,
        parent: span.parent(),
        service: &resource.service,
        operation,
        name: if operation == span.name { "" } else { span.name },
        kind: span.kind,
        status: span.status,
        code,
        error: meaning.is_error(span.status),
        http_route: meaning.http_route(),
        db_system: meaning.db_system(),
        rpc_method: meaning.rpc_method(),
        peer_service: peer.map_or("", |p| p.name),
        resource: resource.id,
        message: span.message,
        events: &scratch.events,
        links: &scratch.links,
    };
    if let Err(error) = out.batch.spans.push(&row) {
        trouble.note(error);
    }
}

/// Writes attributes into the open row of a map column; `see` is shown each one first. Returns how
/// many the column did not take.
pub(super) fn attributes<'a>(
    pairs: Attributes<'a>,
    map: &mut MapBuilder,
    scratch: &mut String,
    trouble: &mut Trouble,
    mut see: impl FnMut(&'a str, Value<'a>),
) -> u64 {
    let mut dropped = 0;
    for pair in pairs {
        let (key, value) = match pair {
            Ok(pair) => pair,
            Err(error) => {
                trouble.note(error);
                continue;
            }
        };
        see(key, value);
        let taken = if let Value::Text(text) = value {
            map.pair(key, text)
        } else {
            scratch.clear();
            if let Err(error) = value.write_text(scratch) {
                trouble.note(error);
                continue;
            }
            map.pair(key, scratch)
        };
        dropped += u64::from(!taken);
    }
    dropped
}

/// The span's events as a JSON array; empty without any.
fn events(span: &Span<'_>, out: &mut String) -> Result<(), WireError> {
    out.clear();
    let mut all = Vec::new();
    for event in span.events() {
        let event = event?;
        let mut attributes = BTreeMap::new();
        for pair in event.attributes() {
            let (key, value) = pair?;
            attributes.insert(key.to_owned(), value.to_text()?);
        }
        all.push(SpanEvent { time: Time(event.time_ns), name: event.name.to_owned(), attributes });
    }
    json(&all, out);
    Ok(())
}

/// The span's valid links as a JSON array; empty without any.
fn links(span: &Span<'_>, out: &mut String) -> Result<(), WireError> {
    out.clear();
    let mut all = Vec::new();
    for link in span.links() {
        let (trace, span) = link?;
        if let (Some(trace_id), Some(span_id)) =
            (TraceId::from_slice(trace), SpanId::from_slice(span))
        {
            all.push(SpanLink { trace_id, span_id });
        }
    }
    json(&all, out);
    Ok(())
}

fn json<T: serde::Serialize>(all: &[T], out: &mut String) {
    if !all.is_empty() {
        // These types always serialise.
        out.push_str(&serde_json::to_string(all).unwrap_or_default());
    }
}

/// Room for the digits of a `u16`.
const fn itoa() -> [u8; 5] {
    [0; 5]
}

/// `n` in decimal.
fn decimal(mut n: u16, room: &mut [u8; 5]) -> &str {
    let mut from = room.len();
    loop {
        from -= 1;
        if let (Some(slot), Ok(digit)) = (room.get_mut(from), u8::try_from(n % 10)) {
            *slot = b'0' + digit;
        }
        n /= 10;
        if n == 0 {
            break;
        }
    }
    room.get(from..).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
}

//! What the agent itself saw: host readings and events.

use coral_model::id::AgentId;
use coral_model::time::Time;
use coral_model::view::{EventKind, EventRow, HostRow};
use coral_proto::v1;
use prost::Message as _;

use crate::store::{Batch, HostReading};

/// Longest text of an event, in bytes.
const MAX_TEXT: usize = 4096;
/// Attributes kept of an event.
const MAX_ATTRIBUTES: usize = 64;

/// A host reading.
pub fn host(body: &[u8], agent: AgentId, batch: &mut Batch) -> Result<(), String> {
    let reading = v1::HostReading::decode(body).map_err(|e| e.to_string())?;
    let row: HostRow = serde_json::from_slice(&reading.row_json).map_err(|e| e.to_string())?;
    let text = serde_json::to_string(&row).map_err(|e| e.to_string())?;
    batch.hosts.push(HostReading {
        at: Time(reading.at_ns),
        agent,
        host: reading.host.into(),
        row: text.into(),
    });
    Ok(())
}

/// An event. One of a kind this build does not know is kept as a note that names it.
pub fn event(body: &[u8], batch: &mut Batch) -> Result<(), String> {
    let event = v1::AgentEvent::decode(body).map_err(|e| e.to_string())?;
    let kind = event.kind.parse::<EventKind>();
    let some = |text: String| (!text.is_empty()).then(|| cut(text));
    let mut attributes: std::collections::BTreeMap<_, _> = event
        .attributes
        .into_iter()
        .take(MAX_ATTRIBUTES)
        .map(|(key, value)| (cut(key), cut(value)))
        .collect();
    if kind.is_err() {
        attributes.insert("kind".into(), cut(event.kind));
    }
    batch.events.push(EventRow {
        time: Time(event.at_ns),
        kind: kind.unwrap_or(EventKind::Note),
        service: some(event.service),
        host: some(event.host),
        text: cut(event.text),
        source: "agent".into(),
        attributes,
    });
    Ok(())
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
    }
    text
}

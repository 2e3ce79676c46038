//! What `coral event "deploy payments v42"` means.

use std::collections::BTreeMap;

use coral_model::Time;
use coral_model::question::WordError;
use coral_model::view::{EventKind, EventRow};
use coral_proto::v1;

/// Longest text of an event, and of each attribute, in bytes.
const MAX_TEXT: usize = 1024;
/// Attributes an event may have.
const MAX_ATTRIBUTES: usize = 64;

/// The row a request asks for. A kind that is named must be one; otherwise it is found from the
/// text: `deploy <service> [<version>]`, `restart <service>`, else a note.
pub fn event_of(
    request: &v1::PostEventRequest,
    source: String,
    now: Time,
) -> Result<EventRow, WordError> {
    let text = cut(request.text.trim());
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default().to_ascii_lowercase();
    let said = match first.trim_end_matches(':') {
        "deploy" | "deployed" | "rollout" | "release" => EventKind::Deploy,
        "restart" | "restarted" => EventKind::Restart,
        _ => EventKind::Note,
    };
    let kind = if request.kind.is_empty() { said } else { request.kind.parse()? };
    let named = request.attributes.iter().take(MAX_ATTRIBUTES);
    let mut attributes: BTreeMap<String, String> = named.map(|(k, v)| (cut(k), cut(v))).collect();
    let mut service = request.service.as_deref().map(cut).filter(|s| !s.is_empty());
    if said != EventKind::Note && kind == said {
        let subject = words.next().map(str::to_owned);
        let named_already = service.is_some() && service != subject;
        let version = if named_already { subject } else { words.next().map(str::to_owned) };
        if !named_already {
            service = service.or_else(|| text.split_whitespace().nth(1).map(str::to_owned));
        }
        // "deploy payments v41→v42" or "… to v42" say the same thing.
        let version = match version.as_deref() {
            Some("to" | "->" | "→") => words.next().map(str::to_owned),
            _ => version,
        };
        if let (EventKind::Deploy, Some(version)) = (kind, version) {
            let ends = version.split_once('→').or_else(|| version.split_once("->"));
            if let Some((from, to)) = ends {
                attributes.entry("from".into()).or_insert_with(|| from.to_owned());
                attributes.entry("to".into()).or_insert_with(|| to.to_owned());
            } else {
                attributes.entry("to".into()).or_insert(version);
            }
        }
    }
    let host = attributes.get("host").or_else(|| attributes.get("host.name")).cloned();
    let time = request.at_ns.map_or(now, Time);
    Ok(EventRow { time, kind, service, host, text, source, attributes })
}

fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str, service: Option<&str>) -> EventRow {
        let request = v1::PostEventRequest {
            text: text.into(),
            service: service.map(Into::into),
            ..Default::default()
        };
        event_of(&request, "ann".into(), Time(9)).unwrap()
    }

    #[test]
    fn a_deploy_is_understood() {
        for text in ["deploy payments v42", "Deployed payments to v42", "deploy: payments -> v42"] {
            let row = event(text, None);
            assert_eq!(row.kind, EventKind::Deploy, "{text}");
            assert_eq!(row.service.as_deref(), Some("payments"), "{text}");
            assert_eq!(row.attributes.get("to").map(String::as_str), Some("v42"), "{text}");
            assert_eq!(row.text, text);
        }
        let row = event("deploy payments v41→v42", None);
        assert_eq!(row.attributes["from"], "v41");
        assert_eq!(row.attributes["to"], "v42");
        let row = event("deploy v42", Some("payments"));
        assert_eq!(
            (row.service.as_deref(), row.attributes["to"].as_str()),
            (Some("payments"), "v42")
        );
        let row = event("deploy payments v42", Some("payments"));
        assert_eq!(row.attributes["to"], "v42");
        assert_eq!(event("deploy payments", None).attributes.len(), 0);
        assert_eq!(event("deploy", None).service, None);
    }

    #[test]
    fn anything_else_is_a_note() {
        let row = event("database failover began", None);
        assert_eq!((row.kind, row.service, row.time), (EventKind::Note, None, Time(9)));
        let wrong = v1::PostEventRequest { kind: "party".into(), ..Default::default() };
        let error = event_of(&wrong, String::new(), Time(0)).unwrap_err();
        assert!(error.to_string().contains("deploy"), "{error}");
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let row = event(&"é".repeat(5000), None);
        assert!(row.text.len() <= MAX_TEXT);
    }
}

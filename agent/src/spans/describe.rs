//! What a span tells of its request, by OpenTelemetry's semantic conventions (1.37; of RPCs those of 2025):
//! what the counts have, and nothing else but the operation itself where a service has so many that the counts
//! fold it (`__other__`). Of who asked a server there is no word.

use coral_model::SpanId;
use coral_model::view::{CALLER, SYNTHETIC, SpanKind};
use coral_proto::otlp::meaning;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

use super::Traced;
use crate::observe::requests::conversation::Protocol;
use crate::reduce::{Answer, Seen};

/// Its attributes; `caller` is the span of who asks, if one was made.
pub(super) fn attributes(request: &Traced<'_>, caller: Option<[u8; 8]>) -> Vec<KeyValue> {
    let seen = &request.seen;
    let mut all = vec![pair(SYNTHETIC, Value::BoolValue(true))];
    all.extend(caller.map(|id| text(CALLER, SpanId(id).to_string())));
    protocol(request, &mut all);
    all.extend(error(seen).map(|kind| text("error.type", kind)));
    if seen.kind == SpanKind::Client
        && let Some((host, port)) = address(seen.peer)
    {
        all.push(text("server.address", host));
        all.extend(port.map(|port| int("server.port", port)));
    }
    all
}

fn protocol(request: &Traced<'_>, all: &mut Vec<KeyValue>) {
    let seen = &request.seen;
    let (word, rest) = seen.operation.split_once(' ').unwrap_or((seen.operation, ""));
    match request.protocol {
        Protocol::Http => {
            all.push(text("http.request.method", word));
            // What the server does not have is no route, nor is what names a host.
            if rest.starts_with('/') {
                let asks = seen.kind == SpanKind::Client;
                all.push(text(if asks { "url.template" } else { "http.route" }, rest));
            }
            if let Answer::Status(status) = seen.answer {
                all.push(int("http.response.status_code", status));
            }
        }
        Protocol::Grpc => {
            all.push(text("rpc.system.name", seen.protocol));
            // A path that is no name of a method stays the name of the span.
            if !seen.operation.starts_with('/') {
                all.push(text("rpc.method", seen.operation));
            }
            if let Answer::Grpc(Some(code)) = seen.answer {
                all.push(text("rpc.response.status_code", rpc(code)));
            }
        }
        Protocol::Redis | Protocol::Postgres => {
            all.push(text("db.system.name", seen.protocol));
            let what = match request.protocol {
                Protocol::Redis => "db.operation.name",
                _ => "db.query.summary",
            };
            all.push(text(what, seen.operation));
            if let Answer::Failed(word) | Answer::Said(word) = seen.answer {
                all.push(text("db.response.status_code", word));
            }
        }
        Protocol::Dns => all.push(text("dns.question.name", rest)),
    }
}

/// How it failed; `None` where it did not.
fn error(seen: &Seen<'_>) -> Option<String> {
    if !seen.failed() {
        return None;
    }
    match seen.answer {
        Answer::None | Answer::Grpc(None) => Some("no_answer".to_owned()),
        Answer::Status(status) => Some(status.to_string()),
        Answer::Grpc(Some(code)) => Some(rpc(code)),
        Answer::Failed(word) => Some(word.to_owned()),
        Answer::Done | Answer::Said(_) => None,
    }
}

/// A status of gRPC by its name.
fn rpc(code: u16) -> String {
    meaning::rpc_word(code).map_or_else(|| code.to_string(), str::to_owned)
}

/// Host and port of a peer as edges name it: `api.example.com:443`, `redis@[::1]:6379`.
fn address(peer: &str) -> Option<(&str, Option<u16>)> {
    let place = peer.split_once('@').map_or(peer, |(_, place)| place);
    let parted =
        place.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let (host, port) = parted.map_or((place, None), |(host, port)| (host, Some(port)));
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!bare.is_empty()).then_some((bare, port))
}

fn pair(key: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    pair(key, Value::StringValue(value.into()))
}

fn int(key: &str, value: u16) -> KeyValue {
    pair(key, Value::IntValue(value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_taken_apart() {
        for (peer, host, port) in [
            ("api.example.com:443", "api.example.com", Some(443)),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("redis@[::1]:6379", "::1", Some(6379)),
            ("dns@10.0.0.2:53", "10.0.0.2", Some(53)),
            ("somebody", "somebody", None),
        ] {
            assert_eq!(address(peer), Some((host, port)), "{peer}");
        }
        assert_eq!(address(""), None);
    }
}

//! What a span's attributes mean: operation, protocol, status code, failure, peer.
//!
//! Agent (RED, half-edges) and colony (columns of the span table) must agree on these words, or a
//! number on the screen could not be opened into the spans behind it. So they are decided here, once.
//! Old and new OpenTelemetry semantic conventions (1.17 … 1.37) are both understood.

use coral_model::view::{SpanKind, SpanStatus};

use super::value::Value;
use crate::v1::PeerKind;

/// The attributes of one span that carry meaning, gathered by [`Meaning::see`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Meaning<'a> {
    http_method: &'a str,
    http_route: &'a str,
    http_status: Option<u16>,
    rpc_system: &'a str,
    rpc_service: &'a str,
    rpc_method: &'a str,
    grpc_status: Option<u16>,
    rpc_status: &'a str,
    messaging_system: &'a str,
    messaging_operation: &'a str,
    destination: &'a str,
    db_system: &'a str,
    db_namespace: &'a str,
    peer_service: &'a str,
    server_address: &'a str,
    server_port: Option<u16>,
    url: &'a str,
    error_type: &'a str,
}

/// A protocol's own status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code<'a> {
    /// None was given.
    Unknown,
    /// A number: HTTP's, or gRPC's (0–16).
    Number(u16),
    /// Another protocol's word.
    Word(&'a str),
}

impl Code<'_> {
    /// As text; empty when unknown.
    #[must_use]
    pub fn to_text(self) -> String {
        match self {
            Self::Unknown => String::new(),
            Self::Number(n) => n.to_string(),
            Self::Word(word) => word.to_owned(),
        }
    }
}

/// Who a CLIENT or PRODUCER span says it talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer<'t> {
    /// What it is.
    pub kind: PeerKind,
    /// Its name, never empty.
    pub name: &'t str,
}

/// gRPC status names in order of their codes (grpc/statuscodes.md).
const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Whether a status of gRPC says that there was no answer: CANCELLED, DEADLINE_EXCEEDED.
#[must_use]
pub fn rpc_unanswered(code: u16) -> bool {
    matches!(code, 1 | 4)
}

/// Whether a status of gRPC is the server's fault: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
/// UNAVAILABLE, DATA_LOSS.
#[must_use]
pub fn rpc_failed(code: u16) -> bool {
    matches!(code, 2 | 4 | 12..=15)
}

/// The name of a status of gRPC; `None` for a number that is none.
#[must_use]
pub fn rpc_word(code: u16) -> Option<&'static str> {
    GRPC.get(usize::from(code)).copied()
}

fn text<'a>(value: Value<'a>) -> &'a str {
    if let Value::Text(text) = value { text } else { "" }
}

fn number(value: Value<'_>) -> Option<u16> {
    match value {
        Value::Int(n) => u16::try_from(n).ok(),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

impl<'a> Meaning<'a> {
    /// Whether an attribute name can carry meaning at all: a cheap test before its value is read.
    #[inline]
    #[must_use]
    pub fn concerns(key: &[u8]) -> bool {
        matches!(key.first(), Some(b'h' | b'r' | b'm' | b'd' | b'p' | b's' | b'n' | b'u' | b'e'))
            && (8..=30).contains(&key.len())
    }

    /// Takes note of an attribute.
    #[inline]
    pub fn see(&mut self, key: &[u8], value: Value<'a>) {
        match key {
            b"http.request.method" | b"http.method" => self.http_method = text(value),
            b"http.route" => self.http_route = text(value),
            b"http.response.status_code" | b"http.status_code" => self.http_status = number(value),
            b"rpc.system" | b"rpc.system.name" => self.rpc_system = text(value),
            b"rpc.service" => self.rpc_service = text(value),
            b"rpc.method" => self.rpc_method = text(value),
            b"rpc.grpc.status_code" => self.grpc_status = number(value),
            b"rpc.response.status_code" => self.rpc_status = text(value),
            b"messaging.system" => self.messaging_system = text(value),
            b"messaging.operation.name" => self.messaging_operation = text(value),
            b"messaging.operation" | b"messaging.operation.type"
                if self.messaging_operation.is_empty() =>
            {
                self.messaging_operation = text(value);
            }
            b"messaging.destination.name" | b"messaging.destination" => {
                self.destination = text(value);
            }
            b"db.system.name" | b"db.system" => self.db_system = text(value),
            b"db.namespace" | b"db.name" => self.db_namespace = text(value),
            b"peer.service" | b"service.peer.name" => self.peer_service = text(value),
            b"server.address" | b"net.peer.name" => self.server_address = text(value),
            b"server.port" | b"net.peer.port" => self.server_port = number(value),
            b"url.full" | b"http.url" => self.url = text(value),
            b"error.type" => self.error_type = text(value),
            _ => {}
        }
    }

    /// `http`, `grpc`, `messaging`, the database's or RPC system's name, or empty.
    #[must_use]
    pub fn protocol(&self) -> &'a str {
        if !self.rpc_system.is_empty() {
            self.rpc_system
        } else if self.grpc_status.is_some() {
            "grpc"
        } else if !self.db_system.is_empty() {
            self.db_system
        } else if !self.messaging_system.is_empty() {
            "messaging"
        } else if !self.http_method.is_empty() || self.http_status.is_some() {
            "http"
        } else {
            ""
        }
    }

    /// The operation: `GET /cart/{id}`, `shop.Cart/Add`, `process orders`, else the span's name.
    /// `scratch` lends its memory; its contents are overwritten.
    #[must_use]
    pub fn operation<'t>(&self, name: &'t str, scratch: &'t mut String) -> &'t str {
        if !self.rpc_system.is_empty() && !self.rpc_method.is_empty() {
            // Conventions of 2025 put the whole name into rpc.method.
            let method = self.rpc_method.trim_start_matches('/');
            if self.rpc_service.is_empty() || method.contains('/') {
                scratch.clear();
                scratch.push_str(method);
                return scratch;
            }
            return join(scratch, self.rpc_service, '/', method);
        }
        if !self.messaging_system.is_empty() && !self.destination.is_empty() {
            if self.messaging_operation.is_empty() {
                return name;
            }
            return join(scratch, self.messaging_operation, ' ', self.destination);
        }
        if !self.http_method.is_empty() && !self.http_route.is_empty() {
            return join(scratch, self.http_method, ' ', self.http_route);
        }
        name
    }

    /// `http.route`, or empty.
    #[must_use]
    pub fn http_route(&self) -> &'a str {
        self.http_route
    }

    /// The database system, or empty.
    #[must_use]
    pub fn db_system(&self) -> &'a str {
        self.db_system
    }

    /// The RPC method, or empty.
    #[must_use]
    pub fn rpc_method(&self) -> &'a str {
        self.rpc_method
    }

    fn grpc_code(&self) -> Option<u16> {
        if let Some(code) = self.grpc_status {
            return Some(code);
        }
        if self.rpc_system != "grpc" || self.rpc_status.is_empty() {
            return None;
        }
        let known = GRPC.iter().position(|&name| name == self.rpc_status);
        known.and_then(|n| u16::try_from(n).ok()).or_else(|| self.rpc_status.parse().ok())
    }

    /// The protocol's status code.
    #[must_use]
    pub fn code(&self) -> Code<'a> {
        if let Some(code) = self.grpc_code() {
            Code::Number(code)
        } else if let Some(code) = self.http_status {
            Code::Number(code)
        } else if !self.rpc_status.is_empty() {
            Code::Word(self.rpc_status)
        } else {
            Code::Unknown
        }
    }

    /// Whether the request got no answer: a time-out, a deadline, or a caller who gave up.
    #[must_use]
    pub fn no_answer(&self) -> bool {
        if let Some(code) = self.grpc_code() {
            return rpc_unanswered(code);
        }
        matches!(self.http_status, Some(504 | 499 | 408)) || names_a_timeout(self.error_type)
    }

    /// Whether the span failed: its status says so, it got no answer, or its protocol's code is the
    /// server's fault (HTTP 5xx; gRPC UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL,
    /// UNAVAILABLE, DATA_LOSS: what the semantic conventions call an error on the server's side).
    #[must_use]
    pub fn is_error(&self, status: SpanStatus) -> bool {
        status == SpanStatus::Error
            || self.no_answer()
            || match self.grpc_code() {
                Some(code) => rpc_failed(code),
                None => self.http_status.is_some_and(|code| code >= 500),
            }
    }

    /// Who a span says is at the other end: whom a caller calls, which queue a consumer takes from.
    /// `None` for other callees and when nothing names it.
    #[must_use]
    pub fn peer<'t>(&self, kind: SpanKind, scratch: &'t mut String) -> Option<Peer<'t>> {
        match kind {
            SpanKind::Client | SpanKind::Producer => {}
            // The queue lies between producer and consumer: both name it alike.
            SpanKind::Consumer if !self.destination.is_empty() => {}
            _ => return None,
        }
        scratch.clear();
        let kind = if !self.db_system.is_empty() && kind != SpanKind::Consumer {
            scratch.push_str(self.db_system);
            if !self.db_namespace.is_empty() {
                scratch.push('/');
                scratch.push_str(self.db_namespace);
            } else if !self.server_address.is_empty() {
                scratch.push('@');
                self.push_address(scratch);
            }
            PeerKind::Database
        } else if !self.messaging_system.is_empty() || kind == SpanKind::Consumer {
            scratch.push_str(self.messaging_system);
            if !self.destination.is_empty() {
                if !scratch.is_empty() {
                    scratch.push('/');
                }
                scratch.push_str(self.destination);
            }
            PeerKind::Queue
        } else if !self.peer_service.is_empty() {
            scratch.push_str(self.peer_service);
            PeerKind::Service
        } else if !self.server_address.is_empty() {
            self.push_address(scratch);
            PeerKind::External
        } else {
            scratch.push_str(authority(self.url));
            PeerKind::External
        };
        if scratch.is_empty() { None } else { Some(Peer { kind, name: scratch }) }
    }

    fn push_address(&self, out: &mut String) {
        out.push_str(self.server_address);
        if let Some(port) = self.server_port {
            // Writing to a String cannot fail.
            _ = std::fmt::Write::write_fmt(out, format_args!(":{port}"));
        }
    }
}

fn join<'t>(scratch: &'t mut String, left: &str, between: char, right: &str) -> &'t str {
    scratch.clear();
    scratch.push_str(left);
    scratch.push(between);
    scratch.push_str(right);
    scratch
}

/// `timeout`, `java.net.SocketTimeoutException`, `context.deadlineExceeded` …
fn names_a_timeout(error: &str) -> bool {
    let has =
        |word: &[u8]| error.as_bytes().windows(word.len()).any(|w| w.eq_ignore_ascii_case(word));
    !error.is_empty() && (has(b"timeout") || has(b"deadline"))
}

/// `host:port` of a URL, without user information.
fn authority(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("://") else { return "" };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(pairs: &[(&str, Value<'a>)]) -> Meaning<'a> {
        let mut meaning = Meaning::default();
        for &(key, value) in pairs {
            assert!(Meaning::concerns(key.as_bytes()), "{key}");
            meaning.see(key.as_bytes(), value);
        }
        meaning
    }

    fn operation(meaning: &Meaning<'_>, name: &str) -> String {
        meaning.operation(name, &mut String::new()).to_owned()
    }

    #[test]
    fn operations_are_named_by_protocol() {
        let http = of(&[
            ("http.request.method", Value::Text("GET")),
            ("http.route", Value::Text("/cart/{id}")),
        ]);
        assert_eq!(operation(&http, "x"), "GET /cart/{id}");
        let old =
            of(&[("http.method", Value::Text("GET")), ("http.status_code", Value::Text("503"))]);
        assert_eq!((operation(&old, "GET"), old.code()), ("GET".into(), Code::Number(503)));
        let rpc = of(&[
            ("rpc.system", Value::Text("grpc")),
            ("rpc.service", Value::Text("shop.Cart")),
            ("rpc.method", Value::Text("Add")),
        ]);
        assert_eq!(operation(&rpc, "x"), "shop.Cart/Add");
        let new = of(&[
            ("rpc.system.name", Value::Text("grpc")),
            ("rpc.method", Value::Text("shop.Cart/Add")),
            ("rpc.response.status_code", Value::Text("UNAVAILABLE")),
        ]);
        assert_eq!((operation(&new, "x"), new.code()), ("shop.Cart/Add".into(), Code::Number(14)));
        assert_eq!((rpc_word(14), rpc_word(17)), (Some("UNAVAILABLE"), None));
        let queue = of(&[
            ("messaging.system", Value::Text("kafka")),
            ("messaging.operation", Value::Text("process")),
            ("messaging.destination.name", Value::Text("orders")),
        ]);
        assert_eq!(operation(&queue, "x"), "process orders");
    }

    #[test]
    fn silence_is_a_failure() {
        for pairs in [
            [("error.type", Value::Text("java.net.SocketTimeoutException"))],
            [("http.status_code", Value::Int(504))],
            [("rpc.grpc.status_code", Value::Int(4))],
            [("rpc.grpc.status_code", Value::Int(1))],
        ] {
            let meaning = of(&pairs);
            assert!(meaning.no_answer() && meaning.is_error(SpanStatus::Unset), "{pairs:?}");
        }
        let answered = of(&[("http.status_code", Value::Int(500))]);
        assert!(!answered.no_answer() && answered.is_error(SpanStatus::Unset));
        let refused = of(&[("http.status_code", Value::Int(404))]);
        assert!(!refused.is_error(SpanStatus::Unset));
    }

    #[test]
    fn peers_are_named_by_what_they_are() {
        let peer = |pairs: &[(&str, Value<'_>)]| {
            let mut scratch = String::new();
            of(pairs).peer(SpanKind::Client, &mut scratch).map(|p| (p.kind, p.name.to_owned()))
        };
        assert_eq!(
            peer(&[
                ("db.system.name", Value::Text("postgresql")),
                ("db.namespace", Value::Text("shop"))
            ]),
            Some((PeerKind::Database, "postgresql/shop".into()))
        );
        assert_eq!(
            peer(&[("url.full", Value::Text("https://u:p@pay.example:8443/x?y"))]),
            Some((PeerKind::External, "pay.example:8443".into()))
        );
        assert_eq!(
            peer(&[("server.address", Value::Text("cart")), ("server.port", Value::Int(8080))]),
            Some((PeerKind::External, "cart:8080".into()))
        );
        assert_eq!(
            peer(&[("peer.service", Value::Text("cart")), ("server.port", Value::Int(8080))]),
            Some((PeerKind::Service, "cart".into()))
        );
        assert_eq!(peer(&[]), None);
        let queue = of(&[
            ("messaging.system", Value::Text("kafka")),
            ("messaging.destination.name", Value::Text("orders")),
        ]);
        for kind in [SpanKind::Producer, SpanKind::Consumer] {
            let mut scratch = String::new();
            let peer = queue.peer(kind, &mut scratch).map(|p| (p.kind, p.name));
            assert_eq!(peer, Some((PeerKind::Queue, "kafka/orders")));
        }
        assert_eq!(queue.peer(SpanKind::Server, &mut String::new()), None);
    }
}

//! What one service's SDK exports: its SERVER spans, and CLIENT spans of its calls to the next
//! service. Ids follow from caller and number, so both ends of a call are spans of one trace although
//! nobody talks to anybody.

use coral_model::Time;
use coral_model::dice::{STEP, mixed};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

const OPERATIONS: u64 = 10;

/// One service.
pub struct Traffic {
    service: u32,
    services: u32,
    /// Spans of an export, and what is owed of one.
    each: f64,
    owed: f64,
    resource: Resource,
    /// Of this run: ids differ from those of earlier ones.
    run: u64,
    next: u64,
}

/// An export.
pub struct Export {
    pub body: Vec<u8>,
    pub spans: u64,
    pub servers: u64,
}

/// Well-spread ids from a counter; never 0, which is no id.
fn mix(n: u64) -> u64 {
    mixed(n.wrapping_add(STEP)) | 1
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..Default::default() }
}

fn int(key: &str, value: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::IntValue(value)) });
    KeyValue { key: key.into(), value, ..Default::default() }
}

impl Traffic {
    /// Of a service among so many, `each` spans per export.
    pub fn new(service: u32, services: u32, each: f64) -> Self {
        let name = format!("fleet-{service:04}");
        let resource = Resource {
            attributes: vec![
                text("service.name", name.clone()),
                text("service.namespace", "fleet"),
                text("service.version", format!("1.{}", service % 7)),
                text("service.instance.id", format!("{name}-0")),
                text("host.name", format!("node-{:03}", service % 300)),
                text("telemetry.sdk.language", "go"),
            ],
            ..Resource::default()
        };
        let run = Time::now().0 / 1_000_000_000;
        Self { service, services, each, owed: 0.0, resource, run, next: 0 }
    }

    /// What is exported now: calls of the time since the last export.
    pub fn export(&mut self, now: Time, since_ns: u64) -> Option<Export> {
        self.owed += self.each;
        let pairs = (self.owed / 2.0).floor().max(0.0) as u64;
        self.owed -= pairs as f64 * 2.0;
        if pairs == 0 {
            return None;
        }
        let caller = (self.service + self.services - 1) % self.services;
        let mut spans = Vec::with_capacity(pairs as usize * 2);
        for n in self.next..self.next + pairs {
            let salt = mix(n ^ u64::from(self.service) << 40);
            let duration = 1_000_000 + salt % 40_000_000 + (salt >> 20) % 9_000_000;
            let end = now.0 - (n - self.next) * since_ns / pairs;
            let route = format!("/api/v1/items{}/{{id}}", salt % OPERATIONS);
            let failed = salt.is_multiple_of(100);
            let status = int("http.response.status_code", if failed { 503 } else { 200 });
            spans.push(Span {
                trace_id: self.trace(caller, n),
                span_id: mix(self.call(caller, n) ^ 3).to_be_bytes().to_vec(),
                parent_span_id: self.call(caller, n).to_be_bytes().to_vec(),
                name: format!("GET {route}"),
                kind: 2,
                start_time_unix_nano: end - duration,
                end_time_unix_nano: end,
                attributes: vec![
                    text("http.request.method", "GET"),
                    text("url.path", route.replace("{id}", &(salt % 1_000_000).to_string())),
                    text("http.route", route.clone()),
                    status.clone(),
                    text("network.protocol.version", "1.1"),
                    text("user_agent.original", "Go-http-client/2.0"),
                ],
                ..Span::default()
            });
            let callee = format!("fleet-{:04}", (self.service + 1) % self.services);
            spans.push(Span {
                trace_id: self.trace(self.service, n),
                span_id: self.call(self.service, n).to_be_bytes().to_vec(),
                name: "GET".into(),
                kind: 3,
                start_time_unix_nano: end - duration - 500_000,
                end_time_unix_nano: end + 500_000,
                attributes: vec![
                    text("http.request.method", "GET"),
                    text("server.address", callee),
                    int("server.port", 8080),
                    status,
                ],
                ..Span::default()
            });
        }
        self.next += pairs;
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..Default::default() }];
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        Some(Export { body, spans: pairs * 2, servers: pairs })
    }

    /// Span id of a service's call with a number.
    fn call(&self, caller: u32, n: u64) -> u64 {
        mix(mix(self.run ^ n) ^ u64::from(caller) << 32)
    }

    fn trace(&self, caller: u32, n: u64) -> Vec<u8> {
        let id = self.call(caller, n);
        [mix(id).to_be_bytes(), mix(id ^ 7).to_be_bytes()].concat()
    }
}

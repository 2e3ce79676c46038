//! What spans look like: their names and attributes, by kind and protocol.

use coral_model::id::TraceId;
use coral_model::view::SpanKind;
use coral_proto::otlp::value::Value;

use crate::world::Service;

/// What the status of a failed span says.
pub const FAILED: &str = "upstream connect error or disconnect/reset before headers";
const AGENTS: [&str; 8] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/141.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Mobile/15E148",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/142.0",
    "okhttp/4.12.0",
    "Go-http-client/2.0",
    "python-requests/2.32",
    "axios/1.7.2",
    "curl/8.9.1",
];

/// A span before it is a row or a message.
#[derive(Clone, Copy)]
pub struct Made<'a> {
    /// Place in [`World::resources`].
    pub resource: usize,
    pub trace: TraceId,
    pub span: u64,
    /// 0: none.
    pub parent: u64,
    pub kind: SpanKind,
    pub start: u64,
    pub duration: u64,
    pub name: &'a str,
    pub attributes: &'a [(&'static str, Value<'a>)],
    pub failed: bool,
}

/// Where finished spans go.
pub type Out<'o> = dyn FnMut(&Made<'_>) + 'o;

/// The protocol's status code.
pub fn code_of(grpc: bool, failed: bool) -> u16 {
    match (grpc, failed) {
        (true, false) => 0,
        (true, true) => 13,
        (false, false) => 200,
        (false, true) => 503,
    }
}

/// A call that `service` answers: when and where are in `bare`, the rest is said of it here.
pub fn server_span(
    service: &Service,
    operation: usize,
    salt: u64,
    bare: Made<'_>,
    out: &mut Out<'_>,
) {
    let operation = &service.operations[operation];
    let code = Value::Int(i64::from(code_of(service.grpc, bare.failed)));
    let made = Made { kind: SpanKind::Server, name: &operation.name, ..bare };
    if service.grpc {
        let attributes = [
            ("rpc.system", Value::Text("grpc")),
            ("rpc.service", Value::Text(&service.rpc_service)),
            ("rpc.method", Value::Text(operation.rpc)),
            ("rpc.grpc.status_code", code),
            ("server.address", Value::Text(&service.address)),
            ("network.peer.address", Value::Text("10.4.17.9")),
        ];
        return out(&Made { attributes: &attributes, ..made });
    }
    let path = operation.route.replace("{id}", &format!("{:06}", salt % 1_000_000));
    let attributes = [
        ("http.request.method", Value::Text(operation.method)),
        ("http.route", Value::Text(&operation.route)),
        ("url.path", Value::Text(&path)),
        ("http.response.status_code", code),
        ("server.address", Value::Text(&service.address)),
        ("network.protocol.version", Value::Text("1.1")),
        ("user_agent.original", Value::Text(AGENTS[(salt >> 40) as usize % AGENTS.len()])),
    ];
    out(&Made { attributes: &attributes, ..made });
}

/// The same call as its caller sees it.
pub fn client_span(
    callee: &Service,
    operation: usize,
    salt: u64,
    bare: Made<'_>,
    out: &mut Out<'_>,
) {
    let operation = &callee.operations[operation];
    let code = Value::Int(i64::from(code_of(callee.grpc, bare.failed)));
    let made = Made { kind: SpanKind::Client, ..bare };
    if callee.grpc {
        let attributes = [
            ("rpc.system", Value::Text("grpc")),
            ("rpc.service", Value::Text(&callee.rpc_service)),
            ("rpc.method", Value::Text(operation.rpc)),
            ("rpc.grpc.status_code", code),
            ("server.address", Value::Text(&callee.address)),
            ("server.port", Value::Int(9090)),
        ];
        return out(&Made { name: &operation.name, attributes: &attributes, ..made });
    }
    let path = operation.route.replace("{id}", &format!("{:06}", salt % 1_000_000));
    let url = format!("http://{}:8080{path}", callee.address);
    let attributes = [
        ("http.request.method", Value::Text(operation.method)),
        ("url.full", Value::Text(&url)),
        ("server.address", Value::Text(&callee.address)),
        ("server.port", Value::Int(8080)),
        ("http.response.status_code", code),
    ];
    out(&Made { name: operation.method, attributes: &attributes, ..made });
}

/// What `service` does by itself.
pub fn internal_span(service: &Service, salt: u64, bare: Made<'_>, out: &mut Out<'_>) {
    let tenant = format!("t-{}", salt % 5_000);
    let attributes = [
        ("code.function.name", Value::Text(service.function.as_str())),
        ("thread.id", Value::Int((salt % 64).cast_signed())),
        ("app.tenant", Value::Text(&tenant)),
    ];
    let kind = SpanKind::Internal;
    out(&Made { kind, name: "handle", attributes: &attributes, failed: false, ..bare });
}

/// What `service` asks its database.
pub fn database_span(service: &Service, operation: usize, bare: Made<'_>, out: &mut Out<'_>) {
    let operation = &service.operations[operation];
    let attributes = [
        ("db.system.name", Value::Text("postgresql")),
        ("db.namespace", Value::Text(&service.namespace)),
        ("db.query.text", Value::Text(&operation.statement)),
        ("db.operation.name", Value::Text("SELECT")),
        ("server.address", Value::Text("pg-main.db.svc.cluster.local")),
        ("server.port", Value::Int(5432)),
    ];
    let kind = SpanKind::Client;
    out(&Made { kind, name: "SELECT", attributes: &attributes, failed: false, ..bare });
}

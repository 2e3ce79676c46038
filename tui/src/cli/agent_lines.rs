//! Where applications send their telemetry: the lines a person copies.

use coral_model::view::{SenseState, StatusRow};

/// Addresses the local agent listens on, as its senses say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Doors {
    /// OTLP over gRPC.
    pub grpc: Option<String>,
    /// OTLP over HTTP.
    pub http: Option<String>,
}

impl Doors {
    /// Of the first agent that listens.
    #[must_use]
    pub fn of(status: &StatusRow) -> Self {
        let find = |name: &str| {
            let mut senses = status.agents.iter().flat_map(|agent| &agent.senses);
            senses
                .find(|s| s.name == name && s.state == SenseState::On)
                .map(|s| s.why.clone())
                .filter(|address| address.parse::<std::net::SocketAddr>().is_ok())
        };
        Self { grpc: find("otlp/grpc"), http: find("otlp/http") }
    }

    /// Whether an application can be pointed at it.
    #[must_use]
    pub fn any(&self) -> bool {
        self.grpc.is_some() || self.http.is_some()
    }

    /// The environment of an application that reports here.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(grpc) = &self.grpc {
            lines.push(format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{grpc}"));
            lines.push("OTEL_EXPORTER_OTLP_PROTOCOL=grpc".to_owned());
        }
        match (&self.grpc, &self.http) {
            (Some(_), Some(http)) => lines.push(format!(
                "# or over HTTP: OTEL_EXPORTER_OTLP_ENDPOINT=http://{http} OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
            )),
            (None, Some(http)) => {
                lines.push(format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{http}"));
                lines.push("OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf".to_owned());
            }
            _ => {}
        }
        lines
    }
}

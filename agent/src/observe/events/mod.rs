//! What happened, told from readings.
//!
//! Each watch is a plain state machine: it is handed a reading and its time, and answers with what is
//! new in it. None of them knows of clocks, files or records.

mod bounds;
mod clock;
mod kills;
mod processes;
mod workers;

use std::collections::BTreeMap;

use coral_model::time::Time;
use coral_model::view::EventKind;
use coral_proto::v1::AgentEvent;

pub use bounds::BoundWatch;
pub use clock::ClockWatch;
pub use kills::KillWatch;
pub use processes::ProcessWatch;
pub use workers::WorkerWatch;

/// Something a watch noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noticed {
    /// When it happened, as closely as it is known.
    pub at: Time,
    /// What kind.
    pub kind: EventKind,
    /// The service it concerns.
    pub service: Option<String>,
    /// One line for a person.
    pub text: String,
    /// Particulars.
    pub attributes: BTreeMap<String, String>,
}

impl Noticed {
    fn new(at: Time, kind: EventKind, text: String) -> Self {
        Self { at, kind, service: None, text, attributes: BTreeMap::new() }
    }

    fn with(mut self, key: &str, value: &dyn std::fmt::Display) -> Self {
        self.attributes.insert(key.to_owned(), value.to_string());
        self
    }

    /// As it is shipped.
    #[must_use]
    pub fn on(self, host: &str) -> AgentEvent {
        AgentEvent {
            at_ns: self.at.0,
            kind: self.kind.word().to_owned(),
            service: self.service.unwrap_or_default(),
            host: host.to_owned(),
            text: self.text,
            attributes: self.attributes.into_iter().collect(),
        }
    }
}

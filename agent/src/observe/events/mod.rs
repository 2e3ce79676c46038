//! What happened, told from readings.
//!
//! Each watch is a plain state machine: it is handed a reading and its time, and answers with what is
//! new in it. None of them knows of clocks, files or records.

mod bounds;
mod clock;
mod kills;
mod processes;
mod steps;
mod workers;

use std::collections::BTreeMap;

use coral_model::time::Time;
use coral_model::view::EventKind;
use coral_proto::v1::AgentEvent;

use crate::observe::kernel::Ended;
use crate::observe::remains::LastWords;

pub use bounds::BoundWatch;
pub use clock::ClockWatch;
pub use kills::KillWatch;
pub use processes::ProcessWatch;
pub use workers::WorkerWatch;

/// Nothing that a process says tells why it was sent this.
const SIGKILL: u32 = 9;

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
    /// What the process said last that it is about.
    pub words: Option<Box<Words>>,
}

/// What a process said last, with what it takes to tell whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// The process.
    pub pid: u32,
    /// `service.instance.id`.
    pub instance: Option<String>,
    /// The lines.
    pub last: LastWords,
}

/// What is kept of a process that has ended: of its pid, its beginning in clock ticks since boot, and how it ended.
pub type Kept<'a> = &'a dyn Fn(u32, u64, &Ended) -> Option<LastWords>;

impl Noticed {
    fn new(at: Time, kind: EventKind, text: String) -> Self {
        Self { at, kind, service: None, text, attributes: BTreeMap::new(), words: None }
    }

    /// Adds what the process said last, and in the text why it ended, if it said so.
    fn with_words(
        mut self,
        pid: u32,
        instance: Option<String>,
        how: Option<&Ended>,
        words: Option<LastWords>,
    ) -> Self {
        let Some(last) = words else { return self };
        let killed = how.is_some_and(|how| how.signal == Some(SIGKILL));
        if let Some(line) = last.headline(killed) {
            self.text = format!("{} · last said {line}", self.text);
        }
        self.attributes.extend(last.attributes(pid));
        self.words = Some(Box::new(Words { pid, instance, last }));
        self
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

//! What one question sees: a connection, and what a signal's rows lie in.

use std::ops::Deref;

use coral_model::time::Time;
use duckdb::Connection;

use super::schema::Signal;

/// A connection on loan to one question.
///
/// A statement reads a signal `FROM {relation}`, asked for with all the question knows of its
/// window: what lies outside is then not even opened. A relation holds every row of its window and
/// may hold others, so a statement still says which rows it wants. The views (`spans`, `logs` …) hold
/// everything and are for people who write SQL.
#[derive(Debug)]
pub struct Reading<'a> {
    connection: &'a Connection,
}

impl Deref for Reading<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl<'a> Reading<'a> {
    /// Of a connection that has the views.
    #[must_use]
    pub fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    /// Rows of a signal that tell of moments in `[from, to)`, to be put after `FROM`.
    #[must_use]
    pub fn relation(&self, signal: Signal, _from: Time, _to: Time) -> String {
        signal.name().to_owned()
    }

    /// Rows of a signal that were committed after a moment.
    #[must_use]
    pub fn since(&self, signal: Signal, _after: Time) -> String {
        signal.name().to_owned()
    }

    /// Every resource, each once.
    #[must_use]
    pub fn resources(&self) -> String {
        Signal::Resources.name().to_owned()
    }

    /// Spans among which are all of the traces whose id begins with these bits: the high half's
    /// lowest and highest value.
    #[must_use]
    pub fn traces(&self, _low: u64, _high: u64) -> String {
        Signal::Spans.name().to_owned()
    }
}

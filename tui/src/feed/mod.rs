//! Where the screen's data come from.
//!
//! The app says what it wants to see ([`Want`] per [`Slot`]); the engine, on a thread of its own,
//! asks a [`Feed`] and leaves answers in the [`Inbox`], newest wins: a slow screen skips answers, it
//! never queues them. The tail of the logs is the one stream that is not replaced but appended; its
//! buffer is bounded, and what did not fit is counted.

mod colony;
mod engine;
pub mod fake;
mod inbox;
mod nobody;

use std::future::Future;
use std::pin::Pin;

use coral_model::question::{Around, Dimension, Mode, Question, TraceOrder, View};
use coral_model::time::{Time, Window};
use coral_model::view::{Row, StatusRow};
use tokio::sync::mpsc;

pub use colony::ColonyFeed;
pub use engine::{Desk, Engine};
pub use inbox::{Delivery, Inbox, Mail, TAIL_CAPACITY};
pub use nobody::NoColony;

/// Why an answer did not come.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FeedError {
    /// The colony cannot be reached; it is worth trying again.
    #[error("{0}")]
    Lost(String),
    /// The colony refused; asking again will not help.
    #[error("{0}")]
    Refused(String),
}

/// A future of a [`Feed`].
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, FeedError>> + Send>>;

/// Says in one line what connecting is waiting for.
pub type Progress = Box<dyn Fn(&str) + Send + Sync>;

/// What is known once connected.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Greeting {
    /// The colony's name.
    pub colony: String,
}

/// A colony, as far as the screen is concerned.
pub trait Feed: Send + Sync + 'static {
    /// Finds or starts the colony. Called again after a loss.
    fn connect(&self, progress: Progress) -> Pending<Greeting>;
    /// Asks; rows arrive in `rows`, every answer ends with its [`Row::End`]. Ends when the stream
    /// does, or when the receiver is gone.
    fn ask(&self, question: Question, rows: mpsc::Sender<Vec<Row>>) -> Pending<()>;
    /// The colony about itself.
    fn status(&self) -> Pending<StatusRow>;
    /// Completes names (empty `key`) or values.
    fn complete(&self, key: String, prefix: String) -> Pending<Vec<String>>;
    /// Leaves a note on the timeline.
    fn note(&self, text: String, service: Option<String>, at: Time) -> Pending<()>;
}

/// Which part of the screen an answer is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Slot {
    /// The digest.
    Digest,
    /// The digest of everything, while a filter narrows the other.
    Colony,
    /// The services table.
    Services,
    /// RED over time, for the charts.
    Series,
    /// Operations of the selected service, or its split.
    Operations,
    /// The list of traces.
    Traces,
    /// One trace.
    Trace,
    /// Log records that are there already.
    Logs,
    /// Log records as they arrive.
    Tail,
    /// Events.
    Events,
    /// The topology.
    Topology,
    /// Hosts.
    Hosts,
    /// Agents.
    Agents,
    /// Requests in flight.
    Inflight,
    /// Log records beside one.
    Context,
    /// What log records have in common.
    Patterns,
    /// What tells requests apart.
    Diff,
    /// The answer to a statement.
    Sql,
    /// The columns statements can name.
    Columns,
}

/// A stretch of time that may follow the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Span {
    /// The last so many nanoseconds, sliding.
    Live(u64),
    /// A fixed window.
    Fixed(Window),
}

impl Span {
    /// The window at `now`.
    #[must_use]
    pub fn window(self, now: Time) -> Window {
        match self {
            Self::Live(length) => Window::before(now, length),
            Self::Fixed(window) => window,
        }
    }
}

/// A question that may follow the clock: two equal wants are one standing question.
#[derive(Clone, PartialEq, Debug)]
pub struct Want {
    /// What is asked.
    pub view: View,
    /// Over which time.
    pub span: Span,
    /// Filter.
    pub filter: String,
    /// Grouping.
    pub by: Vec<Dimension>,
    /// Bucket width.
    pub step: Option<u64>,
    /// Most rows.
    pub limit: usize,
    /// Trace id or metric.
    pub subject: Option<String>,
    /// Log records beside this one.
    pub around: Option<Around>,
    /// Rank of traces.
    pub order: TraceOrder,
    /// Once, watched or tailed.
    pub mode: Mode,
}

impl Want {
    /// Everything in `span`: watched while it follows the clock, asked once where it is fixed.
    #[must_use]
    pub fn new(view: View, span: Span) -> Self {
        let mode = match span {
            Span::Live(_) => Mode::Watch,
            Span::Fixed(_) => Mode::Once,
        };
        Self {
            view,
            span,
            filter: String::new(),
            by: Vec::new(),
            step: None,
            limit: 500,
            subject: None,
            around: None,
            order: TraceOrder::Recent,
            mode,
        }
    }

    /// The question at `now`.
    #[must_use]
    pub fn question(&self, now: Time) -> Question {
        Question {
            filter: self.filter.clone(),
            by: self.by.clone(),
            step: self.step,
            limit: self.limit,
            subject: self.subject.clone(),
            around: self.around,
            order: self.order,
            mode: self.mode,
            ..Question::new(self.view, self.span.window(now))
        }
    }
}

//! What the API asks of the rest of the daemon.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use coral_model::view::{AgentRow, EventRow, Row};
use coral_model::{Question, Time};
use tokio::sync::watch;

use crate::query::{Answer, QueryError};
use crate::store::Store;

/// Something that will be done; dropping it gives it up.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What `coral status` says besides what the API knows itself.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Footing {
    /// Bytes of data on disk.
    pub data_bytes: u64,
    /// The bound on them.
    pub data_capacity_bytes: u64,
    /// Services seen in the last 15 minutes; `None` when nobody could tell.
    pub services: Option<u32>,
    /// Every known agent.
    pub agents: Vec<AgentRow>,
    /// Everything the colony counts.
    pub counters: BTreeMap<String, u64>,
    /// What it cannot see.
    pub blind: Vec<String>,
}

/// Answers, and keeps what somebody reports. [`crate::lifecycle`] builds it over store and live
/// memory; tests of the API build one that is under their control.
pub trait Backend: Send + Sync + 'static {
    /// One answer.
    fn answer<'a>(&'a self, question: &'a Question) -> Work<'a, Result<Answer, QueryError>>;

    /// Rows received after that moment, oldest first, and the moment to continue from.
    fn tail<'a>(
        &'a self,
        question: &'a Question,
        after: Time,
    ) -> Work<'a, Result<(Vec<Row>, Time), QueryError>>;

    /// Names (`key` empty) or values of a name that begin with `prefix`.
    fn complete<'a>(
        &'a self,
        key: &'a str,
        prefix: &'a str,
        limit: usize,
    ) -> Work<'a, Result<Vec<String>, QueryError>>;

    /// Keeps an event; done when it is committed.
    fn record(&self, event: EventRow) -> Work<'_, Result<(), QueryError>>;

    /// The state of the colony.
    fn footing(&self) -> Work<'_, Footing>;

    /// The records behind a question as a Parquet file without a name.
    fn parquet<'a>(&'a self, _: &'a Question) -> Work<'a, Result<std::fs::File, QueryError>> {
        Box::pin(async { Err(QueryError::Store("this colony has no store".into())) })
    }

    /// The store, for whoever writes a window of it into a file; `None` where there is none.
    fn store(&self) -> Option<Arc<Store>> {
        None
    }

    /// Whether this colony was made for a file and may take one in.
    fn is_for_a_file(&self) -> bool {
        false
    }

    /// Bumped whenever new data can be asked for.
    fn changed(&self) -> watch::Receiver<u64>;

    /// The colony's clock.
    fn now(&self) -> Time;
}

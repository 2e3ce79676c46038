//! The colony's side of a question: its store, its live memory, its agents, and the moment.

use std::sync::Arc;

use coral_model::time::{Time, Window};
use coral_model::view::Row;
use coral_model::Question;

use super::answer::{Answer, Inputs, answer as answer_from};
use super::cells::Delta;
use super::dense::Buckets;
use super::edges::EdgeDelta;
use super::source::Recent;
use super::{QueryError, complete as completing, tail as tailing};
use crate::counters::Counters;
use crate::live::Live;
use crate::registry::Agents;
use crate::store::{Store, StoreError};

/// Everything a question is answered from. `now` is the moment it is asked; set it per question.
#[derive(Clone)]
pub struct Context {
    /// What is on disk.
    pub store: Arc<Store>,
    /// What is in memory.
    pub live: Arc<Live>,
    /// Who reports.
    pub agents: Arc<Agents>,
    /// What the colony itself turned away.
    pub counters: Arc<Counters>,
    /// Now.
    pub now: Time,
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TimedOut(seconds) => Self::TooSlow(seconds),
            other => Self::Store(other.to_string()),
        }
    }
}

impl Recent for Live {
    fn visit(
        &self,
        windows: &[Window],
        red: &mut dyn FnMut(&Delta<'_>),
        edges: &mut dyn FnMut(&EdgeDelta<'_>),
    ) -> Time {
        Self::visit(self, |view| {
            for window in windows {
                view.red(window.from, window.to, &mut |row| {
                    red(&Delta {
                        bucket: row.bucket,
                        resource: row.resource.0,
                        service: &row.service,
                        operation: &row.operation,
                        kind: row.kind.to_otlp(),
                        code: &row.code,
                        requests: row.histogram.count(),
                        errors: row.errors,
                        no_answer: row.no_answer,
                        sum_ns: row.histogram.sum_ns(),
                        durations: Buckets::Pairs(row.histogram.buckets()),
                        slowest: row.slowest,
                        error: row.error_trace,
                        sampled: row.sampled,
                    });
                });
                view.edges(window.from, window.to, &mut |row| {
                    edges(&EdgeDelta {
                        bucket: row.bucket,
                        from: (&row.from.name, row.from.kind),
                        to: (&row.to.name, row.to.kind),
                        protocol: &row.protocol,
                        ends: row.ends,
                        requests: row.histogram.count(),
                        errors: row.errors,
                        no_answer: row.no_answer,
                        sum_ns: row.histogram.sum_ns(),
                        durations: Buckets::Pairs(row.histogram.buckets()),
                        callee: Buckets::Pairs(row.callee.buckets()),
                        sampled: row.sampled,
                    });
                });
            }
            view.cut()
        })
    }
}

/// Answers a question. Dropping the future interrupts it.
pub async fn answer(context: &Context, question: &Question) -> Result<Answer, QueryError> {
    let question = question.clone();
    read(context, move |inputs| answer_from(inputs, &question)).await
}

/// Rows of `logs`, `traces` or `events` that were committed after `after`, oldest first, and the
/// moment to ask from next. Commits are stamped in order, so a row that arrives late is not missed.
pub async fn tail(
    context: &Context,
    question: &Question,
    after: Time,
) -> Result<(Vec<Row>, Time), QueryError> {
    let question = question.clone();
    read(context, move |inputs| tailing::tail(inputs, &question, after)).await
}

/// Names of filter keys that begin with `prefix` (with an empty `key`), or values of `key` that do.
pub async fn complete(
    context: &Context,
    key: &str,
    prefix: &str,
    limit: usize,
) -> Result<Vec<String>, QueryError> {
    let (key, prefix) = (key.to_owned(), prefix.to_owned());
    read(context, move |inputs| completing::complete(inputs, &key, &prefix, limit)).await
}

async fn read<T: Send + 'static>(
    context: &Context,
    look: impl FnOnce(&Inputs<'_>) -> Result<T, QueryError> + Send + 'static,
) -> Result<T, QueryError> {
    let agents = context.agents.rows(context.now);
    let (live, now) = (Arc::clone(&context.live), context.now);
    context
        .store
        .read(move |conn| look(&Inputs { conn, recent: live.as_ref(), agents: &agents, now }))
        .await
}

//! Answers as streams: once, whenever they change, or row by row as they arrive.
//!
//! Each stream is one task with a short queue in front of the reader. The task makes the next answer
//! only when the reader has taken the previous one, so a slow reader costs one answer's memory and
//! sees the newest state whenever it looks.

use std::sync::Arc;
use std::time::Duration;

use coral_model::view::{End, Row};
use coral_model::{Question, Time, Window};
use coral_proto::v1;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::backend::Backend;
use super::failure;
use super::rows::Packed;
use crate::query::{Answer, QueryError, slid};

/// Questions worked on at the same time; further ones wait their turn.
const AT_ONCE: usize = 4;
/// Longest a question may take, waiting for its turn included.
const DEADLINE: Duration = Duration::from_secs(30);
/// Messages ready for the reader.
const QUEUE: usize = 2;
/// Shortest time between two answers of one watched question: a screen has ten of them, and each costs
/// some milliseconds. What comes after a pause is answered at once.
const PACE: Duration = Duration::from_millis(400);
/// A watched question is asked again after this long without news: silence too changes states.
const REFRESH: Duration = Duration::from_secs(5);
/// Most rows of one step of a tail.
const PAGE: usize = 5_000;
/// A tail whose reader falls this far behind continues at the present, and says so.
const BEHIND: u64 = 10 * coral_model::time::SECOND;

/// Where a stream's rows go.
pub(super) type Out = mpsc::Sender<Result<v1::Rows, Status>>;

/// Makes streams.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) backend: Arc<dyn Backend>,
    turns: Arc<Semaphore>,
    stop: CancellationToken,
}

/// The reader is gone, or must be told why there is no more.
enum Cut {
    Gone,
    Status(Status),
}

impl From<Status> for Cut {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl Streams {
    pub(super) fn new(backend: Arc<dyn Backend>, stop: CancellationToken) -> Self {
        Self { backend, turns: Arc::new(Semaphore::new(AT_ONCE)), stop }
    }

    /// Starts the task that answers; `held` lives as long as it.
    pub(super) fn start<T: Send + 'static>(
        &self,
        question: Question,
        held: T,
    ) -> mpsc::Receiver<Result<v1::Rows, Status>> {
        let (out, reader) = mpsc::channel(QUEUE);
        let streams = self.clone();
        // Owned by its reader: it ends when the reader, or the colony, does.
        tokio::spawn(async move {
            let _held = held;
            let work = async {
                match question.mode {
                    coral_model::Mode::Once => streams.once(question, &out).await,
                    coral_model::Mode::Watch => streams.watch(question, &out).await,
                    coral_model::Mode::Tail => streams.tail(question, &out).await,
                }
            };
            let cut = tokio::select! {
                biased;
                () = out.closed() => Err(Cut::Gone),
                () = streams.stop.cancelled() => Err(Cut::Status(failure::ending())),
                done = work => done,
            };
            if let Err(Cut::Status(status)) = cut {
                _ = out.send_timeout(Err(status), Duration::from_secs(1)).await;
            }
        });
        reader
    }

    /// Works on a question when it is its turn, within the deadline.
    async fn take_turn<T>(
        &self,
        work: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, Cut> {
        let slow = || QueryError::TooSlow(DEADLINE.as_secs());
        let turn = async {
            let _turn = self.turns.acquire().await.ok();
            work.await
        };
        let done = tokio::time::timeout(DEADLINE, turn).await.unwrap_or_else(|_| Err(slow()));
        done.map_err(|e| Cut::Status(failure::status(&e)))
    }

    async fn ask(&self, question: &Question) -> Result<Answer, Cut> {
        self.take_turn(self.backend.answer(question)).await
    }

    async fn once(&self, question: Question, out: &Out) -> Result<(), Cut> {
        let answer = self.ask(&question).await?;
        send(out, Packed::answer(&answer.rows, answer.end)?).await
    }

    async fn watch(&self, question: Question, out: &Out) -> Result<(), Cut> {
        let mut changed = self.backend.changed();
        let mut told = None;
        loop {
            let next = Instant::now() + PACE;
            changed.borrow_and_update();
            let answer = self.ask(&slid(&question, self.backend.now())).await?;
            let packed = Packed::answer(&answer.rows, answer.end)?;
            drop(answer.rows);
            if told != Some(packed.fingerprint()) {
                told = Some(packed.fingerprint());
                send(out, packed).await?;
            }
            tokio::time::sleep_until(next).await;
            news(&mut changed, REFRESH).await;
        }
    }

    async fn tail(&self, mut question: Question, out: &Out) -> Result<(), Cut> {
        question.limit = question.limit.clamp(1, PAGE);
        let mut changed = self.backend.changed();
        let mut after = question.window.from;
        let mut caught_up = false;
        let mut full = false;
        loop {
            let next = Instant::now() + PACE;
            changed.borrow_and_update();
            let now = self.backend.now();
            if caught_up && full && now.since(after) > BEHIND {
                after = now.minus(BEHIND / 10);
                let gap = Row::End(Box::new(gap(&question, after)));
                send(out, Packed::some(&[gap])?).await?;
            }
            question.window = Window::new(question.window.from, now.max(question.window.to));
            let (rows, cursor) = self.take_turn(self.backend.tail(&question, after)).await?;
            full = rows.len() >= question.limit;
            after = after.max(cursor);
            if !rows.is_empty() {
                send(out, Packed::some(&rows)?).await?;
            }
            if full {
                continue;
            }
            caught_up = true;
            tokio::time::sleep_until(next).await;
            news(&mut changed, REFRESH).await;
        }
    }
}

async fn send(out: &Out, packed: Packed) -> Result<(), Cut> {
    for message in packed.messages {
        out.send(Ok(message)).await.map_err(|_| Cut::Gone)?;
    }
    Ok(())
}

/// Returns when there are new data, or after `patience` without.
async fn news(changed: &mut tokio::sync::watch::Receiver<u64>, patience: Duration) {
    let wait = async {
        if changed.changed().await.is_err() {
            // Nobody will ever bump it again; the patience still applies.
            std::future::pending::<()>().await;
        }
    };
    _ = tokio::time::timeout(patience, wait).await;
}

/// Tells the reader of a tail that rows up to `to` were left out.
fn gap(question: &Question, to: Time) -> End {
    End {
        rows: 0,
        truncated: true,
        dropped: 0,
        agents_asked: 0,
        agents_answered: 0,
        from: question.window.from,
        to,
        compare: None,
        resolution_s: None,
        stored_to: None,
        newest: None,
        blind: vec!["rows arrive faster than they are read: some were left out here".into()],
    }
}

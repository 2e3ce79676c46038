//! The real feed: a colony behind its socket.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use coral_model::question::Question;
use coral_model::time::Time;
use coral_model::view::{Row, StatusRow};
use tokio::sync::mpsc;
use tokio_stream::Stream;

use super::{Feed, FeedError, Greeting, Pending, Progress};
use crate::client::{Client, ClientError, Launch, NewEvent, Target};

/// Rows handed over at once, at most.
const BATCH: usize = 512;
/// Completions asked for.
const COMPLETIONS: u32 = 20;

/// A colony that is found, or started, when connecting.
pub struct ColonyFeed {
    target: Target,
    launch: Launch,
    client: Arc<Mutex<Option<Client>>>,
}

impl ColonyFeed {
    /// The colony of `target`, started as `launch` says when none runs.
    #[must_use]
    pub fn new(target: Target, launch: Launch) -> Self {
        Self { target, launch, client: Arc::default() }
    }

    fn client(&self) -> Result<Client, FeedError> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone().ok_or_else(|| FeedError::Lost("not connected".into()))
    }
}

/// Whether asking again may help.
fn told(error: &ClientError) -> FeedError {
    match error {
        ClientError::Refused { .. } | ClientError::Garbled(_) => {
            FeedError::Refused(error.to_string())
        }
        _ => FeedError::Lost(error.to_string()),
    }
}

impl Feed for ColonyFeed {
    fn connect(&self, progress: Progress) -> Pending<Greeting> {
        let (target, launch) = (self.target.clone(), self.launch.clone());
        let slot = Arc::clone(&self.client);
        Box::pin(async move {
            let client = Client::connect_or_start(&target, &launch, &*progress)
                .await
                .map_err(|e| FeedError::Lost(e.to_string()))?;
            let greeting = Greeting { colony: client.hello.colony.clone() };
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
            Ok(greeting)
        })
    }

    fn ask(&self, question: Question, rows: mpsc::Sender<Vec<Row>>) -> Pending<()> {
        let client = self.client();
        Box::pin(async move {
            let mut answer = client?.query(&question).await.map_err(|e| told(&e))?;
            loop {
                let mut batch = Vec::new();
                let more = std::future::poll_fn(|cx| {
                    loop {
                        match std::pin::Pin::new(&mut answer).poll_next(cx) {
                            Poll::Ready(Some(Ok(row))) => {
                                batch.push(row);
                                if batch.len() >= BATCH {
                                    return Poll::Ready(Ok(true));
                                }
                            }
                            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(told(&error))),
                            Poll::Ready(None) => return Poll::Ready(Ok(false)),
                            Poll::Pending if batch.is_empty() => return Poll::Pending,
                            Poll::Pending => return Poll::Ready(Ok(true)),
                        }
                    }
                })
                .await;
                let last = batch;
                if !last.is_empty() && rows.send(last).await.is_err() {
                    return Ok(());
                }
                if !more? {
                    return Ok(());
                }
            }
        })
    }

    fn status(&self) -> Pending<StatusRow> {
        let client = self.client();
        Box::pin(async move { client?.status().await.map_err(|e| told(&e)) })
    }

    fn complete(&self, key: String, prefix: String) -> Pending<Vec<String>> {
        let client = self.client();
        Box::pin(
            async move { client?.complete(&key, &prefix, COMPLETIONS).await.map_err(|e| told(&e)) },
        )
    }

    fn note(&self, text: String, service: Option<String>, at: Time) -> Pending<()> {
        let client = self.client();
        Box::pin(async move {
            let event = NewEvent { text, service, at: Some(at), ..NewEvent::default() };
            client?.post_event(event).await.map_err(|e| told(&e))?;
            Ok(())
        })
    }
}

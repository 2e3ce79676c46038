//! Files in and out, as bytes: no path crosses this border.

use std::io::Read;

use bytes::{Buf as _, Bytes};
use coral_model::{Question, Time, Window};
use coral_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::rows::json;
use super::{Backend, failure};
use crate::incident::{IncidentError, export as out, import as into};

/// A file on its way out.
pub type Chunks = ReceiverStream<Result<v1::Chunk, Status>>;

/// Chunks that may wait for a slow taker.
const WAITING: usize = 8;
/// Largest chunk that is sent, in bytes.
const CHUNK: usize = 256 << 10;
/// Names that may be redacted besides the rules.
const MORE: usize = 1_000;

fn status(error: &IncidentError) -> Status {
    let text = error.to_string();
    match error {
        IncidentError::Store(_) | IncidentError::Database(_) => Status::unavailable(text),
        IncidentError::Json(_) => Status::internal(text),
        IncidentError::NotForFiles => Status::failed_precondition(text),
        IncidentError::Zstd(_)
        | IncidentError::Line { .. }
        | IncidentError::Cut(_)
        | IncidentError::Asked(_)
        | IncidentError::Changed { .. } => Status::invalid_argument(text),
    }
}

/// Starts a file; `held` is let go when it ends.
pub(super) fn export(
    backend: &dyn Backend,
    colony: &str,
    request: v1::ExportRequest,
    held: impl Send + 'static,
) -> Result<Response<Chunks>, Status> {
    let store = backend.store().ok_or_else(|| Status::unavailable("this colony has no store"))?;
    let window = request.window.map(|w| Window::new(Time(w.from_ns), Time(w.to_ns)));
    let window = window.filter(|w| w.from < w.to);
    let window = window.ok_or_else(|| Status::invalid_argument("a file is of a window"))?;
    if request.redact_more.len() > MORE {
        return Err(Status::invalid_argument(format!("at most {MORE} names are redacted besides")));
    }
    let mut key = [0; 8];
    getrandom::fill(&mut key)
        .map_err(|e| Status::unavailable(format!("there is no randomness for pseudonyms: {e}")))?;
    let wanted = out::Wanted {
        window,
        filter: request.filter,
        place: request.place,
        more: request.redact_more,
        colony: colony.to_owned(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        now: backend.now(),
        key: u64::from_le_bytes(key),
    };
    let (sender, mut pieces) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        if let Err(error) = out::run(store, wanted, sender.clone()).await {
            tracing::warn!(%error, "an incident file was not finished");
            _ = sender.send(Err(error)).await;
        }
        drop(held);
    });
    let (chunks, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        while let Some(piece) = pieces.recv().await {
            // Pieces are as large as they came; a message has a bound.
            let cut = match piece {
                Ok(bytes) => cut(bytes),
                Err(error) => vec![Err(status(&error))],
            };
            for chunk in cut {
                if chunks.send(chunk).await.is_err() {
                    return;
                }
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

/// The records behind a question; `held` is let go when the file was taken.
pub(super) async fn parquet(
    backend: &dyn Backend,
    question: &Question,
    held: impl Send + 'static,
) -> Result<Response<Chunks>, Status> {
    let mut file = backend.parquet(question).await.map_err(|e| failure::status(&e))?;
    let (chunks, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let _held = held;
        loop {
            let mut bytes = Vec::with_capacity(CHUNK);
            let room = coral_model::num::u64_sat(CHUNK);
            let chunk = match (&mut file).take(room).read_to_end(&mut bytes) {
                Ok(0) => return,
                Ok(_) => Ok(v1::Chunk { bytes: bytes.into() }),
                Err(error) => Err(Status::unavailable(format!("the file cannot be read: {error}"))),
            };
            // Whoever asked has left.
            if chunks.blocking_send(chunk).is_err() {
                return;
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

fn cut(mut bytes: Bytes) -> Vec<Result<v1::Chunk, Status>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        out.push(Ok(v1::Chunk { bytes: bytes.split_to(bytes.len().min(CHUNK)) }));
    }
    out
}

/// Takes a file in.
pub(super) async fn import(
    backend: &dyn Backend,
    mut chunks: tonic::Streaming<v1::Chunk>,
) -> Result<Response<v1::ImportReply>, Status> {
    if !backend.is_for_a_file() {
        return Err(status(&IncidentError::NotForFiles));
    }
    let store = backend.store().ok_or_else(|| Status::unavailable("this colony has no store"))?;
    let (sender, receiver) = mpsc::channel::<Bytes>(WAITING);
    let runtime = tokio::runtime::Handle::current();
    let reading = tokio::task::spawn_blocking(move || {
        let file = Incoming { receiver, open: Bytes::new() };
        into::into_store(file, &store, &runtime)
    });
    while let Some(chunk) = chunks.message().await? {
        // Whoever reads has ended: its reason follows.
        if sender.send(chunk.bytes).await.is_err() {
            break;
        }
    }
    drop(sender);
    let manifest = reading.await.map_err(|e| Status::internal(e.to_string()))?;
    let manifest = manifest.map_err(|e| status(&e))?;
    Ok(Response::new(v1::ImportReply { json: json(&manifest)?.into() }))
}

/// Chunks as a reader on a blocking thread.
struct Incoming {
    receiver: mpsc::Receiver<Bytes>,
    open: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.open.is_empty() {
            match self.receiver.blocking_recv() {
                Some(bytes) => self.open = bytes,
                None => return Ok(0),
            }
        }
        let n = buffer.len().min(self.open.len());
        if let Some(room) = buffer.get_mut(..n) {
            self.open.copy_to_slice(room);
        }
        Ok(n)
    }
}

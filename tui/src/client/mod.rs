//! The way to a colony: its socket, its daemon when none runs, and its answers.
//!
//! In: a [`Target`] and [`Question`]s. Out: [`Row`]s as they arrive, or a [`ClientError`] that says
//! what to do next. Nothing here prints; whoever waits gets one line at a time to show.

mod error;
mod launch;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use coral_model::paths::{ColonyName, Paths};
use coral_model::question::Question;
use coral_model::time::Time;
use coral_model::view::{EventRow, EyesRow, Row, StatusRow};
use coral_proto::v1::colony_client::ColonyClient;
use coral_proto::{MAX_MESSAGE, PROTOCOL, PROTOCOL_OLDEST, v1};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint, Uri};

pub use error::ClientError;
pub use launch::{Launch, find_program};

/// This build, as peers are told.
pub const BUILD: &str = concat!("coral ", env!("CARGO_PKG_VERSION"));

/// Which colony, and where its files are.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub colony: ColonyName,
    /// Where things are for this user.
    pub paths: Paths,
}

impl Target {
    /// Its socket.
    ///
    /// # Errors
    /// When the path is too long for a socket.
    pub fn socket(&self) -> Result<PathBuf, ClientError> {
        Ok(self.paths.socket(&self.colony)?)
    }
}

/// A connected colony. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    rpc: ColonyClient<Channel>,
    /// What the colony said about itself.
    pub hello: v1::HelloReply,
    /// Where it was reached.
    pub socket: PathBuf,
}

/// What `coral event` records.
#[derive(Clone, Debug, Default)]
pub struct NewEvent {
    /// One line.
    pub text: String,
    /// Its kind; found from the text when empty.
    pub kind: String,
    /// Service it concerns.
    pub service: Option<String>,
    /// When; now, when not said.
    pub at: Option<Time>,
    /// Particulars.
    pub attributes: Vec<(String, String)>,
}

impl Client {
    /// Connects to a colony that runs.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] when none does; others when it cannot be talked to.
    pub async fn connect(target: &Target) -> Result<Self, ClientError> {
        let socket = target.socket()?;
        if target.paths.socket_override.is_none() && target.paths.runtime_dir.exists() {
            // Somebody else's directory in /tmp could hold somebody else's colony.
            coral_model::paths::check_private_dir(&target.paths.runtime_dir, target.paths.uid)?;
        }
        let channel = open(&socket).await.map_err(|e| ClientError::from_io(&socket, &e))?;
        let mut rpc = ColonyClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let request = v1::HelloRequest { protocol: PROTOCOL, build: BUILD.to_owned() };
        let hello = rpc.hello(request).await?.into_inner();
        if hello.protocol < PROTOCOL_OLDEST {
            return Err(ClientError::ColonyTooOld { build: hello.build });
        }
        Ok(Self { rpc, hello, socket })
    }

    /// Connects, starting the colony's daemon when none runs. `progress` is told in one line what is
    /// being waited for. Any number of programs may do this at once: one daemon comes of it.
    ///
    /// # Errors
    /// Why it cannot be started or reached; names the log file.
    pub async fn connect_or_start(
        target: &Target,
        launch: &Launch,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Self, ClientError> {
        match Self::connect(target).await {
            Err(ClientError::NotRunning { .. }) => launch.start(target, progress).await,
            other => other,
        }
    }

    /// Asks. Rows come as they arrive, the last is [`Row::End`]; with a mode other than once,
    /// answers follow each other until the stream is dropped.
    ///
    /// # Errors
    /// When the colony refuses the question.
    pub async fn query(&self, question: &Question) -> Result<Answer, ClientError> {
        Ok(Answer { lines: self.query_json(question).await? })
    }

    /// As [`Self::query`], each row still the JSON object it travels as.
    ///
    /// # Errors
    /// When the colony refuses the question.
    pub async fn query_json(&self, question: &Question) -> Result<Lines, ClientError> {
        let request = v1::QueryRequest::from(question);
        let stream = self.rpc.clone().query(request).await?.into_inner();
        Ok(Lines { stream, waiting: Vec::new().into_iter(), done: false })
    }

    /// The colony about itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<StatusRow, ClientError> {
        match Row::from_json(&self.status_json().await?)? {
            Row::Status(row) => Ok(*row),
            _ => Err(ClientError::Garbled("a status that is none".to_owned())),
        }
    }

    /// The `coral.status/1` object.
    ///
    /// # Errors
    /// When the colony does not answer.
    pub async fn status_json(&self) -> Result<Bytes, ClientError> {
        let reply = self.rpc.clone().status(v1::StatusRequest {}).await?;
        Ok(reply.into_inner().json.into())
    }

    /// Names (empty `key`) or values of `key` that begin with `prefix`.
    ///
    /// # Errors
    /// When the colony does not answer.
    pub async fn complete(
        &self,
        key: &str,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<String>, ClientError> {
        let request = v1::CompleteRequest { key: key.to_owned(), prefix: prefix.to_owned(), limit };
        Ok(self.rpc.clone().complete(request).await?.into_inner().values)
    }

    /// Records that something happened; gives it as stored, and the JSON object it is.
    ///
    /// # Errors
    /// When the colony refuses it.
    pub async fn post_event(&self, event: NewEvent) -> Result<(EventRow, Bytes), ClientError> {
        let request = v1::PostEventRequest {
            text: event.text,
            kind: event.kind,
            service: event.service,
            at_ns: event.at.map(|t| t.0),
            attributes: event.attributes.into_iter().collect(),
        };
        let json = self.rpc.clone().post_event(request).await?.into_inner().json;
        match Row::from_json(&json)? {
            Row::Event(row) => Ok((*row, json.into())),
            _ => Err(ClientError::Garbled("an event that is none".to_owned())),
        }
    }

    /// A part of the colony as a file, piece by piece.
    ///
    /// # Errors
    /// When the colony refuses.
    pub async fn export(
        &self,
        request: v1::ExportRequest,
    ) -> Result<tonic::Streaming<v1::Chunk>, ClientError> {
        Ok(self.rpc.clone().export(request).await?.into_inner())
    }

    /// The records behind a question as a Parquet file, piece by piece.
    ///
    /// # Errors
    /// When the colony refuses.
    pub async fn parquet(
        &self,
        question: &Question,
    ) -> Result<tonic::Streaming<v1::Chunk>, ClientError> {
        Ok(self.rpc.clone().parquet(v1::QueryRequest::from(question)).await?.into_inner())
    }

    /// Such a file into a colony that was made for it; gives what the file says of itself.
    ///
    /// # Errors
    /// When the colony refuses, or the file is damaged.
    pub async fn import(
        &self,
        chunks: impl Stream<Item = v1::Chunk> + Send + 'static,
    ) -> Result<Bytes, ClientError> {
        Ok(self.rpc.clone().import(chunks).await?.into_inner().json.into())
    }

    /// Keeps the colony when unused, or lets it leave.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn stay(&self, stay: bool) -> Result<(), ClientError> {
        self.rpc.clone().stay(v1::StayRequest { stay }).await?;
        Ok(())
    }

    /// Agents' eyes in the kernel, of one host or of all, each with the JSON object it is; opens or closes
    /// them first, where `open` says so.
    ///
    /// # Errors
    /// When the colony refuses.
    pub async fn eyes(
        &self,
        open: Option<bool>,
        host: Option<&str>,
    ) -> Result<Vec<(EyesRow, Bytes)>, ClientError> {
        let request = v1::EyesRequest { open, host: host.map(str::to_owned) };
        let lines = self.rpc.clone().eyes(request).await?.into_inner().json;
        let row = |json: Vec<u8>| match Row::from_json(&json)? {
            Row::Eyes(row) => Ok((*row, Bytes::from(json))),
            _ => Err(ClientError::Garbled("eyes that are none".to_owned())),
        };
        lines.into_iter().map(row).collect()
    }

    /// Asks the colony to commit, stop its agent and exit.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        self.rpc.clone().shutdown(v1::ShutdownRequest {}).await?;
        Ok(())
    }
}

/// Opens the socket first, so that the operating system's own answer is known, and hands that stream
/// to the channel; a later loss dials again.
async fn open(socket: &Path) -> std::io::Result<Channel> {
    let first = UnixStream::connect(socket).await?;
    let first = Arc::new(Mutex::new(Some(first)));
    let socket = socket.to_path_buf();
    let dial = tower::service_fn(move |_: Uri| {
        let first = first.lock().ok().and_then(|mut slot| slot.take());
        let socket = socket.clone();
        async move {
            let stream = match first {
                Some(stream) => stream,
                None => UnixStream::connect(socket).await?,
            };
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://colony.invalid")
        .connect_with_connector(dial)
        .await
        .map_err(std::io::Error::other)
}

/// Rows of an answer as JSON objects.
#[derive(Debug)]
pub struct Lines {
    stream: tonic::Streaming<v1::Rows>,
    waiting: std::vec::IntoIter<Bytes>,
    done: bool,
}

impl Lines {
    /// Whether the next line is here already.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.waiting.len() > 0 || self.done
    }
}

impl Stream for Lines {
    type Item = Result<Bytes, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(line) = self.waiting.next() {
                return Poll::Ready(Some(Ok(line)));
            }
            if self.done {
                return Poll::Ready(None);
            }
            match Pin::new(&mut self.stream).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(rows))) => self.waiting = rows.json.into_iter(),
                Poll::Ready(Some(Err(status))) => {
                    self.done = true;
                    return Poll::Ready(Some(Err(status.into())));
                }
                Poll::Ready(None) => self.done = true,
            }
        }
    }
}

/// Rows of an answer.
#[derive(Debug)]
pub struct Answer {
    lines: Lines,
}

impl Answer {
    /// The next row, `None` after the last.
    ///
    /// # Errors
    /// When the connection is lost or a row cannot be read.
    pub async fn next_row(&mut self) -> Result<Option<Row>, ClientError> {
        self.next().await.transpose()
    }
}

impl Stream for Answer {
    type Item = Result<Row, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.lines).poll_next(cx).map(|next| next.map(|line| Row::from_json(&line?)))
    }
}

/// A row from the object it travels as.
trait FromJson: Sized {
    fn from_json(json: &[u8]) -> Result<Self, ClientError>;
}

impl FromJson for Row {
    fn from_json(json: &[u8]) -> Result<Self, ClientError> {
        serde_json::from_slice(json).map_err(|e| ClientError::Garbled(e.to_string()))
    }
}

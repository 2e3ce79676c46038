//! `coral.v1.Colony`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use coral_model::view::{Row, StatusRow};
use coral_model::{Mode, Question, Time};
use coral_proto::{PROTOCOL, v1};
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::backend::Backend;
use super::failure;
use super::note::event_of;
use super::rows::json;
use super::stream::Streams;
use crate::lifecycle::{Activity, Ending, Why};
use crate::registry::eyes::{EyesError, Said};
use crate::registry::{Agents, Peer, Registry, check_protocol};

/// Open streams of all viewers together.
const MAX_STREAMS: usize = 256;
/// Rows an answer may have at most, whatever was asked.
const MAX_ROWS: usize = 100_000;
/// Completions at most.
const MAX_VALUES: usize = 1_000;
/// Longest name of a host, in bytes: agents' are cut there.
const MAX_HOST: usize = 512;

/// What the colony says about itself, and never changes while it runs.
#[derive(Clone, Debug)]
pub struct About {
    /// Its name.
    pub colony: String,
    /// Its socket.
    pub socket: PathBuf,
    /// Where its data are.
    pub data_dir: PathBuf,
    /// Its log.
    pub log_file: PathBuf,
    /// When it started.
    pub since: Time,
}

/// The service.
#[derive(Clone)]
pub struct Colony {
    about: Arc<About>,
    streams: Streams,
    open: Arc<Semaphore>,
    activity: Arc<Activity>,
    ending: Arc<Ending>,
    registry: Arc<dyn Registry>,
    agents: Arc<Agents>,
}

impl Colony {
    /// Name of the setting that makes the colony stay, in the registry.
    pub const STAY: &str = "stay";

    /// Over `backend`; streams end with `stop`.
    #[must_use]
    pub fn new(
        about: About,
        backend: Arc<dyn Backend>,
        activity: Arc<Activity>,
        ending: Arc<Ending>,
        registry: Arc<dyn Registry>,
        agents: Arc<Agents>,
        stop: tokio_util::sync::CancellationToken,
    ) -> Self {
        Self {
            about: Arc::new(about),
            streams: Streams::new(backend, stop),
            open: Arc::new(Semaphore::new(MAX_STREAMS)),
            activity,
            ending,
            registry,
            agents,
        }
    }

    fn backend(&self) -> &dyn Backend {
        self.streams.backend.as_ref()
    }

    async fn set_stay(&self, stay: bool) -> Result<(), Status> {
        self.activity.stay(stay);
        let registry = Arc::clone(&self.registry);
        let written =
            tokio::task::spawn_blocking(move || registry.set(Self::STAY, stay.then_some("yes")));
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(Status::internal(e.to_string())),
            Err(e) => Err(Status::internal(e.to_string())),
        }
    }

    /// Keeps what is wanted of agents' eyes, and tells them.
    async fn say_of_eyes(&self, host: Option<String>, said: Said) -> Result<(), Status> {
        let what = if said.open { "open" } else { "closed" };
        tracing::info!(
            "eyes on {} shall be {what}: {}",
            host.as_deref().unwrap_or("all hosts"),
            said.by
        );
        let (agents, registry) = (Arc::clone(&self.agents), Arc::clone(&self.registry));
        let kept = tokio::task::spawn_blocking(move || {
            agents.eyes().say(registry.as_ref(), host.as_deref(), said)
        });
        match kept.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e @ EyesError::Hosts)) => Err(Status::resource_exhausted(e.to_string())),
            Ok(Err(e)) => Err(Status::internal(e.to_string())),
            Err(e) => Err(Status::internal(e.to_string())),
        }
    }
}

#[tonic::async_trait]
impl v1::colony_server::Colony for Colony {
    type QueryStream = ReceiverStream<Result<v1::Rows, Status>>;
    type ExportStream = super::transfer::Chunks;
    type ParquetStream = super::transfer::Chunks;

    async fn hello(
        &self,
        request: Request<v1::HelloRequest>,
    ) -> Result<Response<v1::HelloReply>, Status> {
        self.activity.touch(Instant::now());
        let hello = request.into_inner();
        // 0: a caller that only wants to know who is there.
        if hello.protocol != 0 {
            check_protocol("program", hello.protocol, &hello.build).map_err(|refusal| {
                Status::failed_precondition(format!("{}; {}", refusal.reason, refusal.remedy))
            })?;
        }
        let capabilities = ["query.watch", "query.tail", "events.post", "stay", "eyes", "shutdown"];
        Ok(Response::new(v1::HelloReply {
            protocol: PROTOCOL,
            build: env!("CARGO_PKG_VERSION").into(),
            colony: self.about.colony.clone(),
            pid: std::process::id(),
            capabilities: capabilities.map(Into::into).into(),
        }))
    }

    async fn query(
        &self,
        request: Request<v1::QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let question = Question::try_from(request.into_inner());
        let mut question = question.map_err(|e| Status::invalid_argument(e.to_string()))?;
        question.limit = question.limit.min(MAX_ROWS);
        let tails = [coral_model::View::Logs, coral_model::View::Traces, coral_model::View::Events];
        if question.mode == Mode::Tail && !tails.contains(&question.view) {
            return Err(Status::invalid_argument(format!(
                "`{}` rows do not arrive one by one; follow logs, traces or events, or watch it",
                question.view
            )));
        }
        let slot = Arc::clone(&self.open).try_acquire_owned();
        let slot = slot.map_err(|_| failure::busy("streams", MAX_STREAMS))?;
        let reader = self.streams.start(question, (slot, self.activity.viewer()));
        Ok(Response::new(ReceiverStream::new(reader)))
    }

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        let _viewer = self.activity.viewer();
        let footing = self.backend().footing().await;
        let path = |p: &PathBuf| p.display().to_string();
        let row = StatusRow {
            colony: self.about.colony.clone(),
            build: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            since: self.about.since,
            stays: self.activity.stays(),
            socket: path(&self.about.socket),
            data_dir: path(&self.about.data_dir),
            data_bytes: footing.data_bytes,
            data_capacity_bytes: footing.data_capacity_bytes,
            log_file: path(&self.about.log_file),
            services: footing.services.unwrap_or_default(),
            agents: footing.agents,
            counters: footing.counters,
            blind: footing.blind,
        };
        Ok(Response::new(v1::StatusReply { json: json(&Row::Status(Box::new(row)))?.into() }))
    }

    async fn post_event(
        &self,
        request: Request<v1::PostEventRequest>,
    ) -> Result<Response<v1::PostEventReply>, Status> {
        let _viewer = self.activity.viewer();
        let uid = Peer::of(request.extensions()).map(|peer| peer.uid);
        let source = uid.map_or_else(|| "api".to_owned(), |uid| format!("user {uid}"));
        let request = request.into_inner();
        if request.text.trim().is_empty() {
            return Err(Status::invalid_argument(
                "an event needs a text, like: coral event \"deploy payments v42\"",
            ));
        }
        let event = event_of(&request, source, self.backend().now());
        let event = event.map_err(|e| Status::invalid_argument(e.to_string()))?;
        let kept = self.backend().record(event.clone()).await;
        kept.map_err(|e| failure::status(&e))?;
        Ok(Response::new(v1::PostEventReply { json: json(&Row::Event(Box::new(event)))?.into() }))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteReply>, Status> {
        let _viewer = self.activity.viewer();
        let v1::CompleteRequest { key, prefix, limit } = request.into_inner();
        let limit = match coral_model::num::usize_sat(limit) {
            0 => 100,
            n => n.min(MAX_VALUES),
        };
        let values = self.backend().complete(&key, &prefix, limit).await;
        let values = values.map_err(|e| failure::status(&e))?;
        Ok(Response::new(v1::CompleteReply { values }))
    }

    async fn export(
        &self,
        request: Request<v1::ExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        let request = request.into_inner();
        let slot = Arc::clone(&self.open).try_acquire_owned();
        let slot = slot.map_err(|_| failure::busy("streams", MAX_STREAMS))?;
        let held = (slot, self.activity.viewer());
        super::transfer::export(self.backend(), &self.about.colony, request, held)
    }

    async fn parquet(
        &self,
        request: Request<v1::QueryRequest>,
    ) -> Result<Response<Self::ParquetStream>, Status> {
        let question = Question::try_from(request.into_inner());
        let question = question.map_err(|e| Status::invalid_argument(e.to_string()))?;
        let slot = Arc::clone(&self.open).try_acquire_owned();
        let slot = slot.map_err(|_| failure::busy("streams", MAX_STREAMS))?;
        let held = (slot, self.activity.viewer());
        super::transfer::parquet(self.backend(), &question, held).await
    }

    async fn import(
        &self,
        request: Request<tonic::Streaming<v1::Chunk>>,
    ) -> Result<Response<v1::ImportReply>, Status> {
        let _viewer = self.activity.viewer();
        super::transfer::import(self.backend(), request.into_inner()).await
    }

    async fn stay(
        &self,
        request: Request<v1::StayRequest>,
    ) -> Result<Response<v1::StayReply>, Status> {
        let _viewer = self.activity.viewer();
        self.set_stay(request.into_inner().stay).await?;
        Ok(Response::new(v1::StayReply {}))
    }

    async fn eyes(
        &self,
        request: Request<v1::EyesRequest>,
    ) -> Result<Response<v1::EyesReply>, Status> {
        let _viewer = self.activity.viewer();
        let uid = Peer::of(request.extensions()).map(|peer| peer.uid);
        let v1::EyesRequest { open, host } = request.into_inner();
        let now = self.backend().now();
        if host.as_ref().is_some_and(|host| host.is_empty() || host.len() > MAX_HOST) {
            let text = format!("a host's name has 1 to {MAX_HOST} bytes");
            return Err(Status::invalid_argument(text));
        }
        if let Some(open) = open {
            if self.backend().is_for_a_file() {
                return Err(Status::failed_precondition(
                    "this is a file: no agent belongs to it, so there are no eyes",
                ));
            }
            let by = uid.map_or_else(|| "api".to_owned(), |uid| format!("user {uid}"));
            self.say_of_eyes(host.clone(), Said { open, at_ns: now.0, by }).await?;
        }
        let rows = self.agents.eyes_rows(now, host.as_deref()).into_iter();
        let lines = rows.map(|row| json(&Row::Eyes(Box::new(row))).map(Vec::<u8>::from));
        Ok(Response::new(v1::EyesReply { json: lines.collect::<Result<_, Status>>()? }))
    }

    async fn shutdown(
        &self,
        _: Request<v1::ShutdownRequest>,
    ) -> Result<Response<v1::ShutdownReply>, Status> {
        // Whoever starts it next decides anew whether it stays.
        if let Err(e) = self.set_stay(false).await {
            tracing::warn!("{}", e.message());
        }
        self.ending.begin(Why::Asked);
        Ok(Response::new(v1::ShutdownReply {}))
    }
}

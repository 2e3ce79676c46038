//! Where agents' sessions end: records in, acknowledgements out.
//!
//! In: frames of spool records over the uplink. Out: batches for the store and, once they are
//! committed, acknowledgements. Every record is committed exactly once however often it arrives: a
//! frame's rows carry the mark they follow on, and the store's writer refuses a batch that does not
//! follow. Frames of a session are decoded and queued while earlier ones are still being committed;
//! how much may wait is a byte budget over all sessions, and a session that gets no share stops
//! reading its stream. Decoding never runs on an IO thread.

pub mod decode;
mod quarantine;
mod session;

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use coral_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::counters::Counters;
use crate::detect::Detector;
use crate::registry::{Agents, Peer};
use crate::store::Store;
use decode::Series;
use quarantine::Quarantine;
use session::Session;

/// Messages to an agent that wait to be sent.
const OUTBOX: usize = 256;

/// What every session shares.
pub(crate) struct Shared {
    store: Arc<Store>,
    agents: Arc<Agents>,
    detector: Arc<Mutex<Detector>>,
    counters: Arc<Counters>,
    colony: String,
    series: Arc<Mutex<Series>>,
    quarantine: Quarantine,
}

/// The uplink service.
#[derive(Clone)]
pub struct Uplink {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Uplink {
    /// Sessions end when `stop` is cancelled; what they queued is still committed.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        agents: Arc<Agents>,
        detector: Arc<Mutex<Detector>>,
        counters: Arc<Counters>,
        colony: String,
        stop: CancellationToken,
    ) -> Self {
        let quarantine = Quarantine::new(store.dir());
        let series = Arc::default();
        let shared = Shared { store, agents, detector, counters, colony, series, quarantine };
        Self { shared: Arc::new(shared), stop }
    }

    /// Serves one session: messages in, messages out. Ends when the agent hangs up or breaks the
    /// protocol, when a commit fails, or when the colony stops.
    pub fn serve(
        &self,
        peer: Peer,
        messages: impl Stream<Item = Result<v1::AgentMessage, Status>> + Send + Unpin + 'static,
    ) -> mpsc::Receiver<Result<v1::ColonyMessage, Status>> {
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        let session = Session::new(Arc::clone(&self.shared), peer, outbox);
        let stop = self.stop.clone();
        tokio::spawn(async move { session.run(messages, stop).await });
        outgoing
    }
}

#[tonic::async_trait]
impl v1::uplink_server::Uplink for Uplink {
    type SessionStream =
        Pin<Box<dyn Stream<Item = Result<v1::ColonyMessage, Status>> + Send + 'static>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = Peer::of(request.extensions())
            .ok_or_else(|| Status::unauthenticated("the kernel does not say who you are"))?;
        let messages = request.into_inner().map(|message| message);
        Ok(Response::new(Box::pin(ReceiverStream::new(self.serve(peer, messages)))))
    }
}

#[cfg(test)]
mod tests;

//! One agent's session.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use coral_model::id::{AgentId, SegmentId};
use coral_model::time::Time;
use coral_model::view::{EventKind, EventRow};
use coral_proto::v1::{
    self, Ack, Pong, Welcome, agent_message::Message as In, colony_message::Message as Out,
};
use hashbrown::HashMap;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Shared;
use super::decode::{Decoded, Decoder, Origin};
use crate::registry::eyes::{self, Following};
use crate::registry::{self, Peer};
use crate::store::{Batch, Committed, Pending, Reserved, StoreError};

/// Frames decoded and not yet committed; the byte budget usually bites first.
const IN_FLIGHT: usize = 64;
/// How often a frame is read again because an earlier session's commit came in between.
const ATTEMPTS: usize = 8;

/// A frame as it came.
struct Frame {
    segment: SegmentId,
    first: u64,
    bytes: Bytes,
}

/// A frame whose batch is queued.
struct Queued {
    segment: SegmentId,
    last: u64,
    pending: Pending,
    /// To read it again when its batch turns out not to follow on what is committed.
    frame: Frame,
}

/// Whether the detectors have seen a frame's records before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    First,
    Again,
}

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the agent hung up")]
    HungUp,
    #[error("the agent's stream broke: {0}")]
    Broken(Status),
    #[error("the agent broke the protocol: {0}")]
    Protocol(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the colony is stopping")]
    Stopping,
    #[error("refused: {}", .0.reason)]
    Refused(v1::Refusal),
}

pub(super) struct Session {
    shared: Arc<Shared>,
    peer: Peer,
    outbox: mpsc::Sender<Result<v1::ColonyMessage, Status>>,
    decoder: Option<Decoder>,
    queued: VecDeque<Queued>,
    /// Numbers queued but not committed, by segment.
    ahead: HashMap<SegmentId, u64>,
}

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        peer: Peer,
        outbox: mpsc::Sender<Result<v1::ColonyMessage, Status>>,
    ) -> Self {
        let decoder = Some(Decoder::new(Arc::clone(&shared.series)));
        Self { shared, peer, outbox, decoder, queued: VecDeque::new(), ahead: HashMap::new() }
    }

    pub(super) async fn run(
        mut self,
        mut messages: impl Stream<Item = Result<v1::AgentMessage, Status>> + Send + Unpin,
        stop: CancellationToken,
    ) {
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => Err(End::Stopping),
            opened = self.open(&mut messages) => opened,
        };
        let end = match opened {
            Ok(session) => {
                let mut eyes = self.shared.agents.follow_eyes(&session);
                let end = self.serve(&session, &mut messages, &mut eyes, &stop).await;
                // What was queued is committed anyhow; telling the agent saves it a resend.
                while !self.queued.is_empty() && self.settle(&session).await.is_ok() {}
                self.shared.agents.lost(&session, self.shared.store.now());
                end
            }
            Err(end) => end,
        };
        tracing::info!(peer = ?self.peer, %end, "an agent's session ended");
        let last = match end {
            End::HungUp | End::Broken(_) => return,
            End::Refused(refusal) => Ok(message(Out::Refusal(refusal))),
            End::Protocol(what) => Err(Status::invalid_argument(what)),
            End::Store(error @ StoreError::DiskFull { .. }) => {
                Err(Status::resource_exhausted(error.to_string()))
            }
            End::Store(error) => Err(Status::unavailable(error.to_string())),
            End::Stopping => Err(Status::unavailable("the colony is stopping")),
        };
        _ = self.outbox.send(last).await;
    }

    /// Hello and Welcome.
    async fn open(
        &mut self,
        messages: &mut (impl Stream<Item = Result<v1::AgentMessage, Status>> + Send + Unpin),
    ) -> Result<registry::Session, End> {
        let first = messages.next().await.ok_or(End::HungUp)?.map_err(End::Broken)?;
        let Some(In::Hello(hello)) = first.message else {
            return Err(End::Protocol("a session begins with a hello"));
        };
        let now = self.shared.store.now();
        let session = self.shared.agents.connected(&hello, self.peer, now).map_err(End::Refused)?;
        let marks = self.shared.store.marks(session.agent);
        let marks = marks.into_iter().map(|(segment, seq)| ack(segment, seq)).collect();
        let welcome = Welcome {
            protocol: coral_proto::PROTOCOL,
            build: env!("CARGO_PKG_VERSION").into(),
            colony: self.shared.colony.clone(),
            capabilities: vec![eyes::CAPABILITY.to_owned()],
            marks,
        };
        self.send(Out::Welcome(welcome)).await?;
        Ok(session)
    }

    async fn serve(
        &mut self,
        session: &registry::Session,
        messages: &mut (impl Stream<Item = Result<v1::AgentMessage, Status>> + Send + Unpin),
        eyes: &mut Option<Following>,
        stop: &CancellationToken,
    ) -> End {
        loop {
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopping,
                wanted = said(eyes) => self.send(Out::Eyes(wanted)).await,
                settled = self.oldest(), if !self.queued.is_empty() => {
                    self.settled(session, settled).await
                }
                next = messages.next(), if self.queued.len() < IN_FLIGHT => match next {
                    None => return End::HungUp,
                    Some(Err(status)) => return End::Broken(status),
                    Some(Ok(message)) => self.hear(session, message).await,
                },
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn hear(
        &mut self,
        session: &registry::Session,
        message: v1::AgentMessage,
    ) -> Result<(), End> {
        let now = self.shared.store.now();
        match message.message {
            Some(In::Records(records)) => {
                self.shared.agents.seen(session, now);
                let segment = SegmentId::from_slice(&records.segment_id)
                    .ok_or(End::Protocol("a segment id has 16 bytes"))?;
                let frame = Frame { segment, first: records.first_seq, bytes: records.bytes };
                Box::pin(self.queue(session, frame)).await
            }
            Some(In::SegmentGone(gone)) => {
                let segment = SegmentId::from_slice(&gone.segment_id)
                    .ok_or(End::Protocol("a segment id has 16 bytes"))?;
                self.forget(session, segment).await
            }
            Some(In::Report(report)) => {
                self.shared.agents.report(session, report, now);
                Ok(())
            }
            Some(In::Ping(ping)) => {
                let pong = Pong { sent_ns: ping.sent_ns, received_ns: now.0 };
                self.shared.agents.seen(session, now);
                self.send(Out::Pong(pong)).await
            }
            Some(In::Hello(_)) => Err(End::Protocol("a second hello")),
            // A newer agent may say things this build does not know.
            None => Ok(()),
        }
    }

    /// Decodes a frame and queues its batch.
    async fn queue(&mut self, session: &registry::Session, frame: Frame) -> Result<(), End> {
        let reserved = self.shared.store.reserve(frame.bytes.len()).await?;
        let agent = session.agent;
        let committed = self.shared.store.mark(agent, frame.segment);
        let after = self.ahead.get(&frame.segment).copied().max(committed);
        let (decoded, events) = self.decode(agent, &frame, after, Pass::First).await?;
        self.count(&decoded);
        self.enqueue(frame, decoded, events, committed, reserved).await
    }

    /// Queues what was decoded. A frame without anything new is acknowledged in its turn.
    async fn enqueue(
        &mut self,
        frame: Frame,
        mut decoded: Decoded,
        events: Vec<EventRow>,
        committed: Option<u64>,
        reserved: Reserved,
    ) -> Result<(), End> {
        let Some(last) = decoded.last else {
            // What is queued ahead is acknowledged when it is committed, not now.
            return match committed {
                Some(seq) => self.send(Out::Ack(ack(frame.segment, seq))).await,
                None => Ok(()),
            };
        };
        decoded.batch.events.extend(events);
        let pending = self.shared.store.submit(decoded.batch, reserved)?;
        self.ahead.insert(frame.segment, last);
        self.queued.push_back(Queued { segment: frame.segment, last, pending, frame });
        Ok(())
    }

    /// Decodes off the IO threads; lets the detectors see the batch; sets aside what is damaged.
    async fn decode(
        &mut self,
        agent: AgentId,
        frame: &Frame,
        after: Option<u64>,
        pass: Pass,
    ) -> Result<(Decoded, Vec<EventRow>), End> {
        let origin = Origin { agent, segment: frame.segment, after };
        let (bytes, first) = (frame.bytes.clone(), frame.first);
        let shared = Arc::clone(&self.shared);
        let series = Arc::clone(&self.shared.series);
        let mut decoder = self.decoder.take().unwrap_or_else(|| Decoder::new(series));
        let work = tokio::task::spawn_blocking(move || {
            let now = shared.store.now();
            let decoded = decoder.frame(&bytes, first, origin, now);
            let mut events = Vec::new();
            if pass == Pass::First {
                if !decoded.batch.is_empty() {
                    let mut detector =
                        shared.detector.lock().unwrap_or_else(PoisonError::into_inner);
                    events.extend(detector.observe(&decoded.batch, now));
                }
                events.extend(set_aside(&shared, origin, &decoded, now));
            }
            (decoder, decoded, events)
        });
        let (decoder, decoded, events) = work.await.map_err(|_| StoreError::Closed)?;
        self.decoder = Some(decoder);
        Ok((decoded, events))
    }

    fn count(&self, decoded: &Decoded) {
        let now = self.shared.store.now();
        for damaged in &decoded.damaged {
            self.shared.agents.unread(damaged.kind, 1, now);
        }
        let counted = [
            ("records_duplicate", decoded.duplicates),
            ("records_damaged", coral_model::num::u64_sat(decoded.damaged.len())),
            ("records_invalid", decoded.invalid),
            ("metric_points_folded", decoded.folded),
            ("attributes_dropped", decoded.attributes_dropped),
            ("resource_memories_renewed", decoded.resources_renewed),
        ];
        for (name, n) in counted.into_iter().filter(|(_, n)| *n > 0) {
            self.shared.counters.add(name, n);
        }
    }

    async fn forget(&mut self, session: &registry::Session, segment: SegmentId) -> Result<(), End> {
        // After the frames queued before it, or its mark would come back.
        let forget = vec![(session.agent, segment)];
        let batch = Batch { forget, ..Batch::default() };
        let reserved = self.shared.store.reserve(0).await?;
        drop(self.shared.store.submit(batch, reserved)?);
        self.ahead.remove(&segment);
        Ok(())
    }

    /// Waits for the oldest queued batch.
    async fn oldest(&mut self) -> Result<Committed, StoreError> {
        match self.queued.front_mut() {
            Some(queued) => (&mut queued.pending).await,
            None => std::future::pending().await,
        }
    }

    async fn settle(&mut self, session: &registry::Session) -> Result<(), End> {
        let settled = self.oldest().await;
        self.settled(session, settled).await
    }

    /// Acknowledges the oldest queued batch, or reads its frame again when it did not follow.
    async fn settled(
        &mut self,
        session: &registry::Session,
        settled: Result<Committed, StoreError>,
    ) -> Result<(), End> {
        let Some(queued) = self.queued.pop_front() else { return Ok(()) };
        let Queued { segment, last, frame, .. } = queued;
        match settled {
            Ok(_) => {
                if self.ahead.get(&segment) == Some(&last) {
                    self.ahead.remove(&segment);
                }
                self.send(Out::Ack(ack(segment, last))).await
            }
            Err(StoreError::Stale { .. }) => Box::pin(self.again(session, frame)).await,
            Err(error) => Err(error.into()),
        }
    }

    /// An earlier session of this agent had queued some of these records. What it did not have is
    /// committed now, before anything else of this session, so that numbers stay in order.
    async fn again(&mut self, session: &registry::Session, frame: Frame) -> Result<(), End> {
        self.shared.counters.add("frames_read_again", 1);
        for _ in 0..ATTEMPTS {
            let reserved = self.shared.store.reserve(frame.bytes.len()).await?;
            let after = self.shared.store.mark(session.agent, frame.segment);
            let (decoded, _) = self.decode(session.agent, &frame, after, Pass::Again).await?;
            let Some(last) = decoded.last else {
                return match after {
                    Some(seq) => self.send(Out::Ack(ack(frame.segment, seq))).await,
                    None => Ok(()),
                };
            };
            match self.shared.store.submit(decoded.batch, reserved)?.await {
                Ok(_) => return self.send(Out::Ack(ack(frame.segment, last))).await,
                Err(StoreError::Stale { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(End::Protocol("two sessions send the same segment"))
    }

    async fn send(&self, out: Out) -> Result<(), End> {
        self.outbox.send(Ok(message(out))).await.map_err(|_| End::HungUp)
    }
}

/// What is wanted of the agent's eyes, and from then on whenever it is something else.
async fn said(eyes: &mut Option<Following>) -> v1::Eyes {
    match eyes {
        Some(eyes) => eyes.next().await,
        None => std::future::pending().await,
    }
}

fn message(out: Out) -> v1::ColonyMessage {
    v1::ColonyMessage { message: Some(out) }
}

fn ack(segment: SegmentId, seq: u64) -> Ack {
    Ack { segment_id: segment.0.to_vec(), seq }
}

/// Puts damaged records aside; one event tells of all in a frame.
fn set_aside(shared: &Shared, origin: Origin, decoded: &Decoded, now: Time) -> Option<EventRow> {
    let first = decoded.damaged.first()?;
    for damaged in &decoded.damaged {
        let kept = shared.quarantine.put(origin.agent, origin.segment, damaged);
        if kept.is_none() {
            shared.counters.add("quarantine_full", 1);
        }
        tracing::warn!(agent = %origin.agent, seq = damaged.seq, why = damaged.why, ?kept, "a record cannot be read");
    }
    let n = decoded.damaged.len();
    let text = format!("{n} records of agent {} cannot be read whole: {}", origin.agent, first.why);
    let mut event = note(now, &text);
    event.kind = EventKind::Dropped;
    let dir = shared.quarantine.dir().to_string_lossy().into_owned();
    event.attributes = [("count".into(), n.to_string()), ("set_aside_in".into(), dir)].into();
    Some(event)
}

fn note(time: Time, text: &str) -> EventRow {
    EventRow {
        time,
        kind: EventKind::Note,
        service: None,
        host: None,
        text: text.to_owned(),
        source: "colony".into(),
        attributes: std::collections::BTreeMap::new(),
    }
}

//! One session, from hello to its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use coral_model::{SegmentId, Time};
use coral_proto::v1::agent_message::Message as Out;
use coral_proto::v1::colony_message::Message as In;
use coral_proto::v1::uplink_client::UplinkClient;
use coral_proto::v1::{
    Ack, AgentHello, AgentMessage, ColonyMessage, Ping, Records, SegmentGone, Welcome,
};
use coral_proto::{PROTOCOL, PROTOCOL_OLDEST};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::clock::Offset;
use super::report::{OwnCost, report};
use super::{SessionError, Uplink};
use crate::spool::index::Prefer;
use crate::spool::{Chunk, Spool};

/// Bytes of one `Records` message, unless a single record is larger.
const CHUNK: usize = 512 << 10;
/// Bytes sent and not yet acknowledged.
const UNACKED: usize = 8 << 20;
/// What either end says in its first message where it knows of eyes that open and close.
const EYES: &str = "eyes";
/// How long a stopping agent goes on shipping what is left.
const FAREWELL: Duration = Duration::from_secs(2);

fn ended(status: &Status) -> SessionError {
    SessionError::Ended(status.message().to_owned())
}

fn stream_ended() -> SessionError {
    SessionError::Ended("its stream closed".to_owned())
}

pub(super) async fn run(
    uplink: &Uplink,
    mut client: UplinkClient<Channel>,
    cancel: &CancellationToken,
) -> Result<(), SessionError> {
    let (sender, receiver) = mpsc::channel(2);
    send(&sender, Out::Hello(hello(uplink))).await?;
    let call = client.session(ReceiverStream::new(receiver));
    let mut incoming = tokio::select! {
        () = cancel.cancelled() => return Ok(()),
        reply = call => reply.map_err(|s| ended(&s))?.into_inner(),
    };
    let welcome = tokio::select! {
        () = cancel.cancelled() => return Ok(()),
        welcome = welcome(&mut incoming) => welcome?,
    };
    uplink.last_seen.now();
    uplink.pipeline.counters.sessions.add(1);
    uplink.senses.on("uplink", format!("colony {} ({})", welcome.colony, welcome.build));
    tracing::info!(colony = %welcome.colony, "session opened");
    if !welcome.capabilities.iter().any(|word| word == EYES) {
        uplink.lids.hear_nothing();
    }
    let spool = uplink.pipeline.spool.clone();
    let mut session = Session {
        uplink,
        spool,
        sender,
        unacked: VecDeque::new(),
        unacked_bytes: 0,
        turn: Prefer::Newest,
        offset: Offset::default(),
        cost: OwnCost::default(),
    };
    session.begin(&welcome).await?;
    session.go_on(&mut incoming, cancel).await
}

fn hello(uplink: &Uplink) -> AgentHello {
    AgentHello {
        protocol: PROTOCOL,
        build: crate::BUILD.to_owned(),
        agent_id: uplink.identity.agent.0.to_vec(),
        host: uplink.identity.host.clone(),
        scope: uplink.identity.scope.clone(),
        pid: std::process::id(),
        capabilities: ["otlp", "red", "host", EYES].map(str::to_owned).to_vec(),
    }
}

async fn welcome(incoming: &mut Streaming<ColonyMessage>) -> Result<Welcome, SessionError> {
    let first = incoming.message().await.map_err(|s| ended(&s))?.and_then(|m| m.message);
    match first {
        Some(In::Welcome(welcome)) if welcome.protocol >= PROTOCOL_OLDEST => Ok(welcome),
        Some(In::Welcome(welcome)) => Err(SessionError::Refused {
            reason: format!(
                "it speaks protocol {}, this agent {PROTOCOL_OLDEST} to {PROTOCOL}",
                welcome.protocol
            ),
            remedy: "restart the colony with this build: coral down; coral up".to_owned(),
        }),
        Some(In::Refusal(refusal)) => {
            Err(SessionError::Refused { reason: refusal.reason, remedy: refusal.remedy })
        }
        _ => Err(SessionError::Ended("it did not say welcome".to_owned())),
    }
}

async fn send(sender: &mpsc::Sender<AgentMessage>, message: Out) -> Result<(), SessionError> {
    let sent = sender.send(AgentMessage { message: Some(message) }).await;
    sent.map_err(|_| stream_ended())
}

struct Session<'u> {
    uplink: &'u Uplink,
    spool: Arc<Spool>,
    sender: mpsc::Sender<AgentMessage>,
    unacked: VecDeque<(SegmentId, u64, usize)>,
    unacked_bytes: usize,
    turn: Prefer,
    offset: Offset,
    cost: OwnCost,
}

impl Session<'_> {
    /// Skips what the colony has, and tells it which marks it may forget.
    async fn begin(&mut self, welcome: &Welcome) -> Result<(), SessionError> {
        let mark = |ack: &Ack| SegmentId::from_slice(&ack.segment_id).map(|id| (id, ack.seq));
        let marks: Vec<_> = welcome.marks.iter().filter_map(mark).collect();
        let gone = self.spool.restart_shipping(&marks);
        self.tell_gone(gone).await?;
        self.reap().await
    }

    async fn tell_gone(&self, gone: Vec<SegmentId>) -> Result<(), SessionError> {
        for id in gone {
            let message = SegmentGone { segment_id: id.0.to_vec() };
            send(&self.sender, Out::SegmentGone(message)).await?;
        }
        Ok(())
    }

    /// Deletes what is acknowledged and counted.
    async fn reap(&self) -> Result<(), SessionError> {
        let gone = self.spool.reap();
        self.tell_gone(gone).await
    }

    async fn go_on(
        &mut self,
        incoming: &mut Streaming<ColonyMessage>,
        cancel: &CancellationToken,
    ) -> Result<(), SessionError> {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        // Pinned once: a notification must not get lost between two rounds.
        let spool = self.spool.clone();
        let mut farewell: Option<tokio::time::Instant> = None;
        loop {
            let sent = self.ship().await?;
            if sent {
                // Look at acks and the clock between two chunks, without waiting for them.
                tokio::task::yield_now().await;
            }
            if farewell.is_some() && !sent && self.unacked.is_empty() {
                return Ok(());
            }
            let until =
                farewell.unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                biased;
                message = incoming.message() => {
                    let message = message.map_err(|s| ended(&s))?.ok_or_else(stream_ended)?;
                    self.take(message).await?;
                }
                _ = second.tick() => self.each_second().await?,
                () = cancel.cancelled(), if farewell.is_none() => {
                    farewell = Some(tokio::time::Instant::now() + FAREWELL);
                }
                () = tokio::time::sleep_until(until), if farewell.is_some() => return Ok(()),
                () = std::future::ready(()), if sent => {}
                () = spool.changed(), if !sent && self.unacked_bytes < UNACKED => {}
            }
        }
    }

    /// Sends one chunk, if there is one and room for it.
    async fn ship(&mut self) -> Result<bool, SessionError> {
        if self.unacked_bytes >= UNACKED {
            return Ok(false);
        }
        let (spool, turn) = (self.spool.clone(), self.turn);
        let read = tokio::task::spawn_blocking(move || spool.next_chunk(CHUNK, turn)).await;
        let Some(chunk) = read.map_err(|_| stream_ended())?? else { return Ok(false) };
        self.turn = match turn {
            Prefer::Newest => Prefer::Oldest,
            Prefer::Oldest => Prefer::Newest,
        };
        let Chunk { segment, first_seq, last_seq, bytes } = chunk;
        let len = bytes.len();
        self.unacked.push_back((segment, last_seq, len));
        self.unacked_bytes += len;
        self.uplink.pipeline.counters.shipped_bytes.add(len as u64);
        let records = Records { segment_id: segment.0.to_vec(), first_seq, bytes };
        send(&self.sender, Out::Records(records)).await?;
        Ok(true)
    }

    async fn take(&mut self, message: ColonyMessage) -> Result<(), SessionError> {
        self.uplink.last_seen.now();
        match message.message {
            Some(In::Ack(ack)) => {
                let Some(id) = SegmentId::from_slice(&ack.segment_id) else { return Ok(()) };
                self.spool.acked(id, ack.seq);
                self.unacked.retain(|&(segment, last_seq, len)| {
                    let done = segment == id && last_seq <= ack.seq;
                    self.unacked_bytes -= if done { len } else { 0 };
                    !done
                });
                self.reap().await
            }
            Some(In::Pong(pong)) => {
                self.offset.sample(pong.sent_ns, pong.received_ns, Time::now().0);
                Ok(())
            }
            Some(In::Eyes(eyes)) => {
                self.uplink.lids.hear(&eyes);
                Ok(())
            }
            Some(In::Refusal(refusal)) => {
                Err(SessionError::Refused { reason: refusal.reason, remedy: refusal.remedy })
            }
            // A newer colony may say things this build does not know.
            Some(In::Welcome(_)) | None => Ok(()),
        }
    }

    async fn each_second(&mut self) -> Result<(), SessionError> {
        let now = Time::now();
        self.spool.seal_when_idle(now.0);
        self.reap().await?;
        let Uplink { pipeline, senses, lids, .. } = self.uplink;
        let report = report(pipeline, senses, lids, &mut self.cost, self.offset.best(), now);
        send(&self.sender, Out::Report(report)).await?;
        send(&self.sender, Out::Ping(Ping { sent_ns: Time::now().0 })).await
    }
}

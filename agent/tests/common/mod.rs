//! A colony that keeps what it is sent: the other end of the uplink in these tests.
#![allow(missing_docs, reason = "a test's own module")]
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coral_model::SegmentId;
use coral_proto::record::{self, Kind, Record};
use coral_proto::v1::agent_message::Message as FromAgent;
use coral_proto::v1::colony_message::Message as ToAgent;
use coral_proto::v1::uplink_server::{Uplink, UplinkServer};
use coral_proto::v1::{
    Ack, AgentHello, AgentMessage, AgentReport, ColonyMessage, Pong, Reduced, Refusal, Welcome,
};
use prost::Message as _;
use tokio::net::UnixListener;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// What the colony keeps, over all its lives.
#[derive(Default)]
pub struct Kept {
    /// Committed records, in order of arrival.
    pub records: Vec<(SegmentId, Record)>,
    /// Marks per segment.
    pub marks: BTreeMap<SegmentId, u64>,
    pub hellos: Vec<AgentHello>,
    pub reports: Vec<AgentReport>,
    pub gone: Vec<SegmentId>,
    /// Records that came again after they were committed.
    pub repeated: u64,
    pub welcome_protocol: u32,
    pub refuse: Option<Refusal>,
    /// Acknowledge nothing.
    pub mute: bool,
}

impl Kept {
    /// Bodies of one kind.
    pub fn bodies(&self, kind: Kind) -> Vec<bytes::Bytes> {
        let of_kind = self.records.iter().filter(|(_, r)| r.kind == kind);
        of_kind.map(|(_, r)| r.body().unwrap()).collect()
    }

    pub fn reduced(&self) -> Vec<Reduced> {
        self.bodies(Kind::Reduced).into_iter().map(|b| Reduced::decode(b).unwrap()).collect()
    }

    /// Requests counted by RED, over everything.
    pub fn requests(&self) -> u64 {
        let rows = self.reduced().into_iter().flat_map(|r| r.red);
        rows.flat_map(|row| row.hist_count).sum()
    }
}

#[derive(Clone)]
struct Service {
    kept: Arc<Mutex<Kept>>,
    cancel: CancellationToken,
}

#[tonic::async_trait]
impl Uplink for Service {
    type SessionStream = ReceiverStream<Result<ColonyMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut incoming = request.into_inner();
        let (out, stream) = tokio::sync::mpsc::channel(64);
        let this = self.clone();
        tokio::spawn(async move {
            let say = |message| ColonyMessage { message: Some(message) };
            loop {
                let message = tokio::select! {
                    () = this.cancel.cancelled() => return,
                    message = incoming.message() => message,
                };
                let Ok(Some(AgentMessage { message: Some(message) })) = message else { return };
                let answer = this.take(message);
                if let Some(answer) = answer
                    && out.send(Ok(say(answer))).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Service {
    fn take(&self, message: FromAgent) -> Option<ToAgent> {
        let mut kept = self.kept.lock().unwrap();
        match message {
            FromAgent::Hello(hello) => {
                kept.hellos.push(hello);
                if let Some(refusal) = kept.refuse.clone() {
                    return Some(ToAgent::Refusal(refusal));
                }
                let mark =
                    |(id, seq): (&SegmentId, &u64)| Ack { segment_id: id.0.to_vec(), seq: *seq };
                Some(ToAgent::Welcome(Welcome {
                    protocol: if kept.welcome_protocol == 0 { 1 } else { kept.welcome_protocol },
                    build: "fake".into(),
                    colony: "test".into(),
                    capabilities: Vec::new(),
                    marks: kept.marks.iter().map(mark).collect(),
                }))
            }
            FromAgent::Records(records) => {
                let id = SegmentId::from_slice(&records.segment_id).unwrap();
                let mut bytes = records.bytes;
                let mut last = None;
                while !bytes.is_empty() {
                    let record = record::take(&mut bytes).expect("whole records");
                    assert!(last.is_some() || record.seq == records.first_seq);
                    last = Some(record.seq);
                    if kept.mute {
                        continue;
                    }
                    let mark = kept.marks.entry(id).or_insert(0);
                    if record.seq <= *mark {
                        kept.repeated += 1;
                        continue;
                    }
                    *mark = record.seq;
                    kept.records.push((id, record));
                }
                if kept.mute {
                    return None;
                }
                last.map(|seq| ToAgent::Ack(Ack { segment_id: id.0.to_vec(), seq }))
            }
            FromAgent::SegmentGone(gone) => {
                let id = SegmentId::from_slice(&gone.segment_id).unwrap();
                kept.marks.remove(&id);
                kept.gone.push(id);
                None
            }
            FromAgent::Report(report) => {
                kept.reports.push(report);
                None
            }
            FromAgent::Ping(ping) => Some(ToAgent::Pong(Pong {
                sent_ns: ping.sent_ns,
                received_ns: coral_model::Time::now().0,
            })),
        }
    }
}

/// A colony on a Unix socket. Ends when dropped; what it kept lives on.
pub struct Colony {
    pub socket: PathBuf,
    pub kept: Arc<Mutex<Kept>>,
    cancel: CancellationToken,
}

impl Colony {
    pub fn start(dir: &Path, kept: Arc<Mutex<Kept>>) -> Self {
        let socket = dir.join("uplink.sock");
        _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let cancel = CancellationToken::new();
        let service = Service { kept: kept.clone(), cancel: cancel.clone() };
        let stop = cancel.clone();
        tokio::spawn(async move {
            let server =
                UplinkServer::new(service).max_decoding_message_size(coral_proto::MAX_MESSAGE);
            let incoming = UnixListenerStream::new(listener);
            let serve = tonic::transport::Server::builder().add_service(server);
            tokio::select! {
                done = serve.serve_with_incoming(incoming) => done.unwrap(),
                () = stop.cancelled() => {}
            }
        });
        Self { socket, kept, cancel }
    }

    pub fn address(&self) -> coral_agent::uplink::Colony {
        coral_agent::uplink::Colony::Unix(self.socket.clone())
    }
}

impl Drop for Colony {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Waits for a condition; a minute is forever.
pub async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

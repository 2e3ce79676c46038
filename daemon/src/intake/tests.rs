//! Exactly once, by property: whatever is resent, cut off or killed, every record is committed once.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use coral_model::id::{AgentId, SegmentId};
use coral_proto::record::{Kind, append};
use coral_proto::v1::{
    AgentHello, AgentMessage, ColonyMessage, Records, SegmentGone, agent_message::Message as In,
    colony_message::Message as Out,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::store::{Options, StoreError};

const AGENT: [u8; 16] = [1; 16];

pub(super) struct Colony {
    pub(super) store: Arc<Store>,
    pub(super) uplink: Uplink,
    pub(super) counters: Arc<Counters>,
    pub(super) agents: Arc<Agents>,
}

pub(super) fn colony(dir: &Path) -> Colony {
    let counters = Arc::new(Counters::default());
    let mut options = Options::new(Arc::clone(&counters));
    options.group_wait = std::time::Duration::ZERO;
    options.retention.disk_max = Some(1 << 30);
    let store = Store::open(dir, options).unwrap();
    let agents: Arc<Agents> = Arc::default();
    let uplink = Uplink::new(
        Arc::clone(&store),
        Arc::clone(&agents),
        Arc::default(),
        Arc::clone(&counters),
        "test".into(),
        CancellationToken::new(),
    );
    Colony { store, uplink, counters, agents }
}

/// An agent's end of a session.
pub(super) struct Wire {
    out: mpsc::Sender<Result<AgentMessage, Status>>,
    back: mpsc::Receiver<Result<ColonyMessage, Status>>,
    /// Highest acknowledged number by segment.
    pub(super) acked: BTreeMap<SegmentId, u64>,
}

impl Wire {
    pub(super) async fn open(colony: &Colony) -> Self {
        Self::open_as(colony, &[]).await
    }

    /// As an agent that can do this.
    pub(super) async fn open_as(colony: &Colony, capabilities: &[&str]) -> Self {
        let (out, messages) = mpsc::channel(64);
        let peer = Peer { uid: 0, gid: 0, pid: None };
        let back = colony.uplink.serve(peer, ReceiverStream::new(messages));
        let mut wire = Self { out, back, acked: BTreeMap::new() };
        wire.send(In::Hello(AgentHello {
            protocol: coral_proto::PROTOCOL,
            agent_id: AGENT.to_vec(),
            host: "web-1".into(),
            capabilities: capabilities.iter().map(|word| (*word).to_owned()).collect(),
            ..Default::default()
        }))
        .await;
        match wire.back.recv().await {
            Some(Ok(ColonyMessage { message: Some(Out::Welcome(welcome)) })) => {
                for mark in welcome.marks {
                    wire.acked.insert(SegmentId::from_slice(&mark.segment_id).unwrap(), mark.seq);
                }
            }
            other => panic!("no welcome: {other:?}"),
        }
        wire
    }

    pub(super) async fn send(&self, message: In) {
        // A session that has ended takes nothing more; the test looks at what was acknowledged.
        _ = self.out.send(Ok(AgentMessage { message: Some(message) })).await;
    }

    /// Takes messages until `segment` is acknowledged up to `seq`. False: the session ended.
    pub(super) async fn wait(&mut self, segment: SegmentId, seq: u64) -> bool {
        while self.acked.get(&segment).is_none_or(|have| *have < seq) {
            match self.back.recv().await {
                Some(Ok(ColonyMessage { message: Some(Out::Ack(ack)) })) => {
                    self.acked.insert(SegmentId::from_slice(&ack.segment_id).unwrap(), ack.seq);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            }
        }
        true
    }
}

pub(super) fn segment(n: u8) -> SegmentId {
    SegmentId([n + 1; 16])
}

/// A request of one span whose id says which record it came in.
pub(super) fn request(segment: u8, seq: u64) -> Vec<u8> {
    let span = Span {
        trace_id: vec![7; 16],
        span_id: (u64::from(segment + 1) * 1_000_000 + seq + 1).to_be_bytes().to_vec(),
        name: "work".into(),
        kind: 2,
        ..Default::default()
    };
    let scope = ScopeSpans { spans: vec![span], ..Default::default() };
    let resource = ResourceSpans { scope_spans: vec![scope], ..Default::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource] }.encode_to_vec()
}

pub(super) fn frame(number: u8, from: u64, to: u64) -> In {
    let mut bytes = Vec::new();
    for seq in from..to {
        append(&mut bytes, Kind::Traces, seq, 5, &request(number, seq)).unwrap();
    }
    let segment_id = segment(number).0.to_vec();
    In::Records(Records { segment_id, first_seq: from, bytes: bytes.into() })
}

pub(super) async fn ids(store: &Store) -> Vec<u64> {
    let ids = store.read(|c| -> Result<Vec<u64>, StoreError> {
        let mut statement = c.prepare("SELECT span_id FROM spans ORDER BY span_id")?;
        Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    });
    ids.await.unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    /// Sends records `back` before what was sent last, so many of them.
    Send { segment: u8, back: u64, count: u64 },
    /// Hangs up without waiting, and connects again.
    Reconnect,
    /// Waits for the acknowledgement of everything sent of a segment.
    Wait(u8),
    /// Drops the colony without closing it, and opens it again.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0u8..3, 0u64..6, 1u64..8).prop_map(|(segment, back, count)| Step::Send { segment, back, count }),
        2 => Just(Step::Reconnect),
        2 => (0u8..3).prop_map(Step::Wait),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..25)
}

async fn play(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut home = colony(dir.path());
    let mut wire = Wire::open(&home).await;
    // Numbers sent so far, by segment; what a crash cut off is sent again from what was acked.
    let mut sent = [0u64; 3];
    for step in steps {
        match step {
            Step::Send { segment, back, count } => {
                let from = sent[usize::from(segment)].saturating_sub(back);
                wire.send(frame(segment, from, from + count)).await;
                sent[usize::from(segment)] = sent[usize::from(segment)].max(from + count);
            }
            Step::Wait(n) => {
                let want = sent[usize::from(n)];
                if want > 0 {
                    assert!(wire.wait(segment(n), want - 1).await, "the session ended");
                }
            }
            Step::Reconnect => wire = reconnect(&home, &sent).await,
            Step::Crash => {
                let acked = wire.acked.clone();
                drop(wire);
                drop(home);
                await_unlocked(dir.path()).await;
                home = colony(dir.path());
                for (segment, seq) in acked {
                    assert!(
                        home.store.mark(AgentId(AGENT), segment).is_some_and(|mark| mark >= seq),
                        "an acknowledged record is gone"
                    );
                }
                wire = reconnect(&home, &sent).await;
            }
        }
    }
    for (n, want) in (0u8..).zip(sent) {
        if want > 0 {
            assert!(wire.wait(segment(n), want - 1).await, "the session ended");
        }
    }
    let mut want = Vec::new();
    for (n, count) in (0u8..).zip(sent) {
        want.extend((0..count).map(|seq| u64::from(n + 1) * 1_000_000 + seq + 1));
    }
    assert_eq!(ids(&home.store).await, want);
    home.store.close().await;
}

/// A new session that sends everything it has no acknowledgement for, as an agent does.
async fn reconnect(home: &Colony, sent: &[u64; 3]) -> Wire {
    let wire = Wire::open(home).await;
    for (n, count) in (0u8..).zip(sent) {
        let from = wire.acked.get(&segment(n)).map_or(0, |acked| acked + 1);
        if from < *count {
            wire.send(frame(n, from, *count)).await;
        }
    }
    wire
}

/// Waits until the dropped colony's writer has let go of the file.
async fn await_unlocked(dir: &Path) {
    while file_is_open(&dir.join("telemetry.duckdb")) {
        tokio::task::yield_now().await;
    }
}

fn file_is_open(path: &Path) -> bool {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == path))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_record_is_committed_once(steps in steps()) {
        runtime().block_on(play(steps));
    }
}

#[tokio::test]
async fn two_sessions_may_race_with_the_same_records() {
    let dir = tempfile::tempdir().unwrap();
    let home = colony(dir.path());
    let (mut one, mut two) = (Wire::open(&home).await, Wire::open(&home).await);
    for from in (0..100).step_by(10) {
        one.send(frame(0, from, from + 10)).await;
        two.send(frame(0, from, from + 10)).await;
    }
    assert!(one.wait(segment(0), 99).await && two.wait(segment(0), 99).await);
    assert_eq!(ids(&home.store).await.len(), 100);
    home.store.close().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_set_aside_and_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let home = colony(dir.path());
    let mut wire = Wire::open(&home).await;
    let mut bytes = Vec::new();
    append(&mut bytes, Kind::Traces, 0, 5, &request(0, 0)).unwrap();
    append(&mut bytes, Kind::Traces, 1, 5, b"\xff\xff\xff not protobuf").unwrap();
    append(&mut bytes, Kind::Reduced, 2, 5, b"\x08").unwrap();
    append(&mut bytes, Kind::Host, 3, 5, b"").unwrap();
    let flipped = bytes.len() + 40;
    append(&mut bytes, Kind::Traces, 4, 5, &request(0, 4)).unwrap();
    bytes[flipped] ^= 1;
    append(&mut bytes, Kind::Traces, 5, 5, &request(0, 5)).unwrap();
    bytes.extend_from_slice(b"a torn tail");
    let records = Records { segment_id: segment(0).0.to_vec(), first_seq: 0, bytes: bytes.into() };
    wire.send(In::Records(records)).await;
    assert!(wire.wait(segment(0), 6).await);
    assert_eq!(ids(&home.store).await, [1_000_001, 1_000_006]);
    assert_eq!(home.counters.get("records_damaged"), 5);
    let files = std::fs::read_dir(dir.path().join("quarantine")).unwrap().count();
    assert_eq!(files, 10, "a record and a reason each");
    let told: u64 = home
        .store
        .read(|c| -> Result<u64, StoreError> {
            let sql = "SELECT count(*) FROM events WHERE kind = 'dropped'";
            Ok(c.query_row(sql, [], |row| row.get(0))?)
        })
        .await
        .unwrap();
    assert_eq!(told, 1);
    home.store.close().await;
}

#[tokio::test]
async fn a_deleted_segment_is_forgotten_after_what_was_queued() {
    let dir = tempfile::tempdir().unwrap();
    let home = colony(dir.path());
    let mut wire = Wire::open(&home).await;
    wire.send(frame(0, 0, 5)).await;
    assert!(wire.wait(segment(0), 4).await);
    wire.send(In::SegmentGone(SegmentGone { segment_id: segment(0).0.to_vec() })).await;
    wire.send(frame(1, 0, 1)).await;
    assert!(wire.wait(segment(1), 0).await);
    assert_eq!(home.store.marks(AgentId(AGENT)), [(segment(1), 0)]);
    home.store.close().await;
}

#[tokio::test]
async fn a_session_that_breaks_the_protocol_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let home = colony(dir.path());
    let mut wire = Wire::open(&home).await;
    let records =
        Records { segment_id: Bytes::from_static(b"short").to_vec(), ..Default::default() };
    wire.send(In::Records(records)).await;
    let last = wire.back.recv().await.unwrap().unwrap_err();
    assert!(last.message().contains("16 bytes"), "{last}");
    home.store.close().await;
}

#[tokio::test]
async fn what_is_wanted_of_eyes_is_told_at_once_and_to_those_that_come_later() {
    let dir = tempfile::tempdir().unwrap();
    let home = colony(dir.path());
    let registry = crate::registry::Control::open(&dir.path().join("control.db")).unwrap();
    let say = |open, at_ns| {
        let said = crate::registry::eyes::Said { open, at_ns, by: "user 1000".into() };
        home.agents.eyes().say(&registry, None, said).unwrap();
    };
    let told = async |wire: &mut Wire| match wire.back.recv().await {
        Some(Ok(ColonyMessage { message: Some(Out::Eyes(eyes)) })) => (eyes.open, eyes.at_ns),
        other => panic!("not of eyes: {other:?}"),
    };
    let mut first = Wire::open_as(&home, &["otlp", "eyes"]).await;
    assert_eq!(told(&mut first).await, (true, 0), "nobody has said anything");
    let mut old = Wire::open(&home).await;
    say(false, 5);
    assert_eq!(told(&mut first).await, (false, 5));
    let mut later = Wire::open_as(&home, &["eyes"]).await;
    assert_eq!(told(&mut later).await, (false, 5));
    // Who does not understand is not told; it goes on.
    old.send(frame(0, 0, 1)).await;
    match old.back.recv().await {
        Some(Ok(ColonyMessage { message: Some(Out::Ack(ack)) })) => assert_eq!(ack.seq, 0),
        other => panic!("not an acknowledgement: {other:?}"),
    }
    home.store.close().await;
}

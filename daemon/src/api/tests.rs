//! The API over a real Unix socket, in front of a backend that the test holds in its hand.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coral_model::view::{End, EventKind, EventRow, Row};
use coral_model::{Mode, Question, Time, View, Window};
use coral_proto::v1::colony_client::ColonyClient;
use coral_proto::{PROTOCOL, v1};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use super::permit::Policy;
use super::*;
use crate::lifecycle::{Activity, Ending, Incoming, Why};
use crate::query::{Answer, QueryError};
use crate::registry::eyes::Eyes;
use crate::registry::{Agents, Control, Peer, Registry as _};

/// Answers with `rows`, counts questions, and can be made to hang.
struct Hand {
    rows: Mutex<Vec<Row>>,
    asked: AtomicUsize,
    hang: AtomicBool,
    given_up: Arc<AtomicUsize>,
    events: Mutex<Vec<EventRow>>,
    changed: watch::Sender<u64>,
}

impl Hand {
    fn set(&self, rows: Vec<Row>) {
        *self.rows.lock().unwrap() = rows;
        self.changed.send_modify(|n| *n += 1);
    }
}

struct GivenUp(Arc<AtomicUsize>);
impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn note(text: &str, second: u64) -> Row {
    Row::Event(Box::new(EventRow {
        time: Time(second),
        kind: EventKind::Note,
        service: None,
        host: None,
        text: text.into(),
        source: "test".into(),
        attributes: std::collections::BTreeMap::default(),
    }))
}

impl Backend for Hand {
    fn answer<'a>(&'a self, question: &'a Question) -> Work<'a, Result<Answer, QueryError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if question.filter == "what=" {
            return Box::pin(async { Err(QueryError::Filter("what=\n    ^ a value".into())) });
        }
        if self.hang.load(Ordering::SeqCst) {
            let guard = GivenUp(Arc::clone(&self.given_up));
            return Box::pin(async move {
                let _guard = guard;
                std::future::pending().await
            });
        }
        let rows = self.rows.lock().unwrap().clone();
        let window = question.window;
        Box::pin(async move {
            let end = End {
                rows: rows.len() as u64,
                truncated: false,
                dropped: 0,
                agents_asked: 1,
                agents_answered: 1,
                from: window.from,
                to: window.to,
                compare: question.compare,
                resolution_s: None,
                stored_to: Some(window.to),
                newest: None,
                blind: Vec::new(),
            };
            Ok(Answer { rows, end })
        })
    }

    fn tail<'a>(
        &'a self,
        question: &'a Question,
        after: Time,
    ) -> Work<'a, Result<(Vec<Row>, Time), QueryError>> {
        let rows = self.rows.lock().unwrap().clone();
        let new = rows.into_iter().filter_map(|row| match row {
            Row::Event(e) if e.time > after => Some(e),
            _ => None,
        });
        let new: Vec<_> = new.take(question.limit).collect();
        let cursor = new.last().map_or(after, |e| e.time);
        Box::pin(async move { Ok((new.into_iter().map(Row::Event).collect(), cursor)) })
    }

    fn complete<'a>(
        &'a self,
        key: &'a str,
        prefix: &'a str,
        limit: usize,
    ) -> Work<'a, Result<Vec<String>, QueryError>> {
        Box::pin(async move { Ok(vec![format!("{key}:{prefix}:{limit}")]) })
    }

    fn record(&self, event: EventRow) -> Work<'_, Result<(), QueryError>> {
        self.events.lock().unwrap().push(event);
        Box::pin(async { Ok(()) })
    }

    fn footing(&self) -> Work<'_, Footing> {
        Box::pin(async { Footing { blind: vec!["no agent".into()], ..Footing::default() } })
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn now(&self) -> Time {
        Time::now()
    }
}

struct NoUplink;
#[tonic::async_trait]
impl v1::uplink_server::Uplink for NoUplink {
    type SessionStream = tokio_stream::wrappers::ReceiverStream<Result<v1::ColonyMessage, Status>>;
    async fn session(
        &self,
        _: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unavailable("not in this test"))
    }
}

/// A served colony; everything ends with it.
struct Served {
    hand: Arc<Hand>,
    client: ColonyClient<Channel>,
    channel: Channel,
    activity: Arc<Activity>,
    ending: Arc<Ending>,
    registry: Arc<Control>,
    agents: Arc<Agents>,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<Result<(), ServeError>>,
    _dir: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
        self.server.abort();
    }
}

async fn serve_with(policy: Policy) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("t.sock");
    let hand = Arc::new(Hand {
        rows: Mutex::new(vec![note("one", 1)]),
        asked: AtomicUsize::new(0),
        hang: AtomicBool::new(false),
        given_up: Arc::default(),
        events: Mutex::default(),
        changed: watch::Sender::new(0),
    });
    let about = About {
        colony: "t".into(),
        socket: socket.clone(),
        data_dir: dir.path().into(),
        log_file: dir.path().join("log"),
        since: Time(0),
    };
    let activity = Activity::new(Instant::now(), false);
    let ending = Arc::new(Ending::default());
    let stop = CancellationToken::new();
    let registry = Arc::new(Control::open(&dir.path().join("control.db")).unwrap());
    let backend: Arc<dyn Backend> = Arc::clone(&hand) as _;
    let agents: Arc<Agents> = Arc::default();
    let colony = Colony::new(
        about,
        backend,
        Arc::clone(&activity),
        Arc::clone(&ending),
        Arc::clone(&registry) as _,
        Arc::clone(&agents),
        stop.clone(),
    );
    let incoming = Incoming::bind(&socket, 0o600, &[], Arc::default()).unwrap();
    let server = tokio::spawn(serve(incoming, policy, colony, NoUplink, stop.clone()));
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let client = ColonyClient::new(channel.clone());
    Served { hand, client, channel, activity, ending, registry, agents, stop, server, _dir: dir }
}

async fn served() -> Served {
    serve_with(Policy { owner: rustix::process::geteuid().as_raw(), system: false }).await
}

fn ask(view: View, mode: Mode) -> v1::QueryRequest {
    let mut question = Question::new(view, Window::new(Time(0), Time(100)));
    question.mode = mode;
    (&question).into()
}

/// Rows up to and including the next end record.
async fn answer(stream: &mut Streaming<v1::Rows>) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        let message = stream.message().await.unwrap().expect("cut short");
        for json in message.json {
            rows.push(serde_json::from_slice(&json).unwrap());
        }
        if matches!(rows.last(), Some(Row::End(_))) {
            return rows;
        }
    }
}

async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let wait = async {
        while !met() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect(what);
}

#[tokio::test]
async fn it_introduces_itself_and_refuses_whom_it_would_misunderstand() {
    let mut served = served().await;
    let hello = v1::HelloRequest { protocol: PROTOCOL, build: "t".into() };
    let reply = served.client.hello(hello).await.unwrap().into_inner();
    assert_eq!((reply.colony.as_str(), reply.pid), ("t", std::process::id()));
    let newer = v1::HelloRequest { protocol: PROTOCOL + 1, build: "9.9".into() };
    let refused = served.client.hello(newer).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("restart the colony"), "{}", refused.message());
    let curious = v1::HelloRequest::default();
    assert_eq!(served.client.hello(curious).await.unwrap().into_inner().protocol, PROTOCOL);
}

#[tokio::test]
async fn an_answer_ends_with_its_end_record_however_many_messages_it_takes() {
    let mut served = served().await;
    served.hand.set((0..3000).map(|n| note(&"x".repeat(200), n)).collect());
    let mut stream = served.client.query(ask(View::Events, Mode::Once)).await.unwrap().into_inner();
    let rows = answer(&mut stream).await;
    assert_eq!(rows.len(), 3001);
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_wrong_question_says_what_is_wrong() {
    let mut served = served().await;
    let mut wrong = ask(View::Red, Mode::Once);
    wrong.filter = "what=".into();
    let mut stream = served.client.query(wrong).await.unwrap().into_inner();
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains('^'));
    let mut unknown = ask(View::Red, Mode::Once);
    unknown.view = "dreams".into();
    let status = served.client.query(unknown).await.unwrap_err();
    assert!(status.message().contains("red"), "{}", status.message());
    let status = served.client.query(ask(View::Red, Mode::Tail)).await.unwrap_err();
    assert!(status.message().contains("watch"), "{}", status.message());
}

#[tokio::test]
async fn a_watched_answer_comes_again_only_when_it_says_something_else() {
    let mut served = served().await;
    let mut stream =
        served.client.query(ask(View::Events, Mode::Watch)).await.unwrap().into_inner();
    assert_eq!(answer(&mut stream).await.len(), 2);
    // New data that change nothing in this answer: asked again, not sent again.
    for _ in 0..3 {
        let asked = served.hand.asked.load(Ordering::SeqCst);
        served.hand.changed.send_modify(|n| *n += 1);
        until("asked again", || served.hand.asked.load(Ordering::SeqCst) > asked).await;
    }
    let nothing = tokio::time::timeout(Duration::from_millis(300), stream.message()).await;
    assert!(nothing.is_err(), "the same answer was sent twice");
    served.hand.set(vec![note("two", 2), note("three", 3)]);
    assert_eq!(answer(&mut stream).await.len(), 3);
}

#[tokio::test]
async fn a_slow_reader_holds_nobody_up_and_gets_the_newest() {
    let mut served = served().await;
    let fat = |n: u64| (0..40_000).map(|_| note(&format!("{n} {}", "x".repeat(400)), n)).collect();
    served.hand.set(fat(0));
    let mut slow = served.client.query(ask(View::Events, Mode::Watch)).await.unwrap().into_inner();
    until("asked", || served.hand.asked.load(Ordering::SeqCst) == 1).await;
    for n in 1..20 {
        served.hand.set(fat(n));
        let mut other =
            served.client.query(ask(View::Events, Mode::Once)).await.unwrap().into_inner();
        answer(&mut other).await;
    }
    // 19 by the others; the slow one was asked for once and is still being sent.
    assert_eq!(served.hand.asked.load(Ordering::SeqCst), 20);
    let newest = |rows: Vec<Row>| match &rows[0] {
        Row::Event(e) => e.time.0,
        _ => u64::MAX,
    };
    assert_eq!(newest(answer(&mut slow).await), 0);
    assert_eq!(newest(answer(&mut slow).await), 19);
}

#[tokio::test]
async fn a_tail_sends_each_row_once_and_in_order() {
    let mut served = served().await;
    served.hand.set((1..=5).map(|n| note("old", n)).collect());
    let mut stream = served.client.query(ask(View::Events, Mode::Tail)).await.unwrap().into_inner();
    let mut times = Vec::new();
    for end in [5, 9, 20] {
        served.hand.set((1..=end).map(|n| note("row", n)).collect());
        while times.len() < end as usize {
            for json in stream.message().await.unwrap().unwrap().json {
                let Row::Event(e) = serde_json::from_slice(&json).unwrap() else { panic!() };
                times.push(e.time.0);
            }
        }
    }
    assert_eq!(times, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_goes_away_is_not_worked_for() {
    let mut served = served().await;
    served.hand.hang.store(true, Ordering::SeqCst);
    let stream = served.client.query(ask(View::Red, Mode::Once)).await.unwrap();
    until("asked", || served.hand.asked.load(Ordering::SeqCst) == 1).await;
    assert_eq!(served.activity.viewers(), 1);
    drop(stream);
    until("given up", || served.hand.given_up.load(Ordering::SeqCst) == 1).await;
    until("no viewer", || served.activity.viewers() == 0).await;
}

#[tokio::test]
async fn open_streams_have_a_bound_that_says_so() {
    let mut served = served().await;
    let mut open = Vec::new();
    let refused = loop {
        match served.client.query(ask(View::Red, Mode::Watch)).await {
            Ok(stream) => open.push(stream),
            Err(status) => break status,
        }
    };
    assert_eq!((open.len(), refused.code()), (256, Code::ResourceExhausted));
    open.truncate(255);
    until("a place is free", || served.activity.viewers() <= 255).await;
    assert!(served.client.query(ask(View::Red, Mode::Once)).await.is_ok());
}

#[tokio::test]
async fn a_strangers_calls_are_refused_with_the_reason() {
    let us = rustix::process::geteuid().as_raw();
    if us == 0 {
        // Root may use every colony: only the policy itself can be tested as root (see permit).
        return;
    }
    let mut served = serve_with(Policy { owner: us + 1, system: false }).await;
    let status = served.client.status(v1::StatusRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("belongs to user"), "{}", status.message());
}

#[tokio::test]
async fn events_completions_and_the_state_of_the_colony() {
    let mut served = served().await;
    let post = v1::PostEventRequest { text: "deploy payments v42".into(), ..Default::default() };
    let reply = served.client.post_event(post).await.unwrap().into_inner();
    let Row::Event(row) = serde_json::from_slice(&reply.json).unwrap() else { panic!() };
    assert_eq!((row.kind, row.service.as_deref()), (EventKind::Deploy, Some("payments")));
    assert_eq!(served.hand.events.lock().unwrap().as_slice(), [*row]);
    let empty = served.client.post_event(v1::PostEventRequest::default()).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
    let request = v1::CompleteRequest { key: "service".into(), prefix: "pa".into(), limit: 0 };
    let values = served.client.complete(request).await.unwrap().into_inner().values;
    assert_eq!(values, ["service:pa:100"]);
    let status = served.client.status(v1::StatusRequest {}).await.unwrap().into_inner();
    let Row::Status(row) = serde_json::from_slice(&status.json).unwrap() else { panic!() };
    assert_eq!((row.colony.as_str(), row.stays), ("t", false));
    assert_eq!(row.blind, ["no agent"]);
    served.client.stay(v1::StayRequest { stay: true }).await.unwrap();
    assert!(served.activity.stays());
}

#[tokio::test]
async fn what_is_wanted_of_eyes_is_kept_and_told_with_who_said_it() {
    let mut served = served().await;
    let mut eyes = async |open: Option<bool>, host: Option<&str>| {
        let host = host.map(str::to_owned);
        let reply = served.client.eyes(v1::EyesRequest { open, host }).await?;
        let row = |json: &Vec<u8>| match serde_json::from_slice(json).unwrap() {
            Row::Eyes(row) => *row,
            other => panic!("{other:?}"),
        };
        Ok::<_, Status>(reply.into_inner().json.iter().map(row).collect::<Vec<_>>())
    };
    assert!(eyes(None, None).await.unwrap().is_empty());
    let next = eyes(Some(false), None).await.unwrap().remove(0);
    let us = format!("user {}", rustix::process::geteuid().as_raw());
    assert_eq!((next.agent, next.wanted, next.by), (None, false, Some(us)));

    let hello = v1::AgentHello {
        protocol: PROTOCOL,
        agent_id: vec![7; 16],
        host: "web-1".into(),
        capabilities: vec!["eyes".into()],
        ..Default::default()
    };
    let peer = Peer { uid: 0, gid: 0, pid: None };
    served.agents.connected(&hello, peer, Time::now()).unwrap();
    let row = eyes(Some(true), Some("web-1")).await.unwrap().remove(0);
    assert_eq!((row.host.as_deref(), row.wanted), (Some("web-1"), true));
    assert_eq!(row.told, coral_model::view::Told::Told);
    assert!(!eyes(None, Some("web-2")).await.unwrap()[0].wanted);
    let refused = eyes(Some(false), Some("")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let kept = served.registry.setting(Eyes::SETTING).unwrap().unwrap();
    assert!(kept.contains("web-1"), "{kept}");
    let later = Agents::default();
    later.eyes().restore(&*served.registry).unwrap();
    assert_eq!(later.eyes().wishes(), served.agents.eyes().wishes());
}

#[tokio::test]
async fn its_end_is_told_to_whoever_watches() {
    let mut served = served().await;
    let mut stream = served.client.query(ask(View::Red, Mode::Watch)).await.unwrap().into_inner();
    answer(&mut stream).await;
    served.client.shutdown(v1::ShutdownRequest {}).await.unwrap();
    assert_eq!(served.ending.why(), Some(Why::Asked));
    served.stop.cancel();
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("coral up"), "{}", status.message());
    let server = std::mem::replace(&mut served.server, tokio::spawn(async { Ok(()) }));
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn health_and_reflection_answer_in_both_versions() {
    use tonic_reflection::pb::{v1 as r1, v1alpha as ra};
    let served = served().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(served.channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: "coral.v1.Colony".into() };
    let reply = health.check(request).await.unwrap().into_inner();
    assert_eq!(reply.status, 1);

    let mut client =
        r1::server_reflection_client::ServerReflectionClient::new(served.channel.clone());
    let list = r1::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = r1::ServerReflectionRequest { message_request: Some(list), ..Default::default() };
    let mut stream =
        client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let reply = format!("{:?}", stream.message().await.unwrap().unwrap());
    assert!(reply.contains("coral.v1.Colony") && reply.contains("grpc.health.v1"), "{reply}");

    let mut client =
        ra::server_reflection_client::ServerReflectionClient::new(served.channel.clone());
    let list = ra::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = ra::ServerReflectionRequest { message_request: Some(list), ..Default::default() };
    let mut stream =
        client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let reply = format!("{:?}", stream.message().await.unwrap().unwrap());
    assert!(reply.contains("coral.v1.Uplink"), "{reply}");
}

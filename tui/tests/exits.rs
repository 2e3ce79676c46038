//! Exit codes and manners of the real program, against colonies made for the purpose.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics fails"
)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Output, Stdio};

use coral_model::view::{End, Row};
use coral_model::{Time, Window};
use coral_proto::v1::colony_server::{Colony, ColonyServer};
use coral_proto::{PROTOCOL, v1};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// A colony that answers every question in the same way.
#[derive(Clone, Default)]
struct Fake {
    rows: Vec<Vec<u8>>,
    refusal: Option<Status>,
    protocol: Option<u32>,
}

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Colony for Fake {
    type QueryStream = Stream<v1::Rows>;
    type ExportStream = Stream<v1::Chunk>;
    type ParquetStream = Stream<v1::Chunk>;

    async fn hello(
        &self,
        _: Request<v1::HelloRequest>,
    ) -> Result<Response<v1::HelloReply>, Status> {
        Ok(Response::new(v1::HelloReply {
            protocol: self.protocol.unwrap_or(PROTOCOL),
            build: "fake".into(),
            colony: "fake".into(),
            ..v1::HelloReply::default()
        }))
    }

    async fn query(
        &self,
        _: Request<v1::QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        if let Some(status) = &self.refusal {
            return Err(status.clone());
        }
        let json = self.rows.iter().cloned().map(Into::into).collect();
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(v1::Rows { json })))))
    }

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn post_event(
        &self,
        _: Request<v1::PostEventRequest>,
    ) -> Result<Response<v1::PostEventReply>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn complete(
        &self,
        request: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteReply>, Status> {
        let values = match request.into_inner().key.as_str() {
            "service" => {
                vec!["checkout".to_owned(), "GET /cart".to_owned(), "evil\x1b[2J".to_owned()]
            }
            "host" => vec!["web-1".to_owned()],
            _ => vec!["user.id".to_owned()],
        };
        Ok(Response::new(v1::CompleteReply { values }))
    }

    async fn export(
        &self,
        _: Request<v1::ExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn parquet(
        &self,
        _: Request<v1::QueryRequest>,
    ) -> Result<Response<Self::ParquetStream>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn import(
        &self,
        _: Request<tonic::Streaming<v1::Chunk>>,
    ) -> Result<Response<v1::ImportReply>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn stay(&self, _: Request<v1::StayRequest>) -> Result<Response<v1::StayReply>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn eyes(&self, _: Request<v1::EyesRequest>) -> Result<Response<v1::EyesReply>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn shutdown(
        &self,
        _: Request<v1::ShutdownRequest>,
    ) -> Result<Response<v1::ShutdownReply>, Status> {
        Err(Status::unimplemented("no"))
    }
}

/// A directory of its own with, perhaps, a colony in it.
struct House {
    dir: tempfile::TempDir,
    _runtime: Option<tokio::runtime::Runtime>,
}

impl House {
    fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), _runtime: None }
    }

    fn with(fake: Fake) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let socket = dir.path().join("s");
        let listener = runtime.block_on(async { tokio::net::UnixListener::bind(socket).unwrap() });
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(ColonyServer::new(fake))
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        Self { dir, _runtime: Some(runtime) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn coral(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coral"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("CORAL_SOCKET", self.path("s"))
            .env("CORAL_DATA_DIR", self.path("data"))
            .env("TZ", "UTC")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.coral(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap_or(-1), text(stdout), text(stderr))
    }
}

fn end(rows: u64, asked: u32, answered: u32, blind: &[&str]) -> Vec<u8> {
    let window = Window::before(Time(1_763_820_000_000_000_000), 900_000_000_000);
    let end = End {
        rows,
        truncated: false,
        dropped: 0,
        agents_asked: asked,
        agents_answered: answered,
        from: window.from,
        to: window.to,
        compare: None,
        resolution_s: None,
        stored_to: None,
        newest: None,
        blind: blind.iter().map(|b| (*b).to_owned()).collect(),
    };
    serde_json::to_vec(&Row::End(Box::new(end))).unwrap()
}

/// A row as a newer colony might send it: with a field this build does not know.
fn event() -> Vec<u8> {
    br#"{"schema":"coral.events/1","time":"2025-11-22T13:58:02Z","kind":"deploy","service":"payments","host":null,"text":"v41 to v42","source":"spans","attributes":{},"later":7}"#.to_vec()
}

#[test]
fn each_way_to_end_has_its_code() {
    let answers = |rows: Vec<Vec<u8>>| Fake { rows, ..Fake::default() };
    let refuses = |status| Fake { refusal: Some(status), ..Fake::default() };
    for (what, fake, args, code) in [
        ("rows", answers(vec![event(), end(1, 1, 1, &[])]), &["query", "events"][..], 0),
        ("no rows", answers(vec![end(0, 1, 1, &[])]), &["query", "events"], 0),
        ("--check", answers(vec![event(), end(1, 1, 1, &[])]), &["query", "events", "--check"], 1),
        ("--check of none", answers(vec![end(0, 1, 1, &[])]), &["query", "events", "--check"], 0),
        ("a silent agent", answers(vec![event(), end(1, 2, 1, &[])]), &["query", "events"], 6),
        ("blind", answers(vec![end(0, 1, 1, &["no eyes"])]), &["query", "events"], 6),
        ("blind, with rows", answers(vec![event(), end(1, 1, 1, &["x"])]), &["query", "events"], 0),
        ("cut off", answers(vec![event()]), &["query", "events"], 3),
        ("not permitted", refuses(Status::permission_denied("no")), &["query", "red"], 4),
        ("usage", refuses(Status::invalid_argument("bad")), &["query", "red"], 2),
        ("broken", refuses(Status::internal("oh")), &["query", "red"], 5),
        ("gone", refuses(Status::unavailable("gone")), &["query", "red"], 3),
        ("too old", Fake { protocol: Some(0), ..Fake::default() }, &["query", "red"], 5),
    ] {
        let house = House::with(fake);
        let (exit, out, err) = house.run(args);
        assert_eq!(exit, code, "{what}: {out}{err}");
        if ![0, 1, 6].contains(&code) {
            assert!(err.starts_with("coral: "), "{what}: {err}");
        }
    }
}

#[test]
fn without_a_colony_nothing_is_started_and_the_next_command_is_named() {
    let house = House::empty();
    for args in
        [&["query", "red"][..], &["status"], &["event", "x"], &["tail"], &["agents", "list"]]
    {
        let (exit, out, err) = house.run(args);
        assert_eq!((exit, out.as_str()), (3, ""), "{args:?}: {err}");
        assert!(err.contains("try: coral up"), "{err}");
    }
    assert!(!house.path("data").exists());
    let (exit, _, err) = house.run(&["query", "red", "--json"]);
    let object: serde_json::Value = serde_json::from_str(err.lines().last().unwrap()).unwrap();
    assert_eq!((exit, &object["schema"], &object["exit"]), (3, &"coral.error/1".into(), &3.into()));
    assert_eq!(house.run(&["down"]).0, 0);
    let (exit, out, _) = house.run(&["doctor"]);
    assert_eq!(exit, 1);
    assert!(out.contains("coral up"), "{out}");
}

#[test]
fn json_passes_through_as_it_came() {
    let house = House::with(Fake { rows: vec![event(), end(1, 1, 1, &[])], ..Fake::default() });
    let (_, out, err) = house.run(&["query", "events", "--json"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].as_bytes(), event());
    assert!(lines[1].starts_with("{\"schema\":\"coral.end/1\""));
    assert_eq!(err, "");
    let (_, out, _) = house.run(&["query", "events", "--csv"]);
    assert!(out.starts_with("schema,time,kind,") && out.contains(",later\r\n"), "{out}");
    let (_, out, err) = house.run(&["query", "events"]);
    assert!(out.contains("v41 to v42") && !out.contains('\x1b'), "{out}");
    assert!(err.contains("1 row · "), "{err}");
}

#[test]
fn a_filter_error_points_and_a_slip_is_corrected() {
    let house = House::empty();
    let (exit, out, err) = house.run(&["query", "traces", "service=a", "duration=fast"]);
    assert_eq!((exit, out.as_str()), (2, ""));
    let lines: Vec<&str> = err.lines().collect();
    let at = lines.iter().position(|l| l.contains("duration=fast")).unwrap();
    assert_eq!(lines[at].find("fast"), lines[at + 1].find("^^^^"), "{err}");
    let (exit, _, err) = house.run(&["qeury", "red"]);
    assert_eq!(exit, 2);
    assert!(err.contains("did you mean `query`"), "{err}");
    let (exit, _, err) = house.run(&["query", "red", "--nonsense"]);
    assert_eq!(exit, 2);
    assert!(err.starts_with("coral: unexpected argument"), "{err}");
}

#[test]
fn no_rows_for_a_slip_are_explained_beside_the_answer() {
    let house = House::with(Fake { rows: vec![end(0, 1, 1, &[])], ..Fake::default() });
    let (exit, out, err) = house.run(&["query", "red", "service=checkot", "--json"]);
    assert_eq!((exit, out.lines().count()), (0, 1), "{out}");
    assert!(err.contains("no service `checkot` is known; did you mean `checkout`?"), "{err}");
    let (_, _, err) = house.run(&["query", "red", "service=checkout"]);
    assert!(err.contains("hint: nothing in this time passes the filter"), "{err}");
    let (_, _, err) = house.run(&["query", "red"]);
    assert!(!err.contains("hint"), "{err}");
    let (_, _, err) = house.run(&["query", "hosts", "host=nohost"]);
    assert!(err.contains("no host `nohost` is known; there are: web-1"), "{err}");
    let (_, _, err) = house.run(&["query", "trace", "deadbeefdeadbeefdeadbeefdeadbeef"]);
    assert!(err.contains("no trace `deadbeefdeadbeefdeadbeefdeadbeef` within the 30d"), "{err}");
    let (_, _, err) = house.run(&["query", "trace", "deadbeef", "--since", "2h"]);
    assert!(err.contains("id begins with `deadbeef` within the 2h00m looked at: --since"), "{err}");
}

#[test]
fn a_diff_that_found_nothing_says_so_itself() {
    let sides = br#"{"schema":"coral.diff.sides/1","selected":{"what":"failed requests","spans":7,"looked_at":7},"baseline":{"what":"all other requests","spans":90,"looked_at":90},"slow_ns":null,"tested":9,"unique":[],"nothing":"nothing distinguishes them"}"#;
    let rows = vec![sides.to_vec(), end(0, 1, 1, &[])];
    let house = House::with(Fake { rows, ..Fake::default() });
    let (_, out, err) = house.run(&["query", "diff", "service=checkout"]);
    assert!(out.contains("nothing distinguishes them"), "{out}");
    assert!(err.contains("hint: --compare") && !err.contains("passes the filter"), "{err}");
    let (_, _, err) = house.run(&["query", "diff", "service=checkout", "--compare"]);
    assert!(!err.contains("hint"), "{err}");
}

#[test]
fn what_is_not_there_is_not_opened_and_what_is_there_is_not_overwritten() {
    let house = House::with(Fake::default());
    let (exit, _, err) = house.run(&["open", "/nonexistent.coral"]);
    assert_eq!(exit, 2, "{err}");
    assert!(err.contains("no such file: /nonexistent.coral"), "{err}");
    let (exit, _, err) = house.run(&["open", "./"]);
    assert_eq!(exit, 2, "{err}");
    assert!(err.contains("is a folder"), "{err}");
    let (exit, _, err) = house.run(&["query"]);
    assert_eq!(exit, 2, "{err}");
    assert!(err.contains("traces") && err.contains("digest"), "{err}");
    std::fs::write(house.path("a.coral"), "mine").unwrap();
    let export = ["incident", "export", "-o", "a.coral"];
    let (exit, _, err) = house.run(&export);
    assert_eq!(exit, 2, "{err}");
    assert!(err.contains("is there already") && err.contains("--force"), "{err}");
    // This colony cannot export: with --force that is what fails, and the file is still whole.
    let (exit, _, err) = house.run(&[&export[..], &["--force"]].concat());
    assert_eq!(exit, 5, "{err}");
    assert_eq!(std::fs::read_to_string(house.path("a.coral")).unwrap(), "mine");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let rows = (0..50_000).map(|_| event()).chain([end(50_000, 1, 1, &[])]).collect();
    let house = House::with(Fake { rows, ..Fake::default() });
    let mut child = house
        .coral(&["query", "events", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    // Dropping it closed the pipe.
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_file_named_like_a_bound_is_warned_about() {
    let house = House::empty();
    let file = std::fs::File::create(house.path("=500")).unwrap();
    let output = house.coral(&["query", "red", "status"]).stdout(file).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("status>=500"), "{err}");
}

#[test]
fn settings_are_set_explained_and_checked() {
    let house = House::empty();
    let (exit, out, _) = house.run(&["config", "set", "ui.theme", "dark"]);
    assert_eq!(exit, 0, "{out}");
    let (_, out, _) = house.run(&["config", "explain", "ui.theme"]);
    assert!(out.contains("ui.theme = dark") && out.contains("over auto from default"), "{out}");
    let mut command = house.coral(&["config", "explain", "ui.theme"]);
    let output = command.env("CORAL_UI_THEME", "light").output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(out.contains("light") && out.contains("environment CORAL_UI_THEME"), "{out}");
    assert_eq!(house.run(&["config", "set", "ui.teme", "x"]).0, 2);
    assert_eq!(house.run(&["config", "set", "window", "15"]).0, 2);
    let file = house.path("config/coral/config.toml");
    assert!(private(&file));
    std::fs::write(&file, "colony = \"shop\"\nwidow = 3\n").unwrap();
    let (exit, _, err) = house.run(&["query", "red"]);
    assert_eq!(exit, 2);
    assert!(err.contains("did you mean `window`"), "{err}");
}

fn private(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).unwrap().permissions().mode() & 0o077 == 0
}

#[test]
fn filter_words_complete() {
    let house = House::with(Fake::default());
    let (_, out, _) = house.run(&["complete-filter", "--", "service="]);
    // Quoted where it must be; what could move a cursor is not offered.
    assert_eq!(
        out,
        "service=checkout\nservice=\"GET /cart\"\n"
            .lines()
            .rev()
            .fold(String::new(), |a, l| a + l + "\n")
    );
    let (_, out, _) = house.run(&["complete-filter", "--", "not:ser"]);
    assert!(out.contains("not:service="), "{out}");
    let (exit, out, _) = house.run(&["completions", "bash"]);
    assert_eq!(exit, 0);
    assert!(out.contains("_coral_filters"), "{out}");
}

#[test]
fn init_without_a_person_prints_and_writes_nothing_unless_told() {
    let house = House::empty();
    let (exit, out, _) = house.run(&["init"]);
    assert_eq!(exit, 0);
    assert!(out.contains("OTEL_SERVICE_NAME") && out.contains("nothing was written"), "{out}");
    assert!(!house.path("config").exists());
    let (exit, out, err) = house.run(&["init", "--yes"]);
    assert_eq!(exit, 0, "{err}");
    assert!(out.contains("next: coral up"), "{out}");
    assert!(house.path("config/coral/config.toml").exists());
}

//! The whole store against a naive model of it: whatever is ingested, late or twice, however often
//! slices are sealed, merged and retired, wherever the disk fails or the process ends between two
//! steps, questions find exactly what was acknowledged.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use coral_model::hist::Histogram;
use coral_model::id::{ResourceId, SpanId, TraceId};
use coral_model::time::{BUCKET, SECOND};
use coral_model::view::{Evidence, SpanKind, SpanStatus};
use proptest::prelude::*;

use super::schema::{HOUR, Signal};
use super::*;
use crate::counters::Counters;

mod model;

use model::{Model, Request, by_series, of_rows};

const BEGAN: u64 = 497_232 * HOUR;
const MINUTE: u64 = 60 * SECOND;

/// A step of a store's life.
#[derive(Debug, Clone)]
enum Step {
    /// A batch; its rows tell of moments up to this many minutes ago.
    Ingest { rows: u64, late: u64 },
    /// The last batch is sent once more.
    Again,
    /// Time passes, in minutes.
    Wait(u64),
    /// Every slice that has ended is sealed.
    Settle,
    /// The daemon ends in order and starts.
    Restart,
    /// The disk fails once at the point.
    Fail(Point),
    /// The machine ends at the point, as soon as it is reached.
    Crash(Point),
}

fn points() -> impl Strategy<Value = Point> {
    prop::sample::select(vec![
        Point::Copied,
        Point::Renaming,
        Point::Renamed,
        Point::Recording,
        Point::Recorded,
        Point::Committing,
        Point::Checkpointing,
        Point::Unlinking,
    ])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1u64..40, prop_oneof![3 => 0u64..5, 1 => 0u64..300])
            .prop_map(|(rows, late)| Step::Ingest { rows, late }),
        1 => Just(Step::Again),
        3 => prop_oneof![4 => 1u64..70, 1 => Just(9 * 60), 1 => Just(26 * 60)].prop_map(Step::Wait),
        2 => Just(Step::Settle),
        1 => Just(Step::Restart),
        1 => points().prop_map(Step::Fail),
        2 => points().prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 12..30)
}

/// What the disk does when a point is reached.
#[derive(Debug, Default)]
struct Trap {
    armed: Option<(Point, bool)>,
    image: Option<tempfile::TempDir>,
}

struct World {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    now: Arc<AtomicU64>,
    trap: Arc<Mutex<Trap>>,
    model: Model,
    last: Option<(u64, u64, u64)>,
    rows: u64,
}

/// Copies a directory: what is on disk at this moment.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            _ = std::fs::copy(entry.path(), to);
        }
    }
}

fn open(dir: &Path, now: &Arc<AtomicU64>, trap: &Arc<Mutex<Trap>>) -> Arc<Store> {
    let mut options = Options::new(Arc::new(Counters::default()));
    let clock = Arc::clone(now);
    options.clock = Arc::new(move || Time(clock.load(Ordering::SeqCst)));
    options.group_wait = Duration::ZERO;
    options.seal_grace = 0;
    options.retry_after = Duration::from_millis(1);
    options.part_rows = 60;
    options.merged_rows = 200;
    options.threads = 1;
    // So that counts can be asked for at every resolution, but nothing else goes.
    let long = 400 * 24 * HOUR;
    options.retention =
        Retention { spans: long, logs: long, red_1m: 120 * HOUR, ..options.retention };
    let (trap, whole) = (Arc::clone(trap), dir.to_owned());
    options.fault = Arc::new(move |point| {
        let mut trap = trap.lock().unwrap();
        match trap.armed {
            Some((at, crash)) if at == point => {
                trap.armed = None;
                if !crash {
                    return Err(std::io::Error::from_raw_os_error(28));
                }
                let image = tempfile::tempdir().unwrap();
                copy(&whole, image.path());
                trap.image = Some(image);
                Ok(())
            }
            _ => Ok(()),
        }
    });
    Store::open(dir, options).unwrap()
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicU64::new(BEGAN));
        let trap = Arc::default();
        let store = open(dir.path(), &now, &trap);
        Self { dir, store, now, trap, model: Model::default(), last: None, rows: 0 }
    }

    fn at(&self) -> Time {
        Time(self.now.load(Ordering::SeqCst))
    }

    /// The `rows` rows of a batch that begins with row `first`.
    fn batch(&self, first: u64, rows: u64, late: u64) -> (Batch, Vec<Request>) {
        let mut batch = Batch { bytes: 1000, ..Batch::default() };
        let mut requests = Vec::new();
        for n in first..first + rows {
            let ago = n.wrapping_mul(0x9e37_79b9) % (late * MINUTE + 30 * SECOND);
            let start = self.at().minus(ago);
            let service = format!("s{}", n % 3);
            let trace = TraceId(
                (u128::from(n / 4 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
                    .to_be_bytes(),
            );
            batch.spans.attributes.pair("n", &n.to_string());
            batch
                .spans
                .push(&columns::spans::Span {
                    start_ns: start.0,
                    duration_ns: n,
                    trace,
                    span: SpanId((n + 1).to_be_bytes()),
                    parent: None,
                    service: &service,
                    operation: "GET /",
                    name: "",
                    kind: SpanKind::Server,
                    status: SpanStatus::Unset,
                    code: "",
                    error: false,
                    http_route: "",
                    db_system: "",
                    rpc_method: "",
                    peer_service: "",
                    resource: ResourceId(n % 3),
                    message: "",
                    events: "",
                    links: "",
                })
                .unwrap();
            batch
                .logs
                .push(&columns::logs::Log {
                    time_ns: start.0,
                    service: &service,
                    severity: 9,
                    body: &format!("line {n}"),
                    trace: None,
                    span: None,
                    resource: ResourceId(n % 3),
                })
                .unwrap();
            let request = Request {
                bucket: start.align(BUCKET),
                service: service.clone(),
                durations: (0..=n % 4).map(|k| 1_000_000 + n * 977 % 5_000_000 * (k + 1)).collect(),
                errors: n % 2,
            };
            let mut histogram = Histogram::default();
            request.durations.iter().for_each(|d| histogram.record(*d));
            batch.red.push(RedDelta {
                bucket: request.bucket,
                resource: ResourceId(n % 3),
                service: service.into(),
                operation: "GET /".into(),
                kind: SpanKind::Server,
                code: if n % 5 == 0 { "".into() } else { "200".into() },
                protocol: "http".into(),
                errors: request.errors,
                no_answer: 0,
                histogram,
                slowest: (n % 3 == 0).then_some((trace, n)),
                error_trace: None,
                sampled: false,
                evidence: Evidence::Otlp,
            });
            requests.push(request);
        }
        (batch, requests)
    }

    async fn ingest(&mut self, rows: u64, late: u64) {
        let first = self.rows;
        self.rows += rows;
        let (mut batch, requests) = self.batch(first, rows, late);
        let seq = self.model.mark.map_or(0, |seq| seq + 1);
        let (agent, segment) = (AgentId([1; 16]), SegmentId([2; 16]));
        batch.marks.push(Mark { agent, segment, after: self.model.mark, seq });
        let at = self.at();
        if self.store.commit(batch).await.is_err() {
            // Only where the disk was made to fail; nothing of it may be found.
            assert!(self.trap.lock().unwrap().armed.is_none());
            return;
        }
        self.model.mark = Some(seq);
        self.last = Some((first, rows, late));
        for n in first..first + rows {
            let ago = n.wrapping_mul(0x9e37_79b9) % (late * MINUTE + 30 * SECOND);
            let trace = TraceId(
                (u128::from(n / 4 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
                    .to_be_bytes(),
            );
            self.model.spans.insert(n + 1, (at.minus(ago), trace));
            self.model.logs.insert(format!("line {n}"));
        }
        self.model.requests.extend(requests);
    }

    async fn again(&mut self) {
        let (Some((first, rows, late)), Some(seq)) = (self.last, self.model.mark) else { return };
        let (mut batch, _) = self.batch(first, rows, late);
        let (agent, segment) = (AgentId([1; 16]), SegmentId([2; 16]));
        batch.marks.push(Mark { agent, segment, after: seq.checked_sub(1), seq });
        let error = self.store.commit(batch).await.unwrap_err();
        assert!(matches!(error, StoreError::Stale { .. }), "{error}");
    }

    async fn settle(&self) {
        // Something has to be received for an hour to end.
        let event = Batch::of_events(Vec::new());
        _ = self.store.commit(event).await;
        while self.store.health().unsealed > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn reopen(&mut self, image: Option<tempfile::TempDir>) {
        self.store.close().await;
        if let Some(image) = image {
            self.dir = image;
        }
        self.store = open(self.dir.path(), &self.now, &self.trap);
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Ingest { rows, late } => self.ingest(*rows, *late).await,
            Step::Again => self.again().await,
            Step::Wait(minutes) => {
                self.now.fetch_add(minutes * MINUTE, Ordering::SeqCst);
            }
            Step::Settle => self.settle().await,
            Step::Restart => self.reopen(None).await,
            Step::Fail(point) => self.trap.lock().unwrap().armed = Some((*point, false)),
            Step::Crash(point) => _ = self.crash(*point).await,
        }
        self.check().await;
    }

    /// Whether the point was reached.
    async fn crash(&mut self, point: Point) -> bool {
        // Nothing else is under way, so the image is of one moment.
        self.settle().await;
        self.ingest(9, 30).await;
        self.now.fetch_add(61 * MINUTE, Ordering::SeqCst);
        self.trap.lock().unwrap().armed = Some((point, true));
        self.settle().await;
        let image = {
            let mut trap = self.trap.lock().unwrap();
            trap.armed = None;
            trap.image.take()
        };
        let reached = image.is_some();
        self.reopen(image).await;
        reached
    }

    /// Everything the model knows, and nothing else, is found.
    async fn check(&self) {
        let spans = self.model.spans.keys().copied().collect::<BTreeSet<_>>();
        let logs = self.model.logs.clone();
        let some = self.model.spans.values().nth(self.model.spans.len() / 2).map(|s| s.1);
        let of_some = self.model.spans.values().filter(|s| Some(s.1) == some).count() as u64;
        let now = self.at();
        let expected: Vec<_> = [(0, BUCKET), (0, MINUTE), (0, HOUR), (50 * HOUR, BUCKET)]
            .into_iter()
            .map(|(ago, wanted)| (Time(BEGAN - 12 * HOUR), now.minus(ago).plus(HOUR), wanted))
            .collect();
        let windows = expected.clone();
        // Some line that is there, and one that is not.
        let texts = [self.rows / 2, self.rows + 1000].map(|n| format!("line {n}"));
        let (found, lines, by_id, in_view, sums, searched) = self
            .store
            .read(move |c| -> Result<_, StoreError> {
                let column = |sql: String| -> Result<Vec<String>, StoreError> {
                    let mut statement = c.prepare(&sql)?;
                    let rows = statement.query_map([], |row| row.get(0))?;
                    Ok(rows.collect::<Result<_, _>>()?)
                };
                let all = |signal| c.relation(signal, Time(BEGAN - 12 * HOUR), now.plus(HOUR));
                let ids = column(format!("SELECT span_id::VARCHAR FROM {}", all(Signal::Spans)))?;
                let lines = column(format!("SELECT body FROM {}", all(Signal::Logs)))?;
                let view = column("SELECT span_id::VARCHAR FROM spans".to_owned())?;
                let mut searched = Vec::new();
                for text in texts {
                    let (from, to) = (Time(BEGAN - 12 * HOUR), now.plus(HOUR));
                    let logs = c.logs_with(from, to, std::slice::from_ref(&text))?;
                    let found = column(format!(
                        "SELECT body FROM {logs} WHERE contains(lower(body), '{text}')"
                    ))?;
                    searched.push((text, found));
                }
                let mut by_id = 0u64;
                if let Some(id) = some {
                    let id = columns::spans::halves(id);
                    let sql = format!(
                        "SELECT count(*) FROM {} WHERE trace_hi = {} AND trace_lo = {}",
                        c.traces(id, id)?,
                        id.0,
                        id.1
                    );
                    by_id = c.query_row(&sql, [], |row| row.get(0))?;
                }
                let mut sums = Vec::new();
                for (from, to, wanted) in windows {
                    let resolution = c.resolution(from, to, wanted);
                    let (from, to) = (from.align(resolution), to.align(resolution));
                    let rows = c.buckets(Signal::Red, from, to, resolution);
                    let sum = of_rows(c, &rows, from, to)?;
                    sums.push((from, to, resolution, sum));
                    if let Some(sum) = by_series(c, from, to, resolution)? {
                        sums.push((from, to, resolution, sum));
                    }
                }
                Ok((ids, lines, by_id, view, sums, searched))
            })
            .await
            .unwrap();
        let numbers =
            |ids: Vec<String>| ids.iter().map(|id| id.parse().unwrap()).collect::<Vec<u64>>();
        for ids in [found, in_view] {
            let ids = numbers(ids);
            assert_eq!(ids.len(), spans.len(), "a span is there twice or not at all");
            assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), spans);
        }
        for (text, mut found) in searched {
            found.sort_unstable();
            let there = logs.iter().filter(|line| line.contains(&text)).cloned();
            assert_eq!(found, there.collect::<Vec<_>>(), "log records with {text:?}");
        }
        assert_eq!(lines.len(), logs.len());
        assert_eq!(lines.into_iter().collect::<BTreeSet<_>>(), logs);
        assert_eq!(by_id, of_some, "spans of a trace");
        for (from, to, resolution, sum) in sums {
            assert_eq!(sum, self.model.sums(from, to), "{from} to {to} in {resolution} ns");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 30, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_what_was_acknowledged_is_found(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in &steps {
                world.take(step).await;
            }
            // All of it from files at last.
            world.ingest(5, 0).await;
            world.now.fetch_add(HOUR, Ordering::SeqCst);
            world.trap.lock().unwrap().armed = None;
            world.settle().await;
            world.check().await;
            assert!(world.store.health().segments >= 3);
            world.store.close().await;
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_end_at_any_point_of_sealing_and_merging_loses_nothing() {
    for point in [
        Point::Copied,
        Point::Renaming,
        Point::Renamed,
        Point::Recording,
        Point::Recorded,
        Point::Committing,
        Point::Checkpointing,
    ] {
        let mut world = World::new();
        for _ in 0..3 {
            world.ingest(30, 90).await;
            world.now.fetch_add(20 * MINUTE, Ordering::SeqCst);
        }
        assert!(world.crash(point).await, "{point:?} was never reached");
        world.check().await;
        world.settle().await;
        world.check().await;
        world.store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_disk_that_is_full_at_any_point_loses_nothing() {
    for point in [
        Point::Copied,
        Point::Renaming,
        Point::Renamed,
        Point::Recording,
        Point::Committing,
        Point::Checkpointing,
    ] {
        let mut world = World::new();
        world.ingest(30, 90).await;
        world.now.fetch_add(70 * MINUTE, Ordering::SeqCst);
        world.trap.lock().unwrap().armed = Some((point, false));
        world.ingest(30, 90).await;
        world.ingest(30, 90).await;
        world.settle().await;
        assert!(world.trap.lock().unwrap().armed.is_none(), "{point:?} was never reached");
        world.check().await;
        world.reopen(None).await;
        world.check().await;
        world.store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn small_segments_become_one_and_old_buckets_coarser() {
    let mut world = World::new();
    for _ in 0..12 {
        world.ingest(8, 30).await;
        world.now.fetch_add(HOUR, Ordering::SeqCst);
        world.settle().await;
    }
    // Twelve hours of nine kinds; the day is over after the next.
    world.now.fetch_add(14 * HOUR, Ordering::SeqCst);
    world.settle().await;
    while world.store.health().segments > 9 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.check().await;
    // What they were made of is gone from the disk.
    let left = || std::fs::read_dir(world.dir.path().join(segment::DIR)).unwrap().count();
    while left() != world.store.health().segments {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Finer buckets go, and the same requests are found in the coarser.
    for (days, finest) in [(0, BUCKET), (2, MINUTE), (4, HOUR)] {
        world.now.fetch_add(days * 24 * HOUR, Ordering::SeqCst);
        world.settle().await;
        let now = world.at();
        let resolution = async || {
            let look = move |c: &Reading<'_>| -> Result<u64, StoreError> {
                Ok(c.resolution(Time(BEGAN), now, BUCKET))
            };
            world.store.read(look).await.unwrap()
        };
        while resolution().await != finest {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.check().await;
    }
    world.store.close().await;
}

//! A newer build upgrades a colony by itself: stores written by every earlier version are opened
//! and every row is found. `fixtures/` holds them; its README says how one is written.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coral_daemon::counters::Counters;
use coral_daemon::store::columns::{logs::Log, metrics::Point, spans::Span};
use coral_daemon::store::{
    Batch, HalfEdge, HalfSeries, HostReading, InflightReading, Mark, Options, RedDelta, Resource,
    Store, StoreError,
};
use coral_model::hist::Histogram;
use coral_model::id::{AgentId, ResourceId, SegmentId, SpanId, TraceId, resource_id};
use coral_model::time::{BUCKET, SECOND, Time};
use coral_model::view::{
    EventKind, EventRow, Evidence, MetricKind, NodeKind, SpanKind, SpanStatus,
};

/// When the first commit of a sample is made: 20 minutes into an hour.
const BEGAN: Time = Time(1_790_078_400 * SECOND + 1200 * SECOND);
/// Commits of a sample, ten minutes apart: two hours have tables.
const COMMITS: u64 = 6;
/// What the sample holds, by view; edges depend on the join and are compared, not counted.
const ROWS: [(&str, u64); 8] = [
    ("spans", 360),
    ("logs", 180),
    ("metrics", 120),
    ("red", 48),
    ("events", 18),
    ("inflight", 12),
    ("hosts", 12),
    ("resources", 2),
];
const VIEWS: [&str; 9] =
    ["spans", "logs", "metrics", "red", "edges", "events", "inflight", "hosts", "resources"];

fn resource(service: &str) -> Arc<Resource> {
    let attributes: Vec<(Arc<str>, Arc<str>)> = vec![
        ("host.name".into(), "web-1".into()),
        ("service.name".into(), service.into()),
        ("service.version".into(), "1.4.2".into()),
    ];
    Arc::new(Resource {
        id: resource_id(attributes.iter().map(|(k, v)| (&**k, &**v))),
        service: service.into(),
        version: Some("1.4.2".into()),
        host: Some("web-1".into()),
        attributes,
        ..Resource::default()
    })
}

fn trace(n: u64) -> TraceId {
    let high = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    TraceId((u128::from(high) << 64 | u128::from(n + 1)).to_be_bytes())
}

fn spans(batch: &mut Batch, n: u64, at: Time, id: ResourceId, service: &str) {
    for i in 0..30 {
        let k = n * 1000 + i;
        batch.spans.attributes.pair("http.route", "/cart/{id}");
        batch.spans.attributes.pair("user.id", &format!("user-{}", k % 17));
        batch
            .spans
            .push(&Span {
                start_ns: at.0 - i * SECOND,
                duration_ns: 1_000_000 + k,
                trace: trace(k / 3),
                span: SpanId((k + 1).to_be_bytes()),
                parent: (i % 3 != 0).then(|| SpanId(k.to_be_bytes())),
                service,
                operation: "GET /cart/{id}",
                name: if i % 5 == 0 { "cart.get" } else { "" },
                kind: SpanKind::Server,
                status: if i % 7 == 0 { SpanStatus::Error } else { SpanStatus::Unset },
                code: "200",
                error: i % 7 == 0,
                http_route: "/cart/{id}",
                db_system: "",
                rpc_method: "",
                peer_service: "",
                resource: id,
                message: "",
                events: "",
                links: "",
            })
            .unwrap();
    }
    for i in 0..15 {
        batch.logs.attributes.pair("line", &i.to_string());
        batch
            .logs
            .push(&Log {
                time_ns: at.0 - i * SECOND,
                service,
                severity: 9,
                body: "took 12 ms",
                trace: Some(trace(n * 1000 + i)),
                span: None,
                resource: id,
            })
            .unwrap();
    }
    for i in 0..10u64 {
        batch.metrics.attributes.pair("pool", "a");
        batch
            .metrics
            .push(&Point {
                time_ns: at.0 - i * SECOND,
                start_ns: 0,
                metric: "pool.size",
                kind: MetricKind::Gauge,
                unit: "{connection}",
                description: "connections",
                temporality: "",
                service,
                resource: id,
                value: Some(2.5),
                count: None,
                sum: None,
                bounds: &[1.0, 2.0],
                counts: &[i, 2, 3],
                extra: "",
            })
            .unwrap();
    }
}

/// What is committed `n`th, at `at`.
fn sample(n: u64, at: Time) -> Batch {
    let mut batch = Batch { bytes: 10_000, ..Batch::default() };
    let agent = AgentId([7; 16]);
    for (s, service) in [resource("cart"), resource("pay")].iter().enumerate() {
        batch.resources.insert(service.id, Arc::clone(service));
        spans(&mut batch, n * 2 + s as u64, at, service.id, &service.service);
        for i in 0..4 {
            let mut histogram = Histogram::default();
            (0..20).for_each(|k| histogram.record(1_000_000 + (n * 31 + k * 7 + i) * 50_000));
            batch.red.push(RedDelta {
                bucket: at.minus(i * BUCKET).align(BUCKET),
                resource: service.id,
                service: Arc::clone(&service.service),
                operation: "GET /cart/{id}".into(),
                kind: SpanKind::Server,
                code: "200".into(),
                protocol: "http".into(),
                errors: i,
                no_answer: 0,
                histogram,
                slowest: Some((trace(n), 5_000_000)),
                error_trace: None,
                sampled: false,
                evidence: Evidence::Otlp,
            });
        }
        for i in 0..5u64 {
            let caller = s == 0;
            batch.half_edges.push(HalfEdge {
                key: n * 100 + i + 1,
                series: Arc::new(HalfSeries {
                    resource: service.id,
                    service: Arc::clone(&service.service),
                    kind: if caller { SpanKind::Client } else { SpanKind::Server },
                    protocol: "http".into(),
                    peer: if caller { "pay:8080".into() } else { "".into() },
                    peer_kind: NodeKind::External,
                    sampled: false,
                    evidence: Evidence::Otlp,
                }),
                end: at,
                duration_ns: 3_000_000 + i,
                error: i == 4,
                no_answer: false,
            });
        }
        batch.inflight.push(InflightReading {
            at,
            agent,
            resource: service.id,
            service: Arc::clone(&service.service),
            operation: "".into(),
            count: n + 1,
            oldest_start: Some(at.minus(SECOND)),
            oldest_trace: Some(trace(n)),
            exact: false,
        });
        batch.hosts.push(HostReading {
            at,
            agent,
            host: format!("web-{s}").into(),
            row: "{}".into(),
        });
    }
    for i in 0..3 {
        batch.events.push(EventRow {
            time: at.minus(i * SECOND),
            kind: EventKind::Note,
            service: Some("cart".into()),
            host: None,
            text: format!("note {n}.{i}"),
            source: "test".into(),
            attributes: [("k".to_owned(), i.to_string())].into(),
        });
    }
    let segment = SegmentId([9; 16]);
    batch.marks.push(Mark { agent, segment, after: n.checked_sub(1), seq: n });
    batch
}

fn options() -> (Arc<AtomicU64>, Options) {
    let now = Arc::new(AtomicU64::new(BEGAN.0));
    let read = Arc::clone(&now);
    let mut options = Options::new(Arc::new(Counters::default()));
    options.clock = Arc::new(move || Time(read.load(Ordering::SeqCst)));
    (now, options)
}

/// Writes a sample into an empty directory; its first hour is sealed.
async fn write(dir: &Path) {
    let (now, mut options) = options();
    options.seal_grace = 0;
    let store = Store::open(dir, options).unwrap();
    for n in 0..COMMITS {
        let at = BEGAN.plus(n * 600 * SECOND);
        now.store(at.0, Ordering::SeqCst);
        store.commit(sample(n, at)).await.unwrap();
    }
    while store.health().unsealed > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    store.close().await;
}

/// Opens a store just after its last commit.
fn open(dir: &Path) -> Arc<Store> {
    let (now, options) = options();
    now.store(BEGAN.plus(COMMITS * 600 * SECOND).0, Ordering::SeqCst);
    Store::open(dir, options).unwrap()
}

/// All rows of a view as text, sorted.
async fn rows(store: &Store, view: &'static str) -> Vec<String> {
    store
        .read(move |c| -> Result<_, StoreError> {
            let mut statement =
                c.prepare(&format!("SELECT v::VARCHAR FROM {view} v ORDER BY 1"))?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<Vec<String>, _>>()?)
        })
        .await
        .unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Unpacks the store of an earlier version; version 1 had no segments.
fn unpack(version: i64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let packed = File::open(fixtures().join(format!("store-v{version}.duckdb.zst"))).unwrap();
    let mut file = File::create(dir.path().join("telemetry.duckdb")).unwrap();
    zstd::stream::copy_decode(packed, &mut file).unwrap();
    std::fs::create_dir(dir.path().join("segments")).unwrap();
    let segments = std::fs::read_dir(fixtures().join(format!("store-v{version}")));
    for entry in segments.into_iter().flatten() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join("segments").join(entry.file_name())).unwrap();
    }
    dir
}

#[tokio::test]
async fn stores_of_every_earlier_version_are_upgraded_and_every_row_is_found() {
    for version in 1..coral_daemon::store::schema::VERSION {
        upgraded(version).await;
    }
}

async fn upgraded(version: i64) {
    let dir = unpack(version);
    let store = open(dir.path());
    let fresh = tempfile::tempdir().unwrap();
    write(fresh.path()).await;
    let expected = open(fresh.path());
    for view in VIEWS {
        let found = rows(&store, view).await;
        assert_eq!(found, rows(&expected, view).await, "{view} of version {version}");
        if let Some((_, n)) = ROWS.iter().find(|(name, _)| *name == view) {
            assert_eq!(found.len() as u64, *n, "{view}");
        }
        assert!(!found.is_empty(), "{view}");
    }
    let marks = [(SegmentId([9; 16]), COMMITS - 1)];
    assert_eq!(store.marks(AgentId([7; 16])), marks);
    // It goes on where the earlier build stopped.
    let at = BEGAN.plus(COMMITS * 600 * SECOND);
    store.commit(sample(COMMITS, at)).await.unwrap();
    assert_eq!(rows(&store, "spans").await.len(), 420);
    store.close().await;
    expected.close().await;
    drop(store);
    let store = open(dir.path());
    assert_eq!(rows(&store, "spans").await.len(), 420);
    store.close().await;
}

#[tokio::test]
async fn files_of_an_earlier_version_and_of_this_are_read_and_merged_as_one() {
    let dir = unpack(2);
    let (now, mut options) = options();
    // Late enough for the day's files to become one.
    now.store(BEGAN.plus(2 * 86_400 * SECOND).0, Ordering::SeqCst);
    options.seal_grace = 0;
    let store = Store::open(dir.path(), options).unwrap();
    let before = rows(&store, "red").await;
    store.commit(sample(COMMITS, BEGAN.plus(2 * 86_400 * SECOND))).await.unwrap();
    let files = |begin: &'static str| {
        let all = std::fs::read_dir(dir.path().join("segments")).unwrap().flatten();
        all.filter(|e| e.file_name().to_string_lossy().starts_with(begin)).count()
    };
    // Two hours of version 2: one sealed by it, one by this build, then both in one file.
    while store.health().unsealed > 0 || files("red-rows") > 1 || files("edges-1h") > 1 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let after = rows(&store, "red").await;
    assert_eq!((before.len(), after.len()), (48, 56));
    assert!(before.iter().all(|row| after.contains(row)));
    let evidence = store.read(|c| -> Result<_, StoreError> {
        let sql = "SELECT count(*) FROM red WHERE evidence = 'otlp'";
        Ok(c.query_row(sql, [], |row| row.get::<_, u64>(0))?)
    });
    assert_eq!(evidence.await.unwrap(), 56);
    store.close().await;
}

/// Writes the fixture of the version this build writes: see `fixtures/README.md`.
#[tokio::test]
#[ignore = "writes a fixture; run once, by the last build of a version"]
async fn write_the_fixture_of_this_version() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path()).await;
    let version = coral_daemon::store::schema::VERSION;
    let file = File::open(dir.path().join("telemetry.duckdb")).unwrap();
    let packed = File::create(fixtures().join(format!("store-v{version}.duckdb.zst"))).unwrap();
    zstd::stream::copy_encode(file, packed, 19).unwrap();
    let segments = fixtures().join(format!("store-v{version}"));
    std::fs::create_dir_all(&segments).unwrap();
    for entry in std::fs::read_dir(dir.path().join("segments")).unwrap().flatten() {
        std::fs::copy(entry.path(), segments.join(entry.file_name())).unwrap();
    }
}

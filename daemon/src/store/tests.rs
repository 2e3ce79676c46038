use super::*;
use crate::counters::Counters;
use coral_model::id::{ResourceId, SpanId, TraceId};
use coral_model::view::{EventKind, EventRow, SpanKind, SpanStatus};
use duckdb::Connection;

pub(crate) fn options() -> Options {
    Options::new(Arc::new(Counters::default()))
}

fn span(batch: &mut Batch, n: u64) {
    batch.spans.attributes.pair("http.route", "/cart");
    batch.spans.attributes.pair("n", &n.to_string());
    batch
        .spans
        .push(&columns::spans::Span {
            start_ns: 1_000 + n,
            duration_ns: 5,
            trace: TraceId([7; 16]),
            span: SpanId(n.to_be_bytes()),
            parent: None,
            service: "cart",
            operation: "GET /cart",
            name: "",
            kind: SpanKind::Server,
            status: SpanStatus::Unset,
            code: "200",
            error: false,
            http_route: "/cart",
            db_system: "",
            rpc_method: "",
            peer_service: "",
            resource: ResourceId(9),
            message: "",
            events: "",
            links: "",
        })
        .unwrap();
}

pub(crate) fn event(text: &str) -> EventRow {
    EventRow {
        time: Time(5),
        kind: EventKind::Note,
        service: None,
        host: None,
        text: text.into(),
        source: "test".into(),
        attributes: [("k".to_owned(), "v".to_owned())].into(),
    }
}

pub(crate) async fn count(store: &Store, sql: &'static str) -> u64 {
    store
        .read(move |c| -> Result<u64, StoreError> { Ok(c.query_row(sql, [], |r| r.get(0))?) })
        .await
        .unwrap()
}

#[tokio::test]
async fn what_is_committed_can_be_read_and_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    let mut batch = Batch::default();
    for n in 1..=5_000 {
        span(&mut batch, n);
    }
    batch.events.push(event("hello"));
    let mark = Mark { agent: AgentId([1; 16]), segment: SegmentId([2; 16]), after: None, seq: 7 };
    batch.marks.push(mark);
    batch.bytes = 1_000;
    let first = store.commit(batch).await.unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM spans").await, 5_000);
    let sql = "SELECT count(*) FROM spans WHERE attributes['n'] = span_id::VARCHAR";
    assert_eq!(count(&store, sql).await, 5_000);
    let second = store.commit(Batch::of_events(vec![event("again")])).await.unwrap();
    assert!(second.stamp > first.stamp);
    store.close().await;
    drop(store);

    let store = Store::open(dir.path(), options()).unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM spans").await, 5_000);
    assert_eq!(count(&store, "SELECT count(*) FROM events WHERE attributes['k'] = 'v'").await, 2);
    assert_eq!(store.marks(AgentId([1; 16])), [(SegmentId([2; 16]), 7)]);
    // Every view answers, with or without rows.
    for signal in schema::Signal::ALL {
        let sql = format!("SELECT count(*) FROM {}", signal.name());
        store
            .read(move |c| -> Result<u64, StoreError> { Ok(c.query_row(&sql, [], |r| r.get(0))?) })
            .await
            .unwrap();
    }
    store.close().await;
}

/// A clock the test moves.
fn hand_clock(start: Time) -> (Arc<std::sync::atomic::AtomicU64>, Clock) {
    let now = Arc::new(std::sync::atomic::AtomicU64::new(start.0));
    let read = Arc::clone(&now);
    (now, Arc::new(move || Time(read.load(Ordering::SeqCst))))
}

const HOUR: u64 = schema::HOUR;
const BEGAN: u64 = 500_000 * HOUR;

pub(crate) fn telemetry(n: u64, bytes: usize) -> Batch {
    let mut batch = Batch::default();
    for i in 0..n {
        span(&mut batch, i);
    }
    batch.bytes = bytes;
    batch
}

#[tokio::test]
async fn every_hour_of_receipt_is_a_piece_and_the_oldest_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let (now, clock) = hand_clock(Time(BEGAN));
    let mut options = Options { clock, ..options() };
    options.retention.spans = 3 * HOUR;
    let counters = Arc::clone(&options.counters);
    let store = Store::open(dir.path(), options).unwrap();
    for hour in 0..6 {
        now.store(BEGAN + hour * HOUR, Ordering::SeqCst);
        store.commit(telemetry(10, 10)).await.unwrap();
    }
    // The drop follows the sealing, on the writer's thread.
    while count(&store, "SELECT count(*) FROM spans").await > 40 {
        tokio::task::yield_now().await;
    }
    let hours = "SELECT count(DISTINCT received_ns // 3600000000000) FROM spans";
    assert_eq!(count(&store, hours).await, 4);
    assert!(counters.get("checkpoints") > 0);
    // A clock that jumps back goes on with the newest tables, and stamps still rise.
    now.store(BEGAN, Ordering::SeqCst);
    let sql = "SELECT max(received_ns)::UBIGINT FROM spans";
    let newest = count(&store, sql).await;
    let committed = store.commit(telemetry(1, 1)).await.unwrap();
    assert!(committed.stamp.0 > newest);
    store.close().await;
}

/// Spans that do not compress.
fn noise(seed: u64) -> Batch {
    let mut batch = Batch { bytes: 1_000, ..Batch::default() };
    let mut x = seed + 1;
    for i in 0..500 {
        let text: String = (0..64)
            .map(|_| {
                x = x.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                format!("{x:016x}")
            })
            .collect();
        batch.spans.attributes.pair("noise", &text);
        span(&mut batch, i);
    }
    batch
}

#[tokio::test]
async fn the_disk_budget_holds_and_says_what_went() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options();
    options.retention.disk_max = Some(24 << 20);
    options.checkpoint_bytes = 1;
    options.group_wait = std::time::Duration::ZERO;
    let store = Store::open(dir.path(), options).unwrap();
    let dropped = "SELECT count(*) FROM events WHERE kind = 'dropped'";
    let mut batches = 0;
    while count(&store, dropped).await < 3 {
        batches += 1;
        store.commit(noise(batches)).await.unwrap();
    }
    let spans = count(&store, "SELECT count(*) FROM spans").await;
    assert!((500..batches * 500).contains(&spans), "{spans} spans are left of {batches} batches");
    let sql = "SELECT (used_blocks * block_size)::UBIGINT FROM pragma_database_size() LIMIT 1";
    let used = count(&store, sql).await;
    assert!(used <= 30 << 20, "{used} bytes are used after {batches} batches");
    store.close().await;
}

#[tokio::test]
async fn a_full_disk_stops_telemetry_and_is_told_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let used = Arc::new(std::sync::atomic::AtomicU64::new(10));
    let probe = Arc::clone(&used);
    let disk: DiskProbe = Arc::new(move |_| {
        let used = probe.load(Ordering::SeqCst);
        Some(DiskRoom { used, available: 100 - used })
    });
    let options = Options { disk, ..options() };
    let counters = Arc::clone(&options.counters);
    let store = Store::open(dir.path(), options).unwrap();
    store.commit(telemetry(10, 10)).await.unwrap();
    used.store(95, Ordering::SeqCst);
    let error = loop {
        match store.commit(telemetry(1, 10)).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::DiskFull { percent: 95, .. }), "{error}");
    assert!(counters.get("commits_refused_disk_full") > 0);
    let told = "SELECT count(*) FROM events WHERE kind = 'near_bound'";
    while count(&store, told).await == 0 {
        tokio::task::yield_now().await;
    }
    assert!(store.health().disk_full);
    used.store(20, Ordering::SeqCst);
    while store.commit(telemetry(1, 10)).await.is_err() {
        tokio::task::yield_now().await;
    }
    while count(&store, told).await < 2 {
        tokio::task::yield_now().await;
    }
    store.close().await;
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("telemetry.duckdb"), vec![0x5a; 100_000]).unwrap();
    let options = options();
    let counters = Arc::clone(&options.counters);
    let store = Store::open(dir.path(), options).unwrap();
    assert_eq!(counters.get("store_damaged"), 1);
    assert_eq!(count(&store, "SELECT count(*) FROM events WHERE kind = 'store_damaged'").await, 1);
    let names = std::fs::read_dir(dir.path()).unwrap().flatten();
    assert_eq!(names.filter(|f| f.file_name().to_string_lossy().contains("damaged")).count(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_newer_store_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path(), options()).unwrap().close().await;
    let raw = Connection::open(dir.path().join("telemetry.duckdb")).unwrap();
    raw.execute_batch("UPDATE meta SET value = '99' WHERE key = 'version'").unwrap();
    drop(raw);
    let error = Store::open(dir.path(), options()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("newer Coral"));
}

#[tokio::test]
async fn readers_cannot_leave_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), options()).unwrap();
    for sql in [
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/coral-should-not-exist.csv'",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "INSTALL httpfs",
    ] {
        let run = store.read(move |c| -> Result<(), StoreError> { Ok(c.execute_batch(sql)?) });
        assert!(run.await.is_err(), "{sql}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_question_that_takes_too_long_is_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        Options { read_timeout: std::time::Duration::from_millis(50), readers: 1, ..options() };
    let store = Store::open(dir.path(), options).unwrap();
    let endless =
        "SELECT count(*) FROM range(10000000000) a, range(1000) b WHERE a.range % 7 = b.range";
    let run = store
        .read(move |c| -> Result<u64, StoreError> { Ok(c.query_row(endless, [], |r| r.get(0))?) });
    assert!(matches!(run.await, Err(StoreError::TimedOut(_))));
    // The only connection comes back; on a busy machine not every answer takes less than the limit.
    let one = || {
        store
            .read(|c| -> Result<u64, StoreError> { Ok(c.query_row("SELECT 1", [], |r| r.get(0))?) })
    };
    while !matches!(one().await, Ok(1)) {}
    store.close().await;
}

#[tokio::test]
async fn one_poisoned_batch_of_a_group_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let hour = std::time::Duration::from_secs(3600);
    // The first batch waits for nothing; the next three are one group.
    let options = Options { group_wait: hour, group_bytes: 30, ..options() };
    let counters = Arc::clone(&options.counters);
    let store = Store::open(dir.path(), options).unwrap();
    store.commit(telemetry(1, 10)).await.unwrap();
    // The store has no such rule: it stands for whatever DuckDB refuses in a transaction.
    let poisoned = store.read(|c| -> Result<(), StoreError> {
        let sql = "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'spans_%'";
        let table: String = c.query_row(sql, [], |row| row.get(0))?;
        // Readers may only read: out of their transaction first.
        let index = format!("COMMIT; CREATE UNIQUE INDEX poison ON {table} (span_id)");
        Ok(c.execute_batch(&index)?)
    });
    poisoned.await.unwrap();
    let agent = AgentId([9; 16]);
    let segment = |n: u8| SegmentId([n; 16]);
    let batch = |n: u8, span_number: u64| {
        let mut batch = Batch { bytes: 10, ..Batch::default() };
        span(&mut batch, span_number);
        let segment = segment(n);
        batch.marks.push(Mark { agent, segment, after: None, seq: 7 });
        batch
    };
    let mut pending = Vec::new();
    // Span 0 is there already.
    for (n, span_number) in [(1, 1), (2, 0), (3, 2)] {
        let reserved = store.reserve(10).await.unwrap();
        pending.push(store.submit(batch(n, span_number), reserved).unwrap());
    }
    let mut told = Vec::new();
    for one in pending {
        told.push(one.await);
    }
    assert!(matches!(told[..], [Ok(_), Err(StoreError::Database(_)), Ok(_)]), "{told:?}");
    assert_eq!(counters.get("commits_retried"), 1);
    assert_eq!(counters.get("commits_failed"), 1);
    let marks = [1, 2, 3].map(|n| store.mark(agent, segment(n)));
    assert_eq!(marks, [Some(7), None, Some(7)]);
    assert_eq!(count(&store, "SELECT count(*) FROM spans").await, 3);
    store.close().await;
}

//! Damaged files, live retention, readers that outlast what they read, questions that need too much.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::schema::{HOUR, Signal};
use super::tests::{count, event, options, telemetry};
use super::*;

const BEGAN: u64 = 500_000 * HOUR;

struct Scene {
    dir: tempfile::TempDir,
    now: Arc<AtomicU64>,
}

impl Scene {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), now: Arc::new(AtomicU64::new(BEGAN)) }
    }

    fn open(&self) -> Arc<Store> {
        let now = Arc::clone(&self.now);
        let mut options = options();
        options.clock = Arc::new(move || Time(now.load(Ordering::SeqCst)));
        options.seal_grace = 0;
        options.group_wait = Duration::ZERO;
        Store::open(self.dir.path(), options).unwrap()
    }

    /// `hours` hours of ten spans and an event each, all but the last sealed.
    async fn filled(&self, hours: u64) -> Arc<Store> {
        let store = self.open();
        for _ in 0..hours {
            store.commit(telemetry(10, 10)).await.unwrap();
            store.commit(Batch::of_events(vec![event("hello")])).await.unwrap();
            self.now.fetch_add(HOUR, Ordering::SeqCst);
        }
        store.commit(telemetry(10, 10)).await.unwrap();
        sealed(&store).await;
        store
    }

    fn files(&self, begin: &str, end: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir.path().join(segment::DIR)).unwrap().flatten();
        let mut files: Vec<_> = entries
            .filter(|e| {
                let name = e.file_name().to_string_lossy().into_owned();
                name.starts_with(begin) && name.ends_with(end)
            })
            .map(|e| e.path())
            .collect();
        files.sort();
        files
    }
}

async fn sealed(store: &Store) {
    while store.health().unsealed > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn spans(store: &Store) -> u64 {
    count(store, "SELECT count(*) FROM spans").await
}

const DAMAGED: &str = "SELECT count(*) FROM events WHERE kind = 'store_damaged'";

#[tokio::test]
async fn truncated_and_missing_files_are_set_aside_at_the_start_and_told() {
    let scene = Scene::new();
    scene.filled(4).await.close().await;
    let files = scene.files("spans-rows", "parquet");
    assert_eq!(files.len(), 4);
    let file = std::fs::File::options().write(true).open(&files[1]).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    std::fs::remove_file(&files[2]).unwrap();
    let store = scene.open();
    assert_eq!(spans(&store).await, 30);
    assert_eq!(count(&store, DAMAGED).await, 2);
    assert_eq!(scene.files("spans-rows", "damaged").len(), 1);
    store.close().await;
    let store = scene.open();
    assert_eq!(spans(&store).await, 30);
    store.close().await;
}

#[tokio::test]
async fn a_file_that_rots_is_found_by_the_question_that_fails() {
    let scene = Scene::new();
    let store = scene.filled(3).await;
    let file = scene.files("spans-rows", "parquet").remove(1);
    let mut file = std::fs::File::options().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(4)).unwrap();
    file.write_all(&[0xff; 600]).unwrap();
    drop(file);
    let all = "SELECT count(DISTINCT (start_ns, attributes['n'], service, trace_hi)) FROM spans";
    let read = store
        .read(move |c| -> Result<u64, StoreError> { Ok(c.query_row(all, [], |r| r.get(0))?) })
        .await;
    let error = read.unwrap_err().to_string();
    assert!(crate::query::QueryError::Store(error.clone()).is_damage(), "{error}");
    assert!(store.examine(&error).await);
    assert_eq!(spans(&store).await, 30);
    assert_eq!(count(&store, DAMAGED).await, 1);
    // Nothing else is wrong.
    assert!(!store.examine(&error).await);
    store.close().await;
}

#[tokio::test]
async fn sealed_hours_survive_the_loss_of_the_database() {
    let scene = Scene::new();
    scene.filled(4).await.close().await;
    std::fs::write(scene.dir.path().join("telemetry.duckdb"), vec![0x5a; 100_000]).unwrap();
    let store = scene.open();
    assert_eq!(spans(&store).await, 40);
    assert_eq!(count(&store, DAMAGED).await, 1);
    store.close().await;
    let store = scene.open();
    assert_eq!(spans(&store).await, 40);
    store.close().await;
}

#[tokio::test]
async fn what_a_crash_leaves_over_is_swept() {
    let scene = Scene::new();
    scene.filled(2).await.close().await;
    let segments = scene.dir.path().join(segment::DIR);
    std::fs::write(segments.join(".tmp-spans-rows-x.parquet"), "half").unwrap();
    std::fs::copy(&scene.files("spans-rows", "parquet")[0], segments.join("spans-rows-y.parquet"))
        .unwrap();
    std::fs::write(scene.dir.path().join("tmp/duckdb_temp_storage_S32K-0.tmp"), "x").unwrap();
    let store = scene.open();
    assert_eq!(spans(&store).await, 30);
    assert_eq!(scene.files("", "parquet").len(), store.health().segments);
    assert_eq!(std::fs::read_dir(scene.dir.path().join("tmp")).unwrap().count(), 0);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_changes_while_it_runs_and_a_reader_keeps_what_it_reads() {
    let scene = Scene::new();
    let store = scene.filled(6).await;
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let reading = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            store
                .read(move |c| -> Result<u64, StoreError> {
                    let all = c.relation(Signal::Spans, Time(0), Time::MAX);
                    begun.send(()).unwrap();
                    wait.recv().unwrap();
                    let sql = format!("SELECT count(*) FROM {all}");
                    Ok(c.query_row(&sql, [], |r| r.get(0))?)
                })
                .await
        })
    };
    begins.await.unwrap();
    store.retain(Retention { spans: 3 * HOUR, ..Retention::default() });
    while store.health().segments > 6 + 2 * 3 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Out of the manifest, still on disk.
    assert_eq!(spans(&store).await, 40);
    assert_eq!(scene.files("spans-rows", "parquet").len(), 6);
    go.send(()).unwrap();
    assert_eq!(reading.await.unwrap().unwrap(), 70);
    while scene.files("spans-rows", "parquet").len() > 3 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_needs_too_much_memory_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options();
    options.memory_bytes = 128 << 20;
    options.temp_bytes = 8 << 20;
    options.read_timeout = Duration::from_secs(600);
    let store = Store::open(dir.path(), options).unwrap();
    store.commit(telemetry(100, 100)).await.unwrap();
    let greedy = "SELECT max(length(l[1])) FROM (SELECT list(a.range::VARCHAR || b.range ORDER BY b.range) AS l FROM range(4000) a, range(4000) b GROUP BY a.range % 3)";
    let run = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            store
                .read(move |c| -> Result<u64, StoreError> {
                    Ok(c.query_row(greedy, [], |r| r.get(0))?)
                })
                .await
        })
    };
    let mut committed = 100;
    while !run.is_finished() {
        store.commit(telemetry(10, 10)).await.unwrap();
        committed += 10;
    }
    // By itself, or because a commit needed the memory.
    let error = run.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("memory") || error.contains("INTERRUPT"), "{error}");
    assert_eq!(spans(&store).await, committed);
    store.close().await;
}

#[tokio::test]
async fn resources_roll_on_and_are_forgotten_when_nothing_needs_them() {
    let scene = Scene::new();
    let store = scene.open();
    let resource = |n: u64| {
        Arc::new(Resource {
            id: coral_model::ResourceId(n),
            service: "cart".into(),
            ..Resource::default()
        })
    };
    let mut batch = telemetry(1, 10);
    batch.resources.insert(coral_model::ResourceId(1), resource(1));
    store.commit(batch).await.unwrap();
    let known = "SELECT count(*) FROM resources WHERE id = 1 AND first_ns = 1800000000000000000";
    for _ in 0..5 {
        scene.now.fetch_add(HOUR, Ordering::SeqCst);
        let mut batch = telemetry(1, 10);
        batch.resources.insert(coral_model::ResourceId(2), resource(2));
        store.commit(batch).await.unwrap();
        sealed(&store).await;
        assert_eq!(count(&store, known).await, 1);
    }
    // Each by its first mention and its last, in one table.
    assert_eq!(count(&store, "SELECT count(*) FROM resources").await, 2);
    scene.now.fetch_add(401 * 24 * HOUR, Ordering::SeqCst);
    store.commit(telemetry(1, 10)).await.unwrap();
    sealed(&store).await;
    assert_eq!(count(&store, known).await, 0);
    store.close().await;
}

//! Counts over any window aligned to the resolution an answer states equal what was sent, whichever
//! source answers: live memory, tables, files of any form.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coral_model::config::Retention;
use coral_model::question::View;
use coral_model::time::{BUCKET, MILLI, SECOND, Time, Window};
use coral_model::view::{Evidence, Row, SpanKind};
use coral_model::{Histogram, Question, ResourceId};

use super::{Context, answer};
use crate::store::{Batch, Options, RedDelta, Store};

const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const BEGAN: Time = Time(497_232 * HOUR);

fn open(dir: &std::path::Path, now: &Arc<AtomicU64>) -> Arc<Store> {
    let mut options = Options::new(Arc::default());
    let clock = Arc::clone(now);
    options.clock = Arc::new(move || Time(clock.load(Ordering::SeqCst)));
    options.seal_grace = 0;
    options.group_wait = Duration::ZERO;
    Store::open(dir, options).unwrap()
}

fn context(store: &Arc<Store>) -> Context {
    Context {
        live: Arc::clone(store.live()),
        store: Arc::clone(store),
        agents: Arc::default(),
        counters: Arc::default(),
        now: store.now(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_equal_what_was_sent_at_every_stated_resolution() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(BEGAN.0));
    let mut store = open(dir.path(), &now);
    let mut sent: Vec<(Time, u64)> = Vec::new();
    // Three days and a bit, every 17 minutes, some of it late.
    for n in 0..262u64 {
        now.store(BEGAN.0 + n * 17 * MINUTE, Ordering::SeqCst);
        let late = if n % 7 == 0 { 95 * MINUTE } else { n % 3 * 20 * SECOND };
        let bucket = store.now().minus(late).align(BUCKET);
        let mut histogram = Histogram::default();
        (0..1 + n % 5).for_each(|k| histogram.record(MILLI + k * n));
        sent.push((bucket, histogram.count()));
        let mut batch = Batch { bytes: 10, ..Batch::default() };
        batch.red.push(RedDelta {
            bucket,
            resource: ResourceId(1),
            service: "cart".into(),
            operation: "GET /".into(),
            kind: SpanKind::Server,
            code: "200".into(),
            protocol: "http".into(),
            errors: 0,
            no_answer: 0,
            histogram,
            slowest: None,
            error_trace: None,
            sampled: false,
            evidence: Evidence::Otlp,
        });
        store.commit(batch).await.unwrap();
        if n == 200 {
            store.close().await;
            store = open(dir.path(), &now);
        }
    }
    let check = async |store: &Arc<Store>, finest: u64| {
        let context = context(store);
        for (hours, step, expected) in [
            (1, None, 10),
            (5, None, 10),
            (5, Some(BUCKET), 10),
            (24, None, 60),
            (7, None, 60),
            (24, Some(30 * SECOND), 30),
            (24, Some(5 * MINUTE), 300),
            (73, None, 3600),
            (73, Some(90 * MINUTE), 5400),
        ] {
            let mut question = Question::new(View::Red, Window::before(context.now, hours * HOUR));
            question.step = step;
            question.limit = 100_000;
            let got = answer(&context, &question).await.unwrap();
            let (from, to) = (got.end.from, got.end.to);
            let resolution = got.end.resolution_s.unwrap();
            // Of the last day not all of the finest buckets may be left.
            assert!(
                resolution >= expected.max(if hours == 24 { finest } else { 10 }),
                "{question:?}"
            );
            if finest == 10 {
                assert_eq!(resolution, expected, "{question:?}");
            }
            assert!(from <= question.window.from && to >= question.window.to);
            assert_eq!((from.0 % (resolution * SECOND), to.0 % (resolution * SECOND)), (0, 0));
            let found: u64 = got
                .rows
                .iter()
                .map(|row| match row {
                    Row::Red(row) => row.red.requests,
                    other => panic!("{other:?}"),
                })
                .sum();
            let inside = sent.iter().filter(|(bucket, _)| from <= *bucket && *bucket < to);
            assert_eq!(found, inside.map(|(_, n)| n).sum::<u64>(), "{question:?}");
        }
    };
    // While it seals, and when all of it is sealed.
    check(&store, 10).await;
    while store.health().unsealed > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    check(&store, 10).await;
    store.close().await;
    let store = open(dir.path(), &now);
    check(&store, 10).await;
    // Buckets of 10 s are kept for an hour only: whoever asks about more gets coarser ones.
    let short = Retention { red_10s: HOUR, ..Retention::default() };
    let before = store.health().segments;
    store.retain(short);
    while store.health().segments >= before {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    check(&store, 60).await;
    store.close().await;
}

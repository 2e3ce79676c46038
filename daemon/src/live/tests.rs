use coral_model::connections::Tally;
use coral_model::hist::Histogram;
use coral_model::id::TraceId;
use coral_model::view::{EdgeEnds, Evidence, NodeKind, SpanKind};

use super::*;
use crate::store::Node;

fn delta(bucket: u64, operation: &str, ns: u64) -> RedDelta {
    let mut histogram = Histogram::default();
    histogram.record(ns);
    RedDelta {
        bucket: Time(bucket * BUCKET),
        resource: ResourceId(1),
        service: "cart".into(),
        operation: operation.into(),
        kind: SpanKind::Server,
        code: "200".into(),
        protocol: "http".into(),
        errors: 0,
        no_answer: 0,
        histogram,
        slowest: Some((TraceId([1; 16]), ns)),
        error_trace: None,
        sampled: false,
        evidence: Evidence::Otlp,
    }
}

fn batch(red: Vec<RedDelta>) -> Batch {
    let resource =
        Arc::new(Resource { id: ResourceId(1), service: "cart".into(), ..Default::default() });
    Batch { resources: [(ResourceId(1), resource)].into_iter().collect(), red, ..Batch::default() }
}

fn counts(live: &Live) -> Vec<(u64, u64)> {
    let mut rows = Vec::new();
    live.visit(|v| {
        v.red(Time(0), Time::MAX, &mut |r| {
            rows.push((r.bucket.0 / BUCKET, r.histogram.count()));
        });
    });
    rows
}

#[test]
fn the_first_whole_bucket_after_start_is_the_first_that_is_here() {
    let live = Live::new(Time(10 * BUCKET + 1), Limits::default());
    assert_eq!(live.cut(), Time(11 * BUCKET));
    assert_eq!(Live::new(Time(10 * BUCKET), Limits::default()).cut(), Time(10 * BUCKET));
    live.apply(
        [&batch(vec![delta(10, "a", 5), delta(11, "a", 5), delta(11, "a", 9)])],
        Time(11 * BUCKET),
    );
    assert_eq!(counts(&live), [(11, 2)]);
    live.visit(|v| assert!(v.resource(ResourceId(1)).is_some()));
}

#[test]
fn a_connection_that_stays_open_is_no_news() {
    let node = |name: &str| Node { name: name.into(), kind: NodeKind::Service };
    let edge = |connections: Tally| EdgeDelta {
        bucket: Time(11 * BUCKET),
        from: node("cart"),
        to: node("pay"),
        protocol: "http".into(),
        ends: EdgeEnds::One,
        errors: 0,
        no_answer: 0,
        histogram: Histogram::default(),
        callee: Histogram::default(),
        sampled: false,
        evidence: Evidence::Ebpf,
        connections,
    };
    let live = Live::new(Time(10 * BUCKET), Limits::default());
    let apply = |connections, stamp: u64| {
        let batch = Batch { edges: vec![edge(connections)], ..Batch::default() };
        live.apply([&batch], Time(stamp * BUCKET));
        live.heard().0 / BUCKET
    };
    assert_eq!(
        apply(Tally { open_ns: 5, rtt_sum_ns: 6, rtt_count: 1, ..Tally::default() }, 12),
        10
    );
    assert_eq!(apply(Tally { failed: 1, ..Tally::default() }, 13), 13);
    assert_eq!(apply(Tally { open_ns: 5, sent_bytes: 9, ..Tally::default() }, 14), 14);
}

#[test]
fn memory_is_bounded_and_the_cut_moves_past_what_went() {
    let limits = Limits { bytes: 40_000, age: u64::MAX };
    let live = Live::new(Time(0), limits);
    let changed = live.changed();
    for bucket in 0..100 {
        let rows = (0..5).map(|n| delta(bucket, &format!("op{n}"), 5)).collect();
        live.apply([&batch(rows)], Time(bucket * BUCKET));
        assert!(live.bytes() <= limits.bytes);
    }
    assert!(changed.has_changed().unwrap());
    let rows = counts(&live);
    let oldest = rows.iter().map(|r| r.0).min().unwrap();
    assert_eq!(live.cut(), Time(oldest * BUCKET));
    assert_eq!(live.evicted(), oldest);
    assert_eq!(rows.len() as u64, (100 - oldest) * 5, "buckets go whole");
    // What is late for a bucket that went is the store's.
    live.apply([&batch(vec![delta(oldest - 1, "op0", 5)])], Time(100 * BUCKET));
    assert_eq!(counts(&live).len(), rows.len());
}

#[test]
fn old_buckets_go_by_age() {
    let live = Live::new(Time(0), Limits { bytes: 1 << 20, age: 10 * BUCKET });
    for bucket in 0..100 {
        live.apply([&batch(vec![delta(bucket, "a", 5)])], Time(bucket * BUCKET));
    }
    assert_eq!(live.cut(), Time(89 * BUCKET));
}

mod against_the_store {
    use std::sync::atomic::{AtomicU64, Ordering};

    use duckdb::params;
    use proptest::prelude::*;

    use super::*;
    use crate::counters::Counters;
    use crate::store::{Options, Store, StoreError};

    /// Requests by bucket and operation, of buckets in `from..to`.
    type Counted = Vec<(u64, String, u64)>;

    async fn stored(store: &Store, from: u64, to: u64) -> Counted {
        let read = store.read(move |c| -> Result<Counted, StoreError> {
            let mut statement = c.prepare(
                "SELECT (bucket_ns // 10000000000)::UBIGINT, operation, sum(requests)::UBIGINT \
                 FROM red WHERE bucket_ns >= ? AND bucket_ns < ? GROUP BY ALL",
            )?;
            let window = params![from * BUCKET, to * BUCKET];
            let rows = statement.query_map(window, |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        });
        read.await.unwrap()
    }

    /// The store's part before the cut, and live memory's from there on.
    async fn answered(store: &Store, from: u64, to: u64) -> Counted {
        let mut live = Vec::new();
        let cut = store.live().visit(|v| {
            let (from, to) = (Time(from * BUCKET), Time(to * BUCKET));
            v.red(from.max(v.cut()), to, &mut |r| {
                live.push((r.bucket.0 / BUCKET, r.operation.to_string(), r.histogram.count()));
            });
            v.cut().0 / BUCKET
        });
        let mut all = stored(store, from, to.min(cut)).await;
        all.extend(live);
        all
    }

    async fn play(commits: Vec<Vec<(u64, u8)>>, windows: Vec<(u64, u64)>) {
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicU64::new(100 * BUCKET + 1));
        let clock = Arc::clone(&now);
        let mut options = Options::new(Arc::new(Counters::default()));
        options.clock = Arc::new(move || Time(clock.load(Ordering::SeqCst)));
        // So little memory that buckets are pushed out again and again.
        options.live = Limits { bytes: 6_000, age: u64::MAX };
        options.group_wait = std::time::Duration::ZERO;
        let store = Store::open(dir.path(), options).unwrap();
        for commit in commits {
            let rows = commit.into_iter();
            let rows = rows.map(|(ago, op)| delta(105 - ago.min(10), &format!("op{}", op % 3), 7));
            store.commit(batch(rows.collect())).await.unwrap();
            now.fetch_add(BUCKET / 3, Ordering::SeqCst);
        }
        for (a, b) in windows {
            let (from, to) = (90 + a.min(b), 90 + a.max(b));
            let (mut want, mut got) =
                (stored(&store, from, to).await, answered(&store, from, to).await);
            want.sort();
            got.sort();
            assert_eq!(got, want);
        }
        store.close().await;
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
        #[test]
        fn live_and_stored_parts_are_the_whole_answer(
            commits in prop::collection::vec(prop::collection::vec((0u64..12, any::<u8>()), 1..6), 1..12),
            windows in prop::collection::vec((0u64..20, 0u64..20), 1..5),
        ) {
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
                .block_on(play(commits, windows));
        }
    }
}

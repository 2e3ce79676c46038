use coral_model::hist::Histogram;
use coral_model::id::TraceId;
use coral_model::view::SpanKind;

use super::*;

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
        v.red(Time(0), Time::MAX, &mut |r| rows.push((r.bucket.0 / BUCKET, r.histogram.count())))
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

//! A day at 500 spans a second, with every roll-over: hours are sealed, files merged, buckets made
//! coarser, what is old goes. Time is simulated; sizes and memory stay where they are.

#![allow(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::too_many_arguments,
    clippy::indexing_slicing,
    missing_docs,
    reason = "the made-up day is shared with an example that uses more of it"
)]

#[path = "../examples/store/past.rs"]
mod past;
#[path = "../examples/store/shape.rs"]
mod shape;
#[path = "../examples/store/world.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coral_daemon::counters::Counters;
use coral_daemon::store::schema::{HOUR, Signal};
use coral_daemon::store::{Batch, Mark, Options, Store, StoreError};
use coral_model::config::Retention;
use coral_model::id::{AgentId, SegmentId};
use coral_model::time::{SECOND, Time};

use past::{COMMIT, Past, SPANS};
use world::World;

/// 2026-03-02T06:00:00Z
const BEGAN: u64 = 1_772_431_200 * SECOND;
const PER_SECOND: u64 = 500;

fn rss_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    (pages * 4096) >> 20
}

struct Day {
    store: Arc<Store>,
    now: Arc<AtomicU64>,
    seq: Option<u64>,
}

impl Day {
    async fn commit(&mut self, mut batch: Batch, at: Time, world: &World) {
        self.now.store(at.0, Ordering::SeqCst);
        let seq = self.seq.map_or(1, |seq| seq + 1);
        let (agent, segment) = (AgentId([7; 16]), SegmentId([8; 16]));
        batch.marks.push(Mark { agent, segment, after: self.seq, seq });
        for resource in &world.resources {
            batch.resources.insert(resource.id, Arc::clone(resource));
        }
        batch.bytes = 1 << 20;
        self.store.commit(batch).await.expect("a commit");
        self.seq = Some(seq);
    }

    async fn settled(&self) {
        while self.store.health().unsealed > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Requests that buckets of an hour count between two moments.
    async fn requests(&self, from: Time, to: Time) -> u64 {
        let sum = move |conn: &coral_daemon::store::Reading<'_>| {
            let sql = format!(
                "SELECT coalesce(sum(requests), 0)::UBIGINT FROM {} WHERE bucket_ns >= {} AND bucket_ns < {}",
                conn.buckets(Signal::Red, from, to, HOUR),
                from.0,
                to.0
            );
            Ok::<u64, StoreError>(conn.query_row(&sql, [], |row| row.get(0))?)
        };
        self.store.read(sum).await.expect("a sum")
    }
}

async fn live(hours: u64, per_second: u64) {
    let dir = tempfile::tempdir().expect("a folder");
    let now = Arc::new(AtomicU64::new(BEGAN));
    let mut options = Options::new(Arc::new(Counters::default()));
    let clock = Arc::clone(&now);
    options.clock = Arc::new(move || Time(clock.load(Ordering::SeqCst)));
    options.group_wait = Duration::ZERO;
    // A quarter of the day is kept, so that for most of it as much goes as comes.
    let quarter = hours * HOUR / 4;
    options.retention = Retention {
        spans: quarter,
        logs: quarter,
        red_10s: quarter / 2,
        red_1m: quarter,
        disk_max: Some(16 << 30),
        ..Retention::default()
    };
    let world = World::new(100);
    let store = Store::open(dir.path(), options).expect("a store");
    let mut day = Day { store, now, seq: None };
    let traces = per_second * 3600 / SPANS;
    let (mut sizes, mut weights) = (Vec::new(), Vec::new());
    for hour in 0..hours {
        let start = BEGAN + hour * HOUR;
        let mut past = Past::new(&world, Time(start + HOUR));
        for n in 0..=traces {
            let at = start
                + u64::try_from(u128::from(n) * u128::from(HOUR) / u128::from(traces))
                    .expect("a moment");
            let settled = if n == traces { u64::MAX } else { at / COMMIT };
            for (batch, _) in past.take_before(settled) {
                day.commit(batch, Time(at.min(start + HOUR - 1)), &world).await;
            }
            if n < traces {
                past.trace(hour * traces + n, at, &mut |_, _| {});
            }
        }
        // The next hour's first commit ends this hour's pieces; a minute later they may be sealed.
        for minutes in [0, 2] {
            day.commit(Batch::default(), Time(start + HOUR + minutes * 60 * SECOND + 1), &world)
                .await;
        }
        day.settled().await;
        let health = day.store.health();
        sizes.push(health.used_bytes);
        weights.push(rss_mib());
        eprintln!(
            "hour {hour}: {} MiB in {} files, {} MiB of memory",
            health.used_bytes >> 20,
            health.segments,
            rss_mib()
        );
    }
    let half = usize::try_from(hours / 2).expect("hours") - 1;
    let (then, last) = (sizes[half], sizes[sizes.len() - 1]);
    assert!(last <= then + then / 3 + (16 << 20), "the store grew from {then} to {last} bytes");
    // Kept is a quarter of the day, and the hour that is going; the database itself has a least size.
    let kept = traces * SPANS * (hours / 4 + 2);
    assert!(last <= 150 * kept + (32 << 20), "{} bytes a span that is kept", last / kept);
    // What is weighed at one moment may be in the middle of sealing or not: the most of each half counts.
    let most = |weights: &[u64]| weights.iter().copied().max().unwrap_or(0);
    let (then, now) = (most(&weights[..=half]), most(&weights[half + 1..]));
    assert!(now <= then + then / 4 + 64, "memory grew from {then} to {now} MiB");
    let servers = traces * 3 * hours;
    let end = Time(BEGAN + (hours + 2) * HOUR);
    assert_eq!(day.requests(Time(BEGAN - HOUR), end).await, servers, "requests by the hour");
    day.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_hours_of_little_stay_as_large_as_four() {
    live(8, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make soak"]
async fn soak_a_day_at_500_spans_a_second() {
    let hours = std::env::var("CORAL_SOAK_HOURS").map_or(24, |h| h.parse().expect("hours"));
    live(hours, PER_SECOND).await;
}

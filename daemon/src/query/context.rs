//! The colony's side of a question: its store, its live memory, its agents, and the moment.

use std::sync::Arc;

use coral_model::Question;
use coral_model::time::{BUCKET, Time, Window};
use coral_model::view::Row;

use super::answer::{Answer, Inputs, answer as answer_from};
use super::cells::Delta;
use super::dense::Buckets;
use super::edges::EdgeDelta;
use super::source::Recent;
use super::{QueryError, complete as completing, standing, tail as tailing};
use crate::counters::Counters;
use crate::live::Live;
use crate::registry::Agents;
use crate::store::{Store, StoreError};

/// Damaged files one question sets aside at most.
const DAMAGED: usize = 8;

/// Everything a question is answered from. `now` is the moment it is asked; set it per question.
#[derive(Clone)]
pub struct Context {
    /// What is on disk.
    pub store: Arc<Store>,
    /// What is in memory.
    pub live: Arc<Live>,
    /// Who reports.
    pub agents: Arc<Agents>,
    /// What the colony itself turned away.
    pub counters: Arc<Counters>,
    /// Now.
    pub now: Time,
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TimedOut(seconds) => Self::TooSlow(seconds),
            other => Self::Store(other.to_string()),
        }
    }
}

impl Recent for Live {
    fn visit(
        &self,
        windows: &[Window],
        red: &mut dyn FnMut(&Delta<'_>),
        edges: &mut dyn FnMut(&EdgeDelta<'_>),
    ) -> Time {
        Self::visit(self, |view| {
            for window in windows {
                view.red(window.from, window.to, &mut |row| {
                    red(&Delta {
                        bucket: row.bucket,
                        width: BUCKET,
                        resource: row.resource.0,
                        service: &row.service,
                        operation: &row.operation,
                        kind: row.kind.to_otlp(),
                        code: &row.code,
                        requests: row.histogram.count(),
                        errors: row.errors,
                        no_answer: row.no_answer,
                        sum_ns: row.histogram.sum_ns(),
                        durations: Buckets::Pairs(row.histogram.buckets()),
                        slowest: row.slowest,
                        error: row.error_trace,
                        sampled: row.sampled,
                        evidence: row.evidence,
                    });
                });
                view.edges(window.from, window.to, &mut |row| {
                    edges(&EdgeDelta {
                        bucket: row.bucket,
                        from: (&row.from.name, row.from.kind),
                        to: (&row.to.name, row.to.kind),
                        protocol: &row.protocol,
                        ends: row.ends,
                        requests: row.histogram.count(),
                        errors: row.errors,
                        no_answer: row.no_answer,
                        sum_ns: row.histogram.sum_ns(),
                        durations: Buckets::Pairs(row.histogram.buckets()),
                        callee: Buckets::Pairs(row.callee.buckets()),
                        sampled: row.sampled,
                        evidence: row.evidence,
                        connections: row.connections,
                    });
                });
            }
            view.cut()
        })
    }
}

/// Answers a question; one that stands, as of the newest news (see [`standing`]). Dropping the
/// future interrupts it.
pub async fn answer(context: &Context, question: &Question) -> Result<Answer, QueryError> {
    let (mut question, mut now) = (question.clone(), context.now);
    if standing::creeps(&question) {
        now = standing::as_of(context.live.heard(), now);
        if now < question.window.to {
            question = standing::slid(&question, now);
        }
    }
    read(context, move |inputs| answer_from(&Inputs { now, ..*inputs }, &question)).await
}

/// Rows of `logs`, `traces` or `events` that were committed after `after`, oldest first, and the
/// moment to ask from next. Commits are stamped in order, so a row that arrives late is not missed.
pub async fn tail(
    context: &Context,
    question: &Question,
    after: Time,
) -> Result<(Vec<Row>, Time), QueryError> {
    let question = question.clone();
    read(context, move |inputs| tailing::tail(inputs, &question, after)).await
}

/// Names of filter keys that begin with `prefix` (with an empty `key`), or values of `key` that do.
pub async fn complete(
    context: &Context,
    key: &str,
    prefix: &str,
    limit: usize,
) -> Result<Vec<String>, QueryError> {
    let (key, prefix) = (key.to_owned(), prefix.to_owned());
    read(context, move |inputs| completing::complete(inputs, &key, &prefix, limit)).await
}

/// Reads, and once more for every damaged file that had to be set aside for it.
async fn read<T: Send + 'static>(
    context: &Context,
    look: impl Fn(&Inputs<'_>) -> Result<T, QueryError> + Clone + Send + 'static,
) -> Result<T, QueryError> {
    for _ in 0..DAMAGED {
        match read_once(context, look.clone()).await {
            Err(error) if error.is_damage() && context.store.examine(&error.to_string()).await => {}
            answer => return answer,
        }
    }
    read_once(context, look).await
}

async fn read_once<T: Send + 'static>(
    context: &Context,
    look: impl FnOnce(&Inputs<'_>) -> Result<T, QueryError> + Send + 'static,
) -> Result<T, QueryError> {
    let rows = context.agents.rows(context.now);
    let (live, agents, now) = (Arc::clone(&context.live), Arc::clone(&context.agents), context.now);
    context
        .store
        .read(move |conn| {
            let dropped = |from, signal: &str| agents.dropped_since(from, signal);
            look(&Inputs { conn, recent: live.as_ref(), agents: &rows, dropped: &dropped, now })
        })
        .await
}

#[cfg(test)]
mod tests {
    use coral_model::question::View;
    use coral_model::time::{MILLI, SECOND};
    use coral_model::view::{Evidence, NodeKind, SpanKind};
    use coral_model::{AgentId, Dimension, Histogram, ResourceId, TraceId};

    use super::super::source::StoreOnly;
    use super::*;
    use crate::live::Limits;
    use crate::store::{Batch, HalfEdge, HalfSeries, InflightReading, Options, RedDelta, Resource};

    const START: Time = Time(1_790_078_400 * SECOND);

    /// A colony of nothing but a store, at [`START`].
    fn context(store: Arc<Store>) -> Context {
        Context {
            live: Arc::clone(store.live()),
            store,
            agents: Arc::default(),
            counters: Arc::default(),
            now: START,
        }
    }

    /// Numbers that look random and are the same in every run.
    fn noise(n: u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn resource(service: &str, instance: u64) -> Arc<Resource> {
        let attributes: Vec<(Arc<str>, Arc<str>)> = vec![
            ("service.instance.id".into(), instance.to_string().into()),
            ("service.name".into(), service.into()),
        ];
        let id = coral_model::id::resource_id(attributes.iter().map(|(k, v)| (&**k, &**v)));
        Arc::new(Resource {
            id,
            service: service.into(),
            instance: Some(instance.to_string().into()),
            host: Some(format!("web-{}", instance % 2).into()),
            version: Some("v1".into()),
            attributes,
            ..Resource::default()
        })
    }

    /// What is committed together in step `n`: mostly the newest bucket, some of it late.
    fn batch(n: u64, services: &[Arc<Resource>]) -> Batch {
        let mut batch = Batch { bytes: 1000, ..Batch::default() };
        let series = |service: &Arc<Resource>, kind| {
            Arc::new(HalfSeries {
                resource: service.id,
                service: Arc::clone(&service.service),
                kind,
                protocol: "http".into(),
                peer: "".into(),
                peer_kind: NodeKind::External,
                sampled: false,
                evidence: Evidence::Otlp,
            })
        };
        for (k, service) in services.iter().enumerate() {
            let seed = noise(n * 100 + k as u64);
            let late = if seed.is_multiple_of(5) { seed % 40 * BUCKET } else { 0 };
            let end = START.plus(n * 3 * SECOND).minus(late);
            let mut histogram = Histogram::default();
            (0..1 + seed % 30)
                .for_each(|i| histogram.record(MILLI + noise(seed + i) % (50 * MILLI)));
            let trace = TraceId([(seed % 200) as u8 + 1; 16]);
            batch.resources.insert(service.id, Arc::clone(service));
            batch.red.push(RedDelta {
                bucket: end.align(BUCKET),
                resource: service.id,
                service: Arc::clone(&service.service),
                operation: if seed.is_multiple_of(3) { "GET /".into() } else { "POST /".into() },
                kind: SpanKind::Server,
                code: if seed.is_multiple_of(7) { "500".into() } else { "200".into() },
                protocol: "http".into(),
                errors: if seed.is_multiple_of(7) { histogram.count() } else { 0 },
                no_answer: 0,
                slowest: Some((trace, seed % 1000)),
                error_trace: seed.is_multiple_of(7).then_some(trace),
                histogram,
                sampled: false,
                evidence: Evidence::Otlp,
            });
            // The caller's half, and the callee's; every fourth has no partner.
            let Some(callee) = services.get(k + 1) else { continue };
            let half = |series, ns| HalfEdge {
                key: seed | 1,
                series,
                end,
                duration_ns: ns,
                error: seed.is_multiple_of(9),
                no_answer: false,
            };
            batch.half_edges.push(half(series(service, SpanKind::Client), 9 * MILLI));
            if !seed.is_multiple_of(4) {
                batch.half_edges.push(half(series(callee, SpanKind::Server), 8 * MILLI));
            }
        }
        batch.inflight.push(InflightReading {
            at: START.plus(n * 3 * SECOND),
            agent: AgentId([1; 16]),
            resource: services.first().map_or(ResourceId(0), |s| s.id),
            service: "s0".into(),
            operation: "".into(),
            count: 1 + n % 7,
            oldest_start: Some(START),
            oldest_trace: None,
            exact: false,
        });
        batch
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn live_and_store_answer_as_the_store_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(Arc::default());
        options.clock = Arc::new(|| START.plus(7 * SECOND));
        // So little that buckets are pushed out while the test runs: the cut moves.
        options.live = Limits { bytes: 60_000, age: 3600 * SECOND };
        let store = Store::open(dir.path(), options).unwrap();
        let services: Vec<_> =
            (0..4).flat_map(|s| (0..2).map(move |i| resource(&format!("s{s}"), i))).collect();
        let mut context = context(store);
        let first_cut = context.live.cut();
        for n in 0..120u64 {
            context.store.commit(batch(n, &services)).await.unwrap();
            context.now = START.plus(n * 3 * SECOND + 1);
            if n % 10 != 9 {
                continue;
            }
            let mut questions: Vec<Question> =
                [View::Red, View::Services, View::Topology, View::Digest, View::Inflight]
                    .into_iter()
                    .map(|view| Question::new(view, Window::before(context.now, 200 * SECOND)))
                    .collect();
            let mut by = questions[0].clone();
            by.by = vec![Dimension::Host, Dimension::Status];
            by.step = Some(3 * BUCKET);
            by.compare = Some(by.window.previous());
            by.filter = "service=s1,s2 not:status=500".into();
            questions.push(by);
            for question in questions {
                let both = answer(&context, &question).await.unwrap();
                let (asked, now) = (question.clone(), context.now);
                let alone = context
                    .store
                    .read(move |conn| {
                        let inputs = Inputs {
                            conn,
                            recent: &StoreOnly,
                            agents: &[],
                            dropped: &|_, _| 0,
                            now,
                        };
                        answer_from(&inputs, &asked)
                    })
                    .await
                    .unwrap();
                assert_eq!(both.rows, alone.rows, "{question:?}");
                let mut end = both.end.clone();
                end.stored_to = alone.end.stored_to;
                assert_eq!(end, alone.end);
                assert!(!both.rows.is_empty());
            }
        }
        assert!(context.live.cut() > first_cut, "the test never moved the cut");
        assert!(context.live.cut() < context.now, "the test never asked live memory");
    }

    /// What a long answer says of each operation; of two failed requests in one bucket either may be
    /// the last.
    async fn of_store(context: &Context, question: &Question) -> Vec<String> {
        let (asked, now) = (question.clone(), context.now);
        let answer = context.store.read(move |conn| {
            let (agents, dropped) = (&[], &|_: Time, _: &str| 0);
            answer_from(&Inputs { conn, recent: &StoreOnly, agents, dropped, now }, &asked)
        });
        let rows = answer.await.unwrap().rows;
        let told = |row: &Row| {
            let Row::Red(row) = row else { panic!("{row:?}") };
            let (name, red) = ((&row.service, &row.operation, &row.by, row.start), &row.red);
            let times = (red.p50_ns, red.p99_ns, red.mean_ns, row.slowest_ns, row.slowest_trace);
            format!("{name:?} {} {} {} {times:?}", red.requests, red.errors, red.no_answer)
        };
        rows.iter().map(told).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sealed_and_merged_requests_answer_as_they_did_before() {
        use std::sync::atomic::{AtomicU64, Ordering};

        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(START.0));
        let mut options = Options::new(Arc::default());
        let its = Arc::clone(&clock);
        options.clock = Arc::new(move || Time(its.load(Ordering::Relaxed)));
        options.seal_grace = 0;
        let store = Store::open(dir.path(), options).unwrap();
        let services: Vec<_> =
            (0..3).flat_map(|s| (0..2).map(move |i| resource(&format!("s{s}"), i))).collect();
        let context = Context { now: START.plus(4 * 3600 * SECOND), ..context(store) };
        // Nearly four hours, all received in the first.
        let requests = |n: u64| Batch { half_edges: Vec::new(), ..batch(n, &services) };
        for n in 0..240 {
            context.store.commit(requests(n * 19)).await.unwrap();
        }
        let mut questions = Vec::new();
        for (from, to) in [(0, 240), (7, 201), (60, 180), (95, 143)] {
            let at = |minute: u64| START.plus(minute * 60 * SECOND);
            let mut question = Question::new(View::Red, Window::new(at(from), at(to)));
            questions.push(question.clone());
            question.filter = "service=s1 status=500".into();
            question.by = vec![Dimension::Host, Dimension::Status];
            questions.push(question.clone());
            question.step = Some(3600 * SECOND);
            questions.push(question);
        }
        let mut before = Vec::new();
        for question in &questions {
            before.push(of_store(&context, question).await);
            assert!(!before[before.len() - 1].is_empty(), "{question:?}");
        }
        // Sealed an hour later, merged the day after.
        for hours in [1, 30] {
            clock.store(START.plus((hours * 3600 + 120) * SECOND).0, Ordering::Relaxed);
            context.store.commit(Batch { bytes: 1, ..Batch::default() }).await.unwrap();
            let sealed = async {
                while context.store.health().unsealed > 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(120), sealed).await.unwrap();
            let begins = |conn: &crate::store::Reading<'_>| {
                Ok::<_, QueryError>(conn.series(START, Time::MAX, 60 * SECOND))
            };
            assert!(context.store.read(begins).await.unwrap().is_some(), "it is not by series");
            for (question, before) in questions.iter().zip(&before) {
                assert_eq!(of_store(&context, question).await, *before, "{question:?}");
            }
            // Another hour, which the day will merge with the first.
            for n in 0..20 {
                context.store.commit(requests(5000 + n)).await.unwrap();
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn while_nothing_is_told_a_standing_answer_stands() {
        use std::sync::atomic::{AtomicU64, Ordering};

        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(START.0));
        let mut options = Options::new(Arc::default());
        let its = Arc::clone(&clock);
        options.clock = Arc::new(move || Time(its.load(Ordering::Relaxed)));
        let store = Store::open(dir.path(), options).unwrap();
        let services: Vec<_> = (0..2).map(|i| resource("s0", i)).collect();
        let mut context = context(store);
        let mut first = batch(0, &services);
        // A failed call that nobody answers becomes an edge after 10 s, which would be news.
        first.half_edges.iter_mut().for_each(|half| half.error = false);
        context.store.commit(first).await.unwrap();
        let mut told = Vec::new();
        for second in 0..16 {
            context.now = START.plus(second * SECOND);
            clock.store(context.now.0, Ordering::Relaxed);
            // The host goes on reporting; that says nothing of requests.
            context.store.commit(Batch { bytes: 1, ..Batch::default() }).await.unwrap();
            let mut answers = Vec::new();
            for view in [View::Red, View::Services, View::Topology, View::Digest] {
                let mut question = Question::new(view, Window::before(context.now, 900 * SECOND));
                question.mode = coral_model::Mode::Watch;
                let given = answer(&context, &question).await.unwrap();
                answers.push((given.rows, given.end));
            }
            told.push(answers);
        }
        for (second, answers) in told.iter().enumerate().take(15) {
            assert_eq!(*answers, told[0], "after {second} s");
        }
        assert_ne!(told[15], told[0], "long silence is told");
        // What is asked once is asked as of now.
        let once = Question::new(View::Red, Window::before(context.now, 900 * SECOND));
        assert_eq!(answer(&context, &once).await.unwrap().end.to, context.now.plus(5 * SECOND));
    }
}

//! What the API is served from: store, live memory, agents, and the events people report.

use std::sync::{Arc, Mutex, PoisonError};

use coral_model::time::{SECOND, Time};
use coral_model::view::{EventRow, Row, SEEN_BY};
use coral_model::{Question, num};
use duckdb::params;
use tokio::sync::watch;

use crate::api::{Backend, Footing, Work};
use crate::detect::{Detector, Seed, SeenBucket, SeenInstance};
use crate::doctor::{Facts, blind};
use crate::query::{self, Answer, Context, QueryError};
use crate::registry::KnownAgent;
use crate::store::schema::Signal;
use crate::store::{Batch, Reading, Store, StoreError};
use crate::supervise::Watch;

/// Services count as there when they were heard of this recently.
const LATELY: u64 = 15 * 60 * SECOND;
/// How far back a restarted daemon reads what detectors must know.
const SEED_REQUESTS: u64 = 11 * 60 * SECOND;
/// Most instances read then.
const SEED_INSTANCES: u32 = 20_000;

/// See the module.
pub(super) struct House {
    context: Context,
    detector: Arc<Mutex<Detector>>,
    local: Watch,
    of_file: bool,
}

impl House {
    pub(super) fn new(
        context: Context,
        detector: Arc<Mutex<Detector>>,
        local: Watch,
        of_file: bool,
    ) -> Self {
        Self { context, detector, local, of_file }
    }

    fn context(&self) -> Context {
        Context { now: self.now(), ..self.context.clone() }
    }
}

impl Backend for House {
    fn answer<'a>(&'a self, question: &'a Question) -> Work<'a, Result<Answer, QueryError>> {
        let context = self.context();
        Box::pin(async move { query::answer(&context, question).await })
    }

    fn tail<'a>(
        &'a self,
        question: &'a Question,
        after: Time,
    ) -> Work<'a, Result<(Vec<Row>, Time), QueryError>> {
        let context = self.context();
        Box::pin(async move { query::tail(&context, question, after).await })
    }

    fn complete<'a>(
        &'a self,
        key: &'a str,
        prefix: &'a str,
        limit: usize,
    ) -> Work<'a, Result<Vec<String>, QueryError>> {
        let context = self.context();
        Box::pin(async move { query::complete(&context, key, prefix, limit).await })
    }

    fn parquet<'a>(
        &'a self,
        question: &'a Question,
    ) -> Work<'a, Result<std::fs::File, QueryError>> {
        Box::pin(crate::query::parquet(&self.context, question))
    }

    fn record(&self, event: EventRow) -> Work<'_, Result<(), QueryError>> {
        Box::pin(async move {
            self.context.store.commit(Batch::of_events(vec![event])).await?;
            Ok(())
        })
    }

    fn footing(&self) -> Work<'_, Footing> {
        Box::pin(async move {
            let now = self.now();
            let agents = self.context.agents.rows(now);
            let health = self.context.store.health();
            let (services, forgotten, unmined) = {
                let detector = self.detector.lock().unwrap_or_else(PoisonError::into_inner);
                let services = num::u32_sat(detector.services_since(now.minus(LATELY)));
                (services, detector.forgotten(), detector.unmined())
            };
            let local = self.local.state();
            let facts = Facts {
                agents: &agents,
                local: &local,
                services: Some(services),
                disk_full: health.disk_full,
                now,
            };
            let blind = if self.of_file {
                vec!["this is a file: nothing new arrives".to_owned()]
            } else {
                blind(&facts)
            };
            let mut counters = self.context.counters.snapshot();
            counters.insert("store_file_bytes".into(), health.file_bytes);
            counters.insert("detector_forgotten".into(), forgotten);
            counters.insert("log_records_unmined".into(), unmined);
            counters.insert("live_buckets_evicted".into(), self.context.live.evicted());
            counters.insert("store_pending_bytes".into(), num::u64_sat(health.pending_bytes));
            Footing {
                data_bytes: health.used_bytes,
                data_capacity_bytes: health.capacity_bytes,
                services: Some(services),
                agents,
                counters,
                blind,
            }
        })
    }

    fn store(&self) -> Option<Arc<Store>> {
        Some(Arc::clone(&self.context.store))
    }

    fn is_for_a_file(&self) -> bool {
        self.of_file
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.context.live.changed()
    }

    fn now(&self) -> Time {
        self.context.store.now()
    }
}

/// A detector that knows what the store and the registry remember.
pub(super) async fn detector(store: &Store, agents: &[KnownAgent]) -> Result<Detector, StoreError> {
    let now = store.now();
    let (instances, buckets) = store
        .read(move |conn| Ok::<_, StoreError>((instances(conn, now)?, buckets(conn, now)?)))
        .await?;
    let agents = agents.iter().map(|a| (a.id.to_string(), a.last_seen)).collect();
    Ok(Detector::with(Seed { instances, buckets, agents }, now))
}

/// Every instance, with its newest data where they are recent, else the moment it was first seen.
fn instances(conn: &Reading<'_>, now: Time) -> Result<Vec<SeenInstance>, duckdb::Error> {
    let lately = now.minus(LATELY);
    let [red, logs, metrics] =
        [Signal::Red, Signal::Logs, Signal::Metrics].map(|signal| conn.since(signal, lately));
    let resources = conn.resources();
    let mut statement = conn.prepare(&format!(
        "WITH heard AS (
            SELECT resource, max(received_ns) AS at FROM {red} WHERE received_ns >= $1 GROUP BY 1
            UNION ALL
            SELECT resource, max(received_ns) FROM {logs} WHERE received_ns >= $1 GROUP BY 1
            UNION ALL
            SELECT resource, max(received_ns) FROM {metrics} WHERE received_ns >= $1 GROUP BY 1)
         SELECT r.service, r.instance, r.version, r.host,
            any_value(list_extract(map_extract(r.attributes, 'process.pid'), 1)),
            coalesce(max(heard.at), max(r.first_ns)) AS last
         FROM {resources} r LEFT JOIN heard ON heard.resource = r.id
         WHERE len(map_extract(r.attributes, '{SEEN_BY}')) = 0
         GROUP BY r.service, r.instance, r.version, r.host, r.id
         ORDER BY last DESC LIMIT {SEED_INSTANCES}"
    ))?;
    let text = |s: Option<String>| s.map(Arc::from);
    let rows = statement.query_map(params![lately.as_i64()], |row| {
        let service: Option<String> = row.get(0)?;
        let pid: Option<String> = row.get(4)?;
        let last: Option<i64> = row.get(5)?;
        Ok(SeenInstance {
            service: Arc::from(service.unwrap_or_default()),
            instance: text(row.get(1)?),
            version: text(row.get(2)?),
            host: text(row.get(3)?),
            pid: text(pid),
            last_seen: Time::from_i64(last.unwrap_or_default()),
        })
    })?;
    rows.collect()
}

fn buckets(conn: &Reading<'_>, now: Time) -> Result<Vec<SeenBucket>, duckdb::Error> {
    let since = now.minus(SEED_REQUESTS);
    let mut statement = conn.prepare(&format!(
        "WITH seen AS (SELECT *, max(evidence = 'otlp') OVER (PARTITION BY service) AS told
            FROM {} WHERE bucket_ns >= ?)
         SELECT service, bucket_ns, sum(requests)::UBIGINT, sum(errors)::UBIGINT, told
         FROM seen WHERE evidence = 'otlp' OR NOT told GROUP BY 1, 2, 5 ORDER BY 2",
        conn.relation(Signal::Red, since, Time::MAX)
    ))?;
    let rows = statement.query_map(params![since.as_i64()], |row| {
        let service: Option<String> = row.get(0)?;
        Ok(SeenBucket {
            service: Arc::from(service.unwrap_or_default()),
            bucket: Time::from_i64(row.get(1)?),
            requests: row.get::<_, Option<u64>>(2)?.unwrap_or_default(),
            errors: row.get::<_, Option<u64>>(3)?.unwrap_or_default(),
            told: row.get::<_, Option<bool>>(4)?.unwrap_or_default(),
        })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Counters;
    use crate::store::{Options, RedDelta, Resource};
    use coral_model::hist::Histogram;
    use coral_model::id::resource_id;
    use coral_model::view::{Evidence, SpanKind};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_store_remembers_is_not_announced_again() {
        let dir = tempfile::tempdir().unwrap();
        let batch = |now: Time| {
            let id = resource_id([("process.pid", "7"), ("service.name", "pay")]);
            let resource = Arc::new(Resource {
                id,
                service: "pay".into(),
                version: Some("v1".into()),
                host: Some("h".into()),
                attributes: vec![
                    ("process.pid".into(), "7".into()),
                    ("service.name".into(), "pay".into()),
                ],
                ..Resource::default()
            });
            let mut batch = Batch::default();
            let mut histogram = Histogram::default();
            histogram.record(5);
            batch.red.push(RedDelta {
                bucket: now.align(coral_model::time::BUCKET),
                resource: id,
                service: "pay".into(),
                operation: "GET /".into(),
                kind: SpanKind::Server,
                code: "".into(),
                protocol: "".into(),
                errors: 0,
                no_answer: 0,
                histogram,
                slowest: None,
                error_trace: None,
                sampled: false,
                evidence: Evidence::Otlp,
            });
            batch.resources.insert(id, resource);
            batch
        };
        let counters = Arc::new(Counters::default());
        let store = Store::open(dir.path(), Options::new(counters)).unwrap();
        let mut fresh = detector(&store, &[]).await.unwrap();
        let now = store.now();
        assert_eq!(fresh.observe(&batch(now), now).len(), 1, "a new service is announced");
        store.commit(batch(now)).await.unwrap();
        let mut again = detector(&store, &[]).await.unwrap();
        assert_eq!(again.observe(&batch(now), now), []);
        let mut later = Vec::new();
        for second in 1..60u32 {
            let now = now.plus(u64::from(second) * SECOND);
            later.extend(again.observe(&batch(now), now));
            let since = std::time::Duration::from_secs(second.into());
            later.extend(again.tick(now, since, &[], &Default::default()));
        }
        assert_eq!(later, []);
        store.close().await;
    }
}

//! shipping: a worker. Takes orders from the queue, a few at a time, and packs them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use opentelemetry::trace::SpanKind;
use opentelemetry::{KeyValue, global};
use redis::Value;

use super::cache::{self, Cache};
use super::checkout::{Message, QUEUE, now_ms};
use super::health;
use crate::failure::Failure;
use crate::service::App;
use crate::serving::{self, Serving};
use crate::telemetry::{self, SCOPE};

const WORKERS: usize = 3;
const RETRY_AFTER: Duration = Duration::from_millis(500);

pub fn router(app: &Arc<App>) -> Router {
    let cache = Arc::new(Cache::default());
    let length = Arc::new(AtomicI64::new(0));
    watch_queue(app, &cache, &length);
    for _ in 0..WORKERS {
        tokio::spawn(work(Arc::clone(app), Arc::clone(&cache)));
    }
    health()
}

/// The queue's length as a gauge, asked for once a second.
fn watch_queue(app: &Arc<App>, cache: &Arc<Cache>, length: &Arc<AtomicI64>) {
    let shown = Arc::clone(length);
    let _ = global::meter(SCOPE)
        .i64_observable_gauge("shop.orders.queued")
        .with_unit("{order}")
        .with_callback(move |gauge| {
            gauge.observe(
                shown.load(Ordering::Relaxed),
                &[KeyValue::new("messaging.destination.name", QUEUE)],
            );
        })
        .build();
    let (app, cache, length) = (Arc::clone(app), Arc::clone(cache), Arc::clone(length));
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        while !app.stop.is_cancelled() {
            tick.tick().await;
            if let Ok(Value::Int(n)) =
                cache.ask(&app, &redis::cmd("LLEN").arg(QUEUE).to_owned()).await
            {
                length.store(n, Ordering::Relaxed);
            }
        }
    });
}

/// One worker: its own connection, because it waits in BRPOP.
async fn work(app: Arc<App>, cache: Arc<Cache>) {
    while !app.stop.is_cancelled() {
        let host = app.peer_host("redis");
        let mut connection = match cache::connect(&app).await {
            Ok(connection) => connection,
            Err(failure) => {
                telemetry::error(
                    format!("cannot read the order queue: {failure}"),
                    [("error.type", failure.kind.into())],
                );
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            }
        };
        // Another name for Redis means another connection.
        while app.peer_host("redis") == host && !app.stop.is_cancelled() {
            let mut pop = redis::cmd("BRPOP");
            pop.arg(QUEUE).arg(1);
            let popped: redis::RedisResult<Option<(String, String)>> =
                pop.query_async(&mut connection).await;
            match popped {
                Ok(Some((_, text))) => match serde_json::from_str::<Message>(&text) {
                    Ok(message) => process(&app, &cache, &message).await,
                    Err(error) => telemetry::error(format!("unreadable order: {error}"), []),
                },
                Ok(None) => {}
                Err(error) => {
                    telemetry::error(format!("order queue read failed: {error}"), []);
                    tokio::time::sleep(RETRY_AFTER).await;
                    break;
                }
            }
        }
    }
}

/// Packs one order under a CONSUMER span, child of the span that sent it.
async fn process(app: &Arc<App>, cache: &Cache, message: &Message) {
    let carrier: HashMap<String, String> =
        message.context.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let parent = serving::parent_of(&carrier);
    let waited = now_ms().saturating_sub(message.queued_ms);
    let dimensions = vec![
        KeyValue::new("messaging.system", "redis"),
        KeyValue::new("messaging.destination.name", QUEUE),
        KeyValue::new("messaging.operation.type", "process"),
        KeyValue::new("messaging.operation.name", "process"),
    ];
    let attributes = vec![
        KeyValue::new("messaging.message.id", message.order.clone()),
        KeyValue::new("shop.queue.wait_ms", i64::try_from(waited).unwrap_or(i64::MAX)),
        KeyValue::new("server.address", app.peer_host("redis")),
        KeyValue::new(
            "server.port",
            i64::from(app.config.peers.get("redis").copied().unwrap_or_default()),
        ),
    ];
    app.meters.consumed.add(1, &dimensions);
    let serving = Serving::begin(
        format!("process {QUEUE}"),
        SpanKind::Consumer,
        &parent,
        dimensions,
        attributes,
        app.meters.process.clone(),
        None,
    );
    let outcome = serving.run(pack(app, cache, message)).await;
    serving.finish(Vec::new(), outcome.as_ref().err());
}

async fn pack(app: &Arc<App>, cache: &Cache, message: &Message) -> Result<(), Failure> {
    let packed = async {
        app.effects.before().await;
        app.work(4, 15).await;
        let set = redis::cmd("SET")
            .arg(format!("shipment:{}", message.order))
            .arg("packed")
            .arg("EX")
            .arg(60)
            .to_owned();
        cache.command(app, "SET", "SET ? ? EX ?", &set).await?;
        app.effects.after().await
    };
    match packed.await {
        Ok(()) => {
            telemetry::info("parcel packed", [("order.id", message.order.clone().into())]);
            Ok(())
        }
        Err(failure) => {
            telemetry::error(
                format!("order could not be shipped: {failure}"),
                [("error.type", failure.kind.into()), ("order.id", message.order.clone().into())],
            );
            Err(failure)
        }
    }
}

//! checkout: gRPC. Charges through payments, then queues the order for shipping.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use bytes::Bytes;
use opentelemetry::trace::SpanKind;
use opentelemetry::{KeyValue, global};
use serde::{Deserialize, Serialize};
use tonic::service::Routes;

use super::cache::Cache;
use super::health;
use super::rpc::checkout_server::{Checkout, CheckoutServer};
use super::rpc::{PlaceOrderReply, PlaceOrderRequest};
use crate::calling::{self, Call};
use crate::failure::Failure;
use crate::service::App;
use crate::serving;
use crate::telemetry::{self, SCOPE};

/// The queue's name in Redis.
pub const QUEUE: &str = "orders";
/// A queue that nobody empties must not eat the machine.
const QUEUE_CAP: i64 = 20_000;

/// One order on the queue; `context` carries the W3C fields.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    pub order: String,
    pub user: String,
    pub queued_ms: u64,
    pub context: BTreeMap<String, String>,
}

/// What payments is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Charge {
    pub order: String,
    pub user: String,
    pub amount_cents: i64,
}

struct Service {
    app: Arc<App>,
    cache: Cache,
    placed: opentelemetry::metrics::Counter<u64>,
    revenue: opentelemetry::metrics::Counter<u64>,
}

pub fn router(app: &Arc<App>) -> Router {
    let meter = global::meter(SCOPE);
    let service = Service {
        app: Arc::clone(app),
        cache: Cache::default(),
        placed: meter.u64_counter("shop.orders.placed").with_unit("{order}").build(),
        revenue: meter.u64_counter("shop.revenue").with_unit("{cent}").build(),
    };
    Routes::new(CheckoutServer::new(Handler(Arc::new(service)))).into_axum_router().merge(health())
}

struct Handler(Arc<Service>);

#[tonic::async_trait]
impl Checkout for Handler {
    async fn place_order(
        &self,
        request: tonic::Request<PlaceOrderRequest>,
    ) -> Result<tonic::Response<PlaceOrderReply>, tonic::Status> {
        let service = &self.0;
        serving::grpc(&service.app, "shop.v1.Checkout", "PlaceOrder", request, |order| {
            Box::pin(service.place(order))
        })
        .await
    }
}

impl Service {
    async fn place(&self, order: PlaceOrderRequest) -> Result<PlaceOrderReply, Failure> {
        self.app.effects.before().await;
        let charge = Charge {
            order: order.order_id.clone(),
            user: order.user_id.clone(),
            amount_cents: order.total_cents,
        };
        let body = serde_json::to_vec(&charge)
            .map_err(|error| Failure::internal("serialize", error.to_string()))?;
        calling::http(&self.app, "payments", Method::POST, "/charge", "/charge", Bytes::from(body))
            .await
            .inspect_err(|failure| {
                telemetry::error(
                    format!("charge failed: {failure}"),
                    [
                        ("error.type", failure.kind.into()),
                        ("order.id", order.order_id.clone().into()),
                    ],
                );
            })?;
        self.queue(&order).await?;
        self.app.effects.after().await.inspect_err(|failure| {
            telemetry::error(failure.message.clone(), [("error.type", failure.kind.into())]);
        })?;
        self.placed.add(1, &[]);
        self.revenue.add(u64::try_from(order.total_cents).unwrap_or(0), &[]);
        telemetry::info("order placed", [("order.id", order.order_id.clone().into())]);
        Ok(PlaceOrderReply { order_id: order.order_id, status: "placed".to_owned() })
    }

    /// Sends the order to shipping under a PRODUCER span, whose context travels in the message.
    async fn queue(&self, order: &PlaceOrderRequest) -> Result<(), Failure> {
        let redis = self.app.config.peers.get("redis").copied().unwrap_or_default();
        let call = Call::begin(
            format!("send {QUEUE}"),
            SpanKind::Producer,
            vec![
                KeyValue::new("messaging.system", "redis"),
                KeyValue::new("messaging.destination.name", QUEUE),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.operation.name", "lpush"),
                KeyValue::new("server.address", self.app.peer_host("redis")),
                KeyValue::new("server.port", i64::from(redis)),
            ],
            vec![KeyValue::new("messaging.message.id", order.order_id.clone())],
            None,
        );
        let mut context = std::collections::HashMap::new();
        calling::inject(&call.cx, &mut context);
        let message = Message {
            order: order.order_id.clone(),
            user: order.user_id.clone(),
            queued_ms: now_ms(),
            context: context.into_iter().collect(),
        };
        let sent = async {
            let text = serde_json::to_string(&message)
                .map_err(|error| Failure::internal("serialize", error.to_string()))?;
            let push = redis::cmd("LPUSH").arg(QUEUE).arg(text).to_owned();
            let length = self.cache.command(&self.app, "LPUSH", "LPUSH orders ?", &push).await?;
            if matches!(length, redis::Value::Int(length) if length > QUEUE_CAP) {
                telemetry::warn("order queue is full, oldest orders are dropped", []);
                let trim = redis::cmd("LTRIM").arg(QUEUE).arg(0).arg(QUEUE_CAP).to_owned();
                self.cache.command(&self.app, "LTRIM", "LTRIM orders ? ?", &trim).await?;
            }
            Ok(())
        };
        let outcome: Result<(), Failure> = call.run(sent).await;
        match outcome {
            Ok(()) => {
                self.app.meters.sent.add(
                    1,
                    &[
                        KeyValue::new("messaging.system", "redis"),
                        KeyValue::new("messaging.destination.name", QUEUE),
                    ],
                );
                call.finish(Vec::new(), None);
                Ok(())
            }
            Err(failure) => {
                telemetry::error(
                    format!("order could not be queued: {failure}"),
                    [
                        ("error.type", failure.kind.into()),
                        ("order.id", order.order_id.clone().into()),
                    ],
                );
                call.finish(Vec::new(), Some((failure.kind.to_owned(), failure.message.clone())));
                Err(failure)
            }
        }
    }
}

/// Wall clock, as messages carry it.
pub fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

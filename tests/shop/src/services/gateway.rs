//! gateway: the shop's door. HTTP in, HTTP to catalog, gRPC to checkout.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::http::Method;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tonic::transport::{Channel, Endpoint};

use super::catalog::Product;
use super::rpc::checkout_client::CheckoutClient;
use super::rpc::{Item, PlaceOrderReply, PlaceOrderRequest};
use super::{health, traced};
use crate::calling;
use crate::failure::Failure;
use crate::service::App;
use crate::telemetry;

struct Gateway {
    app: Arc<App>,
    checkout: Mutex<Option<(SocketAddr, CheckoutClient<Channel>)>>,
}

/// What a customer sends to buy.
#[derive(Debug, Serialize, Deserialize)]
pub struct Basket {
    pub user: String,
    pub product: String,
    pub quantity: u32,
}

/// What a customer gets back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Receipt {
    pub order: String,
    pub status: String,
    pub total_cents: i64,
}

pub fn router(app: &Arc<App>) -> Router {
    let gateway = Arc::new(Gateway { app: Arc::clone(app), checkout: Mutex::new(None) });
    let list = get(products).with_state(Arc::clone(&gateway));
    let one = get(product).with_state(Arc::clone(&gateway));
    let buy = post(checkout).with_state(gateway);
    Router::new()
        .route("/products", traced(app, "/products", list))
        .route("/products/{id}", traced(app, "/products/{id}", one))
        .route("/checkout", traced(app, "/checkout", buy))
        .merge(health())
}

async fn products(State(gateway): State<Arc<Gateway>>) -> Result<Json<Vec<Product>>, Failure> {
    gateway.app.effects.before().await;
    let body = gateway.catalog("/products", "/products").await?;
    gateway.finish().await?;
    Ok(Json(read(&body)?))
}

async fn product(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Json<Product>, Failure> {
    gateway.app.effects.before().await;
    let product = gateway.product(&id).await?;
    gateway.finish().await?;
    Ok(Json(product))
}

async fn checkout(
    State(gateway): State<Arc<Gateway>>,
    Json(basket): Json<Basket>,
) -> Result<Json<Receipt>, Failure> {
    gateway.app.effects.before().await;
    if basket.quantity == 0 {
        return Err(Failure::bad_request("an empty basket cannot be bought"));
    }
    let product = gateway.product(&basket.product).await?;
    let total_cents = product.price_cents.saturating_mul(i64::from(basket.quantity));
    let order = format!("ord-{:012x}", gateway.app.dice.roll() >> 16);
    let request = PlaceOrderRequest {
        order_id: order.clone(),
        user_id: basket.user.clone(),
        items: vec![Item { product_id: product.id, quantity: basket.quantity }],
        total_cents,
    };
    let placed = gateway.place(request).await.inspect_err(|failure| {
        telemetry::error(
            format!("checkout failed: {failure}"),
            [("error.type", failure.kind.into()), ("user.id", basket.user.clone().into())],
        );
    })?;
    gateway.finish().await?;
    telemetry::info(
        "checkout accepted",
        [("order.id", order.clone().into()), ("order.total_cents", total_cents.into())],
    );
    Ok(Json(Receipt { order, status: placed.status, total_cents }))
}

impl Gateway {
    async fn catalog(&self, route: &'static str, path: &str) -> Result<Bytes, Failure> {
        calling::http(&self.app, "catalog", Method::GET, route, path, Bytes::new())
            .await
            .inspect_err(|failure| {
                if failure.status.is_server_error() {
                    telemetry::warn(
                        format!("catalog call failed: {failure}"),
                        [("error.type", failure.kind.into())],
                    );
                }
            })
    }

    async fn product(&self, id: &str) -> Result<Product, Failure> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if id.is_empty() || id.len() > 64 || !id.chars().all(plain) {
            return Err(Failure::bad_request("a product id has letters, digits and dashes"));
        }
        let body = self.catalog("/products/{id}", &format!("/products/{id}")).await?;
        read(&body)
    }

    async fn place(&self, request: PlaceOrderRequest) -> Result<PlaceOrderReply, Failure> {
        let invoke = |place: calling::Place, request| async move {
            let mut client = self.client(place.address)?;
            client.place_order(request).await
        };
        calling::grpc(&self.app, "checkout", "shop.v1.Checkout", "PlaceOrder", request, invoke)
            .await
    }

    /// The channel to that address; it reconnects by itself.
    fn client(&self, address: SocketAddr) -> Result<CheckoutClient<Channel>, tonic::Status> {
        let mut held = self.checkout.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((to, client)) = held.as_ref()
            && *to == address
        {
            return Ok(client.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| tonic::Status::internal(error.to_string()))?
            .connect_timeout(std::time::Duration::from_secs(2));
        let client = CheckoutClient::new(endpoint.connect_lazy());
        *held = Some((address, client.clone()));
        Ok(client)
    }

    async fn finish(&self) -> Result<(), Failure> {
        self.app.effects.after().await.inspect_err(|failure| {
            telemetry::error(failure.message.clone(), [("error.type", failure.kind.into())]);
        })
    }
}

fn read<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::upstream("unreadable", format!("catalog: {error}")))
}

//! The fault switches from outside: a little HTTP on loopback, and the client that `coral-shop fault` is.

use std::path::Path;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::state;
use crate::http_client::HttpClient;

/// What can be asked of a running shop.
#[derive(Debug)]
pub enum Request {
    State,
    Heal,
    Fault { service: String, fault: String, value: Option<String> },
}

/// A request with the way back.
pub struct Order {
    pub request: Request,
    pub answer: oneshot::Sender<Result<String, String>>,
}

#[derive(Serialize, Deserialize)]
struct FaultBody {
    service: String,
    fault: String,
    value: Option<String>,
}

type Orders = mpsc::Sender<Order>;

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, orders: Orders) {
    let router = Router::new()
        .route(
            "/state",
            get(|Shared(o): Shared<Orders>| async move { ask(&o, Request::State).await }),
        )
        .route(
            "/heal",
            post(|Shared(o): Shared<Orders>| async move { ask(&o, Request::Heal).await }),
        )
        .route("/fault", post(fault))
        .with_state(orders);
    let _ = axum::serve(listener, router).await;
}

async fn fault(
    Shared(orders): Shared<Orders>,
    Json(body): Json<FaultBody>,
) -> (StatusCode, String) {
    let FaultBody { service, fault, value } = body;
    ask(&orders, Request::Fault { service, fault, value }).await
}

async fn ask(orders: &Orders, request: Request) -> (StatusCode, String) {
    let (answer, answered) = oneshot::channel();
    let gone = (StatusCode::SERVICE_UNAVAILABLE, "the shop is stopping".to_owned());
    if orders.send(Order { request, answer }).await.is_err() {
        return gone;
    }
    match answered.await {
        Ok(Ok(text)) => (StatusCode::OK, text),
        Ok(Err(text)) => (StatusCode::BAD_REQUEST, text),
        Err(_) => gone,
    }
}

/// Switches a fault on in the shop that runs in `dir`.
///
/// # Errors
/// When no shop runs there or it refuses.
pub async fn send_fault(
    dir: &Path,
    service: &str,
    fault: &str,
    value: Option<&str>,
) -> anyhow::Result<String> {
    let body = FaultBody {
        service: service.to_owned(),
        fault: fault.to_owned(),
        value: value.map(str::to_owned),
    };
    post_to(dir, "/fault", serde_json::to_vec(&body)?).await
}

/// Switches every fault off.
///
/// # Errors
/// When no shop runs there.
pub async fn send_heal(dir: &Path) -> anyhow::Result<String> {
    post_to(dir, "/heal", Vec::new()).await
}

async fn post_to(dir: &Path, path: &str, body: Vec<u8>) -> anyhow::Result<String> {
    let address = state::read(dir)?.control.parse()?;
    let request = axum::http::Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let (status, body) = HttpClient::default().send(address, request).await?;
    let text = String::from_utf8_lossy(&body).into_owned();
    anyhow::ensure!(status.is_success(), "{text}");
    Ok(text)
}

//! payments: HTTP in front of PostgreSQL. Looks the account up, books the charge.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::checkout::Charge;
use super::pool::Pool;
use super::{health, traced};
use crate::calling::Call;
use crate::failure::Failure;
use crate::fault::POOL_HOLD_MS;
use crate::service::App;
use crate::telemetry;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS accounts (id text PRIMARY KEY, charged_cents bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS payments (
        order_id text NOT NULL, account text NOT NULL, amount_cents bigint NOT NULL,
        at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX IF NOT EXISTS payments_account ON payments (account);";

struct Payments {
    app: Arc<App>,
    pool: Arc<Pool>,
}

/// # Errors
/// When the database is not there: the service is not ready then, and its supervisor tries again.
pub async fn router(app: &Arc<App>) -> anyhow::Result<Router> {
    let pool = Pool::open(app).await.context("database")?;
    {
        let lease = pool.lease().await?;
        lease.client()?.batch_execute(SCHEMA).await.context("schema")?;
    }
    let mut faults = app.effects.watch();
    let sized = Arc::clone(&pool);
    tokio::spawn(async move {
        let mut last = None;
        loop {
            let now = faults.borrow_and_update().pool_connections;
            if now != last {
                sized.resize(now).await;
                last = now;
            }
            if faults.changed().await.is_err() {
                return;
            }
        }
    });
    let payments = Arc::new(Payments { app: Arc::clone(app), pool });
    let handler = post(charge).with_state(payments);
    Ok(Router::new().route("/charge", traced(app, "/charge", handler)).merge(health()))
}

async fn charge(
    State(payments): State<Arc<Payments>>,
    Json(charge): Json<Charge>,
) -> Result<Json<serde_json::Value>, Failure> {
    payments.app.effects.before().await;
    payments.book(&charge).await?;
    payments.app.effects.after().await.inspect_err(|failure| {
        telemetry::error(
            failure.message.clone(),
            [("error.type", failure.kind.into()), ("order.id", charge.order.clone().into())],
        );
    })?;
    telemetry::info(
        "charged",
        [("order.id", charge.order.clone().into()), ("amount_cents", charge.amount_cents.into())],
    );
    Ok(Json(serde_json::json!({ "order": charge.order, "status": "charged" })))
}

impl Payments {
    async fn book(&self, charge: &Charge) -> Result<(), Failure> {
        let lease = self.pool.lease().await?;
        let client = lease.client()?;
        let rows = self
            .query(
                client,
                ("SELECT", "accounts"),
                "SELECT charged_cents FROM accounts WHERE id = $1",
                &[&charge.user],
            )
            .await?;
        let before: i64 = rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0);
        self.query(
            client,
            ("INSERT", "payments"),
            "INSERT INTO payments (order_id, account, amount_cents) VALUES ($1, $2, $3)",
            &[&charge.order, &charge.user, &charge.amount_cents],
        )
        .await?;
        self.query(
            client,
            ("INSERT", "accounts"),
            "INSERT INTO accounts (id, charged_cents) VALUES ($1, $2) \
             ON CONFLICT (id) DO UPDATE SET charged_cents = excluded.charged_cents",
            &[&charge.user, &before.saturating_add(charge.amount_cents)],
        )
        .await?;
        // The card processor, while the connection is still held: a common mistake, harmless while the pool is large.
        self.app.work(8, 25).await;
        if self.app.effects.now().pool_connections.is_some() {
            tokio::time::sleep(Duration::from_millis(POOL_HOLD_MS)).await;
        }
        Ok(())
    }

    /// One statement under its CLIENT span.
    async fn query(
        &self,
        client: &Client,
        (operation, table): (&'static str, &'static str),
        text: &'static str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let app = &self.app;
        let call = Call::begin(
            format!("{operation} {table}"),
            SpanKind::Client,
            vec![
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.operation.name", operation),
                KeyValue::new("db.collection.name", table),
                KeyValue::new("db.namespace", "shop"),
                KeyValue::new("server.address", app.peer_host("postgres")),
                KeyValue::new(
                    "server.port",
                    i64::from(app.config.peers.get("postgres").copied().unwrap_or_default()),
                ),
            ],
            vec![
                KeyValue::new("db.query.text", text),
                KeyValue::new("db.query.summary", format!("{operation} {table}")),
            ],
            Some(app.meters.db.clone()),
        );
        match call.run(client.query(text, values)).await {
            Ok(rows) => {
                call.finish(Vec::new(), None);
                Ok(rows)
            }
            Err(error) => {
                let code = error.code().map_or("postgres_error", |code| code.code()).to_owned();
                telemetry::error(
                    format!("query failed: {error}"),
                    [("error.type", code.clone().into()), ("db.operation.name", operation.into())],
                );
                call.finish(Vec::new(), Some((code, error.to_string())));
                Err(Failure::internal("postgres_error", format!("postgres: {error}")))
            }
        }
    }
}

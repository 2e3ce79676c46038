//! catalog: what the shop sells, over HTTP, from a Redis cache that it fills itself.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;
use serde::{Deserialize, Serialize};

use super::cache::{self, Cache};
use super::{health, traced};
use crate::calling::Call;
use crate::failure::Failure;
use crate::service::App;
use crate::telemetry;

/// How many products there are: p-1 to p-24.
pub const PRODUCTS: u64 = 24;
const LIST_TTL_S: u64 = 2;
const PRODUCT_TTL_S: u64 = 5;

/// One thing for sale.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Product {
    pub id: String,
    pub name: String,
    pub price_cents: i64,
}

/// The product of that id, if there is one.
pub fn product(id: &str) -> Option<Product> {
    const NAMES: [&str; 6] = ["Brain coral", "Fire coral", "Sea fan", "Anemone", "Sponge", "Polyp"];
    let number: u64 = id.strip_prefix("p-")?.parse().ok()?;
    if !(1..=PRODUCTS).contains(&number) {
        return None;
    }
    let name = NAMES.get(usize::try_from(number % 6).ok()?)?;
    let price_cents = i64::try_from(number.saturating_mul(175)).ok()?;
    Some(Product { id: id.to_owned(), name: (*name).to_owned(), price_cents })
}

struct Catalog {
    app: Arc<App>,
    cache: Cache,
}

pub fn router(app: &Arc<App>) -> Router {
    let catalog = Arc::new(Catalog { app: Arc::clone(app), cache: Cache::default() });
    Router::new()
        .route("/products", traced(app, "/products", get(list).with_state(Arc::clone(&catalog))))
        .route("/products/{id}", traced(app, "/products/{id}", get(one).with_state(catalog)))
        .merge(health())
}

async fn list(State(catalog): State<Arc<Catalog>>) -> Result<Json<Vec<Product>>, Failure> {
    catalog.app.effects.before().await;
    let products = match catalog.cached("products:all").await? {
        Some(text) => serde_json::from_str(&text).unwrap_or_default(),
        None => {
            let products = catalog.render().await;
            catalog.keep("products:all", &products, LIST_TTL_S).await?;
            products
        }
    };
    catalog.finish().await?;
    Ok(Json(products))
}

async fn one(
    State(catalog): State<Arc<Catalog>>,
    Path(id): Path<String>,
) -> Result<Json<Product>, Failure> {
    catalog.app.effects.before().await;
    let key = format!("product:{id}");
    let found = match catalog.cached(&key).await? {
        Some(text) => serde_json::from_str(&text).ok(),
        None => {
            catalog.app.work(1, 4).await;
            let found = product(&id);
            if let Some(product) = &found {
                catalog.keep(&key, product, PRODUCT_TTL_S).await?;
            }
            found
        }
    };
    catalog.finish().await?;
    found.map(Json).ok_or_else(|| {
        telemetry::warn("unknown product requested", [("product.id", id.clone().into())]);
        Failure::not_found(format!("no product {id}"))
    })
}

impl Catalog {
    async fn cached(&self, key: &str) -> Result<Option<String>, Failure> {
        let command = redis::cmd("GET").arg(key).to_owned();
        let outcome = self.cache.command(&self.app, "GET", "GET ?", &command).await;
        let value = outcome.map(cache::text).inspect_err(|failure| {
            telemetry::error(
                format!("cache read failed: {failure}"),
                [("error.type", failure.kind.into())],
            );
        })?;
        Ok(value)
    }

    async fn keep<T: Serialize>(&self, key: &str, value: &T, ttl_s: u64) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::internal("serialize", error.to_string()))?;
        let command = redis::cmd("SET").arg(key).arg(text).arg("EX").arg(ttl_s).to_owned();
        self.cache.command(&self.app, "SET", "SET ? ? EX ?", &command).await?;
        Ok(())
    }

    async fn render(&self) -> Vec<Product> {
        let call = Call::begin(
            "render products",
            SpanKind::Internal,
            vec![KeyValue::new("shop.products", i64::try_from(PRODUCTS).unwrap_or(0))],
            Vec::new(),
            None,
        );
        call.run(self.app.work(3, 12)).await;
        let products = (1..=PRODUCTS).filter_map(|n| product(&format!("p-{n}"))).collect();
        telemetry::info(
            "cache miss, product list rendered",
            [("cache.key", "products:all".into())],
        );
        call.finish(Vec::new(), None);
        products
    }

    async fn finish(&self) -> Result<(), Failure> {
        self.app.effects.after().await.inspect_err(|failure| {
            telemetry::error(failure.message.clone(), [("error.type", failure.kind.into())]);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::product;

    #[test]
    fn products_are_p1_to_p24() {
        assert_eq!(product("p-1").unwrap().price_cents, 175);
        assert!(product("p-24").is_some());
        for id in ["p-0", "p-25", "24", "p-", "p-x"] {
            assert!(product(id).is_none(), "{id}");
        }
    }
}

//! The customers: a seeded stream of requests at an even average rate, whatever the shop answers (open loop).
//!
//! [`Plan`] decides what is asked when, and nothing else; the sender keeps to it, counts, and never has more than
//! a bounded number of requests open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::http::{Request, header};
use bytes::Bytes;
use http_body_util::Full;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::dice::Dice;
use crate::http_client::HttpClient;
use crate::services::catalog::PRODUCTS;
use crate::services::gateway::Basket;

/// A customer waits so long before giving up.
const PATIENCE: Duration = Duration::from_secs(30);
const OPEN_CAP: usize = 800;

/// One thing that a customer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    List,
    Look(String),
    Buy { user: String, product: String, quantity: u32 },
}

/// What is asked, and how long after the one before.
pub struct Plan {
    dice: Dice,
    rps: f64,
}

impl Plan {
    pub fn new(rps: f64, seed: u64) -> Self {
        Self { dice: Dice::new(seed), rps }
    }

    /// The next request and the pause before it. Pauses are exponential, as independent customers make them.
    pub fn step(&self) -> (Duration, Ask) {
        let pause = -(1.0 - self.dice.unit()).ln() / self.rps.max(0.001);
        let pause = Duration::try_from_secs_f64(pause.min(10.0)).unwrap_or_default();
        let product = || format!("p-{}", self.dice.between(1, PRODUCTS));
        let ask = match self.dice.between(0, 99) {
            0..=24 => Ask::List,
            // One in a hundred asks for what does not exist.
            25 => Ask::Look("p-404".to_owned()),
            26..=64 => Ask::Look(product()),
            _ => Ask::Buy {
                user: format!("user-{}", self.dice.between(1, 200)),
                product: product(),
                quantity: u32::try_from(self.dice.between(1, 3)).unwrap_or(1),
            },
        };
        (pause, ask)
    }
}

impl Ask {
    fn request(&self, host: &str) -> anyhow::Result<Request<Full<Bytes>>> {
        let (builder, body) = match self {
            Self::List => (Request::get("/products"), Vec::new()),
            Self::Look(id) => (Request::get(format!("/products/{id}")), Vec::new()),
            Self::Buy { user, product, quantity } => {
                let basket =
                    Basket { user: user.clone(), product: product.clone(), quantity: *quantity };
                (Request::post("/checkout"), serde_json::to_vec(&basket)?)
            }
        };
        Ok(builder
            .header(header::HOST, host)
            .header(header::USER_AGENT, "shop-load/1")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?)
    }
}

#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    good: AtomicU64,
    client_errors: AtomicU64,
    server_errors: AtomicU64,
    unanswered: AtomicU64,
    skipped: AtomicU64,
}

/// Has the kernel say when `parent`, which started this process, is gone; if it is already, ends.
pub fn ends_with(parent: Option<u32>) {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    // A parent that died before that was asked for is never told of.
    let own = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if parent.is_some() && parent != own {
        eprintln!("load: the shop that started it is gone");
        std::process::exit(1);
    }
}

/// Sends until a signal comes; prints what came of it.
///
/// # Errors
/// When the address is no `http://address:port`.
pub async fn run(url: &str, rps: f64, seed: u64, seconds: Option<u64>) -> anyhow::Result<()> {
    let host = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/').to_owned();
    let to: SocketAddr =
        host.parse().with_context(|| format!("{url} is not of the form http://127.0.0.1:8080"))?;
    anyhow::ensure!(to.ip().is_loopback(), "load goes to loopback addresses only, not {to}");
    let tally = Arc::new(Tally::default());
    let client = Arc::new(HttpClient::default());
    let open = Arc::new(Semaphore::new(OPEN_CAP));
    let plan = Plan::new(rps, seed);
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let end = seconds.map(|s| Instant::now() + Duration::from_secs(s));
    let mut at = Instant::now();
    loop {
        let (pause, ask) = plan.step();
        at += pause;
        tokio::select! {
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
            () = tokio::time::sleep_until(at) => {}
        }
        if end.is_some_and(|end| at >= end) {
            break;
        }
        let Ok(permit) = Arc::clone(&open).try_acquire_owned() else {
            tally.skipped.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let request = ask.request(&host)?;
        let (client, tally) = (Arc::clone(&client), Arc::clone(&tally));
        tally.sent.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let answer = tokio::time::timeout(PATIENCE, client.send(to, request)).await;
            let counter = match answer {
                Ok(Ok((status, _))) if status.is_server_error() => &tally.server_errors,
                Ok(Ok((status, _))) if status.is_client_error() => &tally.client_errors,
                Ok(Ok(_)) => &tally.good,
                Ok(Err(_)) | Err(_) => &tally.unanswered,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            drop(permit);
        });
    }
    let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
    println!(
        "{}",
        serde_json::json!({
            "sent": count(&tally.sent), "good": count(&tally.good),
            "client_errors": count(&tally.client_errors),
            "server_errors": count(&tally.server_errors),
            "unanswered": count(&tally.unanswered), "skipped": count(&tally.skipped),
        })
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_day_in_the_shop() {
        let (a, b) = (Plan::new(20.0, 3), Plan::new(20.0, 3));
        assert!((0..500).all(|_| a.step() == b.step()));
    }

    #[test]
    fn the_mix_and_the_rate_are_as_said() {
        let plan = Plan::new(20.0, 1);
        let steps: Vec<(Duration, Ask)> = (0..20_000).map(|_| plan.step()).collect();
        let total: f64 = steps.iter().map(|(pause, _)| pause.as_secs_f64()).sum();
        let rate = 20_000.0 / total;
        assert!((19.0..21.0).contains(&rate), "{rate}");
        let buys = steps.iter().filter(|(_, ask)| matches!(ask, Ask::Buy { .. })).count();
        let lists = steps.iter().filter(|(_, ask)| *ask == Ask::List).count();
        assert!((6_700..7_300).contains(&buys) && (4_700..5_300).contains(&lists));
    }
}

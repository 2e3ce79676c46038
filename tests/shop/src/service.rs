//! One service as a process: reads who it is from its supervisor, starts the SDK, serves, and leaves tidily.
//!
//! The supervisor speaks over stdin, one JSON object a line: first the [`ServiceConfig`], then a
//! [`FaultSet`](crate::fault::FaultSet) at each change. End of file means the supervisor is gone, and so the service goes.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use opentelemetry::global;
use opentelemetry::metrics::{Counter, Histogram, UpDownCounter};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::dns::{Resolver, ZONE};
use crate::effects::Effects;
use crate::fault::FaultSet;
use crate::http_client::HttpClient;
use crate::services;
use crate::telemetry::{self, SCOPE, SECONDS};

const DRAIN_WITHIN: Duration = Duration::from_secs(1);

/// Everything that a service is told at its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceConfig {
    pub service: String,
    pub version: String,
    pub instance: String,
    pub otlp: String,
    pub port: u16,
    pub dns: SocketAddr,
    /// Ports of those it may call, by name.
    pub peers: BTreeMap<String, u16>,
    /// For Redis and PostgreSQL; never in an argument list.
    pub password: String,
    pub seed: u64,
    pub faults: FaultSet,
}

/// The instruments of the semantic conventions that the shop uses.
pub struct Meters {
    pub http_server: Histogram<f64>,
    pub http_active: UpDownCounter<i64>,
    pub http_client: Histogram<f64>,
    pub rpc_server: Histogram<f64>,
    pub rpc_active: UpDownCounter<i64>,
    pub rpc_client: Histogram<f64>,
    pub db: Histogram<f64>,
    pub dns: Histogram<f64>,
    pub process: Histogram<f64>,
    pub sent: Counter<u64>,
    pub consumed: Counter<u64>,
}

impl Meters {
    fn new() -> Self {
        let meter = global::meter(SCOPE);
        let seconds = |name: &'static str| {
            meter.f64_histogram(name).with_unit("s").with_boundaries(SECONDS.to_vec()).build()
        };
        let active = |name| meter.i64_up_down_counter(name).with_unit("{request}").build();
        let messages = |name| meter.u64_counter(name).with_unit("{message}").build();
        Self {
            http_server: seconds("http.server.request.duration"),
            http_active: active("http.server.active_requests"),
            http_client: seconds("http.client.request.duration"),
            rpc_server: seconds("rpc.server.duration"),
            rpc_active: active("rpc.server.active_requests"),
            rpc_client: seconds("rpc.client.duration"),
            db: seconds("db.client.operation.duration"),
            dns: seconds("dns.lookup.duration"),
            process: seconds("messaging.process.duration"),
            sent: messages("messaging.client.sent.messages"),
            consumed: messages("messaging.client.consumed.messages"),
        }
    }
}

/// What all parts of one service share.
pub struct App {
    pub config: ServiceConfig,
    pub effects: Arc<Effects>,
    pub resolver: Resolver,
    pub http: HttpClient,
    pub dice: Dice,
    pub meters: Meters,
    pub stop: CancellationToken,
}

impl App {
    /// The name that this service goes by.
    pub fn own_host(&self) -> String {
        format!("{}.{ZONE}", self.config.service)
    }

    /// The name of a peer, wrong when that fault is on and the peer is the one behind this service.
    pub fn peer_host(&self, peer: &str) -> String {
        let behind = downstream(&self.config.service);
        if peer == behind.0 && self.effects.now().dns {
            return format!("{}.shop.invalid", behind.1);
        }
        format!("{peer}.{ZONE}")
    }

    /// Work that takes between so many milliseconds.
    pub async fn work(&self, low: u64, high: u64) {
        let micros = self.dice.between(low.saturating_mul(1_000), high.saturating_mul(1_000));
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}

/// The peer whose name the dns fault spoils, and how it is misspelt.
pub fn downstream(service: &str) -> (&'static str, &'static str) {
    match service {
        "gateway" => ("checkout", "chekout"),
        "checkout" => ("payments", "paymets"),
        "payments" => ("postgres", "postgers"),
        _ => ("redis", "reddis"),
    }
}

/// What each service says when it is told to fail.
fn error_text(service: &str) -> &'static str {
    match service {
        "gateway" => "session store returned malformed data",
        "catalog" => "price index is corrupt: checksum mismatch",
        "checkout" => "tax calculator rejected the basket",
        "payments" => "card processor declined with code 91 (issuer unavailable)",
        _ => "label printer rejected the address",
    }
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// When the configuration is unreadable, the port is taken, or a backing service cannot be reached.
pub async fn run(name: &str) -> anyhow::Result<()> {
    // Should the supervisor die without a word, the kernel tells us.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    let mut lines = std::io::stdin().lock().lines();
    let first = lines.next().context("no configuration on stdin")??;
    drop(lines);
    let config: ServiceConfig = serde_json::from_str(&first).context("configuration")?;
    anyhow::ensure!(config.service == name, "configuration is for {}", config.service);

    let telemetry = telemetry::start(&config)?;
    let stop = CancellationToken::new();
    let effects = Arc::new(Effects::new(
        config.faults.clone(),
        config.seed ^ 0x5eed,
        error_text(&config.service),
    ));
    let app = Arc::new(App {
        resolver: Resolver::new(config.dns),
        http: HttpClient::default(),
        dice: Dice::new(config.seed),
        meters: Meters::new(),
        effects: Arc::clone(&effects),
        stop: stop.clone(),
        config,
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, app.config.port)).await;
    let listener = listener.with_context(|| format!("port {}", app.config.port))?;
    listen_to_supervisor(&effects, &stop);
    let background = tokio::spawn(effects.run(telemetry.clone()));

    let outcome = serve(&app, listener).await;
    background.abort();
    telemetry::info("stopped", []);
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await?;
    outcome
}

async fn serve(app: &Arc<App>, listener: TcpListener) -> anyhow::Result<()> {
    let router: Router = match app.config.service.as_str() {
        "gateway" => services::gateway::router(app),
        "catalog" => services::catalog::router(app),
        "checkout" => services::checkout::router(app),
        "payments" => services::payments::router(app).await?,
        "shipping" => services::shipping::router(app),
        other => anyhow::bail!("no service is called {other:?}"),
    };
    telemetry::info(
        format!("{} {} started", app.config.service, app.config.version),
        [("server.port", i64::from(app.config.port).into())],
    );
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let draining = app.stop.clone().cancelled_owned();
    let server = axum::serve(listener, router).with_graceful_shutdown(draining).into_future();
    tokio::pin!(server);
    tokio::select! {
        served = &mut server => return served.context("serving"),
        _ = term.recv() => app.stop.cancel(),
        () = app.stop.cancelled() => {}
    }
    // What is under way may still be answered; what hangs is left.
    match tokio::time::timeout(DRAIN_WITHIN, server).await {
        Ok(served) => served.context("serving"),
        Err(_) => Ok(()),
    }
}

/// A plain thread: a blocked read of stdin must not keep the runtime from ending.
fn listen_to_supervisor(effects: &Arc<Effects>, stop: &CancellationToken) {
    let (effects, stop) = (Arc::clone(effects), stop.clone());
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            match serde_json::from_str::<FaultSet>(&line) {
                Ok(faults) => effects.set(faults),
                Err(error) => eprintln!("unreadable word from the supervisor: {error}"),
            }
        }
        stop.cancel();
    });
}

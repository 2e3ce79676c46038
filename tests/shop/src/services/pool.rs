//! A small bounded pool of PostgreSQL connections that can be measured, and made too small.
//!
//! The bound is a semaphore. Shrinking means that the pool itself takes the permits away and keeps them; so
//! leases that are out stay valid and the queue of those who wait stays fair.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::{KeyValue, global};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::{Client, Config, NoTls};

use crate::calling;
use crate::failure::Failure;
use crate::service::App;
use crate::telemetry::{self, SCOPE, SECONDS};

/// Connections, at most.
pub const SIZE: u64 = 10;
const WAIT_AT_MOST: Duration = Duration::from_secs(2);

/// What the gauges read.
#[derive(Default)]
struct Counts {
    used: AtomicI64,
    idle: AtomicI64,
    pending: AtomicI64,
    max: AtomicI64,
}

pub struct Pool {
    app: Arc<App>,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<(String, Client)>>,
    /// Held while the pool is to be smaller than [`SIZE`].
    withheld: tokio::sync::Mutex<Option<OwnedSemaphorePermit>>,
    counts: Arc<Counts>,
    waits: Histogram<f64>,
    timeouts: Counter<u64>,
}

/// A connection on loan; goes back when dropped.
pub struct Lease {
    pool: Arc<Pool>,
    held: Option<(String, Client)>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// The connection.
    ///
    /// # Errors
    /// Never while the lease lives.
    pub fn client(&self) -> Result<&Client, Failure> {
        let held = self.held.as_ref().map(|(_, client)| client);
        held.ok_or_else(|| Failure::internal("pool", "lease without a connection"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let counts = &self.pool.counts;
        counts.used.fetch_sub(1, Ordering::Relaxed);
        let Some((host, client)) = self.held.take() else { return };
        let max = counts.max.load(Ordering::Relaxed);
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let open = i64::try_from(idle.len()).unwrap_or(i64::MAX);
        let in_use = counts.used.load(Ordering::Relaxed);
        if !client.is_closed() && open.saturating_add(in_use) < max {
            idle.push((host, client));
        }
        counts.idle.store(i64::try_from(idle.len()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

impl Pool {
    /// Opens half the connections at once, so that a service that is ready really reaches its database.
    ///
    /// # Errors
    /// When PostgreSQL cannot be found or refuses.
    pub async fn open(app: &Arc<App>) -> Result<Arc<Self>, Failure> {
        let counts = Arc::new(Counts::default());
        counts.max.store(i64::try_from(SIZE).unwrap_or(0), Ordering::Relaxed);
        let meter = global::meter(SCOPE);
        let pool = Arc::new(Self {
            app: Arc::clone(app),
            permits: Arc::new(Semaphore::new(usize::try_from(SIZE).unwrap_or(1))),
            idle: Mutex::new(Vec::new()),
            withheld: tokio::sync::Mutex::new(None),
            waits: meter
                .f64_histogram("db.client.connection.wait_time")
                .with_unit("s")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            timeouts: meter
                .u64_counter("db.client.connection.timeouts")
                .with_unit("{timeout}")
                .build(),
            counts,
        });
        pool.show();
        for _ in 0..SIZE / 2 {
            let (host, client) = pool.connect().await?;
            pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push((host, client));
        }
        pool.counts.idle.store(i64::try_from(SIZE / 2).unwrap_or(0), Ordering::Relaxed);
        Ok(pool)
    }

    /// The pool's gauges, as the database conventions name them.
    fn show(&self) {
        let meter = global::meter(SCOPE);
        let name = || KeyValue::new("db.client.connection.pool.name", "payments");
        let counts = Arc::clone(&self.counts);
        let _ = meter
            .i64_observable_up_down_counter("db.client.connection.count")
            .with_unit("{connection}")
            .with_callback(move |gauge| {
                let state = |word| KeyValue::new("db.client.connection.state", word);
                gauge.observe(counts.used.load(Ordering::Relaxed), &[name(), state("used")]);
                gauge.observe(counts.idle.load(Ordering::Relaxed), &[name(), state("idle")]);
            })
            .build();
        for (metric, unit, pick) in [
            (
                "db.client.connection.max",
                "{connection}",
                (|counts| &counts.max) as fn(&Counts) -> &AtomicI64,
            ),
            ("db.client.connection.pending_requests", "{request}", |counts| &counts.pending),
        ] {
            let counts = Arc::clone(&self.counts);
            let _ = meter
                .i64_observable_up_down_counter(metric)
                .with_unit(unit)
                .with_callback(move |gauge| {
                    gauge.observe(pick(&counts).load(Ordering::Relaxed), &[name()]);
                })
                .build();
        }
    }

    /// Waits for a connection, two seconds at most.
    ///
    /// # Errors
    /// When the pool is exhausted for that long, or PostgreSQL cannot be reached.
    pub async fn lease(self: &Arc<Self>) -> Result<Lease, Failure> {
        let began = Instant::now();
        self.counts.pending.fetch_add(1, Ordering::Relaxed);
        let pending = Pending(Arc::clone(&self.counts));
        let permit =
            tokio::time::timeout(WAIT_AT_MOST, Arc::clone(&self.permits).acquire_owned()).await;
        drop(pending);
        self.waits.record(began.elapsed().as_secs_f64(), &[]);
        let Ok(Ok(permit)) = permit else {
            self.timeouts.add(1, &[]);
            let count = |n: &AtomicI64| n.load(Ordering::Relaxed);
            telemetry::error(
                "pool exhausted: waited 2s for a connection",
                [
                    ("error.type", "PoolTimeout".into()),
                    ("db.client.connection.max", count(&self.counts.max).into()),
                    ("db.client.connection.used", count(&self.counts.used).into()),
                    ("db.client.connection.pending_requests", count(&self.counts.pending).into()),
                ],
            );
            return Err(Failure::unavailable(
                "PoolTimeout",
                "pool exhausted: waited 2s for a connection",
            ));
        };
        let wanted = self.app.peer_host("postgres");
        let ready = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|(host, client)| *host == wanted && !client.is_closed());
            let ready = idle.pop();
            self.counts.idle.store(i64::try_from(idle.len()).unwrap_or(0), Ordering::Relaxed);
            ready
        };
        let held = match ready {
            Some(held) => held,
            None => self.connect().await.inspect_err(|failure| {
                telemetry::error(
                    format!("cannot connect to the database: {failure}"),
                    [("error.type", failure.kind.into())],
                );
            })?,
        };
        self.counts.used.fetch_add(1, Ordering::Relaxed);
        Ok(Lease { pool: Arc::clone(self), held: Some(held), _permit: permit })
    }

    async fn connect(&self) -> Result<(String, Client), Failure> {
        let place = calling::find(&self.app, "postgres").await?;
        let mut config = Config::new();
        config
            .host(place.address.ip().to_string())
            .port(place.address.port())
            .user("shop")
            .password(&self.app.config.password)
            .dbname("postgres")
            .application_name("payments")
            .connect_timeout(Duration::from_secs(2));
        let unreachable = |error: tokio_postgres::Error| {
            Failure::unavailable("postgres_unreachable", format!("postgres: {error}"))
        };
        let (client, connection) = config.connect(NoTls).await.map_err(unreachable)?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok((place.host, client))
    }

    /// Makes the pool that small, or its full size again. Waits until enough leases are back.
    pub async fn resize(&self, connections: Option<u64>) {
        let wanted = connections.unwrap_or(SIZE).clamp(1, SIZE);
        let mut withheld = self.withheld.lock().await;
        *withheld = None;
        self.counts.max.store(i64::try_from(wanted).unwrap_or(0), Ordering::Relaxed);
        let keep = usize::try_from(wanted).unwrap_or(1);
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.truncate(keep);
            self.counts.idle.store(i64::try_from(idle.len()).unwrap_or(0), Ordering::Relaxed);
        }
        let excess = u32::try_from(SIZE.saturating_sub(wanted)).unwrap_or(0);
        if excess > 0 {
            *withheld = Arc::clone(&self.permits).acquire_many_owned(excess).await.ok();
        }
    }
}

/// Counts one who waits, also when it gives up.
struct Pending(Arc<Counts>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

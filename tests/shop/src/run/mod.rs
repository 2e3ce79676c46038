//! Keeps the whole shop running: backing services, the five services, the load, and the fault switches.
//!
//! One task owns every process. It starts them, watches them, restarts what crashed, hands faults on, and stops
//! all of them whichever way it ends itself. What is asked of it from outside comes through [`control`].
//!
//! Everything runs on one thread on purpose: Linux sends a process its parent-death signal when the *thread* that
//! started it ends.

pub mod backing;
pub mod child;
pub mod control;
pub mod ports;
pub mod slot;
pub mod state;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::backing::Backing;
use self::child::Child;
use self::control::{Order, Request};
use self::slot::Slot;
use self::state::{ServiceState, State, StateDir};
use crate::dns;
use crate::fault::{Fault, SERVICES};
use crate::http_client::HttpClient;
use crate::service::ServiceConfig;

const TICK: Duration = Duration::from_millis(100);
const READY_WITHIN: Duration = Duration::from_secs(30);
/// The version that `heal` goes back to.
pub const FIRST_VERSION: &str = "v41";

/// What a person asked for on the command line.
pub struct Options {
    pub dir: PathBuf,
    pub otlp: String,
    pub rps: f64,
    pub seconds: Option<u64>,
    pub seed: u64,
}

/// Runs the shop until a signal or the end of its time.
///
/// # Errors
/// When something cannot be started. What had been started is stopped then, too.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut signals = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    let dir = StateDir::open(&options.dir)?;
    let mut shop = tokio::select! {
        shop = Shop::start(&options, dir) => shop?,
        name = any(&mut signals) => anyhow::bail!("stopped by {name} before everything ran"),
    };
    say("shop ready", began.elapsed(), &format!("faults: coral-shop fault list · {}", shop.door()));
    let outcome = shop.supervise(&options, &mut signals).await;
    shop.stop().await;
    outcome
}

/// One line a thing, with the time that it took.
fn say(what: &str, took: Duration, more: &str) {
    println!("{what:<22} {:>6.2} s  {more}", took.as_secs_f64());
}

async fn any(signals: &mut [Signal; 3]) -> &'static str {
    let [interrupt, terminate, hangup] = signals;
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    }
}

struct Shop {
    dir: StateDir,
    backing: Backing,
    slots: Vec<Slot>,
    load: Child,
    orders: mpsc::Receiver<Order>,
    control: SocketAddr,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    written: Option<State>,
}

impl Shop {
    async fn start(options: &Options, dir: StateDir) -> anyhow::Result<Self> {
        let names: Vec<&'static str> =
            SERVICES.iter().copied().chain(["redis", "postgres"]).collect();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.context("name server")?;
        let dns = socket.local_addr()?;
        let mut tasks = vec![tokio::spawn(async move {
            let _ = dns::serve(socket, &names).await;
        })];

        let backing = Backing::start(&dir, say).await?;
        let mut ports = BTreeMap::from([
            ("redis".to_owned(), backing.redis_port),
            ("postgres".to_owned(), backing.postgres_port),
        ]);
        for name in SERVICES {
            ports.insert(name.to_owned(), ports::free(&ports)?);
        }
        let began = Instant::now();
        let mut slots = Vec::new();
        for (name, seed) in SERVICES.into_iter().zip(options.seed..) {
            let port = ports.get(name).copied().unwrap_or_default();
            let config = ServiceConfig {
                service: name.to_owned(),
                version: FIRST_VERSION.to_owned(),
                instance: String::new(),
                otlp: options.otlp.clone(),
                port,
                dns,
                peers: ports.clone(),
                password: backing.password.clone(),
                seed,
                faults: crate::fault::FaultSet::default(),
            };
            let mut slot = Slot::new(config, dir.path());
            slot.start().with_context(|| format!("starting {name}"))?;
            slots.push(slot);
        }
        let client = HttpClient::default();
        for slot in &mut slots {
            wait_healthy(&client, slot).await?;
            say(
                slot.name(),
                began.elapsed(),
                &format!("127.0.0.1:{}  pid {}", slot.port(), slot.pid()),
            );
        }

        let gateway = ports.get("gateway").copied().unwrap_or_default();
        let load = child::load(gateway, options.rps, options.seed, dir.path())?;
        say("load", Duration::ZERO, &format!("{} requests/s  pid {}", options.rps, load.pid()));

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("control port")?;
        let control = listener.local_addr()?;
        let (send, orders) = mpsc::channel(16);
        tasks.push(tokio::spawn(control::serve(listener, send)));
        let mut shop = Self { dir, backing, slots, load, orders, control, tasks, written: None };
        shop.write_state();
        Ok(shop)
    }

    fn door(&self) -> String {
        let port = self.slots.iter().find(|slot| slot.name() == "gateway").map_or(0, Slot::port);
        format!("shop: http://127.0.0.1:{port}/products")
    }

    async fn supervise(
        &mut self,
        options: &Options,
        signals: &mut [Signal; 3],
    ) -> anyhow::Result<()> {
        let end = options.seconds.map(|s| tokio::time::Instant::now() + Duration::from_secs(s));
        let over = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                name = any(signals) => {
                    println!("{name}: stopping the shop");
                    return Ok(());
                }
                () = &mut over => return Ok(()),
                order = self.orders.recv() => if let Some(order) = order {
                    let answer = self.obey(order.request);
                    let _ = order.answer.send(answer);
                },
                _ = tick.tick() => {
                    self.backing.check()?;
                    anyhow::ensure!(
                        self.load.exited().is_none(),
                        "the load generator ended; see {}", self.dir.path().join("load.log").display()
                    );
                    for slot in &mut self.slots {
                        for line in slot.tick(Instant::now()) {
                            println!("{line}");
                        }
                    }
                }
            }
            self.write_state();
        }
    }

    /// Carries out one request from outside and says what was done.
    fn obey(&mut self, request: Request) -> Result<String, String> {
        match request {
            Request::State => {
                serde_json::to_string_pretty(&self.state()).map_err(|e| e.to_string())
            }
            Request::Heal => {
                for slot in &mut self.slots {
                    slot.heal(FIRST_VERSION);
                }
                let text = "all faults are off".to_owned();
                println!("{text}");
                Ok(text)
            }
            Request::Fault { service, fault, value } => {
                let fault = Fault::parse(&service, &fault, value.as_deref())
                    .map_err(|error| error.to_string())?;
                let slot = self.slots.iter_mut().find(|slot| slot.name() == service);
                let text = slot.ok_or("no such service")?.apply(&fault);
                println!("{text}");
                Ok(text)
            }
        }
    }

    fn state(&self) -> State {
        let services = self.slots.iter().map(Slot::state).collect::<Vec<ServiceState>>();
        let gateway = services.iter().find(|s| s.name == "gateway").map_or(0, |s| s.port);
        State {
            run_pid: std::process::id(),
            control: self.control.to_string(),
            gateway: format!("http://127.0.0.1:{gateway}"),
            load_pid: self.load.pid(),
            redis_pid: self.backing.redis.pid(),
            redis_port: self.backing.redis_port,
            postgres_pid: self.backing.postgres.pid(),
            postgres_port: self.backing.postgres_port,
            services,
        }
    }

    fn write_state(&mut self) {
        let state = self.state();
        if self.written.as_ref() != Some(&state) {
            if let Err(error) = self.dir.write(&state) {
                eprintln!("shop.json: {error}");
            }
            self.written = Some(state);
        }
    }

    /// Stops everything: those who ask before those who answer.
    async fn stop(mut self) {
        let began = Instant::now();
        for task in &self.tasks {
            task.abort();
        }
        self.load.stop().await;
        for slot in &mut self.slots {
            slot.ask_to_stop();
        }
        for slot in &mut self.slots {
            slot.stop().await;
        }
        self.backing.stop().await;
        self.dir.forget();
        say("shop stopped", began.elapsed(), "");
    }
}

/// Waits until the service says that it is ready. A service that ends meanwhile (its database may be slow) is
/// started again by the slot; one that keeps ending is an error.
async fn wait_healthy(client: &HttpClient, slot: &mut Slot) -> anyhow::Result<()> {
    let until = Instant::now() + READY_WITHIN;
    while Instant::now() < until {
        if slot.healthy(client).await {
            return Ok(());
        }
        slot.tick(Instant::now());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("{} did not become ready; see {}", slot.name(), slot.log().display())
}

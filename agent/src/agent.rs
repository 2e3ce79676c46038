//! The agent, put together: everything it starts, it also ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use coral_model::Time;
use coral_model::view::EventKind;
use coral_proto::record::Kind;
use coral_proto::v1::AgentEvent;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::ByteBudget;
use crate::counters::Counters;
use crate::home::{Home, HomeError, Ports};
use crate::observe::files::Files;
use crate::observe::kernel::keeper;
use crate::observe::kernel::lids::Lids;
use crate::observe::kernel::{self, Ends, Hooks};
use crate::observe::remains::{Capture, Remains};
use crate::observe::requests::names::Names;
use crate::observe::requests::nat::Nat;
use crate::observe::requests::table::Table;
use crate::observe::requests::tls::When;
use crate::observe::requests::watch;
use crate::observe::{self, ServiceProcesses, logs, sources};
use crate::pipeline::Pipeline;
use crate::receive::listen::Receiver;
use crate::receive::work::Job;
use crate::receive::{Accepted, Encoding, Form, Limits, Refused, Signal, Workers};
use crate::senses::Senses;
use crate::spans::{Maker, Synthesis};
use crate::spool::{self, Durability, Spool, SpoolError};
use crate::uplink::{Colony, Identity, LastSeen, Uplink};
use crate::{holder, reduce};

/// Where to listen for OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// At this address, or any free port of it when the address is taken: nobody asked for it.
    Default(SocketAddr),
    /// At this address and no other (port 0: any free one).
    Asked(SocketAddr),
    /// Not at all.
    Off,
}

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Data folder.
    pub data: PathBuf,
    /// Its colony; `None` keeps everything in the spool.
    pub colony: Option<Colony>,
    /// OTLP/gRPC.
    pub otlp_grpc: Listen,
    /// OTLP/HTTP.
    pub otlp_http: Listen,
    /// `host.name`.
    pub host: String,
    /// What part of the host it watches.
    pub scope: String,
    /// Spool bound in bytes.
    pub spool_cap: Option<u64>,
    /// When an export is acknowledged.
    pub durability: Durability,
    /// Bytes of memory the agent may use; half of it may be bodies on their way in.
    pub memory: u64,
    /// Leave after so long without colony and without data.
    pub leave_after: Option<Duration>,
    /// Also write the ports here.
    pub ports_file: Option<PathBuf>,
    /// Whether to watch the host.
    pub observe: bool,
    /// Whether to watch it through eBPF too.
    pub ebpf: bool,
    /// Whose requests are seen that way.
    pub watch: watch::Watch,
    /// Where the kernel shows them.
    pub hooks: Hooks,
    /// Whether also within TLS.
    pub tls: When,
    /// Which output of processes that die is kept.
    pub output: Capture,
    /// Whether spans are made of those requests.
    pub spans: Synthesis,
    /// Cores the agent may use before its eyes close for a while; `None`: any.
    pub cpu_limit: Option<f64>,
    /// `agent.toml`: what else is read.
    pub config: Option<PathBuf>,
}

impl Options {
    /// An agent of its own: any free ports, no colony, nothing watched. For tests and measurements.
    #[must_use]
    pub fn alone(data: PathBuf) -> Self {
        let any = Listen::Asked(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self {
            data,
            colony: None,
            otlp_grpc: any,
            otlp_http: any,
            host: "localhost".to_owned(),
            scope: "host".to_owned(),
            spool_cap: None,
            durability: Durability::default(),
            memory: 256 << 20,
            leave_after: None,
            ports_file: None,
            observe: false,
            ebpf: false,
            watch: watch::Watch::none(),
            hooks: Hooks::Auto,
            tls: When::Never,
            output: Capture::Never,
            spans: Synthesis::Off,
            cpu_limit: None,
            config: None,
        }
    }
}

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its data folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A port that was asked for is taken.
    #[error("{address} ({what}) cannot be listened on{holder}")]
    Port {
        /// Which receiver.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
        /// Who has it, when that can be seen.
        holder: String,
    },
    /// No threads.
    #[error("cannot start worker threads: {0}")]
    Threads(#[from] std::io::Error),
}

/// A running agent. Dropping it without [`Agent::stop`] ends it at once.
pub struct Agent {
    home: Home,
    /// Address of OTLP/gRPC.
    pub otlp_grpc: Option<SocketAddr>,
    /// Address of OTLP/HTTP.
    pub otlp_http: Option<SocketAddr>,
    /// Counters.
    pub counters: Arc<Counters>,
    /// Senses.
    pub senses: Senses,
    pipeline: Arc<Pipeline>,
    workers: Arc<Workers>,
    receiver: Receiver,
    last_seen: Arc<LastSeen>,
    leave_after: Option<Duration>,
    /// Ends the receivers and senses.
    intake: CancellationToken,
    /// Ends the uplink, once everything is flushed.
    out: CancellationToken,
    tasks: TaskTracker,
    uplink: TaskTracker,
}

/// Threads that decode: two cores' worth at most, or the agent would compete with what it watches.
fn decoders() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().clamp(1, 4))
}

impl Agent {
    /// Starts an agent. Must be called inside a tokio runtime.
    pub async fn start(options: Options, home: Home) -> Result<Self, AgentError> {
        let now = Time::now();
        let counters = Arc::new(Counters::default());
        let senses = Senses::default();
        let grpc = bind("OTLP/gRPC", options.otlp_grpc).await?;
        let http = bind("OTLP/HTTP", options.otlp_http).await?;
        let spool_options = spool::Options {
            capacity: options.spool_cap,
            durability: options.durability,
            ..spool::Options::new(home.spool())
        };
        let (spool, recovered) = Spool::open(&spool_options, counters.clone(), now.0)?;
        let spool = Arc::new(spool);
        let services = Arc::new(ServiceProcesses::new(options.host.clone()));
        let pipeline = Pipeline::new(
            spool,
            reduce::Limits::default(),
            services.clone(),
            counters.clone(),
            recovered.covers,
        );
        let pipeline = Arc::new(match options.spans {
            Synthesis::On => pipeline.with_spans(Maker::new(&options.host, counters.clone())),
            Synthesis::Off => pipeline,
        });
        for damage in &recovered.damage {
            let text = format!(
                "{} bytes of the agent's spool were damaged and set aside in {}",
                damage.bytes,
                damage.file.display()
            );
            tracing::error!("{text}");
            let event = event(EventKind::StoreDamaged, &options.host, text, now);
            pipeline.own(Kind::Event, &event.encode_to_vec(), now);
        }
        let limits = Limits::with_budget(options.memory / 2);
        counters.budget_capacity_bytes.set(limits.budget.capacity());
        let workers = Arc::new(Workers::start(decoders(), &limits, &pipeline)?);
        let (intake, out) = (CancellationToken::new(), CancellationToken::new());
        let receiver =
            Receiver::new(limits.clone(), workers.clone(), counters.clone(), intake.clone());
        let (tasks, uplink) = (TaskTracker::new(), TaskTracker::new());
        let mut agent = Self {
            home,
            otlp_grpc: None,
            otlp_http: None,
            counters,
            senses,
            pipeline,
            workers,
            receiver,
            last_seen: Arc::default(),
            leave_after: options.leave_after,
            intake,
            out,
            tasks,
            uplink,
        };
        agent.otlp_grpc = agent.listen("otlp/grpc", grpc, "--otlp-grpc 127.0.0.1:4317");
        agent.otlp_http = agent.listen("otlp/http", http, "--otlp-http 127.0.0.1:4318");
        agent.tasks.spawn(flush_often(agent.pipeline.clone(), agent.intake.clone()));
        let watch = Watch {
            pipeline: agent.pipeline.clone(),
            receiver: agent.receiver.clone(),
            limits,
            host: options.host.clone(),
        };
        agent.tasks.spawn(watch.run(agent.intake.clone()));
        let ends = Arc::new(Ends::default());
        let remains = Arc::new(Remains::new(options.output));
        let lids = match &options.colony {
            Some(_) => Lids::remembering(agent.home.eyes_closed()),
            None => Lids::alone(),
        };
        if options.observe && options.ebpf {
            agent.look(&options, services.clone(), ends.clone(), remains.clone(), lids.clone());
        } else {
            kernel::turned_off(&agent.senses);
        }
        if options.observe {
            agent.observe(&options.host, services, ends, remains);
        }
        if let Some(file) = options.config {
            agent.read_what_is_named(file, &options.host);
        }
        if let Some(colony) = options.colony {
            let uplink = Uplink {
                colony,
                identity: Identity {
                    agent: agent.home.agent,
                    host: options.host,
                    scope: options.scope,
                },
                pipeline: agent.pipeline.clone(),
                senses: agent.senses.clone(),
                lids,
                last_seen: agent.last_seen.clone(),
            };
            agent.uplink.spawn(uplink.run(agent.out.clone()));
        }
        let ports = Ports {
            pid: std::process::id(),
            otlp_grpc: agent.otlp_grpc,
            otlp_http: agent.otlp_http,
            log: agent.home.log(),
        };
        agent.home.write_ports(&ports, options.ports_file.as_deref())?;
        Ok(agent)
    }

    fn listen(
        &self,
        sense: &str,
        listener: Option<TcpListener>,
        remedy: &str,
    ) -> Option<SocketAddr> {
        let Some(listener) = listener else {
            self.senses.off(sense, "turned off", Some(&format!("start coral-agent with {remedy}")));
            return None;
        };
        let address = listener.local_addr().ok()?;
        self.senses.on(sense, address.to_string());
        tracing::info!(%address, "{sense} listens");
        self.tasks.spawn(self.receiver.clone().accept(listener));
        Some(address)
    }

    /// Looks through eBPF, as long as that is wanted and costs no more than it may.
    fn look(
        &self,
        options: &Options,
        services: Arc<ServiceProcesses>,
        ends: Arc<Ends>,
        remains: Arc<Remains>,
        lids: Lids,
    ) {
        let requests = self.requests(options, services, Arc::clone(&remains));
        let tls = (options.tls != When::Never).then(|| (options.watch.clone(), options.tls));
        let (senses, pipeline) = (self.senses.clone(), self.pipeline.clone());
        let hooks = options.hooks;
        let make = move |opened| kernel::Setup {
            ends: ends.clone(),
            remains: remains.clone(),
            senses: senses.clone(),
            requests: requests().map(|table| (table, hooks)),
            tls: tls.clone(),
            pipeline: pipeline.clone(),
            opened,
        };
        let setup = keeper::Setup {
            make: Box::new(make),
            wish: lids.follow(),
            lids,
            senses: self.senses.clone(),
            pipeline: self.pipeline.clone(),
            host: options.host.clone(),
            limit: options.cpu_limit,
        };
        self.tasks.spawn(keeper::run(setup, self.intake.clone()));
    }

    /// Makes what follows requests through eBPF, anew whenever the eyes open; `None` where nobody's are
    /// watched.
    fn requests(
        &self,
        options: &Options,
        services: Arc<ServiceProcesses>,
        remains: Arc<Remains>,
    ) -> impl Fn() -> Option<Table> + Send + Sync + use<> {
        let ports = [self.otlp_grpc, self.otlp_http].into_iter().flatten().map(|a| a.port());
        let ports: Vec<u16> = ports.collect();
        let (host, watch) = (options.host.clone(), options.watch.clone());
        let counters = self.counters.clone();
        move || {
            if watch.is_none() {
                return None;
            }
            let files = Files::below("/");
            let names = Names::new(files, &host, watch.clone(), services.clone());
            let table = Table::new(names, ports.clone(), counters.clone());
            Some(table.with_nat(Nat::open()).with_remains(Arc::clone(&remains)))
        }
    }

    fn observe(
        &self,
        host: &str,
        services: Arc<ServiceProcesses>,
        ends: Arc<Ends>,
        remains: Arc<Remains>,
    ) {
        let (own, spool) = (self.pipeline.clone(), self.pipeline.spool.clone());
        let setup = observe::Setup {
            host: host.to_owned(),
            services,
            ends,
            remains,
            spool: Arc::new(move || Some(spool.usage())),
            sink: Arc::new(move |kind, body: Vec<u8>| own.own(kind, &body, Time::now())),
            senses: self.senses.clone(),
        };
        self.tasks.spawn(observe::run(setup, self.intake.clone()));
    }

    fn read_what_is_named(&self, file: PathBuf, host: &str) {
        let own = self.pipeline.clone();
        let places = self.home.log_places();
        let setup = sources::Setup {
            file,
            host: host.to_owned(),
            sink: Arc::new(move |kind, body: Vec<u8>| own.own(kind, &body, Time::now())),
            senses: self.senses.clone(),
            counters: self.counters.clone(),
            logs: logs::task::Shared {
                host: host.to_owned(),
                pipeline: self.pipeline.clone(),
                senses: self.senses.clone(),
                // Before the uplink begins to take segments away.
                places: Arc::new(Mutex::new(logs::places::Places::resume(
                    &places,
                    self.pipeline.spool.dir(),
                ))),
                file: places,
            },
        };
        self.tasks.spawn(sources::run(setup, self.intake.clone()));
    }

    /// Takes a request as if it had been received, and waits for the answer.
    ///
    /// # Errors
    /// When it is refused, as a sender would be told.
    pub async fn take(&self, signal: Signal, form: Form, body: Bytes) -> Result<Accepted, Refused> {
        let stopping = || Refused::Busy("the agent is stopping".to_owned());
        let (reply, answer) = oneshot::channel();
        let (held, peer) = (ByteBudget::new(u64::MAX).hold(), None);
        let job = Job { signal, form, encoding: Encoding::Identity, body, held, peer, reply };
        self.workers.submit(job).map_err(|_| stopping())?;
        let (accepted, ticket) = answer.await.map_err(|_| stopping())??;
        _ = ticket.ready().await;
        Ok(accepted)
    }

    /// Spool and reducer, for whoever drives an agent from inside.
    #[must_use]
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// Returns when the agent is of no use any more: no colony and no data for `leave_after`.
    pub async fn unused(&self) {
        let Some(leave_after) = self.leave_after else { return std::future::pending().await };
        let mut since = tokio::time::Instant::now();
        let mut known = (0, 0);
        loop {
            tokio::time::sleep(leave_after.min(Duration::from_secs(5))).await;
            let now = (self.last_seen.get(), self.counters.requests_accepted.get());
            if now != known {
                known = now;
                since = tokio::time::Instant::now();
            } else if since.elapsed() >= leave_after {
                return;
            }
        }
    }

    /// Stops in order: no new requests, those under way are answered, what was learnt is written,
    /// shipped as far as the colony takes it, and synced.
    pub async fn stop(self) {
        let Self { home, pipeline, workers, receiver, intake, out, tasks, uplink, .. } = self;
        intake.cancel();
        tasks.close();
        tasks.wait().await;
        if tokio::time::timeout(Duration::from_secs(3), receiver.drained()).await.is_err() {
            tracing::warn!("connections did not end in time");
        }
        drop((receiver, workers));
        let flushing = pipeline.clone();
        let flushed = tokio::task::spawn_blocking(move || {
            let done = flushing.flush(Time::now());
            flushing.spool.sync_now();
            done
        });
        if let Ok(Err(error)) = flushed.await {
            tracing::warn!(%error, "the last counts stay in the spool, uncounted until the next start");
        }
        out.cancel();
        uplink.close();
        uplink.wait().await;
        drop(home);
    }
}

async fn bind(what: &'static str, listen: Listen) -> Result<Option<TcpListener>, AgentError> {
    let (address, may_move) = match listen {
        Listen::Off => return Ok(None),
        Listen::Asked(address) => (address, false),
        Listen::Default(address) => (address, true),
    };
    let source = match TcpListener::bind(address).await {
        Ok(listener) => return Ok(Some(listener)),
        Err(source) => source,
    };
    if may_move && source.kind() == std::io::ErrorKind::AddrInUse {
        tracing::info!(%address, "{what}: taken, so any free port will do");
        let free = TcpListener::bind(SocketAddr::new(address.ip(), 0)).await;
        return match free {
            Ok(listener) => Ok(Some(listener)),
            Err(source) => Err(AgentError::Port { what, address, source, holder: String::new() }),
        };
    }
    let holder = match source.kind() {
        std::io::ErrorKind::AddrInUse => holder::of(address).map_or_else(
            || " (who holds it cannot be seen from here)".to_owned(),
            |holder| format!(" ({holder} holds it)"),
        ),
        _ => String::new(),
    };
    Err(AgentError::Port { what, address, source, holder })
}

/// Writes what the reducer learnt, a few times a second: every 250 ms while that is few rows, up to
/// every 500 ms when it is many, since rows of one series in two messages cost twice.
async fn flush_often(pipeline: Arc<Pipeline>, cancel: CancellationToken) {
    loop {
        let rows = u64::try_from(pipeline.rows_waiting()).unwrap_or(u64::MAX);
        let pause = Duration::from_millis(250 + (rows / 8).min(250));
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let flushing = pipeline.clone();
        let done = tokio::task::spawn_blocking(move || flushing.flush(Time::now())).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(%error, "what was learnt waits in memory");
        }
    }
}

fn event(kind: EventKind, host: &str, text: String, now: Time) -> AgentEvent {
    AgentEvent {
        at_ns: now.0,
        kind: kind.word().to_owned(),
        host: host.to_owned(),
        text,
        ..Default::default()
    }
}

/// Keeps levels up to date and says so when something is turned away.
struct Watch {
    pipeline: Arc<Pipeline>,
    receiver: Receiver,
    limits: Limits,
    host: String,
}

impl Watch {
    async fn run(self, cancel: CancellationToken) {
        let mut every = tokio::time::interval(Duration::from_millis(500));
        let mut known = self.turned_away();
        let mut told = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = every.tick() => {}
            }
            let counters = &self.pipeline.counters;
            counters.connections_open.set(self.receiver.open());
            counters.budget_bytes.set(self.limits.budget.used());
            self.pipeline.spool.check_disk();
            let now = self.turned_away();
            if now != known && told.elapsed() >= Duration::from_secs(10) {
                let [spool, busy, own] = std::array::from_fn(|i| {
                    now.get(i).zip(known.get(i)).map_or(0, |(now, then)| now - then)
                });
                let text = format!(
                    "the agent turned away {spool} exports for a full spool and {busy} for too many \
                     bytes at once, and dropped {own} observations of its own"
                );
                let at = Time::now();
                let event = event(EventKind::Dropped, &self.host, text, at);
                self.pipeline.own(Kind::Event, &event.encode_to_vec(), at);
                known = self.turned_away();
                told = tokio::time::Instant::now();
            }
        }
    }

    fn turned_away(&self) -> [u64; 3] {
        let counters = &self.pipeline.counters;
        [
            counters.requests_refused_spool.get(),
            counters.requests_refused_busy.get(),
            counters.dropped_observations.get(),
        ]
    }
}

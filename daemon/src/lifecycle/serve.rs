//! From the command line to the exit code.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use coral_model::Time;
use coral_model::paths::{Paths, make_private_dir};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::end::end_on_panic;
use super::house::{self, House};
use super::pulse::Pulse;
use super::settings::Settings;
use super::{ALREADY_RUNNING, Activity, Args, Beacon, Ending, Incoming, Lock, LockError, Why, log};
use crate::api::{self, About, Backend, Colony, permit::Policy};
use crate::counters::Counters;
use crate::intake::Uplink;
use crate::query::Context;
use crate::registry::{Agents, Control, Registry};
use crate::store::{Options, Store};
use crate::supervise::{Plan, Supervisor, Watch, program};

/// Longest the server may take to finish open calls.
const DRAIN: Duration = Duration::from_secs(5);
/// Longest blocking threads may take after that.
const LINGER: Duration = Duration::from_secs(2);

/// How folders are called that `coral open FILE` makes.
const FOR_A_FILE: &str = "coral-open-";
/// How long ends of requests wait for each other when all come from one file.
const FILE_WINDOW: u64 = 5 * coral_model::time::SECOND;

/// Runs the daemon with this process's command line.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("coral-daemon: {error:#}");
            ExitCode::from(Why::Failed.code())
        }
    }
}

/// Every path of one daemon.
#[derive(Clone, Debug)]
struct Place {
    paths: Paths,
    colony: coral_model::paths::ColonyName,
    dir: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl Place {
    fn of(args: &Args) -> anyhow::Result<Self> {
        let mut paths = Paths::from_env()?;
        if let Some(data) = &args.data {
            paths.data_dir = std::path::absolute(data)?;
        }
        if let Some(socket) = &args.socket {
            paths.socket_override = Some(std::path::absolute(socket)?);
        }
        if args.system && paths.socket_override.is_none() {
            paths.runtime_dir = "/run/coral".into();
        }
        let colony = args.colony.clone();
        let (dir, socket) = (paths.colony_dir(&colony), paths.socket(&colony)?);
        let log = paths.daemon_log(&colony);
        Ok(Self { paths, colony, dir, socket, log })
    }

    /// Deletes everything of a colony that was made for a file. A folder that was not made for that is
    /// left alone, whatever the command line says.
    fn delete(&self) {
        let own = self.dir.ancestors().find(|dir| {
            let name = dir.file_name().map(|n| n.to_string_lossy().into_owned());
            name.is_some_and(|name| name.starts_with(FOR_A_FILE))
        });
        if let Some(dir) = own {
            _ = std::fs::remove_dir_all(dir);
        }
    }

    /// Directories that only the owner may enter; a system colony's socket directory is the
    /// packager's affair.
    fn prepare(&self, system: bool) -> anyhow::Result<()> {
        make_private_dir(&self.dir, self.paths.uid)?;
        std::fs::create_dir_all(self.paths.logs_dir(&self.colony))?;
        if !system {
            self.paths.prepare_runtime_dir()?;
        }
        Ok(())
    }
}

fn run(args: &Args) -> anyhow::Result<u8> {
    if !args.foreground {
        // Ours alone from here: the starter's terminal may close. Fails where the starter has done
        // it already.
        _ = rustix::process::setsid();
    }
    let place = Place::of(args)?;
    place.prepare(args.system)?;
    let lock = match Lock::take(&place.paths.lock_file(&place.colony)) {
        Ok(lock) => lock,
        Err(e @ LockError::Held { .. }) => {
            eprintln!("coral-daemon: colony {} is already running: {e}", place.colony);
            return Ok(ALREADY_RUNNING);
        }
        Err(e) => return Err(e.into()),
    };
    log::start(&place.log, args.foreground).with_context(|| format!("{}", place.log.display()))?;
    let ending = Arc::new(Ending::default());
    end_on_panic(Arc::downgrade(&ending));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve(args, &place, Arc::clone(&ending)));
    runtime.shutdown_timeout(LINGER);
    Beacon::remove(&place.dir);
    drop(lock);
    if args.file.is_some() {
        place.delete();
    }
    served?;
    let why = ending.why().unwrap_or(Why::Failed);
    tracing::info!("ended: {why:?}");
    Ok(why.code())
}

async fn serve(args: &Args, place: &Place, ending: Arc<Ending>) -> anyhow::Result<()> {
    // First of all: from here on a signal ends it in order, however early it comes.
    let signals = Signals::catch().context("signals cannot be caught")?;
    let since = Time::now();
    let counters = Arc::new(Counters::default());
    let control = Control::open(&place.paths.control_file(&place.colony))?;
    let registry: Arc<dyn Registry> = Arc::new(control);
    let known = registry.agents()?;
    let agents = Arc::new(match &args.file {
        Some(name) => Agents::of_file(name),
        None => Agents::known(known.iter().cloned()),
    });
    agents.eyes().restore(registry.as_ref())?;
    let stays = args.stay || registry.setting(Colony::STAY)?.is_some();
    let activity = Activity::new(Instant::now(), stays);
    let store = open_store(args, place, &counters).await?;
    let detector = house::detector(&store, &known).await.context("the store cannot be read")?;
    let detector = Arc::new(Mutex::new(detector));

    let supervisor =
        (!args.no_agent && args.file.is_none()).then(|| Supervisor::new(plan(args, place)));
    let local = supervisor.as_ref().map_or_else(Watch::default, Supervisor::watch);
    // Three steps down: the agent first, while its last words are still taken; then callers and
    // uplinks; then the store.
    let (stop_agent, stop_serving) = (CancellationToken::new(), CancellationToken::new());

    let context = Context {
        store: Arc::clone(&store),
        live: Arc::clone(store.live()),
        agents: Arc::clone(&agents),
        counters: Arc::clone(&counters),
        now: since,
    };
    let backend: Arc<dyn Backend> =
        Arc::new(House::new(context, Arc::clone(&detector), local, args.file.is_some()));
    let uplink = Uplink::new(
        Arc::clone(&store),
        Arc::clone(&agents),
        Arc::clone(&detector),
        Arc::clone(&counters),
        place.colony.to_string(),
        stop_serving.clone(),
    );

    let mode = if args.system { 0o660 } else { 0o600 };
    let refused = counters.counter("connections_refused");
    let data = place.paths.data_dir.to_string_lossy();
    let whose = [place.colony.as_str(), &*data];
    let incoming = Incoming::bind(&place.socket, mode, &whose, refused)?;
    let policy = Policy { owner: place.paths.uid, system: args.system };
    let of_file = args.file.as_ref().map(|file| format!("FILE {file}"));
    let about = About {
        colony: of_file.unwrap_or_else(|| place.colony.to_string()),
        socket: place.socket.clone(),
        data_dir: place.dir.clone(),
        log_file: place.log.clone(),
        since,
    };
    let colony = Colony::new(
        about,
        Arc::clone(&backend),
        Arc::clone(&activity),
        Arc::clone(&ending),
        Arc::clone(&registry),
        Arc::clone(&agents),
        stop_serving.clone(),
    );
    let mut server =
        tokio::spawn(api::serve(incoming, policy, colony, uplink, stop_serving.clone()));
    let supervised = supervisor.map(|s| tokio::spawn(s.run(stop_agent.clone())));
    let pulse = tokio::spawn(
        Pulse {
            agents,
            registry,
            detector,
            counters,
            backend,
            activity,
            ending: Arc::clone(&ending),
            leave_after: args.leave_after,
            of_file: args.file.is_some(),
        }
        .run(),
    );
    let settings = Settings::new(place.paths.clone(), place.colony.clone());
    let settings = tokio::spawn(settings.follow(Arc::clone(&store), stop_serving.clone()));
    announce(args, place)?;

    tokio::select! {
        () = signals.wait_for_end(&ending) => {}
        ended = &mut server => {
            tracing::error!("the server ended by itself: {ended:?}");
            ending.begin(Why::Failed);
        }
    }
    tracing::info!("ending: {:?}", ending.why());
    stop_agent.cancel();
    if let Some(supervised) = supervised {
        _ = supervised.await;
    }
    stop_serving.cancel();
    if !server.is_finished() && tokio::time::timeout(DRAIN, &mut server).await.is_err() {
        tracing::warn!("calls are still open: cutting them");
        server.abort();
    }
    _ = pulse.await;
    _ = settings.await;
    store.close().await;
    Ok(())
}

async fn open_store(
    args: &Args,
    place: &Place,
    counters: &Arc<Counters>,
) -> anyhow::Result<Arc<Store>> {
    let (dir, mut options) =
        (place.paths.store_dir(&place.colony), Options::new(Arc::clone(counters)));
    match Settings::new(place.paths.clone(), place.colony.clone()).look() {
        Some(Ok(retention)) => options.retention = retention,
        Some(Err(error)) => tracing::warn!("things are kept as long as by default: {error}"),
        None => {}
    }
    if let Some(age) = args.slice_age {
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        (options.part_age, options.seal_grace) = (Some(age), 0);
    }
    if args.file.is_some() {
        options.edges.window = FILE_WINDOW;
    }
    let opened = tokio::task::spawn_blocking(move || Store::open(&dir, options)).await?;
    Ok(opened?)
}

/// The signals that end a daemon in order.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Returns when the end has begun; signals begin it.
    async fn wait_for_end(mut self, ending: &Ending) {
        tokio::select! {
            () = ending.token().cancelled() => {}
            _ = self.terminate.recv() => ending.begin(Why::Signal),
            _ = self.interrupt.recv() => ending.begin(Why::Signal),
        }
    }
}

/// Says where the daemon is: in `daemon.json`, and as one line on standard output, where a starter
/// may wait for it. A daemon without a terminal then lets go of what it inherited.
fn announce(args: &Args, place: &Place) -> anyhow::Result<()> {
    let beacon = Beacon {
        colony: place.colony.to_string(),
        pid: std::process::id(),
        socket: place.socket.clone(),
        log: place.log.clone(),
        build: env!("CARGO_PKG_VERSION").into(),
    };
    beacon.write(&place.dir)?;
    tracing::info!("colony {} serves on {}", beacon.colony, beacon.socket.display());
    // The starter may be gone already.
    _ = writeln!(std::io::stdout(), "{}", serde_json::to_string(&beacon)?);
    if !args.foreground {
        let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        std::env::set_current_dir("/")?;
    }
    Ok(())
}

/// How the local agent is started.
fn plan(args: &Args, place: &Place) -> Plan {
    let data = place.paths.agent_dir(&place.colony);
    let mut socket = std::ffi::OsString::from("unix:");
    socket.push(&place.socket);
    let mut agent: Vec<std::ffi::OsString> =
        vec!["--colony".into(), socket, "--data".into(), data.clone().into()];
    // Should nobody start the colony again, its agent does not stay for ever.
    let leave = format!("{}s", args.leave_after.as_secs().max(60));
    agent.extend(["--leave-after".into(), leave.into()]);
    for (flag, address) in [("--otlp-grpc", &args.otlp_grpc), ("--otlp-http", &args.otlp_http)] {
        if let Some(address) = address {
            agent.extend([flag.into(), address.into()]);
        }
    }
    let logs = place.paths.logs_dir(&place.colony);
    Plan {
        program: args.agent.clone().unwrap_or_else(|| program("coral-agent")),
        args: agent,
        data,
        output: logs.join("agent.out"),
        note: place.dir.join("agent.json"),
    }
}

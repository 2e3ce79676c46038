//! `coral-agent`: flags, log, signals; everything else is [`coral_agent`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use coral_agent::agent::{Agent, Listen, Options};
use coral_agent::home::{Home, HomeError};
use coral_agent::logfile::LogFile;
use coral_agent::observe::kernel::Hooks;
use coral_agent::observe::remains::Capture;
use coral_agent::observe::requests::tls::When;
use coral_agent::observe::requests::watch::Watch;
use coral_agent::spans::Synthesis;
use coral_agent::spool::Durability;
use coral_agent::uplink::Colony;

/// Receives OpenTelemetry data, watches the host, and ships both to a colony.
#[derive(Debug, Parser)]
#[command(name = "coral-agent", version)]
struct Args {
    /// Where the colony is: unix:/path/to/uplink.sock. Without it everything stays in the spool
    #[arg(long, env = "CORAL_AGENT_COLONY")]
    colony: Option<Colony>,
    /// Data folder: spool, id, log
    #[arg(long, env = "CORAL_AGENT_DATA")]
    data: PathBuf,
    /// Take OTLP/gRPC here; `off` does not [default: 127.0.0.1:4317, or a free port if that is taken]
    #[arg(long, value_parser = listen)]
    otlp_grpc: Option<Listen>,
    /// Take OTLP/HTTP here; `off` does not [default: 127.0.0.1:4318, or a free port if that is taken]
    #[arg(long, value_parser = listen)]
    otlp_http: Option<Listen>,
    /// This host's name [default: what the kernel says]
    #[arg(long)]
    host_name: Option<String>,
    /// What part of the host this agent watches
    #[arg(long, default_value = "host")]
    scope: String,
    /// Leave after so long without colony and without data, like 10m
    #[arg(long, value_parser = duration)]
    leave_after: Option<Duration>,
    /// Bound of the spool, like 500MiB [default: the smaller of 1 GiB and 10 % of what is free]
    #[arg(long, value_parser = bytes)]
    spool_cap: Option<u64>,
    /// Acknowledge exports once written, or once they survive a power loss
    #[arg(long, value_enum, default_value = "process")]
    durability: Durability,
    /// Memory the agent may use
    #[arg(long, value_parser = bytes, default_value = "256MiB")]
    memory: u64,
    /// Also write pid and ports here, as JSON
    #[arg(long)]
    ports_file: Option<PathBuf>,
    /// What else to read: metrics to scrape [default: agent.toml in coral's config folder]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Do not watch the host
    #[arg(long)]
    no_host: bool,
    /// Do not load eBPF programs
    #[arg(long, env = "CORAL_NO_EBPF", value_parser = clap::builder::FalseyValueParser::new())]
    no_ebpf: bool,
    /// Programs whose requests are seen through eBPF: all, none, or executables with a service's name
    /// behind = where they need one, like nginx=edge,/opt/shop/*
    #[arg(long, env = "CORAL_WATCH", value_name = "LIST", default_value = "all")]
    watch: Watch,
    /// Where the kernel shows these requests
    #[arg(long, env = "CORAL_HOOKS", value_enum, value_name = "WHERE", default_value = "auto")]
    hooks: Hooks,
    /// Read what watched programs give to OpenSSL and get from it: their requests within TLS
    #[arg(long, env = "CORAL_TLS", value_enum, value_name = "WHEN", default_value = "auto")]
    tls: When,
    /// Keep the last lines of what services' processes write, in case that they die
    #[arg(long, env = "CORAL_OUTPUT", value_enum, value_name = "WHICH", default_value = "auto")]
    output: Capture,
    /// Make spans of requests that are seen through eBPF, of services that export none themselves
    #[arg(long, env = "CORAL_SPANS", value_enum, value_name = "WHETHER", default_value = "off")]
    spans: Synthesis,
    /// Share of one core the agent may use; with more, its eBPF programs leave the kernel for a while;
    /// 0: any
    #[arg(long, env = "CORAL_CPU_LIMIT", value_name = "SHARE", value_parser = share, default_value = "0.5")]
    cpu_limit: f64,
    /// Read this file (OTLP/JSON or a log) instead of receiving, ship it, say what it held, and leave
    #[arg(long, value_name = "FILE", requires = "colony")]
    import: Option<PathBuf>,
}

/// Exit code when another agent has the data folder (EX_TEMPFAIL of sysexits.h).
const TAKEN: u8 = 75;

fn listen(text: &str) -> Result<Listen, String> {
    if text == "off" {
        return Ok(Listen::Off);
    }
    let parsed = text.parse::<SocketAddr>();
    parsed.map(Listen::Asked).map_err(|_| "write ip:port (port 0 for any free one) or off".into())
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("write a number and s, m or h, like 10m".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write a number first, like 10m".to_owned())?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

fn bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err("write a number and KiB, MiB or GiB, like 500MiB".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write a number first, like 500MiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "that is too many bytes".into())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| share.is_finite() && *share >= 0.0);
    share.ok_or_else(|| "write a share of one core like 0.5, or 0 for no limit".into())
}

fn main() -> ExitCode {
    let args = Args::parse();
    let home = match Home::open(&args.data) {
        Ok(home) => home,
        Err(error) => {
            let taken = matches!(error, HomeError::Taken { .. });
            eprintln!("coral-agent: {:#}", anyhow::Error::from(error));
            return if taken { ExitCode::from(TAKEN) } else { ExitCode::from(5) };
        }
    };
    match start(args, home) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            eprintln!("coral-agent: {error:#}");
            ExitCode::from(5)
        }
    }
}

fn start(args: Args, home: Home) -> anyhow::Result<()> {
    log_to(&home).context("cannot open the log")?;
    raise_descriptor_limit();
    // Two IO threads move bytes for any number of connections; decoding has threads of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, |n| n.get().min(2)))
        .max_blocking_threads(16)
        .thread_name("io")
        .enable_all()
        .build()
        .context("cannot start the IO threads")?;
    let done = runtime.block_on(run(args, home));
    // What still runs has been told to end; do not wait for it forever.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn run(args: Args, home: Home) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let default = |port| Listen::Default(SocketAddr::from(([127, 0, 0, 1], port)));
    let import = args.import;
    let doors = |asked: Option<Listen>, port| match (&import, asked) {
        (Some(_), _) => Listen::Off,
        (None, asked) => asked.unwrap_or_else(|| default(port)),
    };
    let scratch = args.data.clone();
    let options = Options {
        data: args.data,
        colony: args.colony,
        otlp_grpc: doors(args.otlp_grpc, 4317),
        otlp_http: doors(args.otlp_http, 4318),
        host: args.host_name.unwrap_or_else(host_name),
        scope: args.scope,
        spool_cap: args.spool_cap,
        durability: args.durability,
        memory: args.memory,
        leave_after: args.leave_after,
        ports_file: args.ports_file,
        observe: !args.no_host && import.is_none(),
        ebpf: !args.no_ebpf,
        watch: args.watch,
        hooks: args.hooks,
        tls: args.tls,
        output: args.output,
        spans: args.spans,
        cpu_limit: (args.cpu_limit > 0.0).then_some(args.cpu_limit),
        config: if import.is_some() { None } else { args.config.or_else(default_config) },
    };
    let agent = Agent::start(options, home).await?;
    if let Some(file) = import {
        let read = tokio::select! {
            read = coral_agent::import::run(&agent, &file, &scratch) => read,
            _ = terminate.recv() => anyhow::bail!("interrupted"),
            _ = interrupt.recv() => anyhow::bail!("interrupted"),
        };
        agent.stop().await;
        println!("{}", serde_json::to_string(&read?)?);
        return Ok(());
    }
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        () = agent.unused() => tracing::info!("no colony and no data for a while: leaving"),
    }
    agent.stop().await;
    tracing::info!("stopped");
    Ok(())
}

fn default_config() -> Option<PathBuf> {
    let paths = coral_model::paths::Paths::from_env().ok()?;
    Some(paths.config_dir.join("agent.toml"))
}

fn log_to(home: &Home) -> anyhow::Result<()> {
    let log = LogFile::open(&home.log())?;
    let filter = tracing_subscriber::EnvFilter::try_from_env("CORAL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(log).init();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("{panic}");
        before(panic);
    }));
    tracing::info!(pid = std::process::id(), build = coral_agent::BUILD, "started");
    Ok(())
}

/// Connections cost a descriptor each; systems still start programs with 1,024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum.map(|most| most.min(65_536)).or(Some(65_536));
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

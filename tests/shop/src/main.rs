//! The sample shop: five services that really call each other, real customers, and switches that really break
//! things. It is the demo, and the ground that Coral's tests stand on.
//!
//! `run` owns everything (see `run`); each service is this same executable again (see `service`), instrumented with
//! the official OpenTelemetry SDK and nothing of Coral's. The shop does not know who collects what it sends.

mod calling;
mod dice;
mod dns;
mod effects;
mod failure;
mod fault;
mod http_client;
mod load;
mod run;
mod service;
mod services;
mod serving;
mod telemetry;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "coral-shop", version, about = "A sample shop to watch, and to break")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start the shop with its databases and its customers; Ctrl-C stops all of it
    Run {
        /// Where it keeps its files [default: ~/.cache/coral/shop]
        #[arg(long, env = "CORAL_SHOP_DIR")]
        dir: Option<PathBuf>,
        /// Where telemetry goes (OTLP over gRPC); `off`: there is none
        #[arg(long, default_value = "http://127.0.0.1:4317")]
        otlp: String,
        /// Requests per second
        #[arg(long, default_value_t = 20.0)]
        rps: f64,
        /// Stop by itself after so long
        #[arg(long)]
        seconds: Option<u64>,
        /// The same seed makes the same customers
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Break something in a running shop: `fault payments pool`, or `fault list`
    Fault {
        /// gateway, catalog, checkout, payments, shipping; or `list`
        service: String,
        /// What is to happen
        fault: Option<String>,
        /// How much of it
        value: Option<String>,
        /// Where the shop runs
        #[arg(long, env = "CORAL_SHOP_DIR")]
        dir: Option<PathBuf>,
    },
    /// Switch every fault off
    Heal {
        /// Where the shop runs
        #[arg(long, env = "CORAL_SHOP_DIR")]
        dir: Option<PathBuf>,
    },
    /// Show what runs and what is broken
    Status {
        /// Where the shop runs
        #[arg(long, env = "CORAL_SHOP_DIR")]
        dir: Option<PathBuf>,
    },
    /// Send customers to a shop
    Load {
        /// The gateway
        #[arg(long)]
        url: String,
        /// Requests per second
        #[arg(long, default_value_t = 20.0)]
        rps: f64,
        /// The same seed makes the same customers
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Stop by itself after so long
        #[arg(long)]
        seconds: Option<u64>,
        /// Stop when this process, which started it, is gone
        #[arg(long, hide = true)]
        parent: Option<u32>,
    },
    /// One service; `run` starts these
    #[command(hide = true)]
    Service { name: String },
}

fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    // The SDK reports failed exports as tracing events; they belong on stderr.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match &verb {
        // The SDK's exporters run on threads of their own and need a runtime that is never busy for long.
        Verb::Service { .. } => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
        }
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build(),
    };
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(obey(verb));
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coral-shop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn obey(verb: Verb) -> anyhow::Result<()> {
    let place = |dir: Option<PathBuf>| dir.unwrap_or_else(run::state::default_dir);
    match verb {
        Verb::Run { dir, otlp, rps, seconds, seed } => {
            anyhow::ensure!(
                rps > 0.0 && rps <= 2_000.0,
                "--rps is a number above 0, at most 2000, not {rps}"
            );
            run::run(run::Options { dir: place(dir), otlp, rps, seconds, seed }).await
        }
        Verb::Fault { service, fault: None, .. } if service == "list" => {
            println!(
                "coral-shop fault <gateway|catalog|checkout|payments|shipping> <fault> [value]\n"
            );
            for spec in &fault::CATALOGUE {
                println!("{:<9} {:<12} {:<9} {}", spec.name, spec.value, spec.default, spec.what);
            }
            Ok(())
        }
        Verb::Fault { service, fault, value, dir } => {
            let name = fault.unwrap_or_default();
            // Wrong words are refused here already, whether or not a shop runs.
            fault::Fault::parse(&service, &name, value.as_deref())?;
            let said =
                run::control::send_fault(&place(dir), &service, &name, value.as_deref()).await?;
            println!("{said}");
            Ok(())
        }
        Verb::Heal { dir } => {
            println!("{}", run::control::send_heal(&place(dir)).await?);
            Ok(())
        }
        Verb::Status { dir } => {
            let state = run::state::read(&place(dir))?;
            println!(
                "{:<9} {:<12} {:>7} {:>6} {:>8}  faults",
                "service", "version", "pid", "port", "restarts"
            );
            for one in &state.services {
                println!(
                    "{:<9} {:<12} {:>7} {:>6} {:>8}  {}",
                    one.name, one.version, one.pid, one.port, one.restarts, one.faults
                );
            }
            Ok(())
        }
        Verb::Load { url, rps, seed, seconds, parent } => {
            load::ends_with(parent);
            load::run(&url, rps, seed, seconds).await
        }
        Verb::Service { name } => service::run(&name).await,
    }
}

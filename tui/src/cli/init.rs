//! `coral init`: what is here, what an application must be told, and a first configuration.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write as _};
use std::net::TcpListener;

use coral_model::config::{Spec, set_in_text};

use super::Context;
use super::agent_lines::Doors;
use super::args;
use super::exit::{Exit, Failure};
use super::settings;
use super::standard;
use crate::client::{Client, find_program};

/// What was found.
struct Found {
    status: Option<coral_model::view::StatusRow>,
    grpc_free: bool,
    http_free: bool,
}

/// Looks around, asks where somebody is there to answer, and writes.
pub async fn run(context: &Context, flags: args::Init) -> Result<Exit, Failure> {
    let found = look(context).await;
    standard::write(report(context, &found).as_bytes())?;
    let file = context.target.paths.config_file();
    let asks =
        !flags.yes && !flags.print && io::stdin().is_terminal() && io::stdout().is_terminal();
    if flags.print || !(asks || flags.yes) {
        let line = format!("nothing was written; coral init --yes writes {}\n", file.display());
        standard::write(line.as_bytes())?;
        return Ok(Exit::Done);
    }
    let mut text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            "# Coral's settings; `coral config explain` lists them all.\n".to_owned()
        }
        Err(e) => return Err(Failure::other(format!("{}: {e}", file.display()))),
    };
    for (key, question, proposed) in [
        ("colony", "Name of the colony", context.config.colony.to_string()),
        ("otlp.grpc", "OTLP over gRPC (auto, off, address:port)", listen(context.config.otlp_grpc)),
        ("otlp.http", "OTLP over HTTP (auto, off, address:port)", listen(context.config.otlp_http)),
    ] {
        let Some(spec) = Spec::find(key) else { continue };
        // What the file says already is kept, whatever this shell's environment says today.
        let proposed = written(&text, key).unwrap_or(proposed);
        let value = if asks { ask(question, &proposed, spec)? } else { proposed };
        text = set_in_text(&text, spec, &value);
    }
    if asks && !confirmed(&format!("Write {}?", file.display()))? {
        standard::write(b"nothing was written\n")?;
        return Ok(Exit::Done);
    }
    settings::write(&file, &text)?;
    let next = if found.status.is_some() { "coral down && coral up" } else { "coral up" };
    standard::write(format!("wrote {}\nnext: {next}\n", file.display()).as_bytes())?;
    Ok(Exit::Done)
}

/// A setting's value in the text of a file, where it has one.
fn written(text: &str, key: &str) -> Option<String> {
    let table: toml::Table = text.parse().ok()?;
    let (last, groups) =
        key.split('.').collect::<Vec<_>>().split_last().map(|(l, g)| (*l, g.to_vec()))?;
    let mut at = &table;
    for group in groups {
        at = at.get(group)?.as_table()?;
    }
    at.get(last)?.as_str().map(str::to_owned)
}

fn listen(listen: coral_model::config::Listen) -> String {
    listen.argument().unwrap_or_else(|| "auto".to_owned())
}

async fn look(context: &Context) -> Found {
    let status = match Client::connect(&context.target).await {
        Ok(client) => client.status().await.ok(),
        Err(_) => None,
    };
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    Found { status, grpc_free: free(4317), http_free: free(4318) }
}

fn report(context: &Context, found: &Found) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for name in ["coral-daemon", "coral-agent"] {
        _ = match find_program(name) {
            Some(file) => writeln!(text, "{name:<13} {}", file.display()),
            None => writeln!(text, "{name:<13} not found: put it beside coral or on PATH"),
        };
    }
    let doors = match &found.status {
        Some(status) => {
            _ = writeln!(text, "colony        {} runs (process {})", status.colony, status.pid);
            Doors::of(status)
        }
        None => {
            _ = writeln!(
                text,
                "colony        {} does not run yet: coral up",
                context.config.colony
            );
            for (port, free) in [(4317, found.grpc_free), (4318, found.http_free)] {
                let is = if free {
                    "free"
                } else {
                    "held by another program; a free one will be taken and printed"
                };
                _ = writeln!(text, "port {port}     {is}");
            }
            let door = |free: bool, port: u16| free.then(|| format!("127.0.0.1:{port}"));
            Doors { grpc: door(found.grpc_free, 4317), http: door(found.http_free, 4318) }
        }
    };
    let file = context.target.paths.config_file();
    let there = if file.exists() { "" } else { " (not there yet)" };
    _ = writeln!(text, "settings      {}{there}", file.display());
    for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME"] {
        if let Ok(value) = std::env::var(name) {
            let value = coral_model::text::fit(&value, 100);
            _ = writeln!(text, "found         {name}={value} in this shell");
        }
    }
    _ = writeln!(text, "\nAn application reports here when its environment says:");
    let lines = doors.lines();
    if lines.is_empty() {
        _ = writeln!(text, "  (coral up prints the lines)");
    }
    for line in lines {
        _ = writeln!(text, "  {line}");
    }
    _ = writeln!(text, "  OTEL_SERVICE_NAME=my-service\n");
    text
}

fn line() -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Asks until the answer makes sense; Enter takes what is proposed.
fn ask(question: &str, proposed: &str, spec: &Spec) -> Result<String, Failure> {
    loop {
        print!("{question} [{proposed}]: ");
        io::stdout().flush()?;
        let typed = line()?;
        let value = if typed.is_empty() { proposed } else { &typed };
        match spec.check(value) {
            Ok(value) => return Ok(value),
            Err(why) => println!("  {why}"),
        }
    }
}

fn confirmed(question: &str) -> Result<bool, Failure> {
    print!("{question} [Y/n] ");
    io::stdout().flush()?;
    Ok(matches!(line()?.to_lowercase().as_str(), "" | "y" | "yes"))
}

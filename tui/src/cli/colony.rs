//! `coral up`, `down` and `status`.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use coral_model::config::Listen;
use coral_model::text::{bytes, clean, count, duration};
use coral_model::view::{End, Row, State, StatusRow, lost as dropped};
use coral_model::{Time, Window};

use super::Context;
use super::agent_lines::Doors;
use super::args;
use super::exit::{Exit, Failure};
use super::output::{self, Reader};
use super::standard;
use crate::client::{Client, ClientError};

/// How long the agent may take to open its doors.
const DOORS: Duration = Duration::from_secs(15);
/// How long an orderly end may take: committing, the agent's last words, a checkpoint.
const END: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(30);

/// Starts the colony, or finds it, and lets it stay.
pub async fn up(context: &Context, json: bool) -> Result<Exit, Failure> {
    let mut launch = context.launch.clone();
    launch.stay = true;
    let progress = |line: &str| {
        if io::stderr().is_terminal() {
            _ = writeln!(io::stderr(), "{line}…");
        }
    };
    let before = Client::connect(&context.target).await.is_ok();
    let client = Client::connect_or_start(&context.target, &launch, &progress).await?;
    client.stay(true).await?;
    let status = open_doors(context, &client, &progress).await?;
    let doors = Doors::of(&status);
    let listening = doors.any() || !wants_doors(context);
    if json {
        standard::write(&lines_of(&client, &context.clock.now).await?)?;
        return Ok(if listening { Exit::Done } else { Exit::Unhealthy });
    }
    let mut text = String::new();
    let verb = if before { "was running already and now stays" } else { "runs" };
    // Writing to a String cannot fail.
    _ = writeln!(
        text,
        "colony {} {verb} (process {}) until: coral down",
        status.colony, status.pid
    );
    for agent in &status.agents {
        if agent.state == State::Active {
            let host = clean(&agent.host);
            _ = writeln!(text, "agent on {host} (process {})", agent.pid);
        }
    }
    for line in doors.lines() {
        _ = writeln!(text, "{line}");
    }
    if !listening {
        _ = writeln!(text, "the agent does not listen for OTLP yet; coral doctor says why");
    }
    if before {
        for (asked, has) in
            [(context.config.otlp_grpc, &doors.grpc), (context.config.otlp_http, &doors.http)]
        {
            if let Listen::At(address) = asked
                && address.port() != 0
                && has.as_deref() != Some(&address.to_string())
            {
                _ = writeln!(
                    text,
                    "it does not listen on {address}, which it was not started with: coral down && coral up"
                );
            }
        }
    }
    standard::write(text.as_bytes())?;
    Ok(if listening { Exit::Done } else { Exit::Unhealthy })
}

fn wants_doors(context: &Context) -> bool {
    context.config.otlp_grpc != Listen::Off || context.config.otlp_http != Listen::Off
}

/// Waits until the agent listens where it should, or the time is over: then what is there counts.
async fn open_doors(
    context: &Context,
    client: &Client,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<StatusRow, Failure> {
    let wait = async {
        let mut told = false;
        loop {
            let status = client.status().await?;
            let doors = Doors::of(&status);
            let open =
                |asked: Listen, door: &Option<String>| asked == Listen::Off || door.is_some();
            if open(context.config.otlp_grpc, &doors.grpc)
                && open(context.config.otlp_http, &doors.http)
            {
                return Ok(status);
            }
            if !std::mem::replace(&mut told, true) {
                progress("waiting for the agent");
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(DOORS, wait).await {
        Ok(status) => status,
        Err(_) => Ok(client.status().await?),
    }
}

/// Stops the colony and its agent, and waits until both are gone.
pub async fn down(context: &Context, json: bool) -> Result<Exit, Failure> {
    let colony = &context.target.colony;
    let say = |stopped: bool, text: String| {
        let line = if json {
            let object = serde_json::json!({
                "schema": "coral.down/1", "colony": colony.as_str(), "stopped": stopped,
            });
            format!("{object}\n")
        } else {
            text
        };
        standard::write(line.as_bytes())
    };
    let client = match Client::connect(&context.target).await {
        Ok(client) => client,
        Err(ClientError::NotRunning { .. }) => {
            say(false, format!("colony {colony} does not run\n"))?;
            return Ok(Exit::Done);
        }
        Err(e) => return Err(e.into()),
    };
    let status = client.status().await.ok();
    match client.shutdown().await {
        // It may be gone before its answer is.
        Ok(()) | Err(ClientError::Lost(_)) => {}
        Err(e) => return Err(e.into()),
    }
    let pids: Vec<u32> = status
        .iter()
        .flat_map(|s| std::iter::once(s.pid).chain(local_agents(s)))
        .filter(|pid| *pid > 0)
        .collect();
    let gone = async {
        loop {
            let silent = matches!(
                Client::connect(&context.target).await,
                Err(ClientError::NotRunning { .. })
            );
            if silent && !pids.iter().any(|pid| is_alive(*pid)) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(END, gone).await.is_err() {
        let left: Vec<_> = pids.iter().filter(|pid| is_alive(**pid)).map(u32::to_string).collect();
        let what = format!("colony {colony} is still stopping (processes {})", left.join(" "));
        let log = context.target.paths.daemon_log(colony);
        return Err(Failure::other(what).next(format!("tail {}", log.display())));
    }
    say(true, format!("colony {colony} and its agent have stopped; what they gathered stays\n"))?;
    Ok(Exit::Done)
}

/// Processes of agents that connected from this machine.
fn local_agents(status: &StatusRow) -> impl Iterator<Item = u32> {
    status.agents.iter().filter(|a| a.state == State::Active).map(|a| a.pid)
}

/// Whether there is such a process; one that has ended and waits to be taken off is none.
fn is_alive(pid: u32) -> bool {
    let Some(id) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    if rustix::process::test_kill_process(id).is_err() {
        return false;
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    !state.is_some_and(|rest| rest.starts_with('Z'))
}

/// The status row and an end record, as JSON Lines.
async fn lines_of(client: &Client, now: &Time) -> Result<Vec<u8>, Failure> {
    let mut out = client.status_json().await?.to_vec();
    out.push(b'\n');
    out.extend(end_line(1, *now)?);
    Ok(out)
}

/// The end record of an answer that is about now.
pub fn end_line(rows: u64, now: Time) -> Result<Vec<u8>, Failure> {
    let window = Window::before(now, 0);
    let end = Row::End(Box::new(End {
        rows,
        truncated: false,
        dropped: 0,
        agents_asked: 0,
        agents_answered: 0,
        from: window.from,
        to: window.to,
        compare: None,
        resolution_s: None,
        stored_to: None,
        newest: None,
        blind: Vec::new(),
    }));
    let mut line = serde_json::to_vec(&end).map_err(|e| Failure::other(e.to_string()))?;
    line.push(b'\n');
    Ok(line)
}

/// What runs, and what it sees.
pub async fn status(context: &Context, flags: args::Status) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let status = client.status().await?;
    let healthy = status.agents.iter().any(|a| a.state == State::Active)
        && status.agents.iter().all(|a| a.state == State::Active && dropped(&a.counters) == 0)
        && dropped(&status.counters) == 0;
    if flags.format.json {
        standard::write(&lines_of(&client, &context.clock.now).await?)?;
    } else {
        print(context, &status)?;
    }
    Ok(if flags.check && !healthy { Exit::Unhealthy } else { Exit::Done })
}

fn print(context: &Context, s: &StatusRow) -> Result<(), Failure> {
    let reader = Reader::of_stdout(context.clock.clone());
    let now = context.clock.now;
    let stays = if s.stays {
        "stays until coral down"
    } else {
        "leaves when unused; coral up lets it stay"
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    _ = writeln!(
        text,
        "colony    {} · up {} · {stays} · process {} · {}",
        clean(&s.colony),
        duration(now.since(s.since)),
        s.pid,
        clean(&s.build)
    );
    _ = writeln!(
        text,
        "data      {} of {} · {}",
        bytes(s.data_bytes),
        bytes(s.data_capacity_bytes),
        clean(&s.data_dir)
    );
    _ = writeln!(text, "socket    {}", clean(&s.socket));
    _ = writeln!(text, "log       {}", clean(&s.log_file));
    _ = writeln!(text, "services  {} in the last 15 minutes", s.services);
    for line in Doors::of(s).lines() {
        _ = writeln!(text, "          {line}");
    }
    let lost = dropped(&s.counters);
    if lost > 0 {
        _ = writeln!(text, "dropped   {} records at the colony", count(lost));
    }
    let mut out = text.into_bytes();
    let rows: Vec<Row> = s.agents.iter().map(|a| Row::Agent(Box::new(a.clone()))).collect();
    out.push(b'\n');
    if rows.is_empty() {
        out.extend(b"no agent reports: nothing is observed\n");
    } else {
        output::print(&mut out, &rows, &reader)?;
    }
    if !s.blind.is_empty() {
        out.push(b'\n');
    }
    for blind in &s.blind {
        out.extend(format!("not seen: {}\n", clean(blind)).bytes());
    }
    standard::write(&out)
}

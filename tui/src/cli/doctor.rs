//! `coral doctor`: everything Coral needs, whether it is there, and the one line that mends it.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use coral_model::config::Spec;
use coral_model::paths::{PathsError, check_private_dir};
use coral_model::text::{bytes, count, duration};
use coral_model::view::{
    AgentRow, HostRow, Row, SenseState, State, StatusRow, losses, lost as dropped,
};
use coral_model::{Question, View, Window};
use serde::Serialize;

use super::Context;
use super::agent_lines::Doors;
use super::colony::end_line;
use super::exit::{Exit, Failure};
use super::output::{Cell, Look, Reader, table};
use super::standard;
use crate::client::{BUILD, Client, ClientError, find_program};

/// A clock further off than this puts events into the wrong order.
const CLOCK: u64 = 1_000_000_000;
/// A spool older than this means that the colony does not keep up, or is not reached.
const LAG: u64 = 30_000_000_000;
/// Variables that are no settings.
const OTHER_VARIABLES: &[&str] = &[
    "CORAL_SOCKET",
    "CORAL_DATA_DIR",
    "CORAL_LOG",
    "CORAL_BPF",
    "CORAL_WATCH",
    "CORAL_NO_EBPF",
    "CORAL_HOOKS",
    "CORAL_TLS",
    "CORAL_OUTPUT",
    "CORAL_SPANS",
    "CORAL_CPU_LIMIT",
    "CORAL_AGENT_COLONY",
    "CORAL_AGENT_DATA",
    "CORAL_SLICE_AGE",
];

/// How one thing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Health {
    /// As it should be.
    Ok,
    /// Works, and could be better; or a sense that is off.
    Note,
    /// Must be mended.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    schema: &'static str,
    check: String,
    state: Health,
    why: String,
    remedy: Option<String>,
}

fn check(name: &str, state: Health, why: impl Into<String>, remedy: Option<String>) -> Check {
    let (check, why) = (name.to_owned(), why.into());
    Check { schema: "coral.doctor/1", check, state, why, remedy }
}

/// Looks at everything.
pub async fn run(context: &Context, json: bool) -> Result<Exit, Failure> {
    let mut all = programs();
    all.extend(variables());
    all.extend(directories(context));
    match Client::connect(&context.target).await {
        Ok(client) => all.extend(colony(context, &client).await?),
        Err(e) => {
            let remedy = e.remedy();
            let what = match &e {
                ClientError::NotRunning { .. } => "colony",
                _ => "socket",
            };
            all.push(check(what, Health::Bad, e.to_string(), remedy));
        }
    }
    all.extend(logs(context));
    let bad = all.iter().any(|c| c.state == Health::Bad);
    print(context, &all, json)?;
    Ok(if bad { Exit::Unhealthy } else { Exit::Done })
}

fn print(context: &Context, all: &[Check], json: bool) -> Result<(), Failure> {
    let mut out = Vec::new();
    if json {
        for c in all {
            serde_json::to_writer(&mut out, c).map_err(|e| Failure::other(e.to_string()))?;
            out.push(b'\n');
        }
        out.extend(end_line(coral_model::num::u64_sat(all.len()), context.clock.now)?);
        return standard::write(&out);
    }
    let reader = Reader::of_stdout(context.clock.clone());
    let width = all.iter().map(|c| c.check.len()).max().unwrap_or(0);
    for c in all {
        let (word, look) = match c.state {
            Health::Ok => ("ok  ", Look::Good),
            Health::Note => ("note", Look::Warn),
            Health::Bad => ("BAD ", Look::Bad),
        };
        let mut block = table::Block::lines(vec![Cell::from(word.to_owned()).look(look)]);
        let mut line = Vec::new();
        block.print(&mut line, &reader)?;
        out.extend(line.strip_suffix(b"\n").unwrap_or(&line));
        writeln!(out, " {:<width$}  {}", c.check, coral_model::text::clean(&c.why))?;
        if let Some(remedy) = &c.remedy {
            writeln!(out, "     {:<width$}  ▸ {}", "", coral_model::text::clean(remedy))?;
        }
        block.rows.clear();
    }
    let bad = all.iter().filter(|c| c.state == Health::Bad).count();
    match bad {
        0 => writeln!(out, "\nnothing must be mended")?,
        n => writeln!(out, "\n{n} to mend, each with its line above")?,
    }
    standard::write(&out)
}

fn programs() -> Vec<Check> {
    ["coral-daemon", "coral-agent"]
        .into_iter()
        .map(|name| match find_program(name) {
            Some(file) => check(name, Health::Ok, file.display().to_string(), None),
            None => {
                let remedy = format!("put {name} beside coral or on PATH (make build makes it)");
                check(name, Health::Bad, "not found beside coral nor on PATH", Some(remedy))
            }
        })
        .collect()
}

/// Variables that look like settings and are none: most likely a slip.
fn variables() -> Vec<Check> {
    let known: Vec<String> = coral_model::config::settings().map(Spec::env).collect();
    let mut unknown: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("CORAL_"))
        .filter(|name| !known.contains(name) && !OTHER_VARIABLES.contains(&name.as_str()))
        .collect();
    unknown.sort();
    unknown
        .into_iter()
        .map(|name| {
            let near = coral_model::filter::nearest(
                &name.to_lowercase(),
                known.iter().map(String::as_str),
            );
            let remedy = near.map_or_else(|| format!("unset {name}"), |near| format!("use {near}"));
            check("environment", Health::Note, format!("{name} is no setting"), Some(remedy))
        })
        .collect()
}

fn directories(context: &Context) -> Vec<Check> {
    let (paths, colony) = (&context.target.paths, &context.target.colony);
    let mut all = Vec::new();
    match &paths.socket_override {
        Some(socket) => {
            let dir = socket.parent().unwrap_or(Path::new("/"));
            let why = format!("{} (CORAL_SOCKET)", socket.display());
            all.push(if dir.is_dir() {
                check("socket", Health::Ok, why, None)
            } else {
                let remedy = format!("mkdir -m 700 -p {}", dir.display());
                check(
                    "socket",
                    Health::Bad,
                    format!("{} is not there", dir.display()),
                    Some(remedy),
                )
            });
        }
        None => all.push(private("socket directory", &paths.runtime_dir, paths.uid)),
    }
    let dir = paths.colony_dir(colony);
    all.push(private("data directory", &dir, paths.uid));
    all.extend(disk(&dir));
    all
}

fn private(name: &str, dir: &Path, uid: u32) -> Check {
    let shown = dir.display();
    match check_private_dir(dir, uid) {
        Ok(()) => check(name, Health::Ok, format!("{shown} (0700)"), None),
        Err(PathsError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            check(name, Health::Ok, format!("{shown} (made when needed)"), None)
        }
        Err(e @ PathsError::TooOpen { .. }) => {
            check(name, Health::Bad, e.to_string(), Some(format!("chmod 700 {shown}")))
        }
        Err(e) => check(name, Health::Bad, e.to_string(), None),
    }
}

/// The file system that the data lie on, or will lie on.
fn disk(dir: &Path) -> Option<Check> {
    let dir = dir.ancestors().find(|d| d.exists())?;
    let fs = rustix::fs::statvfs(dir).ok()?;
    // What is kept for root is no room, as `df` and the colony itself reckon.
    let used = fs.f_blocks.saturating_sub(fs.f_bfree);
    let total = used.saturating_add(fs.f_bavail).saturating_mul(fs.f_frsize);
    let free = fs.f_bavail.saturating_mul(fs.f_frsize);
    let why = format!("{} of {} free at {}", bytes(free), bytes(total), dir.display());
    // Coral itself stops writing at 90 % full.
    Some(if free.saturating_mul(10) < total {
        check("disk", Health::Bad, why, Some("make room: coral stops writing at 90 % full".into()))
    } else {
        check("disk", Health::Ok, why, None)
    })
}

async fn colony(context: &Context, client: &Client) -> Result<Vec<Check>, Failure> {
    let status = client.status().await?;
    let mut all = Vec::new();
    let why = format!("{} · process {} · {}", client.socket.display(), status.pid, status.build);
    all.push(check("colony", Health::Ok, why, None));
    all.push(socket_mode(&client.socket));
    let version = env!("CARGO_PKG_VERSION");
    if !status.build.contains(version) {
        let why = format!("the colony is {}, this is {BUILD}", status.build);
        all.push(check("builds", Health::Note, why, Some("coral down && coral up".into())));
    }
    let lost = dropped(&status.counters);
    if lost > 0 {
        all.push(check("colony drops", Health::Bad, named_drops(&status.counters), None));
    }
    let (used, bound) = (status.data_bytes, status.data_capacity_bytes);
    let why = format!("{} of {}", bytes(used), bytes(bound));
    let full = bound > 0 && used.saturating_mul(10) >= bound.saturating_mul(9);
    all.push(check("data", if full { Health::Note } else { Health::Ok }, why, None));
    if status.agents.is_empty() {
        let remedy = Some(format!(
            "tail {}",
            context.target.paths.agent_log(&context.target.colony).display()
        ));
        all.push(check("agent", Health::Bad, "no agent reports: nothing is observed", remedy));
    }
    for agent in &status.agents {
        all.extend(agent_checks(agent));
    }
    all.extend(exporter(&status));
    all.extend(host_clocks(context, client).await);
    // A sense that is off has its line above; what else is not seen follows.
    for blind in &status.blind {
        let listed =
            |c: &Check| c.state != Health::Ok && !c.why.is_empty() && blind.contains(&c.why);
        if !all.iter().any(listed) {
            all.push(check("not seen", Health::Note, blind.clone(), None));
        }
    }
    Ok(all)
}

fn socket_mode(socket: &Path) -> Check {
    match std::fs::metadata(socket) {
        Ok(meta) => {
            let mode = meta.mode() & 0o777;
            let why = format!("mode {mode:04o}, user {}", meta.uid());
            if mode & 0o007 == 0 {
                check("socket", Health::Ok, why, None)
            } else {
                let remedy = Some(format!("chmod o= {}", socket.display()));
                check("socket", Health::Bad, format!("{why}: others may use it"), remedy)
            }
        }
        Err(e) => check("socket", Health::Bad, e.to_string(), None),
    }
}

fn named_drops(counters: &std::collections::BTreeMap<String, u64>) -> String {
    losses(counters).map(|(name, n)| format!("{name} {}", count(n))).collect::<Vec<_>>().join(", ")
}

fn agent_checks(agent: &AgentRow) -> Vec<Check> {
    let name = |what: &str| format!("{what} on {}", agent.host);
    let mut all = Vec::new();
    let why = format!("process {} · {} · lag {}", agent.pid, agent.build, duration(agent.lag_ns));
    all.push(match agent.state {
        State::Active if agent.lag_ns > LAG => {
            let why = format!("{why}: the colony does not keep up or is not reached");
            check(&name("agent"), Health::Bad, why, Some("coral query agents".into()))
        }
        State::Active => check(&name("agent"), Health::Ok, why, None),
        _ => {
            let why = format!("{why}: it no longer reports, since {}", agent.last_seen);
            check(&name("agent"), Health::Bad, why, Some("coral down && coral up".into()))
        }
    });
    for sense in &agent.senses {
        let state = match sense.state {
            SenseState::On => Health::Ok,
            SenseState::Partial | SenseState::Off => Health::Note,
        };
        all.push(check(&name(&sense.name), state, sense.why.clone(), sense.remedy.clone()));
    }
    if dropped(&agent.counters) > 0 {
        all.push(check(&name("drops"), Health::Bad, named_drops(&agent.counters), None));
    }
    let (used, bound) = (agent.spool_bytes, agent.spool_capacity_bytes);
    if bound > 0 && used.saturating_mul(10) >= bound.saturating_mul(8) {
        let why = format!("{} of {}: soon exports will be refused", bytes(used), bytes(bound));
        all.push(check(&name("spool"), Health::Bad, why, Some("coral query agents".into())));
    }
    match agent.clock_offset_ns {
        Some(ns) if ns.unsigned_abs() > CLOCK => {
            let why = format!("{} off the colony's clock", duration(ns.unsigned_abs()));
            let remedy = Some("timedatectl set-ntp true".to_owned());
            all.push(check(&name("clock"), Health::Note, why, remedy));
        }
        Some(ns) => {
            let why = format!("{} off the colony's", duration(ns.unsigned_abs()));
            all.push(check(&name("clock"), Health::Ok, why, None));
        }
        None => {
            all.push(check(&name("clock"), Health::Note, "its offset is not measured yet", None));
        }
    }
    all
}

/// What applications must be told.
fn exporter(status: &StatusRow) -> Option<Check> {
    let doors = Doors::of(status);
    doors.any().then(|| {
        let line = doors.lines().first().cloned().unwrap_or_default();
        check("applications", Health::Ok, format!("export with {line}"), None)
    })
}

/// Whether hosts' clocks are synchronised, as their kernels say.
async fn host_clocks(context: &Context, client: &Client) -> Vec<Check> {
    let window = Window::before(context.clock.now, 300_000_000_000);
    let question = Question::new(View::Hosts, window);
    let mut hosts: Vec<HostRow> = Vec::new();
    if let Ok(mut answer) = client.query(&question).await {
        while let Ok(Some(row)) = answer.next_row().await {
            if let Row::Host(host) = row {
                hosts.push(*host);
            }
        }
    }
    hosts
        .iter()
        .filter(|h| h.clock_synced == Some(false))
        .map(|h| {
            let remedy = Some("timedatectl set-ntp true".to_owned());
            check(&format!("clock of {}", h.host), Health::Note, "not synchronised", remedy)
        })
        .collect()
}

fn logs(context: &Context) -> Vec<Check> {
    let (paths, colony) = (&context.target.paths, &context.target.colony);
    [("daemon log", paths.daemon_log(colony)), ("agent log", paths.agent_log(colony))]
        .into_iter()
        .map(|(name, file)| {
            let why = match std::fs::metadata(&file) {
                Ok(meta) => format!("{} ({})", file.display(), bytes(meta.len())),
                Err(_) => format!("{} (not there yet)", file.display()),
            };
            check(name, Health::Ok, why, None)
        })
        .collect()
}

//! `coral eyes`: whether agents look into the kernel, what that costs, and opening and closing their eyes.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use coral_model::num::u64_sat;
use coral_model::text::{clean, fit};
use coral_model::view::{EyesRow, Row, State, Told};

use super::Context;
use super::args::{self, Lid};
use super::colony::end_line;
use super::exit::{Exit, Failure};
use super::output::{self, Reader};
use super::standard;
use crate::client::Client;

/// What a colony says of itself that knows of eyes.
const CAPABILITY: &str = "eyes";
/// How long agents may take: loading the programs takes seconds on a slow machine.
const SETTLED: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// A row, and the JSON object it came as.
type Known = (EyesRow, Bytes);

/// Says how they are; opens or closes them first, where that is asked for, and waits until they are.
pub async fn run(context: &Context, flags: &args::Eyes) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    if !client.hello.capabilities.iter().any(|word| word == CAPABILITY) {
        let what = "the colony is older than this program and knows nothing of agents' eyes";
        return Err(Failure::other(what).next("coral down && coral up"));
    }
    let host = flags.host.as_deref();
    let open = flags.what.map(|lid| lid == Lid::On);
    let mut all = client.eyes(open, host).await?;
    if open.is_some() {
        all = settled(&client, host, all).await?;
    }
    print(context, &all, flags)?;
    let mut met = open.is_none_or(|open| all.iter().all(|(row, _)| is_met(row, open)));
    if let Some(host) = host.filter(|_| !all.iter().any(|(row, _)| is_connected(row))) {
        let everywhere = client.eyes(None, None).await?;
        let rows = everywhere.iter().map(|(row, _)| row);
        // The rows stand on standard output already, whatever becomes of the remark.
        _ = writeln!(io::stderr(), "coral: {}", nobody(host, rows, open));
        // Whoever closes eyes in an emergency must not take a name that nobody has for done.
        met &= open != Some(false);
    }
    Ok(if met { Exit::Done } else { Exit::Unhealthy })
}

/// Whether an agent is there now.
fn is_connected(row: &EyesRow) -> bool {
    row.agent.is_some() && row.state == State::Active
}

/// Columns of the names of hosts that are connected.
const NAMES: usize = 200;

/// That no agent on a host is there to be told, which ones are, and how to take back what was said.
fn nobody<'a>(host: &str, rows: impl Iterator<Item = &'a EyesRow>, open: Option<bool>) -> String {
    let there: BTreeSet<&str> =
        rows.filter(|row| is_connected(row)).filter_map(|row| row.host.as_deref()).collect();
    let names: Vec<&str> = there.into_iter().collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
    let then = match open {
        Some(false) => {
            let host = clean(host);
            format!("; nothing was closed now; to take it back: coral eyes on --host {host}")
        }
        _ => String::new(),
    };
    format!("no agent of that name is connected (connected: {}){then}", clean(&fit(&names, NAMES)))
}

/// Whether nothing remains to be done now.
fn is_met(row: &EyesRow, open: bool) -> bool {
    match row.told {
        Told::Done => row.open == Some(open),
        Told::Later => true,
        Told::Told | Told::TooOld => false,
    }
}

/// Waits until every agent that was told has done so, or the time is over: then what is so counts.
async fn settled(
    client: &Client,
    host: Option<&str>,
    first: Vec<Known>,
) -> Result<Vec<Known>, Failure> {
    let mut all = first;
    let deadline = tokio::time::Instant::now() + SETTLED;
    while all.iter().any(|(row, _)| row.told == Told::Told)
        && tokio::time::Instant::now() < deadline
    {
        tokio::time::sleep(LOOK).await;
        all = client.eyes(None, host).await?;
    }
    Ok(all)
}

fn print(context: &Context, all: &[Known], flags: &args::Eyes) -> Result<(), Failure> {
    let mut out = Vec::new();
    if flags.format.json {
        for (_, line) in all {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        out.extend(end_line(u64_sat(all.len()), context.clock.now)?);
        return standard::write(&out);
    }
    let rows: Vec<Row> = all.iter().map(|(row, _)| Row::Eyes(Box::new(row.clone()))).collect();
    if rows.is_empty() && flags.host.is_some() {
        out.extend(b"no agent reports from there, and nothing of its own is wanted of it\n");
    } else if rows.is_empty() {
        out.extend(b"no agent reports: nothing is observed\n");
    } else {
        output::print(&mut out, &rows, &Reader::of_stdout(context.clock.clone()))?;
    }
    standard::write(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(told: Told, open: Option<bool>) -> EyesRow {
        EyesRow {
            agent: Some("9f2c".into()),
            host: Some("web-1".into()),
            state: State::Active,
            open,
            since: None,
            why: None,
            remedy: None,
            cpu: None,
            wanted: false,
            by: None,
            said: None,
            told,
        }
    }

    #[test]
    fn a_host_that_nobody_has_is_told_with_those_there_are() {
        let there = row(Told::Done, Some(true));
        let away = EyesRow { state: State::Stale, host: Some("db-1".into()), ..there.clone() };
        let next = EyesRow { agent: None, state: State::NotObserved, ..there.clone() };
        assert!(is_connected(&there) && !is_connected(&away) && !is_connected(&next));
        let said = nobody("web-9", [&there, &away, &next].into_iter(), Some(false));
        assert!(said.contains("no agent of that name is connected (connected: web-1);"), "{said}");
        assert!(said.ends_with("coral eyes on --host web-9"), "{said}");
        let said = nobody("web-9", [&away].into_iter(), Some(true));
        assert_eq!(said, "no agent of that name is connected (connected: none)");
    }

    #[test]
    fn what_is_asked_for_is_met_only_where_it_is_so_or_nobody_is_there() {
        assert!(is_met(&row(Told::Done, Some(false)), false));
        assert!(is_met(&row(Told::Later, None), false));
        // It was told to open them and may not; it did not answer in time; it does not understand.
        assert!(!is_met(&row(Told::Done, Some(false)), true));
        assert!(!is_met(&row(Told::Told, Some(true)), false));
        assert!(!is_met(&row(Told::TooOld, Some(false)), false));
    }
}

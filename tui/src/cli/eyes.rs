//! `coral eyes`: whether agents look into the kernel, what that costs, and opening and closing their eyes.

use std::time::Duration;

use bytes::Bytes;
use coral_model::num::u64_sat;
use coral_model::view::{EyesRow, Row, Told};

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
    print(context, &all, flags.format.json)?;
    let met = open.is_none_or(|open| all.iter().all(|(row, _)| is_met(row, open)));
    Ok(if met { Exit::Done } else { Exit::Unhealthy })
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

fn print(context: &Context, all: &[Known], json: bool) -> Result<(), Failure> {
    let mut out = Vec::new();
    if json {
        for (_, line) in all {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        out.extend(end_line(u64_sat(all.len()), context.clock.now)?);
        return standard::write(&out);
    }
    let rows: Vec<Row> = all.iter().map(|(row, _)| Row::Eyes(Box::new(row.clone()))).collect();
    if rows.is_empty() {
        out.extend(b"no agent reports: nothing is observed\n");
    } else {
        output::print(&mut out, &rows, &Reader::of_stdout(context.clock.clone()))?;
    }
    standard::write(&out)
}

#[cfg(test)]
mod tests {
    use coral_model::view::State;

    use super::*;

    #[test]
    fn what_is_asked_for_is_met_only_where_it_is_so_or_nobody_is_there() {
        let row = |told, open| EyesRow {
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
        };
        assert!(is_met(&row(Told::Done, Some(false)), false));
        assert!(is_met(&row(Told::Later, None), false));
        // It was told to open them and may not; it did not answer in time; it does not understand.
        assert!(!is_met(&row(Told::Done, Some(false)), true));
        assert!(!is_met(&row(Told::Told, Some(true)), false));
        assert!(!is_met(&row(Told::TooOld, Some(false)), false));
    }
}

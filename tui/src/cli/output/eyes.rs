//! Agents' eyes in the kernel, one row each.

use coral_model::Time;
use coral_model::time::SECOND;
use coral_model::view::{EyesRow, State, Told};

use super::Reader;
use super::cell::{self, Cell, Look};
use super::table::{Block, number, text, whole};

/// A clock time longer ago than this needs its date.
const FAR: u64 = 20 * 3_600 * SECOND;

/// As a table.
#[must_use]
pub fn rows(rows: &[&EyesRow], reader: &Reader) -> Block {
    let mut block = Block::new(vec![
        text("HOST", 8),
        text("AGENT", 8).extra(),
        whole("EYES"),
        whole("SINCE"),
        number("CPU"),
        whole("WANTED"),
        text("WHY", 20),
    ]);
    for row in rows {
        block.rows.push(vec![
            row.host.as_deref().map_or_else(|| Cell::text("any").look(Look::Dim), Cell::text),
            row.agent.as_ref().map_or_else(Cell::none, |agent| {
                Cell::from(agent.chars().take(8).collect::<String>())
            }),
            match row.open {
                Some(true) => Cell::text("open").look(Look::Good),
                Some(false) => Cell::text("closed").look(Look::Warn),
                None => Cell::unknown(),
            },
            row.since.map_or_else(Cell::none, |since| Cell::from(clock(since, reader))),
            row.cpu.map_or_else(Cell::unknown, |cores| Cell::from(cell::percent(cores))),
            Cell::from(wanted(row)),
            Cell::from(why(row)),
        ]);
    }
    block.without_empty(&["WANTED"])
}

fn clock(at: Time, reader: &Reader) -> String {
    let far = reader.dates || reader.clock.now.since(at) > FAR;
    at.format(&reader.clock.zone, if far { "%m-%d %H:%M:%S" } else { "%H:%M:%S" })
}

fn wanted(row: &EyesRow) -> String {
    let Some(by) = &row.by else { return String::new() };
    format!("{} by {by}", if row.wanted { "open" } else { "closed" })
}

/// Why they are as they are, or what the agent knows of what is wanted.
fn why(row: &EyesRow) -> String {
    match row.told {
        Told::Later if row.state == State::NotObserved => {
            let later = "no agent yet: the next one is told";
            match row.host.as_ref().filter(|_| !row.wanted && row.by.is_some()) {
                Some(host) => format!("{later}; to take it back: coral eyes on --host {host}"),
                None => later.to_owned(),
            }
        }
        Told::Later => "not connected: the agent is told when it is".into(),
        Told::TooOld if row.by.is_some() => {
            "the agent is too old to be told: update it and restart it".into()
        }
        Told::Told => "the agent was told, and has not said yet that it has done so".into(),
        Told::TooOld | Told::Done => {
            let why = row.why.as_deref().unwrap_or("the agent has not said");
            match row.remedy.as_ref().filter(|_| row.open == Some(false)) {
                Some(remedy) => format!("{why}; to open them: {remedy}"),
                None => why.to_owned(),
            }
        }
    }
}

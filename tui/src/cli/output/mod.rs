//! Answers as people and programs read them: tables, JSON Lines, CSV.
//!
//! In: rows as they arrive. Out: bytes on standard output. JSON passes through untouched, so what a
//! newer colony says survives an older `coral`; tables tell `0`, `–` (no traffic), `?` (not observed)
//! and `stale` apart, and clean every text before a terminal sees it.

pub mod cell;
mod compare;
mod csv;
mod diff;
mod digest;
mod eyes;
mod hosts;
pub mod rows;
mod statement;
mod summary;
pub mod table;
mod trace;

use std::io::{self, IsTerminal, Write};

use coral_model::Time;
use coral_model::view::Row;
use coral_model::when::Clock;

pub use cell::{Cell, Look};
pub use csv::{Csv, Object};
pub use summary::summary;

/// How to show things to the person at hand.
#[derive(Clone, Debug)]
pub struct Reader {
    /// Now, and the zone clocks are shown in.
    pub clock: Clock,
    /// Columns to keep to; `None` where there is no terminal.
    pub width: Option<usize>,
    /// Colours are welcome.
    pub colour: bool,
    /// The answer spans days: clocks show dates.
    pub dates: bool,
}

impl Reader {
    /// For whoever reads standard output.
    #[must_use]
    pub fn of_stdout(clock: Clock) -> Self {
        let terminal = io::stdout().is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            clock,
            width: terminal.then(columns),
            colour: terminal && !set("NO_COLOR") && !dumb,
            dates: false,
        }
    }

    /// A clock time, with its date where the answer spans days.
    #[must_use]
    pub fn time(&self, t: Time) -> String {
        t.format(&self.clock.zone, if self.dates { "%m-%d %H:%M:%S" } else { "%H:%M:%S" })
    }

    /// A clock time down to the millisecond.
    #[must_use]
    pub fn fine_time(&self, t: Time) -> String {
        t.format(&self.clock.zone, if self.dates { "%m-%d %H:%M:%S%.3f" } else { "%H:%M:%S%.3f" })
    }

    /// Name of the zone clocks are shown in.
    #[must_use]
    pub fn zone(&self, at: Time) -> String {
        at.format(&self.clock.zone, "%Z")
    }
}

/// Columns of the terminal: what it says, else `$COLUMNS`, else 80.
fn columns() -> usize {
    let told = rustix::termios::tcgetwinsize(io::stdout()).map(|size| usize::from(size.ws_col));
    let set = || std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    told.ok().filter(|c| *c > 0).or_else(set).unwrap_or(80)
}

/// Prints rows for a person: tables of what belongs together.
///
/// # Errors
/// When standard output does not take it.
pub fn print(out: &mut impl Write, rows: &[Row], reader: &Reader) -> io::Result<()> {
    let blocks = rows::blocks(rows, reader);
    for (i, block) in blocks.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        block.print(out, reader)?;
    }
    Ok(())
}

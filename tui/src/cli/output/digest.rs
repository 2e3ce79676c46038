//! The first screen as text.

use coral_model::view::{Change, DigestRow, Health, Mover};

use super::Reader;
use super::cell::{self, Cell, Look};
use super::rows::{events, services};
use super::table::{Block, number, text, whole};

pub(super) fn blocks(row: &DigestRow, reader: &Reader) -> Vec<Block> {
    let (word, look) = match row.health {
        Health::NoData => ("NO DATA here: this is not the same as being well", Look::Warn),
        Health::Calm => ("CALM", Look::Good),
        Health::Moved => ("MOVED", Look::Warn),
        Health::Failing => ("FAILING", Look::Bad),
        Health::Recovered => ("RECOVERED:", Look::Warn),
    };
    let began = if row.ended.is_some() { "failed from" } else { "since" };
    let onset = row.onset.map(|t| format!(" {began} {}", reader.time(t))).unwrap_or_default();
    let ended = row.ended.map(|t| format!(" to {}", reader.time(t))).unwrap_or_default();
    let blast = format!(" · {} of {} services affected", row.affected, row.services_known);
    let mut head = vec![Cell::from(format!("{word}{onset}{ended}{blast}")).look(look)];
    for line in &row.why {
        head.push(Cell::from(format!("{:<10} {}", line.label, line.text)));
    }
    if !row.path.is_empty() {
        let steps: Vec<String> =
            row.path.iter().map(|s| cell::marked(&s.name, s.level).text).collect();
        head.push(Cell::from(format!("PATH       {}", steps.join(" ▸ "))));
    }
    let compared = format!(
        "compared with {}–{} {}",
        reader.time(row.compared_with.from),
        reader.time(row.compared_with.to),
        reader.zone(row.compared_with.to)
    );
    head.push(Cell::from(compared).look(Look::Dim));
    let listed: Vec<_> = row.services.iter().collect();
    let changes: Vec<_> = row.changes.iter().collect();
    vec![
        Block::lines(head),
        services(&listed, reader),
        movers(&row.movers, reader),
        events(&changes, reader),
    ]
}

fn movers(rows: &[Mover], reader: &Reader) -> Block {
    let mut block = Block::new(vec![
        text("MOVED", 10),
        whole("WHAT"),
        number("NOW"),
        number("BEFORE"),
        number("BY"),
        whole("SINCE"),
    ]);
    for row in rows {
        let shown = |x: f64| match row.measure {
            Change::P99 | Change::P90 | Change::P50 => {
                coral_model::text::duration(coral_model::num::u64_from_f64(x))
            }
            Change::Errors => cell::percent(x),
            Change::Rate => cell::rate(x),
            Change::Inflight | Change::Silence | Change::Deaths => {
                coral_model::text::count(coral_model::num::u64_from_f64(x))
            }
        };
        let what = match row.measure {
            Change::P99 => "p99",
            Change::P90 => "p90",
            Change::P50 => "p50",
            Change::Errors => "errors",
            Change::Rate => "rate",
            Change::Inflight => "in flight",
            Change::Silence => "silent",
            Change::Deaths => "died",
        };
        block.rows.push(vec![
            Cell::text(&row.service),
            Cell::text(what),
            Cell::from(shown(row.now)),
            row.before.map_or_else(Cell::unknown, |x| Cell::from(shown(x))),
            cell::moved(row.ratio),
            row.since.map_or_else(Cell::none, |t| Cell::from(reader.time(t))),
        ]);
    }
    block
}

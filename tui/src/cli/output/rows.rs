//! Which columns each kind of row has.

use std::collections::BTreeMap;

use coral_model::text::{bytes, count, duration as dur};
use coral_model::view::{
    AgentRow, EdgeRow, EventRow, InflightRow, LabelRow, LogRow, MetricRow, NodeRow, PatternRow,
    Red, RedRow, Row, SenseState, ServiceRow, TraceRow,
};

use super::Reader;
use super::cell::{self, Cell, Look};
use super::compare;
use super::table::{Block, number, text, whole};
use crate::widget::connections;

/// Rows of one answer as tables, in the order they came.
#[must_use]
pub fn blocks(rows: &[Row], reader: &Reader) -> Vec<Block> {
    macro_rules! of {
        ($variant:ident) => {
            rows.iter()
                .filter_map(|r| if let Row::$variant(row) = r { Some(&**row) } else { None })
                .collect::<Vec<_>>()
        };
    }
    let mut out = Vec::new();
    let mut push = |block: Block| {
        if !block.rows.is_empty() {
            out.push(block);
        }
    };
    for row in of!(Digest) {
        super::digest::blocks(row, reader).into_iter().for_each(&mut push);
    }
    push(red(&of!(Red), reader));
    push(services(&of!(Service), reader));
    let traces = of!(Trace);
    push(self::traces(&traces, reader));
    push(super::trace::unusual(&traces, reader));
    let spans = of!(Span);
    let heads = of!(TraceHead);
    for head in &heads {
        push(super::trace::head(head, reader));
    }
    push(super::trace::waterfall(heads.first().copied(), &spans));
    push(super::trace::notes(&heads, &spans));
    push(logs(&of!(Log), reader));
    push(patterns(&of!(Pattern), reader));
    push(events(&of!(Event), reader));
    push(nodes(&of!(Node), reader));
    push(edges(&of!(Edge)));
    push(metrics(&of!(Metric), reader));
    push(labels(&of!(Label)));
    super::hosts::blocks(&of!(Host), reader).into_iter().for_each(&mut push);
    push(inflight(&of!(Inflight)));
    for head in of!(DiffSides) {
        push(super::diff::sides(head));
    }
    push(super::diff::rows(&of!(Diff)));
    for head in of!(SqlColumns) {
        push(super::statement::rows(head, &of!(Sql)));
    }
    let agents = of!(Agent);
    push(self::agents(&agents, reader));
    push(senses(&agents));
    push(super::eyes::rows(&of!(Eyes), reader));
    out
}

fn numbers(red: &Red) -> [Cell; 6] {
    [
        Cell::text(&cell::rate(red.rate)),
        cell::errors(red.error_ratio),
        cell::duration(red.p50_ns),
        cell::duration(red.p90_ns),
        cell::p99(red),
        Cell::text(&count(red.requests)),
    ]
}

fn notes(red: &Red, provisional: bool) -> String {
    let mut notes = Vec::new();
    if red.no_answer > 0 {
        notes.push(format!("{} no answer", count(red.no_answer)));
    }
    if red.sampled {
        notes.push("sampled".to_owned());
    }
    if provisional {
        notes.push("provisional".to_owned());
    }
    notes.join(", ")
}

fn red(rows: &[&RedRow], reader: &Reader) -> Block {
    let mut dimensions: Vec<&str> =
        rows.iter().flat_map(|r| r.by.keys()).map(String::as_str).collect();
    dimensions.sort_unstable();
    dimensions.dedup();
    let mut columns = vec![whole("START"), text("SERVICE", 10), text("OPERATION", 12)];
    columns.extend(dimensions.iter().map(|d| text(dimension_title(d), 8)));
    let compared = compare::any(rows.iter().map(|r| r.baseline.as_ref()));
    if compared {
        columns.extend(compare::columns());
        let mut block = Block::new(columns);
        for row in rows {
            let mut cells = red_lead(row, &dimensions, reader);
            cells.extend(compare::cells(row.baseline.as_ref()));
            block.rows.push(cells);
        }
        return block.without_empty(&["START", "SERVICE", "OPERATION", "BUILDS"]);
    }
    columns.extend(["RATE", "ERR"].map(number));
    columns.extend(["P50", "P90"].map(|title| number(title).extra()));
    columns.extend([number("P99"), number("REQS").extra(), number("VS")]);
    columns.push(text("NOTE", 8));
    let mut block = Block::new(columns);
    for row in rows {
        let mut cells = red_lead(row, &dimensions, reader);
        if row.red.requests == 0 && row.state != coral_model::view::State::Active {
            let silence = cell::silence(row.state);
            cells.extend(std::iter::repeat_n(silence, 6));
        } else {
            cells.extend(numbers(&row.red));
        }
        cells.push(row.baseline.as_ref().map_or_else(Cell::default, |b| cell::moved(b.p99_ratio)));
        let note = match row.state {
            coral_model::view::State::Active => Cell::from(notes(&row.red, row.provisional)),
            state => cell::state(state, None),
        };
        cells.push(note);
        block.rows.push(cells);
    }
    block.without_empty(&["START", "SERVICE", "OPERATION", "VS", "NOTE"])
}

/// Which requests a row is about.
fn red_lead(row: &RedRow, dimensions: &[&str], reader: &Reader) -> Vec<Cell> {
    let mut cells = vec![
        Cell::from(row.start.map(|t| reader.time(t)).unwrap_or_default()),
        Cell::from(row.service.clone().unwrap_or_default()),
        Cell::from(row.operation.clone().unwrap_or_default()),
    ];
    let by = dimensions.iter().map(|d| Cell::maybe(row.by.get(*d).and_then(Option::as_deref)));
    cells.extend(by);
    cells
}

/// Titles are static; the dimensions are few.
fn dimension_title(word: &str) -> &'static str {
    match word {
        "instance" => "INSTANCE",
        "host" => "HOST",
        "version" => "VERSION",
        "zone" => "ZONE",
        "namespace" => "NAMESPACE",
        "status" => "STATUS",
        "kind" => "KIND",
        "service" => "SERVICE",
        "operation" => "OPERATION",
        _ => "BY",
    }
}

pub(super) fn services(rows: &[&ServiceRow], reader: &Reader) -> Block {
    if compare::any(rows.iter().map(|r| r.baseline.as_ref())) {
        let mut columns = vec![text("SERVICE", 10)];
        columns.extend(compare::columns());
        let mut block = Block::new(columns);
        for row in rows {
            let mut cells = vec![cell::marked(&row.service, row.level)];
            cells.extend(compare::cells(row.baseline.as_ref()));
            block.rows.push(cells);
        }
        return block.without_empty(&["BUILDS"]);
    }
    let mut block = Block::new(vec![
        text("SERVICE", 10),
        number("RATE"),
        number("ERR"),
        number("P50").extra(),
        number("P99"),
        number("VS"),
        number("INFLIGHT"),
        number("OLDEST"),
        number("INST").extra(),
        text("VERSION", 6).extra(),
        text("WHERE", 6),
        whole("STATE"),
    ]);
    for row in rows {
        let age = row.last_seen.map(|t| reader.clock.now.since(t));
        let lead = cell::marked(&row.service, row.level);
        let mut cells = vec![lead];
        match &row.red {
            Some(red) if red.requests > 0 || row.state == coral_model::view::State::Active => {
                let [rate, errors, p50, _, p99, _] = numbers(red);
                cells.extend([rate, errors, p50, p99]);
            }
            _ => cells.extend(std::iter::repeat_n(cell::silence(row.state), 4)),
        }
        cells.push(row.baseline.as_ref().map_or_else(Cell::none, |b| cell::moved(b.p99_ratio)));
        cells.push(match row.inflight {
            // A lower bound says so.
            Some(n) if !row.inflight_exact && n > 0 => Cell::text(&format!("≥{}", count(n))),
            Some(n) => Cell::text(&count(n)),
            None => Cell::unknown(),
        });
        cells.push(cell::duration(row.oldest_ns));
        // What only the kernel sees does not say.
        cells.push(match row.instances {
            0 => Cell::none(),
            n => Cell::text(&n.to_string()),
        });
        cells.push(Cell::maybe(row.versions.last().map(String::as_str)));
        cells.push(Cell::maybe(row.place.as_deref()));
        cells.push(cell::state(row.state, age));
        block.rows.push(cells);
    }
    block.without_empty(&["VS", "OLDEST", "VERSION", "WHERE"])
}

fn traces(rows: &[&TraceRow], reader: &Reader) -> Block {
    let mut block = Block::new(vec![
        whole("START"),
        number("TOOK"),
        text("SERVICE", 8),
        text("OPERATION", 10),
        number("SPANS").extra(),
        number("ERR"),
        whole("STATUS").extra(),
        whole("TRACE"),
    ]);
    for row in rows {
        let errors = Cell::text(&count(row.errors));
        let operation = if row.complete {
            row.operation.clone()
        } else {
            format!("{} (root not arrived)", row.operation)
        };
        block.rows.push(vec![
            Cell::from(reader.time(row.start)),
            Cell::text(&dur(row.duration_ns)),
            Cell::text(&row.service),
            Cell::from(operation),
            Cell::text(&count(row.spans)),
            if row.errors > 0 { errors.look(Look::Bad) } else { errors },
            Cell::maybe(row.status.as_deref()),
            Cell::text(&row.trace_id.to_string()),
        ]);
    }
    block
}

fn logs(rows: &[&LogRow], reader: &Reader) -> Block {
    Block::lines(rows.iter().map(|row| log_line(row, reader)).collect())
}

/// One record on one line.
fn log_line(row: &LogRow, reader: &Reader) -> Cell {
    let level = if row.level.is_empty() { "-" } else { row.level.as_str() };
    let look = match row.severity {
        17.. => Look::Bad,
        13..=16 => Look::Warn,
        1..=8 => Look::Dim,
        _ => Look::Plain,
    };
    let mut line =
        format!("{} {:<5} {:<12} {}", reader.fine_time(row.time), level, row.service, row.body);
    // Beside a record: how far from it, and which one it is.
    if let Some(offset) = row.offset {
        let mark = if offset == 0 { "▸" } else { " " };
        line = format!("{mark}{offset:>+4} {line}");
    }
    if let Some(trace) = row.trace_id {
        line.push_str(&format!("  trace={trace}"));
    }
    Cell::text(&line).look(look)
}

fn patterns(rows: &[&PatternRow], reader: &Reader) -> Block {
    let mut block = Block::new(vec![
        number("COUNT"),
        number("BEFORE"),
        number("SHARE"),
        whole("LEVEL"),
        text("SERVICES", 8),
        text("PATTERN", 20),
        whole("FIRST").extra(),
        whole("LAST").extra(),
    ]);
    for row in rows {
        // Of a sample the count is what was looked at, and says so.
        let sampled = if row.sampled_every > 1 { "~" } else { "" };
        let n = count(row.count.saturating_mul(row.sampled_every));
        block.rows.push(vec![
            Cell::from(format!("{sampled}{n}")),
            match row.before {
                None => Cell::default(),
                Some(0) => Cell::text("new").look(Look::Warn),
                Some(n) => Cell::from(count(n.saturating_mul(row.sampled_every))),
            },
            Cell::text(&cell::percent(row.share)),
            match row.level.as_str() {
                "" => Cell::none(),
                level @ ("error" | "fatal") => Cell::text(level).look(Look::Bad),
                "warn" => Cell::text("warn").look(Look::Warn),
                level => Cell::text(level),
            },
            Cell::from(row.services.join(" ")),
            Cell::text(&row.pattern),
            Cell::from(reader.time(row.first_seen)),
            Cell::from(reader.time(row.last_seen)),
        ]);
    }
    block.without_empty(&["BEFORE"])
}

pub(super) fn events(rows: &[&EventRow], reader: &Reader) -> Block {
    let mut block =
        Block::new(vec![whole("TIME"), whole("KIND"), text("WHAT", 20), text("WHERE", 8)]);
    for row in rows {
        let place = [row.service.as_deref(), row.host.as_deref()];
        let place: Vec<&str> = place.into_iter().flatten().collect();
        block.rows.push(vec![
            Cell::from(reader.time(row.time)),
            Cell::text(row.kind.word()),
            Cell::text(&row.text),
            Cell::from(place.join(" on ")),
        ]);
    }
    block.without_empty(&["WHERE"])
}

fn nodes(rows: &[&NodeRow], reader: &Reader) -> Block {
    let mut block = Block::new(vec![
        number("HOP"),
        text("NODE", 10),
        whole("KIND"),
        whole("SYSTEM"),
        number("RATE"),
        number("ERR"),
        number("P99"),
        whole("STATE"),
    ]);
    for row in rows {
        let mut cells = vec![
            hop(row.hop),
            cell::marked(&row.name, row.level),
            Cell::text(row.kind.word()),
            Cell::maybe(row.system.as_deref()),
        ];
        match &row.red {
            Some(red) => {
                let [rate, errors, _, _, p99, _] = numbers(red);
                cells.extend([rate, errors, p99]);
            }
            None => cells.extend(std::iter::repeat_n(cell::silence(row.state), 3)),
        }
        cells.push(cell::state(row.state, row.last_seen.map(|t| reader.clock.now.since(t))));
        block.rows.push(cells);
    }
    block.without_empty(&["HOP", "SYSTEM"])
}

/// Calls away from the node asked about: `-2` upstream, `+2` downstream.
fn hop(hop: Option<i32>) -> Cell {
    hop.map_or_else(Cell::default, |n| match n {
        0 => Cell::text("0").look(Look::Bold),
        n => Cell::from(format!("{n:+}")),
    })
}

fn edges(rows: &[&EdgeRow]) -> Block {
    if compare::any(rows.iter().map(|r| r.baseline.as_ref())) {
        let mut columns = vec![number("HOP"), text("FROM", 8), whole(""), text("TO", 10)];
        columns.extend(compare::columns());
        columns.push(whole("EVIDENCE").extra());
        let mut block = Block::new(columns);
        for row in rows {
            let mut cells = vec![
                hop(row.hop),
                Cell::text(&row.from),
                Cell::text("▸"),
                cell::marked(&row.to, row.level),
            ];
            cells.extend(compare::cells(row.baseline.as_ref()));
            cells.push(Cell::text(row.ends.word()));
            block.rows.push(cells);
        }
        return block.without_empty(&["HOP", "BUILDS"]);
    }
    let mut block = Block::new(vec![
        number("HOP"),
        text("FROM", 8),
        whole(""),
        text("TO", 10),
        whole("PROTOCOL").extra(),
        number("RATE"),
        number("ERR"),
        number("P50").extra(),
        number("P99"),
        number("CALLEE P99").extra(),
        number("VS"),
        whole("EVIDENCE"),
        whole("CONNECTIONS").extra(),
    ]);
    for row in rows {
        let [rate, errors, p50, _, p99, _] = numbers(&row.red);
        let below = row.connections.as_ref();
        block.rows.push(vec![
            hop(row.hop),
            Cell::text(&row.from),
            Cell::text("▸"),
            cell::marked(&row.to, row.level),
            Cell::maybe(row.protocol.as_deref()),
            rate,
            errors,
            p50,
            p99,
            cell::duration(row.callee_p99_ns),
            row.baseline.as_ref().map_or_else(Cell::none, |b| cell::moved(b.p99_ratio)),
            Cell::text(row.ends.word()),
            below.map_or_else(Cell::none, |c| Cell::from(connections(c))),
        ]);
    }
    block.without_empty(&["HOP", "VS", "CALLEE P99", "CONNECTIONS"])
}

fn metrics(rows: &[&MetricRow], reader: &Reader) -> Block {
    let mut block = Block::new(vec![
        text("METRIC", 16),
        whole("KIND").extra(),
        text("SERVICE", 8),
        number("VALUE"),
        whole("UNIT"),
        number("COUNT"),
        number("P50"),
        number("P99"),
        number("SERIES").extra(),
        whole("AT").extra(),
        text("ATTRIBUTES", 10),
        text("NOTE", 10),
    ]);
    for row in rows {
        let quantile =
            |q: &str| row.quantiles.get(q).map_or_else(Cell::none, |x| Cell::from(plain(*x)));
        block.rows.push(vec![
            Cell::text(&row.metric),
            Cell::text(row.kind.word()),
            Cell::maybe(row.service.as_deref()),
            row.value.map_or_else(Cell::none, |x| Cell::from(plain(x))),
            Cell::text(&row.unit),
            row.count.map_or_else(Cell::none, |n| Cell::from(count(n))),
            quantile("p50"),
            quantile("p99"),
            Cell::text(&count(row.series)),
            row.time.map_or_else(Cell::none, |t| Cell::from(reader.time(t))),
            Cell::from(pairs(&row.attributes)),
            Cell::text(row.note.as_deref().unwrap_or_default()),
        ]);
    }
    block.without_empty(&["UNIT", "COUNT", "P50", "P99", "ATTRIBUTES", "VALUE", "AT", "NOTE"])
}

fn labels(rows: &[&LabelRow]) -> Block {
    let mut block = Block::new(vec![
        text("LABEL", 10),
        number("SERIES"),
        number("VALUES"),
        text("MOST SERIES HAVE", 20),
    ]);
    for row in rows {
        let most: Vec<String> =
            row.top.iter().map(|v| format!("{} ({})", v.value, count(v.series))).collect();
        block.rows.push(vec![
            Cell::text(&row.label),
            Cell::text(&count(row.series)),
            Cell::text(&count(row.values)),
            Cell::from(most.join(" · ")),
        ]);
    }
    block
}

/// A number without a unit: no more digits than it has to say.
fn plain(x: f64) -> String {
    if x == 0.0 || (x.abs() >= 0.001 && x.abs() < 1e15) {
        let text = format!("{x:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{x:.3e}")
    }
}

fn pairs(attributes: &BTreeMap<String, String>) -> String {
    attributes.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
}

fn inflight(rows: &[&InflightRow]) -> Block {
    let mut block = Block::new(vec![
        text("SERVICE", 10),
        text("OPERATION", 12),
        number("INFLIGHT"),
        number("OLDEST"),
        whole("TRACE"),
    ]);
    for row in rows {
        let n = count(row.inflight);
        block.rows.push(vec![
            Cell::text(&row.service),
            Cell::maybe(row.operation.as_deref()),
            Cell::from(if row.exact { n } else { format!("≥{n}") }),
            cell::duration(row.oldest_ns),
            Cell::maybe(row.oldest_trace.map(|t| t.to_string()).as_deref()),
        ]);
    }
    block
}

/// A line per agent.
#[must_use]
pub fn agents(rows: &[&AgentRow], reader: &Reader) -> Block {
    let mut block = Block::new(vec![
        text("AGENT", 8),
        text("HOST", 8),
        whole("SCOPE").extra(),
        whole("STATE"),
        number("LAG"),
        number("SPOOL"),
        number("OF").extra(),
        number("CLOCK"),
        number("CPU"),
        number("RSS"),
        number("DROPPED"),
        whole("BUILD").extra(),
    ]);
    for row in rows {
        let dropped: u64 =
            row.counters.iter().filter(|(k, _)| k.starts_with("dropped")).map(|(_, n)| n).sum();
        let dropped_cell = Cell::from(count(dropped));
        block.rows.push(vec![
            Cell::from(row.agent.chars().take(8).collect::<String>()),
            Cell::text(&row.host),
            Cell::text(&row.scope),
            cell::state(row.state, Some(reader.clock.now.since(row.last_seen))),
            Cell::text(&dur(row.lag_ns)),
            Cell::from(bytes(row.spool_bytes)),
            Cell::from(bytes(row.spool_capacity_bytes)),
            row.clock_offset_ns.map_or_else(Cell::unknown, |ns| {
                let sign = if ns < 0 { "-" } else { "+" };
                Cell::from(format!("{sign}{}", dur(ns.unsigned_abs())))
            }),
            row.cpu.map_or_else(Cell::unknown, |cores| Cell::from(cell::percent(cores))),
            row.rss_bytes.map_or_else(Cell::unknown, |n| Cell::from(bytes(n))),
            if dropped > 0 { dropped_cell.look(Look::Bad) } else { dropped_cell },
            Cell::text(&row.build),
        ]);
    }
    block
}

/// A line per sense of every agent.
#[must_use]
pub fn senses(rows: &[&AgentRow]) -> Block {
    let mut block =
        Block::new(vec![text("HOST", 8), whole("SENSE"), whole("STATE"), text("WHY", 20)]);
    for row in rows {
        for sense in &row.senses {
            let state = match sense.state {
                SenseState::On => Cell::text("on").look(Look::Good),
                SenseState::Partial => Cell::text("partial").look(Look::Warn),
                SenseState::Off => Cell::text("off").look(Look::Dim),
            };
            let remedy = sense.remedy.as_ref().map(|r| format!("; to turn it on: {r}"));
            block.rows.push(vec![
                Cell::text(&row.host),
                Cell::text(&sense.name),
                state,
                Cell::from(format!("{}{}", sense.why, remedy.unwrap_or_default())),
            ]);
        }
    }
    block
}

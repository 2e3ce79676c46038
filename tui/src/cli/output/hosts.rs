//! Hosts: pressure first, then the processes of named services, those that lived too short to be followed, then what
//! could not be read.

use coral_model::text::{bytes, count};
use coral_model::time::SECOND;
use coral_model::view::HostRow;
use coral_model::when::print_duration;

use super::Reader;
use super::cell::{self, Cell, Look};
use super::table::{Block, number, text, whole};

pub(super) fn blocks(rows: &[&HostRow], reader: &Reader) -> Vec<Block> {
    vec![hosts(rows, reader), processes(rows), short_lived(rows), blind(rows)]
}

fn hosts(rows: &[&HostRow], reader: &Reader) -> Block {
    let mut block = Block::new(vec![
        text("HOST", 8),
        number("CPU"),
        number("STEAL"),
        number("IOWAIT"),
        number("RUNQ"),
        number("LOAD"),
        number("MEM"),
        number("SWAP"),
        number("PSI cpu"),
        number("mem"),
        number("io"),
        whole("DISK"),
        whole("FULLEST"),
        number("RX"),
        number("TX"),
        number("RETRANS"),
        whole("CLOCK"),
        whole("STATE"),
    ]);
    for row in rows {
        let share = |x: Option<f64>| {
            x.map_or_else(Cell::unknown, |x| {
                let look = if x >= 0.9 { Look::Bad } else { Look::Plain };
                Cell::from(cell::percent(x)).look(look)
            })
        };
        let psi = |name: &str| share(row.pressure.get(name).map(|p| p.some));
        let disk = row.disks.iter().max_by(|a, b| a.busy.total_cmp(&b.busy));
        let free = |total: u64, left: u64| total.saturating_sub(left);
        let fullest =
            row.filesystems.iter().filter(|f| f.total_bytes > 0).max_by_key(|f| {
                free(f.total_bytes, f.available_bytes) / (f.total_bytes / 1000).max(1)
            });
        let per_second = |x: Option<f64>| {
            x.map_or_else(Cell::unknown, |x| {
                Cell::from(format!("{}/s", bytes(coral_model::num::u64_from_f64(x))))
            })
        };
        block.rows.push(vec![
            Cell::text(&row.host),
            share(row.cpu.map(|c| c.busy)),
            share(row.cpu.map(|c| c.steal)),
            share(row.cpu.map(|c| c.iowait)),
            row.cpu.map_or_else(Cell::unknown, |c| Cell::from(c.run_queue.to_string())),
            row.cpu.map_or_else(Cell::unknown, |c| Cell::from(format!("{:.2}", c.load1))),
            row.memory.map_or_else(Cell::unknown, |m| {
                cell::filled(free(m.total_bytes, m.available_bytes), m.total_bytes)
            }),
            row.memory.map_or_else(Cell::unknown, |m| {
                cell::filled(m.swap_used_bytes, m.swap_total_bytes)
            }),
            psi("cpu"),
            psi("memory"),
            psi("io"),
            disk.map_or_else(Cell::none, |d| {
                Cell::from(format!("{} {}", d.device, cell::percent(d.busy)))
            }),
            fullest.map_or_else(Cell::none, |f| {
                let used = cell::filled(free(f.total_bytes, f.available_bytes), f.total_bytes);
                Cell::from(format!("{} {}", f.mount, used.text)).look(used.look)
            }),
            per_second(row.network.map(|n| n.rx_bytes_s)),
            per_second(row.network.map(|n| n.tx_bytes_s)),
            row.network.map_or_else(Cell::unknown, |n| Cell::from(cell::rate(n.retransmits_s))),
            match row.clock_synced {
                Some(true) => Cell::text("synced"),
                Some(false) => Cell::text("not synced").look(Look::Warn),
                None => Cell::unknown(),
            },
            cell::state(row.state, Some(reader.clock.now.since(row.time))),
        ]);
    }
    block
}

fn processes(rows: &[&HostRow]) -> Block {
    let mut block = Block::new(vec![
        text("HOST", 8),
        text("SERVICE", 8),
        number("PID"),
        number("CPU"),
        number("RSS"),
        number("FDS"),
        number("THREADS"),
        text("NOT SEEN", 8),
    ]);
    for host in rows {
        for p in &host.processes {
            block.rows.push(vec![
                Cell::text(&host.host),
                Cell::text(&p.service),
                Cell::from(p.pid.to_string()),
                p.cpu.map_or_else(Cell::unknown, |c| Cell::from(cell::percent(c))),
                p.rss_bytes.map_or_else(Cell::unknown, |n| Cell::from(bytes(n))),
                p.fds.map_or_else(Cell::unknown, |(n, limit)| {
                    let look = cell::filled(n, limit).look;
                    Cell::from(format!("{}/{}", count(n), count(limit))).look(look)
                }),
                p.threads.map_or_else(Cell::unknown, |n| Cell::from(count(n))),
                Cell::maybe(p.blind.as_deref()),
            ]);
        }
    }
    block.without_empty(&["NOT SEEN"])
}

/// Processes that ended soon after they began: how many `IN` the host's window, and how long they lived.
fn short_lived(rows: &[&HostRow]) -> Block {
    let mut block = Block::new(vec![
        text("HOST", 8),
        text("SHORT-LIVED", 11),
        text("BY", 8),
        number("ENDED"),
        number("IN"),
        number("RATE"),
        number("FAILED"),
        number("MEAN"),
        number("LONGEST"),
        text("LAST FAILURE", 8),
    ]);
    for host in rows {
        let Some(all) = &host.short_lived else { continue };
        for program in &all.programs {
            let look = if program.failed > 0 { Look::Warn } else { Look::Plain };
            block.rows.push(vec![
                Cell::text(&host.host),
                Cell::text(&program.program),
                Cell::maybe(program.parent.as_deref()),
                Cell::from(count(program.count)),
                // The window, in whole seconds.
                Cell::from(print_duration(all.window_ns / SECOND * SECOND)),
                all.per_second(program.count)
                    .map_or_else(Cell::none, |rate| Cell::from(cell::rate(rate))),
                Cell::from(count(program.failed)).look(look),
                cell::duration(program.mean_ns()),
                cell::duration(Some(program.longest_ns)),
                Cell::maybe(program.last_failure.as_deref()),
            ]);
        }
    }
    block.without_empty(&["LAST FAILURE"])
}

fn blind(rows: &[&HostRow]) -> Block {
    let lines = rows.iter().flat_map(|row| {
        row.blind
            .iter()
            .map(|b| Cell::from(format!("not seen on {}: {b}", row.host)).look(Look::Dim))
    });
    Block::lines(lines.collect())
}

//! Pressure on hosts, and the processes of named services on them.

use coral_model::text;
use coral_model::time::SECOND;
use coral_model::view::{HostRow, ShortLived, State};
use ratatui::layout::Rect;

use super::folded;
use super::sorted;
use crate::app::App;
use crate::layout::PaneId;
use crate::theme::Role;
use crate::widget::{Canvas, Column, Piece, Table, hertz, latency};

pub(super) fn title(app: &App) -> String {
    selected(app).map_or_else(|| "host".into(), |h| format!("host {}", text::fit(&h.host, 40)))
}

fn selected(app: &App) -> Option<&HostRow> {
    let i = app.cursor(PaneId::Hosts).unwrap_or(0);
    app.hosts().get(i).copied()
}

/// A share with the word that goes with its colour: `!` from `warn`, `!!` from `bad` up.
fn share(canvas: &Canvas<'_>, value: Option<f64>, warn: f64, bad: f64) -> Piece {
    let Some(value) = value else { return canvas.piece(Role::Blind, "?") };
    let percent = value.clamp(0.0, 9.99) * 100.0;
    let (role, mark) = if value >= bad {
        (Role::Failing, "!!")
    } else if value >= warn {
        (Role::Moved, "!")
    } else if percent < 0.5 {
        (Role::Dim, "")
    } else {
        (Role::Text, "")
    };
    canvas.piece(role, format!("{percent:.0}%{mark}"))
}

fn part(used: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| coral_model::num::f64_from(used) / coral_model::num::f64_from(of))
}

/// Share of the memory that is used.
pub fn memory_used(row: &HostRow) -> Option<f64> {
    let memory = row.memory?;
    part(memory.total_bytes.saturating_sub(memory.available_bytes), memory.total_bytes)
}

/// Share that is used of the file system that is fullest.
pub fn disk_used(row: &HostRow) -> Option<f64> {
    let used = row
        .filesystems
        .iter()
        .filter_map(|f| part(f.total_bytes.saturating_sub(f.available_bytes), f.total_bytes));
    used.reduce(f64::max)
}

fn rate(bytes: f64) -> String {
    format!("{}/s", text::bytes(coral_model::num::u64_from_f64(bytes)))
}

fn cells(app: &App, canvas: &Canvas<'_>, row: &HostRow) -> Vec<Vec<Piece>> {
    let pressure = |name: &str| row.pressure.get(name).map(|p| p.some);
    let network = row.network.map_or_else(
        || canvas.piece(Role::Blind, "?"),
        |n| canvas.piece(Role::Text, format!("↓{} ↑{}", rate(n.rx_bytes_s), rate(n.tx_bytes_s))),
    );
    let name = match row.state {
        State::Stale => {
            let age = app.age(row.time);
            vec![
                canvas.piece(Role::Dim, row.host.clone()),
                canvas.piece(Role::Blind, format!(" stale {}", text::duration(age))),
            ]
        }
        _ => vec![canvas.piece(Role::Strong, row.host.clone())],
    };
    vec![
        name,
        vec![share(canvas, row.cpu.map(|c| c.busy), 0.80, 0.95)],
        vec![share(canvas, row.cpu.map(|c| c.steal), 0.05, 0.20)],
        vec![row.cpu.map_or_else(
            || canvas.piece(Role::Blind, "?"),
            |c| {
                let long = c.run_queue > c.cores.saturating_mul(2);
                canvas.piece(
                    if long { Role::Moved } else { Role::Text },
                    format!("{}/{}", c.run_queue, c.cores),
                )
            },
        )],
        vec![share(canvas, memory_used(row), 0.85, 0.95)],
        vec![share(canvas, disk_used(row), 0.85, 0.95)],
        vec![share(canvas, pressure("cpu"), 0.10, 0.40)],
        vec![share(canvas, pressure("memory"), 0.05, 0.20)],
        vec![share(canvas, pressure("io"), 0.10, 0.40)],
        vec![network],
    ]
}

pub(super) fn draw(app: &App, canvas: &mut Canvas<'_>, area: Rect, focused: bool) {
    let rows = app.hosts();
    let columns = [
        Column::left("HOST", 14, 0).grow(1),
        Column::right("cpu", 6, 0),
        Column::right("steal", 6, 5),
        Column::right("run", 6, 4),
        Column::right("memory", 6, 0),
        Column::right("disk", 6, 1),
        Column::right("psi cpu", 7, 3),
        Column::right("psi mem", 7, 3),
        Column::right("psi io", 7, 3),
        Column::left("network", 22, 6),
    ];
    app.with_scroll(PaneId::Hosts, |scroll| {
        Table {
            pane: PaneId::Hosts,
            columns: &columns,
            len: rows.len(),
            selected: app.cursor(PaneId::Hosts),
            sorted: sorted(app, PaneId::Hosts),
            focused,
            scroll,
        }
        .draw(canvas, area, |canvas, i| {
            rows.get(i).map(|r| cells(app, canvas, r)).unwrap_or_default()
        });
    });
}

/// Processes that lived too short to be followed, by program.
fn short_lived(all: &ShortLived) -> Vec<Vec<(Role, String)>> {
    let last = match all.window_ns / SECOND {
        60 => "minute".to_owned(),
        _ => text::duration(all.window_ns),
    };
    let heading = (Role::Heading, format!("Short-lived processes, last {last}"));
    let mut lines = vec![Vec::new(), vec![heading]];
    if all.programs.is_empty() {
        lines.push(vec![(Role::Dim, "none".to_owned())]);
    }
    for program in &all.programs {
        let name = text::fit(&program.program, 15);
        let times = format!("×{}", text::count(program.count));
        let rate = all.per_second(program.count).map_or_else(|| "?".to_owned(), hertz);
        let mean = format!("~{}", latency(program.mean_ns()));
        let by = program.parent.as_ref().map(|parent| format!("  by {parent}"));
        let how = program.last_failure.as_ref().map(|how| format!(" ({how})"));
        let failed = match program.failed {
            0 => String::new(),
            n => format!("  {} failed{}", text::count(n), how.unwrap_or_default()),
        };
        lines.push(vec![
            (Role::Text, format!("{name:<15} {times:>6} {rate:>6} {mean:>7}")),
            (Role::Dim, by.unwrap_or_default()),
            (Role::Moved, failed),
        ]);
    }
    lines
}

/// What the agent's own slice has counted, last and without zeros: the kernel names dozens, of which few ever count.
fn cgroup(host: &HostRow) -> Vec<Vec<(Role, String)>> {
    let counted = host.cgroup.iter().filter(|(_, value)| **value > 0).map(|(key, value)| {
        let said = format!("{} {}", text::clean(key), text::count(*value));
        vec![(Role::Dim, format!("{:<14}", "cgroup")), (Role::Text, said)]
    });
    let mut lines: Vec<_> = counted.collect();
    if !lines.is_empty() {
        lines.insert(0, Vec::new());
    }
    lines
}

/// One host in full.
pub(super) fn one(app: &App, canvas: &mut Canvas<'_>, area: Rect, _focused: bool) {
    let Some(host) = selected(app) else { return };
    let mut lines: Vec<Vec<(Role, String)>> = Vec::new();
    let or = |n: Option<u64>| n.map_or_else(|| "?".into(), text::count);

    if !host.processes.is_empty() {
        lines.push(vec![(
            Role::Heading,
            format!(
                "{:<22} {:>7} {:>6} {:>9} {:>11} {:>7}",
                "PROCESS", "pid", "cpu", "rss", "fds", "threads"
            ),
        )]);
        for p in &host.processes {
            let cpu = p.cpu.map_or_else(|| "?".into(), |c| format!("{:.0}%", c * 100.0));
            let fds =
                p.fds.map_or_else(|| "?".into(), |(n, of)| format!("{n}/{}", text::count(of)));
            lines.push(vec![
                (Role::Text, format!("{:<22} ", text::fit(&p.service, 22))),
                (Role::Dim, format!("{:>7} ", p.pid)),
                (
                    Role::Text,
                    format!(
                        "{cpu:>6} {:>9} {fds:>11} {:>7}",
                        p.rss_bytes.map_or_else(|| "?".into(), text::bytes),
                        or(p.threads)
                    ),
                ),
                (Role::Blind, p.blind.as_ref().map(|b| format!("  ? {b}")).unwrap_or_default()),
            ]);
        }
        lines.push(Vec::new());
    }
    let mut pair = |key: &str, role: Role, value: String| {
        lines.push(vec![(Role::Dim, format!("{key:<14}")), (role, value)]);
    };
    if let Some(m) = host.memory {
        pair(
            "memory",
            Role::Text,
            format!(
                "{} free of {} · swap {} of {} · OOM kills {}",
                text::bytes(m.available_bytes),
                text::bytes(m.total_bytes),
                text::bytes(m.swap_used_bytes),
                text::bytes(m.swap_total_bytes),
                m.oom_kills.map_or_else(|| "?".into(), |n| n.to_string())
            ),
        );
    }
    if let Some(c) = host.cpu {
        pair(
            "cpu",
            Role::Text,
            format!(
                "{} cores · load {:.2} · iowait {:.0}% · steal {:.0}%",
                c.cores,
                c.load1,
                c.iowait * 100.0,
                c.steal * 100.0
            ),
        );
    }
    for d in &host.disks {
        let wait = d.await_ns.map_or_else(|| "–".into(), text::duration);
        pair(
            &format!("disk {}", text::fit(&d.device, 8)),
            if d.busy > 0.8 { Role::Moved } else { Role::Text },
            format!(
                "read {} · write {} · busy {:.0}% · wait {wait}",
                rate(d.read_bytes_s),
                rate(d.write_bytes_s),
                d.busy * 100.0
            ),
        );
    }
    for f in &host.filesystems {
        let inodes = if f.inodes == 0 { "–".into() } else { text::count(f.inodes_free) };
        pair(
            &text::fit(&f.mount, 13),
            Role::Text,
            format!(
                "{} free of {} · inodes free {inodes}",
                text::bytes(f.available_bytes),
                text::bytes(f.total_bytes)
            ),
        );
    }
    if let Some(n) = host.network {
        let of = |pair: Option<(u64, u64)>| {
            pair.map_or_else(
                || "?".into(),
                |(a, b)| format!("{} of {}", text::count(a), text::count(b)),
            )
        };
        pair(
            "network",
            if n.drops_s + n.listen_overflows_s > 0.0 { Role::Moved } else { Role::Text },
            format!(
                "drops {:.1}/s · retransmits {:.1}/s · accept queue overflows {:.1}/s",
                n.drops_s, n.retransmits_s, n.listen_overflows_s
            ),
        );
        pair(
            "",
            Role::Text,
            format!(
                "connections tracked {} · ephemeral ports {}",
                of(n.conntrack),
                of(n.ephemeral_ports)
            ),
        );
    }
    pair(
        "clock",
        Role::Text,
        match host.clock_synced {
            Some(true) => "synchronised".into(),
            Some(false) => "NOT synchronised".into(),
            None => "? the kernel does not say".into(),
        },
    );
    for sentence in &host.blind {
        for (i, part) in
            folded(sentence, usize::from(area.width).saturating_sub(15)).into_iter().enumerate()
        {
            pair(if i == 0 { "not seen" } else { "" }, Role::Blind, part);
        }
    }
    lines.extend(host.short_lived.iter().flat_map(short_lived));
    lines.extend(cgroup(host));
    super::page(app, canvas, PaneId::Host, area, &lines);
}

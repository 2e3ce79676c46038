//! Hosts, agents, requests in flight, and the colony about itself.

use std::collections::BTreeMap;

use coral_model::time::{MILLI, SECOND, Time, Window};
use coral_model::view::*;

use super::Scenario;
use super::requests::trace_id;
use super::shop::shapes;

pub(super) fn hosts(scenario: Scenario, window: Window) -> Vec<Row> {
    if scenario == Scenario::Blind {
        return Vec::new();
    }
    ["web-1", "web-2"]
        .iter()
        .enumerate()
        .map(|(i, host)| {
            let busy = i == 0;
            Row::Host(Box::new(HostRow {
                host: (*host).into(),
                time: window.to.minus(if busy { 0 } else { 34 * SECOND }),
                state: if busy { State::Active } else { State::Stale },
                cpu: Some(Cpu {
                    cores: 4,
                    busy: if busy { 0.86 } else { 0.12 },
                    steal: 0.01,
                    iowait: 0.02,
                    run_queue: 5,
                    load1: 3.4,
                }),
                memory: Some(Memory {
                    total_bytes: 16 << 30,
                    available_bytes: 9 << 30,
                    swap_total_bytes: 0,
                    swap_used_bytes: 0,
                    oom_kills: Some(0),
                }),
                pressure: [("cpu", 0.12), ("memory", 0.0), ("io", 0.01)]
                    .map(|(k, some)| (k.to_owned(), Pressure { some, full: None }))
                    .into(),
                disks: vec![Disk {
                    device: "vda".into(),
                    read_bytes_s: 120e3,
                    write_bytes_s: 4.2e6,
                    busy: 0.07,
                    await_ns: Some(420_000),
                }],
                filesystems: vec![Filesystem {
                    mount: "/".into(),
                    total_bytes: 200 << 30,
                    available_bytes: 22 << 30,
                    inodes: 13_000_000,
                    inodes_free: 11_900_000,
                }],
                network: busy.then_some(Network {
                    rx_bytes_s: 3.1e6,
                    tx_bytes_s: 5.2e6,
                    drops_s: 0.0,
                    retransmits_s: 1.4,
                    listen_overflows_s: 0.0,
                    conntrack: Some((1_204, 262_144)),
                    ephemeral_ports: Some((312, 28_232)),
                }),
                fds: Some((4_200, 1_048_576)),
                clock_synced: busy.then_some(true),
                cgroup: BTreeMap::new(),
                processes: ["gateway", "payments", "checkout"]
                    .iter()
                    .enumerate()
                    .map(|(n, s)| ProcessRow {
                        service: (*s).into(),
                        instance: None,
                        pid: 4_200 + u32::try_from(n).unwrap_or(0),
                        cpu: (n != 2).then_some(0.31),
                        rss_bytes: Some(83 << 20),
                        fds: Some((64, 1_048_576)),
                        threads: Some(9),
                        blind: (n == 2).then(|| "another user's process".into()),
                    })
                    .collect(),
                short_lived: busy.then(short_lived),
                blind: if busy {
                    Vec::new()
                } else {
                    vec![
                        "network: /proc/net is not readable in this container".into(),
                        "short-lived processes: only eBPF sees them".into(),
                    ]
                },
            }))
        })
        .collect()
}

/// What a health check in a loop leaves behind.
fn short_lived() -> ShortLived {
    let program = |name: &str, parent: Option<&str>, count: u64, mean_ns: u64| ShortLivedProgram {
        program: name.into(),
        parent: parent.map(Into::into),
        count,
        lived_ns: count * mean_ns,
        longest_ns: 4 * mean_ns,
        ..ShortLivedProgram::default()
    };
    let curl = ShortLivedProgram {
        failed: 12,
        last_failure: Some("exited with 7".into()),
        ..program("curl", Some("sh"), 312, 14 * MILLI)
    };
    let sh = program("sh", Some("check.sh"), 104, 3 * MILLI);
    let programs = vec![curl, sh, program("__other__", None, 9, 41 * MILLI)];
    ShortLived { window_ns: 60 * SECOND, programs }
}

pub(super) fn agent(scenario: Scenario, now: Time) -> AgentRow {
    let sense = |name: &str, state, why: &str, remedy: Option<&str>| Sense {
        name: name.into(),
        state,
        why: why.into(),
        remedy: remedy.map(Into::into),
    };
    AgentRow {
        agent: "9f86d081884c7d659a2feaa0c55ad015".into(),
        host: "web-1".into(),
        scope: "host".into(),
        state: State::Active,
        since: now.minus(3_600 * SECOND),
        last_seen: now,
        pid: 4_117,
        build: "coral-agent 0.1.0".into(),
        senses: vec![
            sense("otlp/grpc", SenseState::On, "127.0.0.1:4317", None),
            sense("otlp/http", SenseState::On, "127.0.0.1:4318", None),
            sense("host", SenseState::On, "cpu, memory, pressure, disks, network", None),
            sense(
                "process",
                SenseState::Partial,
                "3 of 5 services: the others belong to another user",
                Some("run the agent as root, or in their user"),
            ),
            sense("ebpf", SenseState::Off, "not in this build", None),
        ],
        spool_bytes: 3 << 20,
        spool_capacity_bytes: 512 << 20,
        lag_ns: 40 * MILLI,
        clock_offset_ns: Some(-120_000),
        rss_bytes: Some(31 << 20),
        cpu: Some(0.013),
        counters: [
            ("spans_received", 1_204_331),
            ("logs_received", 88_210),
            ("spans_refused", 0),
            ("dropped_metrics", if scenario == Scenario::Hostile { 42 } else { 0 }),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into(),
    }
}

pub(super) fn inflight(scenario: Scenario, window: Window) -> Vec<Row> {
    shapes(scenario)
        .iter()
        .filter(|s| s.inflight > 0)
        .map(|s| {
            Row::Inflight(Box::new(InflightRow {
                service: s.name.into(),
                operation: Some("POST /charge".into()),
                inflight: s.inflight,
                oldest_ns: Some(s.oldest_ms * MILLI),
                oldest_trace: Some(trace_id(3)),
                exact: s.level == 0,
                at: window.to,
            }))
        })
        .collect()
}

/// The colony about itself in a scenario.
#[must_use]
pub fn status(scenario: Scenario, now: Time) -> StatusRow {
    StatusRow {
        colony: "shop-7f3a".into(),
        build: "coral-daemon 0.1.0".into(),
        pid: 4_100,
        since: now.minus(3_600 * SECOND),
        stays: false,
        socket: "/run/user/1000/coral/shop-7f3a.sock".into(),
        data_dir: "/home/ada/.local/share/coral/shop-7f3a".into(),
        data_bytes: 120 << 20,
        data_capacity_bytes: 2 << 30,
        log_file: "/home/ada/.local/state/coral/shop-7f3a.log".into(),
        services: match scenario {
            Scenario::Empty | Scenario::Blind => 0,
            _ => 9,
        },
        agents: if scenario == Scenario::Blind { Vec::new() } else { vec![agent(scenario, now)] },
        counters: BTreeMap::new(),
        blind: match scenario {
            Scenario::Blind => vec![
                "no agent is connected: nothing can be seen; `coral up` starts one here".into(),
            ],
            Scenario::Empty | Scenario::Calm => vec!["processes: eBPF is not in this build".into()],
            _ => Vec::new(),
        },
    }
}

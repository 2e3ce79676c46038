//! Two readings make a row.
//!
//! A counter that went down was reset (an interface or disk came anew, a machine was restored): what
//! happened in between is not known, so that device is left out of this one row.

use coral_model::num::{f64_from, u64_from_f64};
use coral_model::time::Time;
use coral_model::view::{Cpu, Disk, HostRow, Network, State};

use super::{NetworkCounters, Reading};
use crate::observe::parse::cpu::Stat;
use crate::observe::parse::disk::DiskCounters;

/// The row for `now`; rates need a `previous` reading, and are `null` (or without devices) else.
#[must_use]
pub fn row(host: &str, previous: Option<&Reading>, now: &Reading) -> HostRow {
    let elapsed = previous.map(|p| now.clocks.boot_ns.saturating_sub(p.clocks.boot_ns));
    // Two readings at one moment have no rate between them.
    let since = previous.zip(elapsed.map(f64_from).map(|ns| ns / 1e9)).filter(|(_, s)| *s > 0.0);
    let mut blind = now.blind.clone();
    let network = now.network.as_ref().and_then(|net| {
        let (before, seconds) = since?;
        let rates = network(before.network.as_ref()?, net, seconds);
        if rates.is_none() {
            blind.push("network: counters were reset since the previous reading; wait 2 s".into());
        }
        Some(Network { conntrack: now.conntrack, ephemeral_ports: now.ephemeral_ports, ..rates? })
    });
    HostRow {
        host: host.to_owned(),
        time: Time(now.clocks.wall_ns),
        state: State::Active,
        cpu: now.stat.as_ref().and_then(|stat| cpu(since?.0.stat.as_ref()?, stat, now.load1?)),
        memory: now.memory,
        pressure: now.pressure.clone(),
        disks: since.map_or_else(Vec::new, |(before, seconds)| {
            let one = |(name, disk): (&String, &DiskCounters)| {
                rates_of(name, before.disks.get(name)?, disk, seconds)
            };
            now.disks.iter().filter_map(one).collect()
        }),
        filesystems: now.filesystems.clone(),
        network,
        fds: now.fds,
        clock_synced: now.clock_synced,
        cgroup: now.cgroup.clone(),
        processes: Vec::new(),
        short_lived: None,
        blind,
    }
}

fn cpu(before: &Stat, now: &Stat, load1: f64) -> Option<Cpu> {
    // Single columns may go down by a tick (iowait does, says proc.rst): that is 0, not a reset.
    let busy = now.busy.saturating_sub(before.busy);
    let idle = now.idle.saturating_sub(before.idle);
    let iowait = now.iowait.saturating_sub(before.iowait);
    let steal = now.steal.saturating_sub(before.steal);
    let total = f64_from(busy.saturating_add(idle).saturating_add(iowait).saturating_add(steal));
    let share = |n: u64| f64_from(n) / total;
    (total > 0.0).then(|| Cpu {
        cores: now.cores,
        busy: share(busy),
        steal: share(steal),
        iowait: share(iowait),
        run_queue: now.running,
        load1,
    })
}

fn rates_of(name: &str, before: &DiskCounters, now: &DiskCounters, seconds: f64) -> Option<Disk> {
    let requests = now.requests.checked_sub(before.requests)?;
    let wait_ms = now.wait_ms.checked_sub(before.wait_ms);
    Some(Disk {
        device: name.to_owned(),
        read_bytes_s: f64_from(now.read_bytes.checked_sub(before.read_bytes)?) / seconds,
        write_bytes_s: f64_from(now.write_bytes.checked_sub(before.write_bytes)?) / seconds,
        // The kernel counts whole milliseconds and rounds up: a busy disk may pass 1.
        busy: (f64_from(now.busy_ms.checked_sub(before.busy_ms)?) / 1e3 / seconds).min(1.0),
        await_ns: wait_ms
            .filter(|_| requests > 0)
            .map(|ms| u64_from_f64(f64_from(ms) / f64_from(requests) * 1e6)),
    })
}

fn network(before: &NetworkCounters, now: &NetworkCounters, seconds: f64) -> Option<Network> {
    let rate = |before: u64, now: u64| Some(f64_from(now.checked_sub(before)?) / seconds);
    let mut out = Network {
        retransmits_s: rate(before.retransmits, now.retransmits)?,
        listen_overflows_s: rate(before.listen_overflows, now.listen_overflows)?,
        ..Network::default()
    };
    for (name, device) in &now.devices {
        let (now, Some(before)) = (&device.counters, before.devices.get(name)) else { continue };
        let before = &before.counters;
        let rates = (
            rate(before.rx_bytes, now.rx_bytes),
            rate(before.tx_bytes, now.tx_bytes),
            rate(before.drops, now.drops),
        );
        let (Some(rx), Some(tx), Some(drops)) = rates else { continue };
        out.drops_s += drops;
        if device.outward {
            out.rx_bytes_s += rx;
            out.tx_bytes_s += tx;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::observe::clock::Clocks;
    use crate::observe::host::Device;
    use crate::observe::parse::network::DeviceCounters;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Reading {
        let ns = seconds * 1_000_000_000;
        let clocks = Clocks { wall_ns: 1_700_000_000_000_000_000 + ns, boot_ns: ns };
        Reading { clocks, load1: Some(0.5), ..Reading::default() }
    }

    fn disk(requests: u64, bytes: u64, wait_ms: u64, busy_ms: u64) -> DiskCounters {
        DiskCounters { requests, read_bytes: bytes, write_bytes: bytes, wait_ms, busy_ms }
    }

    fn device(rx: u64, drops: u64, outward: bool) -> Device {
        let counters = DeviceCounters { rx_bytes: rx, tx_bytes: rx, drops };
        Device { counters, outward }
    }

    #[test]
    fn shares_of_cpu_time_are_parts_of_one_whole() {
        let stat = |busy, idle, iowait, steal| {
            Some(Stat { cores: 4, busy, idle, iowait, steal, running: 3, boot_s: 0 })
        };
        let before = Reading { stat: stat(100, 1000, 50, 10), ..at(1) };
        let now = Reading { stat: stat(150, 1030, 60, 20), ..at(3) };
        let cpu = row("h", Some(&before), &now).cpu.unwrap();
        assert_eq!((cpu.busy, cpu.iowait, cpu.steal), (0.5, 0.1, 0.1));
        assert_eq!((cpu.cores, cpu.run_queue, cpu.load1), (4, 3, 0.5));
        // iowait going back by a tick is not a reset.
        let now = Reading { stat: stat(150, 1050, 49, 10), ..at(3) };
        assert_eq!(row("h", Some(&before), &now).cpu.unwrap().iowait, 0.0);
    }

    #[test]
    fn without_a_previous_reading_there_are_no_rates() {
        let now = Reading { disks: BTreeMap::from([("vda".into(), disk(1, 1, 1, 1))]), ..at(3) };
        let first = row("h", None, &now);
        assert!(first.cpu.is_none() && first.disks.is_empty() && first.network.is_none());
        // Nor between two readings at the same moment.
        assert!(row("h", Some(&now), &now).disks.is_empty());
    }

    #[test]
    fn disks_have_rates_and_a_reset_one_is_left_out() {
        let disks = |vda, vdb| BTreeMap::from([("vda".to_owned(), vda), ("vdb".to_owned(), vdb)]);
        let before = Reading { disks: disks(disk(10, 4096, 100, 50), disk(9, 9, 9, 9)), ..at(1) };
        let now = Reading { disks: disks(disk(30, 8192, 200, 1050), disk(1, 1, 1, 1)), ..at(3) };
        let disks = row("h", Some(&before), &now).disks;
        assert_eq!(disks.len(), 1);
        assert_eq!((disks[0].read_bytes_s, disks[0].busy), (2048.0, 0.5));
        assert_eq!(disks[0].await_ns, Some(5_000_000));
        // A disk without requests has no mean time of a request.
        let idle = row("h", Some(&now), &Reading { clocks: at(5).clocks, ..now.clone() }).disks;
        assert_eq!((idle[0].busy, idle[0].await_ns), (0.0, None));
    }

    #[test]
    fn bytes_are_counted_once_and_drops_everywhere() {
        let net = |rx, drops, retransmits| {
            Some(NetworkCounters {
                devices: BTreeMap::from([
                    ("eth0".to_owned(), device(rx, drops, true)),
                    ("veth1".to_owned(), device(rx, drops, false)),
                ]),
                retransmits,
                listen_overflows: 0,
            })
        };
        let before = Reading { network: net(1000, 0, 5), ..at(1) };
        let now = Reading { network: net(3000, 4, 9), conntrack: Some((7, 100)), ..at(3) };
        let network = row("h", Some(&before), &now).network.unwrap();
        assert_eq!(
            (network.rx_bytes_s, network.drops_s, network.retransmits_s),
            (1000.0, 4.0, 2.0)
        );
        assert_eq!(network.conntrack, Some((7, 100)));
        // TCP counters that went down: unknown, and said.
        let reset = row("h", Some(&now), &Reading { network: net(4000, 4, 0), ..at(5) });
        assert!(reset.network.is_none() && reset.blind[0].starts_with("network:"));
    }

    proptest! {
        #[test]
        fn no_pair_of_readings_gives_a_number_that_is_none(
            a in prop::array::uniform8(any::<u64>()),
            b in prop::array::uniform8(any::<u64>()),
            clocks in any::<(u64, u64)>(),
        ) {
            let reading = |n: [u64; 8], boot_ns| Reading {
                clocks: Clocks { wall_ns: n[0], boot_ns },
                load1: Some(0.0),
                stat: Some(Stat {
                    cores: 1, busy: n[0], idle: n[1], iowait: n[2], steal: n[3], running: 0, boot_s: 0,
                }),
                disks: BTreeMap::from([("d".to_owned(), disk(n[4], n[5], n[6], n[7]))]),
                network: Some(NetworkCounters {
                    devices: BTreeMap::from([("e".to_owned(), device(n[0], n[1], true))]),
                    retransmits: n[2],
                    listen_overflows: n[3],
                }),
                ..Reading::default()
            };
            let row = row("h", Some(&reading(a, clocks.0)), &reading(b, clocks.1));
            if let Some(cpu) = row.cpu {
                for share in [cpu.busy, cpu.iowait, cpu.steal] {
                    prop_assert!((0.0..=1.0).contains(&share));
                }
            }
            for disk in &row.disks {
                prop_assert!((0.0..=1.0).contains(&disk.busy));
                prop_assert!(disk.read_bytes_s.is_finite() && disk.read_bytes_s >= 0.0);
            }
            if let Some(network) = row.network {
                prop_assert!(network.rx_bytes_s.is_finite() && network.retransmits_s >= 0.0);
            }
        }
    }
}

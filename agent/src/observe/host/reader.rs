//! Takes readings of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use coral_model::view::{Memory, Pressure};

use super::cgroup::Cgroup;
use super::filesystems::Filesystems;
use super::ports::Ports;
use super::{Device, NetworkCounters, Reading};
use crate::observe::clock::{self, Clocks};
use crate::observe::files::{Files, reason};
use crate::observe::parse::{cpu, disk, memory, mounts, network, numbers, pressure};

/// Mounts and cgroup are looked up anew this often, in readings: each 30 s.
const LOOK_ANEW: u32 = 15;
/// Devices of a kind in one reading.
const MAX_DEVICES: usize = 64;

/// Reads the host.
pub struct HostReader {
    files: Files,
    filesystems: Filesystems,
    ports: Ports,
    cgroup: Cgroup,
    mounts: Vec<String>,
    /// Names already looked up in `/sys`: whole disks, and interfaces with hardware below.
    disks: Known,
    interfaces: Known,
    until_anew: u32,
}

/// Answers of `/sys` for a set of names; asked again when the names change.
#[derive(Debug, Default)]
struct Known {
    names: BTreeSet<String>,
    yes: BTreeSet<String>,
}

impl Known {
    fn ask<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str> + Clone,
        is: impl Fn(&str) -> bool,
    ) -> &BTreeSet<String> {
        let same = names.clone().count() == self.names.len()
            && names.clone().all(|name| self.names.contains(name));
        if !same {
            self.names = names.map(str::to_owned).collect();
            self.yes = self.names.iter().filter(|name| is(name)).cloned().collect();
        }
        &self.yes
    }
}

/// Sentences about what could not be read.
struct Blind(Vec<String>);

impl Blind {
    fn keep<T>(&mut self, sense: &str, path: &str, remedy: &str, read: io::Result<T>) -> Option<T> {
        read.inspect_err(|error| self.0.push(format!("{sense}: {}; {remedy}", reason(path, error))))
            .ok()
    }
}

impl HostReader {
    /// Reads what lies below `files`.
    #[must_use]
    pub fn new(files: Files) -> Self {
        Self {
            files,
            filesystems: Filesystems::new(),
            ports: Ports::default(),
            cgroup: Cgroup::default(),
            mounts: Vec::new(),
            disks: Known::default(),
            interfaces: Known::default(),
            until_anew: 0,
        }
    }

    /// One reading. Takes the time of some thirty small files; blocks at most for the deadline of
    /// the file systems.
    pub fn read(&mut self) -> Reading {
        let mut blind = Blind(Vec::new());
        let mut out = Reading { clocks: Clocks::now(), ..Reading::default() };
        self.look_anew(&mut blind);
        self.processor(&mut out, &mut blind);
        out.memory = self.memory(&mut blind);
        out.pressure = self.pressure(&mut blind);
        out.disks = self.disks(&mut blind);
        out.network = self.network(&mut blind);
        // A kernel without connection tracking has no such file: nothing to be blind to.
        out.conntrack = self.pair("nf_conntrack_count").zip(self.pair("nf_conntrack_max"));
        out.ephemeral_ports = blind.keep(
            "ephemeral ports",
            "/proc/net/tcp",
            "count them with `ss -s`",
            self.ports.count(&mut self.files),
        );
        let path = "/proc/sys/fs/file-nr";
        let fds = self.files.parse(path, |text| match numbers(text).as_slice() {
            &[used, _, limit] => Some((used, limit)),
            _ => None,
        });
        out.fds =
            blind.keep("descriptors", path, "mount /proc/sys into the agent's container", fds);
        out.clock_synced = blind.keep(
            "clock",
            "adjtimex",
            "allow the system call adjtimex in the container's seccomp profile",
            clock::synchronised(),
        );
        out.cgroup = self.cgroup.read(&mut self.files);
        let (filesystems, silent) = self.filesystems.read(&self.mounts);
        out.filesystems = filesystems;
        blind.0.extend(silent);
        out.blind = blind.0;
        out
    }

    fn look_anew(&mut self, blind: &mut Blind) {
        if let Some(left) = self.until_anew.checked_sub(1) {
            self.until_anew = left;
            return;
        }
        let path = "/proc/self/mountinfo";
        let table = self.files.parse(path, |text| Some(mounts::mountinfo(text)));
        let table = blind.keep("file systems", path, "mount /proc into the container", table);
        if let Some(table) = table {
            self.mounts = mounts::worth_watching(&table);
            self.cgroup = Cgroup::find(&mut self.files, &table);
            self.until_anew = LOOK_ANEW;
        }
    }

    fn processor(&mut self, out: &mut Reading, blind: &mut Blind) {
        let remedy = "the agent needs Linux with /proc mounted";
        let read = self.files.parse("/proc/stat", cpu::stat);
        out.stat = blind.keep("cpu", "/proc/stat", remedy, read);
        let read = self.files.parse("/proc/loadavg", cpu::load1);
        out.load1 = blind.keep("cpu", "/proc/loadavg", remedy, read);
    }

    fn memory(&mut self, blind: &mut Blind) -> Option<Memory> {
        let path = "/proc/meminfo";
        let read = self.files.parse(path, memory::meminfo);
        let memory = blind.keep("memory", path, "MemAvailable needs Linux 3.14", read)?;
        let path = "/proc/vmstat";
        let read = self.files.parse(path, memory::oom_kills);
        let oom_kills = blind.keep("OOM kills", path, "oom_kill needs Linux 4.13", read);
        Some(Memory { oom_kills, ..memory })
    }

    fn pressure(&mut self, blind: &mut Blind) -> BTreeMap<String, Pressure> {
        let mut out = BTreeMap::new();
        let mut first = None;
        for (name, path) in [
            ("cpu", "/proc/pressure/cpu"),
            ("memory", "/proc/pressure/memory"),
            ("io", "/proc/pressure/io"),
        ] {
            match self.files.parse(path, pressure::pressure) {
                Ok(pressure) => {
                    out.insert(name.to_owned(), pressure);
                }
                Err(error) => first = first.or(Some(reason(path, &error))),
            }
        }
        // One sentence for the three: they come and go together.
        blind.0.extend(first.map(|why| {
            format!("pressure: {why}; boot Linux 4.20 or newer with psi=1 on its command line")
        }));
        out
    }

    fn disks(&mut self, blind: &mut Blind) -> BTreeMap<String, disk::DiskCounters> {
        let path = "/proc/diskstats";
        let sys = self.files.twin();
        let known = &mut self.disks;
        let read = self.files.parse(path, |text| {
            let all = disk::diskstats(text);
            // Partitions repeat their disk. Where /sys is not there to tell, all are kept.
            let whole = known.ask(all.iter().map(|d| d.0), |name| {
                !sys.exists("/sys/block")
                    || sys.exists(format!("/sys/block/{}", name.replace('/', "!")))
            });
            let kept = all.iter().filter(|(name, _)| whole.contains(*name)).take(MAX_DEVICES);
            Some(kept.map(|(name, disk)| ((*name).to_owned(), *disk)).collect())
        });
        blind
            .keep("disks", path, "the agent needs Linux with /proc mounted", read)
            .unwrap_or_default()
    }

    fn network(&mut self, blind: &mut Blind) -> Option<NetworkCounters> {
        let remedy = "the agent needs Linux with /proc mounted";
        let sys = self.files.twin();
        let known = &mut self.interfaces;
        let read = self.files.parse("/proc/net/dev", |text| {
            let all = network::devices(text);
            let hardware = known.ask(all.iter().map(|d| d.0), |name| {
                sys.exists(format!("/sys/class/net/{name}/device"))
            });
            // In a container no interface has hardware below: then each one is a way out.
            let device = |(name, counters): &(&str, network::DeviceCounters)| {
                let outward = hardware.is_empty() || hardware.contains(*name);
                ((*name).to_owned(), Device { counters: *counters, outward })
            };
            Some(all.iter().map(device).collect())
        });
        let devices = blind.keep("network", "/proc/net/dev", remedy, read)?;
        let (path, column) = ("/proc/net/snmp", network::column);
        let read = self.files.parse(path, |text| column(text, "Tcp:", "RetransSegs"));
        let retransmits = blind.keep("network", path, remedy, read)?;
        let path = "/proc/net/netstat";
        let read = self.files.parse(path, |text| column(text, "TcpExt:", "ListenOverflows"));
        let listen_overflows = blind.keep("network", path, remedy, read)?;
        Some(NetworkCounters { devices, retransmits, listen_overflows })
    }

    fn pair(&mut self, name: &str) -> Option<u64> {
        let path = format!("/proc/sys/net/netfilter/{name}");
        self.files.parse(&path, |text| numbers(text).first().copied()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::host::row;

    fn recorded(kernel: &str) -> HostReader {
        let at = format!("{}/src/observe/fixtures/{kernel}", env!("CARGO_MANIFEST_DIR"));
        HostReader::new(Files::below(at))
    }

    #[test]
    fn a_recorded_kernel_is_read_whole() {
        let reading = recorded("linux-6.18").read();
        // The clock is this machine's, and may be forbidden in a container.
        let blind = reading.blind.iter().filter(|b| !b.starts_with("clock: "));
        assert_eq!(blind.count(), 0, "{:?}", reading.blind);
        assert_eq!(reading.disks.keys().collect::<Vec<_>>(), ["vda"]);
        assert_eq!(reading.pressure.len(), 3);
        assert_eq!(reading.conntrack.map(|c| c.1 > 0), Some(true));
        assert_eq!(reading.ephemeral_ports.map(|p| p.1), Some(60_999 - 32_768 + 1));
        assert!(reading.fds.is_some() && reading.network.is_some());
        assert_eq!(reading.memory.and_then(|m| m.oom_kills), Some(0));
    }

    #[test]
    fn what_an_older_kernel_lacks_is_null_and_named() {
        let reading = recorded("older").read();
        assert!(reading.stat.is_some() && reading.network.is_some() && !reading.disks.is_empty());
        assert!(reading.memory.is_none() && reading.fds.is_none());
        let blind = reading.blind.join("\n");
        for word in
            ["memory: ", "MemAvailable", "pressure: /proc/pressure/io is absent", "descriptors: "]
        {
            assert!(blind.contains(word), "{word} in {blind}");
        }
    }

    #[test]
    fn this_machine_is_read() {
        let mut reader = HostReader::new(Files::below("/"));
        let first = reader.read();
        let second = loop {
            let reading = reader.read();
            // Clock ticks are 10 ms: read until some have passed.
            let ticks = |r: &Reading| r.stat.map(|s| s.busy + s.idle + s.iowait + s.steal);
            if ticks(&reading) != ticks(&first) {
                break reading;
            }
        };
        let row = row("here", Some(&first), &second);
        assert!(row.cpu.is_some() && row.memory.is_some() && row.network.is_some(), "{row:?}");
        assert!(!row.filesystems.is_empty(), "{row:?}");
    }
}

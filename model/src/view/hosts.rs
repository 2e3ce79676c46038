//! Hosts and the processes of named services.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::red::State;
use crate::num::f64_from;
use crate::time::{SECOND, Time};

/// Shares of CPU time since the previous reading, 0..=1 of all cores.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// Cores online.
    pub cores: u32,
    /// Working: neither idle, nor waiting for IO, nor stolen.
    pub busy: f64,
    /// Taken by other guests of the same machine.
    pub steal: f64,
    /// Waiting for IO.
    pub iowait: f64,
    /// Processes running or waiting for a core.
    pub run_queue: u32,
    /// One-minute load average.
    pub load1: f64,
}

/// Pressure stall information: share of the last 10 s in which some (all) tasks waited.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Pressure {
    /// Some waited, 0..=1.
    pub some: f64,
    /// All waited, 0..=1; `null` where the kernel has no such number (CPU before 5.13).
    pub full: Option<f64>,
}

/// Memory in bytes.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Installed.
    pub total_bytes: u64,
    /// What could be had without swapping.
    pub available_bytes: u64,
    /// Swap.
    pub swap_total_bytes: u64,
    /// Swap in use.
    pub swap_used_bytes: u64,
    /// OOM kills since boot; `null` where the kernel does not count them.
    pub oom_kills: Option<u64>,
}

/// A block device since the previous reading.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Disk {
    /// Its name (`vda`).
    pub device: String,
    /// Bytes read per second.
    pub read_bytes_s: f64,
    /// Bytes written per second.
    pub write_bytes_s: f64,
    /// Share of time with a request under way.
    pub busy: f64,
    /// Mean time of a request, in nanoseconds.
    pub await_ns: Option<u64>,
}

/// A mounted file system.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Filesystem {
    /// Where it is mounted.
    pub mount: String,
    /// What is used, and what an unprivileged user may still use: what is kept for root is neither.
    pub total_bytes: u64,
    /// What an unprivileged user may still use.
    pub available_bytes: u64,
    /// Inodes; 0 where the file system has no fixed number.
    pub inodes: u64,
    /// Inodes left.
    pub inodes_free: u64,
}

/// Network since the previous reading: bytes of the interfaces that lead out of the machine (or
/// container), drops of all but loopback.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Network {
    /// Bytes received per second.
    pub rx_bytes_s: f64,
    /// Bytes sent per second.
    pub tx_bytes_s: f64,
    /// Packets dropped or in error, per second.
    pub drops_s: f64,
    /// TCP segments retransmitted per second.
    pub retransmits_s: f64,
    /// Connections turned away by a full accept queue, per second.
    pub listen_overflows_s: f64,
    /// Connections tracked, and the limit; `null` without connection tracking.
    pub conntrack: Option<(u64, u64)>,
    /// Ephemeral ports in use, and how many there are.
    pub ephemeral_ports: Option<(u64, u64)>,
}

/// A process of a named service.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ProcessRow {
    /// `service.name`.
    pub service: String,
    /// `service.instance.id`.
    pub instance: Option<String>,
    /// The process now; never a label.
    pub pid: u32,
    /// Cores used since the previous reading (1.0 = one core).
    pub cpu: Option<f64>,
    /// Resident memory.
    pub rss_bytes: Option<u64>,
    /// Open file descriptors, and the soft limit.
    pub fds: Option<(u64, u64)>,
    /// Threads.
    pub threads: Option<u64>,
    /// Why something above is `null`.
    pub blind: Option<String>,
}

/// Processes that ended and had lived for less than 2 s, so that no reading of processes tells of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ShortLived {
    /// Over how long, in nanoseconds: a minute, less where the agent's eyes opened meanwhile.
    pub window_ns: u64,
    /// By program and who started them, most first. Together they are all that ended: last comes `__other__`, where it
    /// is needed.
    pub programs: Vec<ShortLivedProgram>,
}

impl ShortLived {
    /// How many of them a second; `None` where no time has passed.
    #[must_use]
    pub fn per_second(&self, count: u64) -> Option<f64> {
        let seconds = f64_from(self.window_ns) / f64_from(SECOND);
        (seconds > 0.0).then(|| f64_from(count) / seconds)
    }
}

/// Short-lived processes of one program that the same program started.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ShortLivedProgram {
    /// Their command name; `__other__` for all the others.
    pub program: String,
    /// Command name of their parent: who started them, or took them over; `null` where it is not known or not one.
    pub parent: Option<String>,
    /// How many ended.
    pub count: u64,
    /// How many of them with another exit code than 0, or by a signal.
    pub failed: u64,
    /// How the last of those ended: `exited with 7`.
    pub last_failure: Option<String>,
    /// How long they lived, together, in nanoseconds.
    pub lived_ns: u64,
    /// How long the one that lived longest.
    pub longest_ns: u64,
}

impl ShortLivedProgram {
    /// How long one of them lived, on average, in nanoseconds; `None` where there was none.
    #[must_use]
    pub fn mean_ns(&self) -> Option<u64> {
        self.lived_ns.checked_div(self.count)
    }
}

/// A host, newest reading inside the window.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HostRow {
    /// `host.name`.
    pub host: String,
    /// When it was read.
    pub time: Time,
    /// Whether silence means anything.
    pub state: State,
    /// CPU.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Pressure by resource: `cpu`, `memory`, `io`.
    pub pressure: BTreeMap<String, Pressure>,
    /// Disks.
    pub disks: Vec<Disk>,
    /// File systems.
    pub filesystems: Vec<Filesystem>,
    /// Network.
    pub network: Option<Network>,
    /// File descriptors in use on the host, and the limit.
    pub fds: Option<(u64, u64)>,
    /// The kernel believes its clock is synchronised; `null` when it does not say.
    pub clock_synced: Option<bool>,
    /// cgroup counters of the agent's own slice: `throttled_usec`, `oom_kill` … as the kernel names them.
    pub cgroup: BTreeMap<String, u64>,
    /// Processes of named services.
    pub processes: Vec<ProcessRow>,
    /// Processes that lived for less than 2 s; `null` where the agent does not see how processes end.
    #[serde(default)]
    pub short_lived: Option<ShortLived>,
    /// What could not be read, and why.
    pub blind: Vec<String>,
}

//! The host: CPU, memory, pressure, disks, file systems, network, descriptors, clock, cgroup.
//!
//! [`reader`] takes a [`Reading`] of what the kernel says now; [`rates`] makes a `HostRow` of two of
//! them. What cannot be read is `None`, and [`Reading::blind`] has a sentence on why and the remedy.

mod cgroup;
mod filesystems;
mod ports;
mod rates;
mod reader;

use std::collections::BTreeMap;

use coral_model::view::{Filesystem, Memory, Pressure};

use super::clock::Clocks;
use super::parse::cpu::Stat;
use super::parse::disk::DiskCounters;
use super::parse::network::DeviceCounters;

pub use rates::row;
pub use reader::HostReader;

/// What the kernel said at one moment. Counters are since boot; [`row`] turns them into rates.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// When.
    pub clocks: Clocks,
    /// `/proc/stat`.
    pub stat: Option<Stat>,
    /// One-minute load.
    pub load1: Option<f64>,
    /// Memory and swap.
    pub memory: Option<Memory>,
    /// Pressure by resource.
    pub pressure: BTreeMap<String, Pressure>,
    /// Whole block devices by name.
    pub disks: BTreeMap<String, DiskCounters>,
    /// Local file systems.
    pub filesystems: Vec<Filesystem>,
    /// Network counters.
    pub network: Option<NetworkCounters>,
    /// Connections tracked and the limit.
    pub conntrack: Option<(u64, u64)>,
    /// Ephemeral ports in use and their number.
    pub ephemeral_ports: Option<(u64, u64)>,
    /// Descriptors in use and the limit.
    pub fds: Option<(u64, u64)>,
    /// Whether the clock is synchronised.
    pub clock_synced: Option<bool>,
    /// Throttling and OOM counters of the agent's own cgroup.
    pub cgroup: BTreeMap<String, u64>,
    /// What could not be read.
    pub blind: Vec<String>,
}

/// Network counters since boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkCounters {
    /// Interfaces by name, loopback left out.
    pub devices: BTreeMap<String, Device>,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// Connections turned away by a full accept queue.
    pub listen_overflows: u64,
}

/// An interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Device {
    /// Its counters.
    pub counters: DeviceCounters,
    /// Its bytes count. Those of bridges, tunnels and container ends have already passed, or will
    /// pass, through a device of the machine.
    pub outward: bool,
}

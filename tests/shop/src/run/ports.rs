//! Ports that stay free while a service is down.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context as _;

/// A loopback port that nobody listens on, below the range that the kernel hands to clients
/// (`net.ipv4.ip_local_port_range` starts at 32768), so that a crashed service finds it free again.
///
/// # Errors
/// When none of many tries is free.
pub fn free(taken: &BTreeMap<String, u16>) -> anyhow::Result<u16> {
    for _ in 0..200 {
        let draw = getrandom::u32().context("randomness")? % 12_000;
        let port = 20_000u16.saturating_add(u16::try_from(draw).unwrap_or(0));
        if !taken.values().any(|used| *used == port)
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port between 20000 and 32000")
}

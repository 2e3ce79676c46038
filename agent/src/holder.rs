//! Who holds a port.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// `program (pid 123)` of whoever listens on this port; `None` when that cannot be seen.
#[must_use]
pub fn of(address: SocketAddr) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find_map(|table| listening_inode(&table, address))?;
    let link = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |entry: fs::DirEntry| {
            fs::read_link(entry.path()).is_ok_and(|to| to.to_str() == Some(&link))
        };
        if descriptors.flatten().any(holds) {
            let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", program.trim()));
        }
    }
    None
}

/// Inode of the socket in state LISTEN (0A) on this port, on this address or on all of them.
fn listening_inode(table: &str, address: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (local, state) = (words.nth(1)?, words.nth(1)?);
        let (host, port) = local.rsplit_once(':')?;
        let same_port = u16::from_str_radix(port, 16).ok()? == address.port();
        let any = host.bytes().all(|b| b == b'0');
        // The kernel prints IPv4 addresses as one little-endian word.
        let same = match address.ip() {
            IpAddr::V4(ip) => format!("{:08X}", u32::from_le_bytes(ip.octets())) == host,
            IpAddr::V6(_) => true,
        };
        if state != "0A" || !same_port || !(any || same) {
            return None;
        }
        words.nth(5)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = of(listener.local_addr().unwrap()).unwrap();
        assert!(holder.contains(&format!("(pid {})", std::process::id())), "{holder}");
    }
}

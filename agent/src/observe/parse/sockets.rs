//! `/proc/net/tcp` and `/proc/net/tcp6`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One TCP socket, listening and waiting ones among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// This end. IPv4 inside IPv6 is given as IPv4.
    pub local: SocketAddr,
    /// The other end; unspecified when listening.
    pub remote: SocketAddr,
    /// User it belongs to.
    pub uid: u32,
    /// Inode; 0 when no process holds it any more.
    pub inode: u64,
}

/// Reads one line; the heading is none.
#[must_use]
pub fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
    // state, queues, timer, retransmits, uid, timeout, inode
    let mut words = words.skip(4);
    let uid = words.next()?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    Some(Socket { local, remote, uid, inode })
}

/// The local port of a line, without looking at the rest of it.
#[must_use]
pub fn local_port(line: &[u8]) -> Option<u16> {
    let mut words = line.split(|b| *b == b' ').filter(|w| !w.is_empty()).skip(1);
    let word = words.next()?;
    let port = word.get(word.iter().position(|b| *b == b':')? + 1..)?;
    u16::from_str_radix(std::str::from_utf8(port).ok()?, 16).ok()
}

/// Sockets in use and waiting, from the line of `/proc/net/sockstat` that begins with `group`.
#[must_use]
pub fn total(text: &str, group: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(group))?;
    let mut words = line.split_ascii_whitespace();
    let mut sum = 0_u64;
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        if matches!(name, "inuse" | "tw") {
            sum = sum.saturating_add(value.parse().ok()?);
        }
    }
    Some(sum)
}

/// `0100007F:1F90`: each 32-bit word of the address in the machine's byte order, the port not.
fn address(word: &str) -> Option<SocketAddr> {
    let (ip, port) = word.split_once(':')?;
    if !ip.is_ascii() {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    let part = |at: usize| {
        let digits = ip.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(part(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&part(at)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn both_families_are_understood() {
        let all: Vec<_> = fixtures::TCP_6.lines().filter_map(socket).collect();
        assert_eq!(all[0].local, "0.0.0.0:2024".parse().unwrap());
        assert_eq!((all[0].uid, all[0].inode), (0, 1508));
        assert_eq!(all[1].local, "127.0.0.1:37035".parse().unwrap());
        assert_eq!(fixtures::TCP_OLD.lines().filter_map(socket).count(), 3);
        let six = "0: 0000000000000000FFFF00000100007F:1F90 \
                   00000000000000000000000001000000:C001 01 0:0 00:0 0 1000 0 42 1 0";
        let six = socket(six).unwrap();
        assert_eq!(six.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(six.remote, "[::1]:49153".parse().unwrap());
        assert_eq!((six.uid, six.inode), (1000, 42));
    }

    #[test]
    fn totals_count_waiting_sockets_too() {
        let text =
            "sockets: used 79\nTCP: inuse 49 orphan 0 tw 8 alloc 49 mem 287\nUDP: inuse 1 mem 0\n";
        assert_eq!(total(text, "TCP: "), Some(57));
        assert_eq!(total("TCP6: inuse 3\n", "TCP6: "), Some(3));
        assert_eq!(total(text, "TCP6: "), None);
    }

    #[test]
    fn a_port_is_found_without_the_rest() {
        for line in fixtures::TCP_6.lines().chain(fixtures::TCP6_6.lines()) {
            assert_eq!(local_port(line.as_bytes()), socket(line).map(|s| s.local.port()));
        }
    }
}

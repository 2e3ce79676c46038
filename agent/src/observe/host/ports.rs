//! Ephemeral ports in use.
//!
//! Reading `/proc/net/tcp` walks the kernel's whole hash table of connections, however few there are
//! (1.3 ms each for IPv4 and IPv6 on a machine of 24 GiB, and as much again for sock_diag). So it is
//! read twice a minute, and oftener only while the cheap totals of `/proc/net/sockstat` say that ports
//! may run out. A table beyond the cap is not counted at all.

use std::io;

use crate::observe::files::Files;
use crate::observe::parse::{numbers, sockets};

/// Readings for which a count stands: half a minute.
const STANDS: u64 = 15;
/// The same, while more than half of the range may be in use.
const STANDS_NEAR: u64 = 3;
/// With k times as many sockets, lines cost as much as the walk, and a count stands longer.
const PER_READING: u64 = 2_000;
/// But never longer than this: one minute.
const STANDS_MOST: u64 = 30;
/// Bytes read of each table: some 100,000 sockets.
const MAX_BYTES: u64 = 16 << 20;

/// Counter of ephemeral ports.
#[derive(Debug, Default)]
pub struct Ports {
    /// Readings since the last count.
    age: u64,
    sockets: u64,
    last: Option<(u64, u64)>,
}

impl Ports {
    /// Ports of `ip_local_port_range` that some TCP socket uses, and how many there are.
    pub fn count(&mut self, files: &mut Files) -> io::Result<(u64, u64)> {
        self.age += 1;
        if let Some(last) = self.last.filter(|(_, there)| self.age < self.stands(*there, files)) {
            return Ok(last);
        }
        self.last = None;
        let (counted, sockets) = count(files)?;
        (self.age, self.sockets, self.last) = (0, sockets, Some(counted));
        Ok(counted)
    }

    fn stands(&self, there: u64, files: &mut Files) -> u64 {
        let mut total = |path, key| files.parse(path, |t| sockets::total(t, key)).unwrap_or(0);
        let total = total("/proc/net/sockstat", "TCP: ") + total("/proc/net/sockstat6", "TCP6: ");
        let base = if total.saturating_mul(2) > there { STANDS_NEAR } else { STANDS };
        (self.sockets / PER_READING).clamp(base, STANDS_MOST)
    }
}

fn count(files: &mut Files) -> io::Result<((u64, u64), u64)> {
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    let range = files.parse(range, |text| match numbers(text).as_slice() {
        &[low, high] if low <= high => Some((u16::try_from(low).ok()?, u16::try_from(high).ok()?)),
        _ => None,
    })?;
    let mut used = vec![0_u64; 1024];
    let mut sockets = 0_u64;
    let mut whole = true;
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let read = files.lines(path, MAX_BYTES, |line| {
            let Some(port) = sockets::local_port(line) else { return true };
            sockets += 1;
            let slot = used.get_mut(usize::from(port >> 6));
            if let Some(slot) = slot.filter(|_| (range.0..=range.1).contains(&port)) {
                *slot |= 1 << (port & 63);
            }
            true
        });
        match read {
            Ok(all) => whole &= all,
            // A kernel without IPv6 has no second table.
            Err(error) if path.ends_with('6') && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if !whole {
        return Err(io::Error::other("more sockets than the agent counts"));
    }
    let used: u64 = used.iter().map(|word| u64::from(word.count_ones())).sum();
    let there = u64::from(range.1 - range.0) + 1;
    Ok(((used, there), sockets))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn host(dir: &std::path::Path, sockets: u64) -> Files {
        std::fs::create_dir_all(dir.join("proc/net")).unwrap();
        std::fs::create_dir_all(dir.join("proc/sys/net/ipv4")).unwrap();
        std::fs::write(dir.join("proc/sys/net/ipv4/ip_local_port_range"), "40000\t40009\n")
            .unwrap();
        let mut text = "  sl  local_address rem_address   st\n".to_owned();
        for n in 0..sockets {
            // Half of them outside the range; each port of the range many times.
            let port = if n % 2 == 0 { 80 } else { 40_000 + (n / 2) % 4 };
            let rest = "01 0:0 00:0 0 0 0 1 1 0";
            writeln!(text, "{n:4}: 0100007F:{port:04X} 0100007F:0050 {rest}").unwrap();
        }
        std::fs::write(dir.join("proc/net/tcp"), text).unwrap();
        Files::below(dir)
    }

    #[test]
    fn a_port_used_by_many_sockets_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = host(dir.path(), 100);
        assert_eq!(Ports::default().count(&mut files).unwrap(), (4, 10));
    }

    #[test]
    fn a_count_stands_for_a_while_and_shorter_when_ports_run_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = host(dir.path(), 100);
        let mut reads = |ports: &mut Ports| {
            let table = dir.path().join("proc/net/tcp");
            let before = std::fs::read(&table).unwrap();
            ports.count(&mut files).unwrap();
            // Without the table the count stands until it is needed again.
            std::fs::remove_file(&table).unwrap();
            let stood = (1_u64..).find(|_| ports.count(&mut files).is_err()).unwrap();
            std::fs::write(&table, before).unwrap();
            stood
        };
        let mut ports = Ports::default();
        assert_eq!(reads(&mut ports), STANDS);
        let near = "sockets: used 9\nTCP: inuse 3 orphan 0 tw 3 alloc 14 mem 2\n";
        std::fs::write(dir.path().join("proc/net/sockstat"), near).unwrap();
        assert_eq!(reads(&mut ports), STANDS_NEAR);
        let mut files = host(dir.path(), 20 * PER_READING);
        assert_eq!(ports.count(&mut files).unwrap(), (4, 10));
        assert_eq!(ports.stands(10, &mut files), 20);
    }
}

//! Connections of which something went by before they were followed: how many requests came before what is
//! seen of them nobody knows.
//!
//! Those that were open when the agent began to look, as the kernel lists them for each network namespace
//! that a process is in, and those that were forgotten since, or not followed for want of room. A namespace
//! that the agent may not look into has none, as far as is known.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::super::nat::Ends;
use crate::observe::files::Files;

/// Connections that are remembered.
const MOST: usize = 65_536;
/// Network namespaces that are looked into.
const NAMESPACES: usize = 256;
/// Longest list of connections that is read, bytes.
const MAX_BYTES: u64 = 16 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Older {
    /// Between whom, this end first.
    ends: HashSet<Ends>,
    /// There may be others.
    others: bool,
}

impl Older {
    /// Those that are open now.
    pub(super) fn read(files: &mut Files) -> Self {
        let mut older = Self::default();
        let of = |files: &Files, process: &str| {
            std::fs::read_link(files.path(&format!("/proc/{process}/ns/net")))
        };
        let mut namespaces: HashSet<PathBuf> = of(files, "self").into_iter().collect();
        older.others |= older.list(files, "/proc/net").is_err();
        let Ok(entries) = std::fs::read_dir(files.path("/proc")) else {
            return Self { others: true, ..older };
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(process) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
                continue;
            };
            if !of(files, process).is_ok_and(|namespace| namespaces.insert(namespace)) {
                continue;
            }
            if namespaces.len() > NAMESPACES {
                older.others = true;
                break;
            }
            // The process may be gone by now.
            _ = older.list(files, &format!("/proc/{process}/net"));
        }
        older
    }

    fn list(&mut self, files: &mut Files, folder: &str) -> io::Result<()> {
        self.lines(files, &format!("{folder}/tcp"))?;
        match self.lines(files, &format!("{folder}/tcp6")) {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            read => read,
        }
    }

    fn lines(&mut self, files: &mut Files, path: &str) -> io::Result<()> {
        let whole = files.lines(path, MAX_BYTES, |line| {
            if let Some(ends) = std::str::from_utf8(line).ok().and_then(open) {
                self.note(ends);
            }
            !self.others
        })?;
        self.others |= !whole;
        Ok(())
    }

    /// One more.
    pub(super) fn note(&mut self, ends: Ends) {
        if self.ends.len() >= MOST {
            self.others = true;
            return;
        }
        self.ends.insert(ends);
    }

    /// It is over, or begins anew.
    pub(super) fn forget(&mut self, ends: Ends) {
        self.ends.remove(&ends);
    }

    /// Whether this may be one; `opened` if it was seen when this end opened it.
    pub(super) fn may_be(&self, ends: Ends, opened: bool) -> bool {
        self.ends.contains(&ends) || self.others && !opened
    }
}

/// Ends of a connection that is open: a number, both ends, the state (`get_tcp4_sock` in
/// `net/ipv4/tcp_ipv4.c`).
fn open(line: &str) -> Option<Ends> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote) = (end(words.next()?)?, end(words.next()?)?);
    // ESTABLISHED, both FIN_WAITs, CLOSE_WAIT: of the others nothing moved yet, or will.
    matches!(words.next()?, "01" | "04" | "05" | "08").then_some((local, remote))
}

/// An address, in words as they lie in memory, and a port.
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(8 * at..8 * at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for (at, slot) in bytes.chunks_exact_mut(4).enumerate() {
                slot.copy_from_slice(&word(at)?);
            }
            // A socket of IPv6 may speak IPv4 with one of IPv4.
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(local: &str, remote: &str) -> Ends {
        (local.parse().unwrap(), remote.parse().unwrap())
    }

    fn words(bytes: &[u8]) -> String {
        let word = |word: &[u8]| format!("{:08X}", u32::from_ne_bytes(word.try_into().unwrap()));
        bytes.chunks_exact(4).map(word).collect()
    }

    fn line((local, remote): Ends, state: &str) -> String {
        let end = |end: SocketAddr| {
            let address = match end.ip() {
                IpAddr::V4(ip) => words(&ip.octets()),
                IpAddr::V6(ip) => words(&ip.octets()),
            };
            format!("{address}:{:04X}", end.port())
        };
        format!("   0: {} {} {state} 00000000:00000000 00:00000000\n", end(local), end(remote))
    }

    fn write(dir: &tempfile::TempDir, path: &str, lines: &[String]) {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n";
        std::fs::write(path, [head.to_owned(), lines.concat()].concat()).unwrap();
    }

    fn namespace(dir: &tempfile::TempDir, process: &str, name: &str) {
        let folder = dir.path().join("proc").join(process).join("ns");
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(name, folder.join("net")).unwrap();
    }

    #[test]
    fn what_is_open_is_older_in_every_namespace() {
        let dir = tempfile::tempdir().unwrap();
        let here = ends("127.0.0.1:80", "127.0.0.1:40000");
        let six = ends("[fd00::1]:80", "[fd00::2]:40000");
        let mapped = ends("[::ffff:10.0.0.1]:80", "[::ffff:10.0.0.2]:40000");
        let inside = ends("172.17.0.2:5432", "172.17.0.3:40000");
        let again = ends("172.17.0.2:5432", "172.17.0.3:40001");
        let over = ends("127.0.0.1:80", "127.0.0.1:40001");
        let listens = ends("0.0.0.0:80", "0.0.0.0:0");
        let own = [line(here, "01"), line(over, "06"), line(listens, "0A")];
        write(&dir, "proc/net/tcp", &own);
        write(&dir, "proc/net/tcp6", &[line(six, "08"), line(mapped, "01")]);
        write(&dir, "proc/8/net/tcp", &[line(inside, "01")]);
        // The same namespace is not looked into twice.
        write(&dir, "proc/1/net/tcp", &[line(again, "01")]);
        for (process, name) in [("self", "net:[1]"), ("1", "net:[1]"), ("8", "net:[2]")] {
            namespace(&dir, process, name);
        }
        let older = Older::read(&mut Files::below(dir.path()));
        let four = ends("10.0.0.1:80", "10.0.0.2:40000");
        for (ends, expected) in
            [(here, true), (six, true), (four, true), (inside, true), (over, false), (again, false)]
        {
            assert_eq!(older.may_be(ends, false), expected, "{ends:?}");
        }
        assert_eq!(older.ends.len(), 4);
    }

    #[test]
    fn where_not_all_are_known_only_what_was_seen_to_be_opened_is_not_older() {
        let dir = tempfile::tempdir().unwrap();
        let older = Older::read(&mut Files::below(dir.path()));
        let here = ends("127.0.0.1:80", "127.0.0.1:40000");
        assert!(older.may_be(here, false) && !older.may_be(here, true));
        let mut older = Older::default();
        for port in 0..=u16::MAX {
            older.note((here.0, SocketAddr::new(here.1.ip(), port)));
        }
        assert!(older.may_be(here, true));
        older.forget(here);
        assert!(!older.may_be(here, false));
        older.note(here);
        older.note(ends("10.0.0.1:80", "10.0.0.2:1"));
        assert!(older.ends.len() == MOST && older.others);
    }
}

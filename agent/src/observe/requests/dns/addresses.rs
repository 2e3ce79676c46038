//! What addresses are called: by the name that a process of this host asked for and was answered with them.
//!
//! Nothing is guessed. A process's peer has the name that this process was told; where it was told none,
//! perhaps because another program asks for it, the name that everybody here was told, if that is one.
//! Connections live longer than names are good for: a name stays for a while after its time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

const SECOND: u64 = 1_000_000_000;
/// A name stays so long at least, ns.
const LEAST_NS: u64 = 600 * SECOND;
/// And so long at most, ns.
const MOST_NS: u64 = 86_400 * SECOND;
/// Addresses that have names.
const ADDRESSES: usize = 8_192;
/// Names that one address has, each to a process.
const NAMES: usize = 32;

#[derive(Debug)]
struct Told {
    process: u32,
    name: Arc<str>,
    until_ns: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Addresses {
    names: HashMap<IpAddr, Vec<Told>>,
    forgotten: u64,
}

impl Addresses {
    /// A process was told that a name has these addresses, for so many seconds.
    pub fn told(&mut self, process: u32, name: &str, addresses: &[(IpAddr, u32)], now_ns: u64) {
        let name: Arc<str> = name.into();
        for (address, seconds) in addresses {
            let good_ns = u64::from(*seconds).saturating_mul(SECOND).clamp(LEAST_NS, MOST_NS);
            let until_ns = now_ns.saturating_add(good_ns);
            let address = address.to_canonical();
            if self.names.len() >= ADDRESSES && !self.names.contains_key(&address) {
                self.forgotten += 1;
                continue;
            }
            let told = self.names.entry(address).or_default();
            // What it was told last is what it went by.
            told.retain(|t| t.process != process && t.until_ns > now_ns);
            if told.len() >= NAMES {
                told.remove(0);
                self.forgotten += 1;
            }
            told.push(Told { process, name: Arc::clone(&name), until_ns });
        }
    }

    /// What an address is called by a process.
    #[must_use]
    pub fn name(&self, process: u32, address: IpAddr, now_ns: u64) -> Option<Arc<str>> {
        let told = self.names.get(&address.to_canonical())?;
        let good = || told.iter().filter(|t| t.until_ns > now_ns);
        let own = good().find(|t| t.process == process);
        let mut names = good();
        let one = names.next().filter(|first| names.all(|t| t.name == first.name));
        own.or(one).map(|t| Arc::clone(&t.name))
    }

    /// Forgets names whose time is over.
    pub fn sweep(&mut self, now_ns: u64) {
        self.names.retain(|_, told| {
            told.retain(|t| t.until_ns > now_ns);
            !told.is_empty()
        });
    }

    /// Names that were forgotten, or not kept, for lack of room, since the last call.
    pub fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn a_peer_has_the_name_its_process_was_told() {
        let mut addresses = Addresses::default();
        addresses.told(1, "api.example.com", &[(ip(7), 30), (ip(8), 30)], 1);
        let name = |addresses: &Addresses, process, n, now| {
            addresses.name(process, ip(n), now).map(|name| name.to_string())
        };
        let api = Some("api.example.com".to_owned());
        assert_eq!(name(&addresses, 1, 7, 2), api);
        // Who asked for nothing is told what everybody here was told,
        assert_eq!(name(&addresses, 2, 8, 2), api);
        assert_eq!(name(&addresses, 2, 9, 2), None);
        // unless that is not one name.
        addresses.told(3, "cdn.example.com", &[(ip(7), 30)], 3);
        assert_eq!(name(&addresses, 2, 7, 4), None);
        assert_eq!(
            (name(&addresses, 1, 7, 4), name(&addresses, 3, 7, 4)),
            (api.clone(), Some("cdn.example.com".into()))
        );
        let mapped: IpAddr = "::ffff:0.0.0.8".parse().unwrap();
        assert_eq!(addresses.name(1, mapped, 5).map(|name| name.to_string()), api);
        // A short time is some minutes, and over at its end.
        assert_eq!(name(&addresses, 1, 8, LEAST_NS), api);
        assert_eq!(name(&addresses, 1, 8, LEAST_NS + 1), None);
        addresses.sweep(LEAST_NS + 3);
        assert!(addresses.names.is_empty());
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut addresses = Addresses::default();
        for n in 0..=u32::try_from(ADDRESSES).unwrap() {
            addresses.told(1, "a", &[(ip(n), 30)], 1);
        }
        assert_eq!((addresses.names.len(), addresses.take_forgotten()), (ADDRESSES, 1));
        for n in 0..=u32::try_from(NAMES).unwrap() {
            addresses.told(n, "a", &[(ip(1), 30)], 1);
        }
        assert_eq!((addresses.names[&ip(1)].len(), addresses.take_forgotten()), (NAMES, 1));
    }
}

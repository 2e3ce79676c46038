//! `/proc/net/dev`, `/proc/net/snmp`, `/proc/net/netstat`.

use super::number;

/// What an interface has carried since it came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceCounters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets dropped or in error, either way.
    pub drops: u64,
}

/// A host with more interfaces than this (one per container) is read up to here.
const MAX_DEVICES: usize = 4096;

/// Every interface but loopback, by name.
#[must_use]
pub fn devices(text: &str) -> Vec<(&str, DeviceCounters)> {
    text.lines().filter_map(device).take(MAX_DEVICES).collect()
}

fn device(line: &str) -> Option<(&str, DeviceCounters)> {
    let (name, rest) = line.split_once(':')?;
    let name = name.trim();
    if name == "lo" || name.is_empty() {
        return None;
    }
    let n: Vec<u64> = rest.split_ascii_whitespace().map_while(number).collect();
    let &[rx_bytes, _, rx_errors, rx_drops, _, _, _, _, tx_bytes, _, tx_errors, tx_drops, ..] =
        n.as_slice()
    else {
        return None;
    };
    let drops = [rx_errors, rx_drops, tx_errors, tx_drops];
    let drops = drops.iter().fold(0, |sum: u64, n| sum.saturating_add(*n));
    Some((name, DeviceCounters { rx_bytes, tx_bytes, drops }))
}

/// A column of `snmp` or `netstat`: pairs of lines that begin with the same word, names above values.
#[must_use]
pub fn column(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.split(' ').next() == Some(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_ascii_whitespace().position(|word| word == name)?;
    number(values.split_ascii_whitespace().nth(at)?)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn real_kernels_are_understood() {
        let old = devices(fixtures::DEV_OLD);
        assert_eq!(old.iter().map(|d| d.0).collect::<Vec<_>>(), ["vethf345468", "docker0", "eth0"]);
        assert_eq!((old[2].1.rx_bytes, old[2].1.tx_bytes), (874_354_587, 563_352_563));
        assert_eq!(devices(fixtures::DEV_6).len(), 3);
        assert_eq!(column(fixtures::SNMP_OLD, "Tcp:", "RetransSegs"), Some(348));
        assert_eq!(column(fixtures::NETSTAT_6, "TcpExt:", "ListenOverflows"), Some(0));
        assert_eq!(column(fixtures::NETSTAT_OLD, "TcpExt:", "TW"), Some(83));
        assert_eq!(column(fixtures::SNMP_6, "Tcp:", "NoSuchThing"), None);
    }

    #[test]
    fn a_name_glued_to_its_first_number_is_no_problem() {
        // Before 2.6.39 a long count left no space after the colon.
        let line = "eth0:1234567890 1 2 3 0 0 0 0 99 1 4 5 0 0 0 0";
        let counters = DeviceCounters { rx_bytes: 1_234_567_890, tx_bytes: 99, drops: 14 };
        assert_eq!(devices(line), [("eth0", counters)]);
    }
}

//! Networks of this host alone: those of its bridges, which containers are on.
//!
//! Every host with containers has the same addresses there (docker's first are in 172.17/16), so that what is
//! between two of them is, like loopback, no name for a connection elsewhere. A bridge that leads out of the
//! host through a device is none of these. Of IPv4, whose routes are in one short file.

use std::net::{IpAddr, Ipv4Addr};

use coral_model::time::SECOND;

use crate::observe::files::Files;

/// Routes of IPv4, in the agent's network namespace.
const ROUTES: &str = "/proc/net/route";
/// How long what was read is good for, ns.
const GOOD_NS: u64 = 10 * SECOND;
/// Networks that are remembered.
const NETWORKS: usize = 64;
/// Longest list of routes that is read, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A network: its address and its mask.
type Network = (u32, u32);

/// See the module.
#[derive(Debug, Default)]
pub struct Bridges {
    /// When that was last read, ns since boot.
    looked_ns: Option<u64>,
    networks: Vec<Network>,
}

impl Bridges {
    /// Whether all of these are on one of them.
    pub fn hold(&mut self, files: &mut Files, ips: &[IpAddr], now_ns: u64) -> bool {
        let v4 = |ip: &IpAddr| match ip.to_canonical() {
            IpAddr::V4(ip) => Some(ip.to_bits()),
            IpAddr::V6(_) => None,
        };
        let Some(ips) = ips.iter().map(v4).collect::<Option<Vec<u32>>>() else { return false };
        if self.looked_ns.is_none_or(|looked| now_ns.saturating_sub(looked) >= GOOD_NS) {
            self.looked_ns = Some(now_ns);
            self.networks = read(files);
        }
        let on = |(net, mask): &Network| ips.iter().all(|ip| ip & mask == *net);
        self.networks.iter().any(on)
    }
}

fn read(files: &mut Files) -> Vec<Network> {
    let mut routes: Vec<(String, Network)> = Vec::new();
    // Without the file nothing is known to be of this host alone.
    _ = files.lines(ROUTES, MAX_BYTES, |line| {
        routes.extend(std::str::from_utf8(line).ok().and_then(on_link));
        true
    });
    let inside = routes.into_iter().filter(|(name, _)| is_inside(files, name));
    inside.map(|(_, network)| network).take(NETWORKS).collect()
}

/// Interface and network of a route without a gateway: interface, destination, gateway, flags, four numbers
/// and before the last three the mask (`fib_route_seq_show` in `net/ipv4/fib_trie.c`).
fn on_link(line: &str) -> Option<(String, Network)> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let mut address = |skip| {
        // A number as it lies in memory, where it is in the order of the wire.
        let number = u32::from_str_radix(words.nth(skip)?, 16).ok()?;
        Some(Ipv4Addr::from(number.to_ne_bytes()).to_bits())
    };
    let (net, gateway, mask) = (address(0)?, address(0)?, address(4)?);
    (gateway == 0 && mask != 0).then(|| (name.to_owned(), (net, mask)))
}

/// Whether an interface is a bridge that no device of the host is a port of.
fn is_inside(files: &Files, name: &str) -> bool {
    let folder = format!("/sys/class/net/{name}");
    if !files.exists(format!("{folder}/bridge")) {
        return false;
    }
    let Ok(ports) = std::fs::read_dir(files.path(&format!("{folder}/brif"))) else { return true };
    let is_device = |port: std::fs::DirEntry| {
        files.exists(format!("/sys/class/net/{}/device", port.file_name().to_string_lossy()))
    };
    !ports.flatten().any(is_device)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with docker's bridge, one that its network card is a port of, and the card's own network.
    fn host() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let folder = |path: &str| std::fs::create_dir_all(dir.path().join(path)).unwrap();
        folder("proc/net");
        for path in ["docker0/bridge", "docker0/brif/veth1", "veth1", "br0/bridge", "br0/brif/eth1"]
        {
            folder(&format!("sys/class/net/{path}"));
        }
        folder("sys/class/net/eth1/device");
        folder("sys/class/net/eth0/device");
        let hex = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let line = |name, net, gateway, mask| {
            let [net, gateway, mask] = [net, gateway, mask].map(hex);
            format!("{name}\t{net}\t{gateway}\t0001\t0\t0\t0\t{mask}\t0\t0\t0\n")
        };
        let routes = [
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
                .to_owned(),
            line("eth0", [0; 4], [192, 0, 2, 1], [0; 4]),
            line("eth0", [192, 0, 2, 0], [0; 4], [255, 255, 255, 0]),
            line("docker0", [172, 17, 0, 0], [0; 4], [255, 255, 0, 0]),
            line("docker0", [10, 9, 0, 0], [172, 17, 0, 9], [255, 255, 0, 0]),
            line("br0", [10, 1, 0, 0], [0; 4], [255, 255, 0, 0]),
        ];
        std::fs::write(dir.path().join("proc/net/route"), routes.concat()).unwrap();
        dir
    }

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split(' ').map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_between_containers_of_one_bridge_is_of_this_host() {
        let dir = host();
        let mut files = Files::below(dir.path());
        let mut bridges = Bridges::default();
        for (text, expected) in [
            ("172.17.0.2 172.17.0.3", true),
            ("172.17.0.1 ::ffff:172.17.200.9", true),
            // One end elsewhere, another network, what lies behind a container, other hosts by way of a bridge.
            ("172.17.0.2 192.0.2.7", false),
            ("192.0.2.6 192.0.2.7", false),
            ("10.9.0.1 10.9.0.2", false),
            ("10.1.0.1 10.1.0.2", false),
            ("172.18.0.2 172.18.0.3", false),
            ("fd00::1 fd00::2", false),
        ] {
            assert_eq!(bridges.hold(&mut files, &ips(text), 1), expected, "{text}");
        }
    }

    #[test]
    fn networks_are_read_anew_after_a_while_and_are_bounded() {
        let dir = host();
        let mut files = Files::below(dir.path());
        let mut bridges = Bridges::default();
        let between = ips("172.17.0.2 172.17.0.3");
        assert!(bridges.hold(&mut files, &between, 5));
        let line = "docker0\t00000000\t00000000\t0001\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n";
        std::fs::write(dir.path().join("proc/net/route"), line.repeat(1_000)).unwrap();
        assert!(bridges.hold(&mut files, &between, 4 + GOOD_NS));
        assert!(!bridges.hold(&mut files, &between, 5 + GOOD_NS));
        assert_eq!(bridges.networks.len(), NETWORKS);
        std::fs::remove_file(dir.path().join("proc/net/route")).unwrap();
        assert!(!bridges.hold(&mut files, &between, 5 + 2 * GOOD_NS));
        assert!(bridges.networks.is_empty());
    }
}

//! Something is nearly full.

use std::collections::BTreeMap;

use coral_model::num::f64_from;
use coral_model::time::Time;
use coral_model::view::{EventKind, HostRow};

use super::Noticed;

/// Reached when this share is used …
const HOST_NEAR: f64 = 0.90;
/// … and told again only after it fell below this one: a log that is rotated every minute at the
/// edge must not fill the timeline.
const HOST_CLEAR: f64 = 0.85;
const SPOOL_NEAR: f64 = 0.80;
const SPOOL_CLEAR: f64 = 0.70;

/// Watches whatever has a bound.
#[derive(Debug, Default)]
pub struct BoundWatch {
    /// Whether it is near, by name.
    near: BTreeMap<String, bool>,
}

struct Use {
    name: String,
    service: Option<String>,
    used: u64,
    bound: u64,
}

impl BoundWatch {
    /// The row as it will be shown, and the spool's bytes and bound.
    pub fn step(&mut self, row: &HostRow, spool: Option<(u64, u64)>) -> Vec<Noticed> {
        let host = host_uses(row).into_iter().map(|each| (each, HOST_NEAR, HOST_CLEAR));
        let spool = spool.map(|(used, bound)| {
            let name = "the agent's spool".to_owned();
            (Use { name, service: None, used, bound }, SPOOL_NEAR, SPOOL_CLEAR)
        });
        let mut previous = std::mem::take(&mut self.near);
        let mut out = Vec::new();
        for (each, near, clear) in host.chain(spool).filter(|(each, ..)| each.bound > 0) {
            let share = f64_from(each.used) / f64_from(each.bound);
            let was = previous.remove(&each.name).unwrap_or(false);
            let is = share >= near || (was && share >= clear);
            if is && !was {
                out.push(each.noticed(row.time, share));
            }
            self.near.insert(each.name, is);
        }
        out
    }
}

impl Use {
    fn noticed(&self, at: Time, share: f64) -> Noticed {
        let percent = (share * 100.0).floor();
        let text = format!("{} is {percent:.0} % full", self.name);
        let mut noticed = Noticed::new(at, EventKind::NearBound, text)
            .with("what", &self.name)
            .with("used", &self.used)
            .with("bound", &self.bound);
        noticed.service.clone_from(&self.service);
        noticed
    }
}

fn host_uses(row: &HostRow) -> Vec<Use> {
    let of = |name: &str, (used, bound): (u64, u64)| Use {
        name: name.to_owned(),
        service: None,
        used,
        bound,
    };
    let mut out = Vec::new();
    for fs in &row.filesystems {
        let used = fs.total_bytes.saturating_sub(fs.available_bytes);
        out.push(of(&format!("file system {}", fs.mount), (used, fs.total_bytes)));
        let used = fs.inodes.saturating_sub(fs.inodes_free);
        out.push(of(&format!("inode table of {}", fs.mount), (used, fs.inodes)));
    }
    if let Some(network) = &row.network {
        out.extend(network.conntrack.map(|c| of("connection tracking table", c)));
        out.extend(network.ephemeral_ports.map(|p| of("range of ephemeral ports", p)));
    }
    out.extend(row.fds.map(|fds| of("descriptor table of the host", fds)));
    for process in &row.processes {
        let name = format!("descriptor table of {} ({})", process.service, process.pid);
        let service = Some(process.service.clone());
        out.extend(process.fds.map(|(used, bound)| Use { name, service, used, bound }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::host::{Reading, row};
    use coral_model::view::{Filesystem, ProcessRow};

    fn at(used: u64) -> HostRow {
        let mut row = row("h", None, &Reading::default());
        row.filesystems.push(Filesystem {
            mount: "/var".into(),
            total_bytes: 1000,
            available_bytes: 1000 - used,
            inodes: 0,
            inodes_free: 0,
        });
        row
    }

    #[test]
    fn a_bound_is_told_once_until_it_is_well_below() {
        let mut watch = BoundWatch::default();
        assert!(watch.step(&at(899), None).is_empty());
        let told = watch.step(&at(905), None);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].text, "file system /var is 90 % full");
        for used in [899, 950, 855, 900] {
            assert!(watch.step(&at(used), None).is_empty());
        }
        assert!(watch.step(&at(840), None).is_empty());
        assert_eq!(watch.step(&at(900), None).len(), 1);
    }

    #[test]
    fn the_spool_is_near_sooner() {
        let mut watch = BoundWatch::default();
        assert!(watch.step(&at(0), Some((79, 100))).is_empty());
        assert_eq!(watch.step(&at(0), Some((80, 100)))[0].text, "the agent's spool is 80 % full");
        assert!(watch.step(&at(0), Some((75, 100))).is_empty());
        assert!(watch.step(&at(0), Some((0, 0))).is_empty());
    }

    #[test]
    fn a_services_descriptors_name_the_service() {
        let mut near = at(0);
        near.processes.push(ProcessRow {
            service: "cart".into(),
            pid: 5,
            fds: Some((1000, 1024)),
            ..ProcessRow::default()
        });
        let told = BoundWatch::default().step(&near, None);
        assert_eq!(told[0].service.as_deref(), Some("cart"));
        assert_eq!(told[0].text, "descriptor table of cart (5) is 97 % full");
    }
}

//! Hosts whose file systems fill up.

use coral_model::time::Time;
use coral_model::view::{EventKind, EventRow, HostRow};
use hashbrown::HashSet;

use super::event;

/// Share of bytes or inodes in use from which a file system is nearly full.
const NEAR: f64 = 0.9;
/// It is told again only after it has been below this.
const CLEAR: f64 = 0.85;
/// File systems remembered as nearly full.
const MAX_FULL: usize = 10_000;

/// File systems that are nearly full and have been told of.
#[derive(Debug, Default)]
pub(super) struct Filling {
    told: HashSet<(String, String)>,
}

impl Filling {
    /// A host reading arrived, as the JSON it is kept as.
    pub(super) fn saw(&mut self, row: &str, now: Time, events: &mut Vec<EventRow>) {
        let Ok(row) = serde_json::from_str::<HostRow>(row) else { return };
        for fs in &row.filesystems {
            let bytes = used(fs.total_bytes, fs.available_bytes);
            let inodes = used(fs.inodes, fs.inodes_free);
            let (full, what) = if inodes > bytes { (inodes, "inodes") } else { (bytes, "bytes") };
            let key = (row.host.clone(), fs.mount.clone());
            if full < CLEAR {
                self.told.remove(&key);
            }
            if full < NEAR || self.told.len() >= MAX_FULL || !self.told.insert(key) {
                continue;
            }
            let left = match what {
                "bytes" => coral_model::text::bytes(fs.available_bytes),
                _ => format!("{} inodes", fs.inodes_free),
            };
            let text =
                format!("{} on {} is {:.0} % full, {left} left", fs.mount, row.host, full * 100.0);
            let draft = event(now, EventKind::NearBound, text).host(Some(&row.host));
            let mut draft = draft.with("mount", &fs.mount).with("used", format!("{full:.3}"));
            draft.row.source = "agent".into();
            events.push(draft.with("what", what).row);
        }
    }
}

fn used(total: u64, left: u64) -> f64 {
    if total == 0 {
        return 0.0;
    }
    1.0 - coral_model::num::f64_from(left.min(total)) / coral_model::num::f64_from(total)
}

//! The kernel killed for lack of memory.

use std::collections::BTreeMap;

use coral_model::time::Time;
use coral_model::view::EventKind;

use super::Noticed;
use crate::observe::kernel::Ended;

/// Victims named in one event.
const NAMED: usize = 4;

/// Watches the counts of OOM kills, of the host and of the agent's own cgroup.
#[derive(Debug, Default)]
pub struct KillWatch {
    previous: BTreeMap<&'static str, u64>,
}

impl KillWatch {
    /// The counts now, `None` where they cannot be read; and the processes that were chosen since, as
    /// far as they are known.
    pub fn step(
        &mut self,
        at: Time,
        host: Option<u64>,
        cgroup: Option<u64>,
        victims: &[Ended],
    ) -> Option<Noticed> {
        let rose = |watch: &mut Self, whose, now: Option<u64>| {
            let now = now?;
            let before = watch.previous.insert(whose, now)?;
            // A count that fell belongs to another cgroup or boot.
            now.checked_sub(before).filter(|rise| *rise > 0)
        };
        // A kill in the cgroup counts on the host too; it is told once, as the nearer of the two.
        let (host, own) = (rose(self, "host", host), rose(self, "cgroup", cgroup));
        let (count, whose, place) = match (host, own) {
            (_, Some(own)) => (own, "cgroup", " in the agent's own cgroup"),
            (Some(host), None) => (host, "host", ""),
            (None, None) => return None,
        };
        let what = if count == 1 { "a process".to_owned() } else { format!("{count} processes") };
        let names: Vec<String> =
            victims.iter().take(NAMED).map(|v| format!("{} (process {})", v.name, v.pid)).collect();
        let names =
            if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        let text = format!("the kernel killed {what} for lack of memory{place}{names}");
        Some(Noticed::new(at, EventKind::OomKill, text).with("count", &count).with("scope", &whose))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_is_told_once_and_a_start_is_not_a_rise() {
        let mut watch = KillWatch::default();
        assert_eq!(watch.step(Time(1), Some(7), None, &[]), None);
        assert_eq!(watch.step(Time(2), Some(7), None, &[]), None);
        let told = watch.step(Time(3), Some(9), None, &[]).unwrap();
        assert_eq!(told.text, "the kernel killed 2 processes for lack of memory");
        assert_eq!(told.attributes["count"], "2");
        assert_eq!(watch.step(Time(4), Some(9), Some(4), &[]), None);
        let own = watch.step(Time(5), Some(10), Some(5), &[]).unwrap();
        assert_eq!(own.attributes["scope"], "cgroup");
        // Unreadable for a while, then lower: nothing to tell.
        assert_eq!(watch.step(Time(6), None, None, &[]), None);
        assert_eq!(watch.step(Time(7), Some(1), Some(0), &[]), None);
    }
}

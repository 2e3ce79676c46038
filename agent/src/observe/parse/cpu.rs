//! `/proc/stat` and `/proc/loadavg`.

use coral_model::num::u32_sat;

use super::{number, value_of};

/// CPU time since boot, in clock ticks summed over all cores, and what else `/proc/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// Cores online.
    pub cores: u32,
    /// Working: user, nice, system, interrupts. Guests' time is inside user and nice.
    pub busy: u64,
    /// Nothing to do.
    pub idle: u64,
    /// Nothing to do but wait for IO.
    pub iowait: u64,
    /// Wanted to work, and the hypervisor ran somebody else.
    pub steal: u64,
    /// Tasks running or waiting for a core now.
    pub running: u32,
    /// When the machine booted, Unix seconds.
    pub boot_s: u64,
}

/// Reads `/proc/stat`.
#[must_use]
pub fn stat(text: &str) -> Option<Stat> {
    let mut out = Stat::default();
    let mut seen = false;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("cpu") => {
                let mut next = || words.next().and_then(number);
                // Steal came with 2.6.11; a missing column is a kernel that has no such time.
                let (user, nice, system, idle) = (next()?, next()?, next()?, next()?);
                let (iowait, irq, softirq, steal) = (next(), next(), next(), next());
                out.busy = [user, nice, system, irq.unwrap_or(0), softirq.unwrap_or(0)]
                    .iter()
                    .fold(0, |sum: u64, n| sum.saturating_add(*n));
                out.idle = idle;
                out.iowait = iowait.unwrap_or(0);
                out.steal = steal.unwrap_or(0);
                seen = true;
            }
            Some(word) if word.starts_with("cpu") => out.cores = out.cores.saturating_add(1),
            Some("procs_running") => out.running = u32_sat(words.next().and_then(number)?),
            _ => {}
        }
    }
    out.boot_s = value_of(text, "btime").unwrap_or(0);
    (seen && out.cores > 0).then_some(out)
}

/// The one-minute load average of `/proc/loadavg`.
#[must_use]
pub fn load1(text: &str) -> Option<f64> {
    let load: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    load.is_finite().then_some(load)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn real_kernels_are_understood() {
        let old = stat(fixtures::STAT_OLD).unwrap();
        assert_eq!((old.cores, old.idle, old.iowait, old.steal), (8, 8_979_004, 3552, 0));
        assert_eq!(old.busy, 301_854 + 612 + 111_922 + 2 + 3944);
        assert_eq!((old.running, old.boot_s), (2, 1_418_183_276));
        let new = stat(fixtures::STAT_6).unwrap();
        assert_eq!((new.cores, new.steal, new.iowait), (2, 26, 1373));
        assert_eq!(load1("0.02 0.04 0.05 1/497 11947\n"), Some(0.02));
    }

    #[test]
    fn half_a_file_is_no_reading() {
        assert_eq!(stat("cpu  1 2"), None);
        assert_eq!(stat("cpu0 1 2 3 4\n"), None);
        assert_eq!(load1("nan"), None);
    }
}

//! What the kernel's text files say.
//!
//! Pure functions over text, one file per family of files. They take whatever bytes a kernel (or a
//! container's imitation of one) hands out: a line that does not fit is left out, never guessed at,
//! and no input makes them panic. Formats are those of `Documentation/filesystems/proc.rst`,
//! `Documentation/admin-guide/iostats.rst`, `Documentation/accounting/psi.rst` and
//! `Documentation/admin-guide/cgroup-v2.rst` in the kernel's tree.

pub mod cgroup;
pub mod cpu;
pub mod disk;
pub mod memory;
pub mod mounts;
pub mod network;
pub mod pressure;
pub mod process;
pub mod sockets;

/// The value after `key` on the line that begins with it, as in `MemTotal:  16 kB`.
fn value_of(text: &str, key: &str) -> Option<u64> {
    let line =
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix([' ', '\t', ':']))?;
    number(line.trim_start_matches(':').split_ascii_whitespace().next()?)
}

fn number(word: &str) -> Option<u64> {
    word.parse().ok()
}

/// A file that holds numbers only: `602\t0\t2466170`.
#[must_use]
pub fn numbers(text: &str) -> Vec<u64> {
    text.split_ascii_whitespace().map_while(number).take(16).collect()
}

#[cfg(test)]
pub(crate) mod fixtures {
    //! `/proc` of real kernels; where each came from is in `fixtures/README.md`.

    macro_rules! fixture {
        ($name:ident, $path:literal) => {
            pub(crate) const $name: &str =
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/observe/fixtures/", $path));
        };
    }

    fixture!(STAT_OLD, "older/proc/stat");
    fixture!(STAT_6, "linux-6.18/proc/stat");
    fixture!(MEMINFO_OLD, "older/proc/meminfo");
    fixture!(MEMINFO_6, "linux-6.18/proc/meminfo");
    fixture!(VMSTAT_6, "linux-6.18/proc/vmstat");
    fixture!(DISKSTATS_OLD, "older/proc/diskstats");
    fixture!(DISKSTATS_6, "linux-6.18/proc/diskstats");
    fixture!(DEV_OLD, "older/proc/net/dev");
    fixture!(DEV_6, "linux-6.18/proc/net/dev");
    fixture!(SNMP_OLD, "older/proc/net/snmp");
    fixture!(SNMP_6, "linux-6.18/proc/net/snmp");
    fixture!(NETSTAT_OLD, "older/proc/net/netstat");
    fixture!(NETSTAT_6, "linux-6.18/proc/net/netstat");
    fixture!(TCP_OLD, "older/proc/net/tcp");
    fixture!(TCP_6, "linux-6.18/proc/net/tcp");
    fixture!(TCP6_6, "linux-6.18/proc/net/tcp6");
    fixture!(PRESSURE_CPU_OLD, "older/proc/pressure/cpu");
    fixture!(PRESSURE_CPU_6, "linux-6.18/proc/pressure/cpu");
    fixture!(PID_STAT_OLD, "older/proc/26231/stat");
    fixture!(LIMITS_OLD, "older/proc/26231/limits");
    fixture!(MOUNTINFO_6, "linux-6.18/proc/self/mountinfo");
    fixture!(CGROUP_6, "linux-6.18/proc/self/cgroup");

    /// All of them, for properties that hold for any text.
    pub(crate) const ALL: &[&str] = &[
        STAT_OLD,
        STAT_6,
        MEMINFO_OLD,
        MEMINFO_6,
        VMSTAT_6,
        DISKSTATS_OLD,
        DISKSTATS_6,
        DEV_OLD,
        DEV_6,
        SNMP_OLD,
        SNMP_6,
        NETSTAT_OLD,
        NETSTAT_6,
        TCP_OLD,
        TCP_6,
        TCP6_6,
        PRESSURE_CPU_OLD,
        PRESSURE_CPU_6,
        PID_STAT_OLD,
        LIMITS_OLD,
        MOUNTINFO_6,
        CGROUP_6,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) {
        let _ = cpu::stat(text);
        let _ = cpu::load1(text);
        let _ = pressure::pressure(text);
        let _ = memory::meminfo(text);
        let _ = memory::oom_kills(text);
        let _ = disk::diskstats(text);
        let _ = mounts::mountinfo(text);
        let _ = mounts::hidden_processes(text);
        let _ = network::devices(text);
        let _ = network::column(text, "Tcp:", "RetransSegs");
        let _ = cgroup::memberships(text);
        let _ = cgroup::flat(text);
        let _ = process::stat(text);
        let _ = process::open_files_limit(text);
        let _ = sockets::total(text, "TCP: ");
        let _ = numbers(text);
        for line in text.lines() {
            let _ = sockets::socket(line);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,300}") {
            all(&text);
        }

        #[test]
        fn nor_does_a_real_text_with_damage(
            which in 0..fixtures::ALL.len(),
            at in any::<prop::sample::Index>(),
            with in "[0-9a-zA-Z :/()\\n\\\\-]{0,24}",
            cut in any::<prop::sample::Index>(),
        ) {
            let text = fixtures::ALL[which];
            let mut bytes = text.as_bytes().to_vec();
            let at = at.index(bytes.len());
            let end = (at + with.len() / 2).min(bytes.len());
            bytes.splice(at..end, with.bytes());
            bytes.truncate(cut.index(bytes.len() + 1));
            all(&String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn a_key_is_a_whole_word() {
        assert_eq!(value_of("SwapFreeX: 3\nSwapFree: 4 kB", "SwapFree"), Some(4));
        assert_eq!(value_of("oom_kill_disable 0\noom_kill 7", "oom_kill"), Some(7));
        assert_eq!(numbers("602\t0\t2466170\n"), [602, 0, 2_466_170]);
    }
}

//! `/proc/meminfo` and `/proc/vmstat`.

use coral_model::view::Memory;

use super::value_of;

/// Reads `/proc/meminfo`. `None` also where the kernel does not say what is available (before 3.14):
/// free memory alone would look like a shortage on every healthy machine.
#[must_use]
pub fn meminfo(text: &str) -> Option<Memory> {
    let bytes = |key| value_of(text, key).map(|kib| kib.saturating_mul(1024));
    let swap_total = bytes("SwapTotal").unwrap_or(0);
    Some(Memory {
        total_bytes: bytes("MemTotal")?,
        available_bytes: bytes("MemAvailable")?,
        swap_total_bytes: swap_total,
        swap_used_bytes: swap_total.saturating_sub(bytes("SwapFree").unwrap_or(swap_total)),
        oom_kills: None,
    })
}

/// `oom_kill` of `/proc/vmstat`: processes killed for lack of memory since boot (since 4.13).
#[must_use]
pub fn oom_kills(vmstat: &str) -> Option<u64> {
    value_of(vmstat, "oom_kill")
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn available_is_never_guessed() {
        assert_eq!(meminfo(fixtures::MEMINFO_OLD), None);
        let new = meminfo(fixtures::MEMINFO_6).unwrap();
        assert_eq!(new.total_bytes, 24_684_084 * 1024);
        assert!(new.available_bytes > 0 && new.available_bytes < new.total_bytes);
        assert_eq!(oom_kills(fixtures::VMSTAT_6), Some(0));
    }
}

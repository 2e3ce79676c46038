//! `/proc/diskstats`.

use super::number;

/// What a block device has done since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskCounters {
    /// Reads and writes that ended.
    pub requests: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Time of all reads and writes, in milliseconds.
    pub wait_ms: u64,
    /// Time with a request under way, in milliseconds.
    pub busy_ms: u64,
}

/// A sector of these files is 512 bytes whatever the device's is (`iostats.rst`).
const SECTOR: u64 = 512;
/// No host has more devices worth reading than this.
const MAX_DEVICES: usize = 1024;

/// Every device that was ever used, by name, partitions among them; loop and RAM disks left out,
/// as what they do is done by the device beneath.
#[must_use]
pub fn diskstats(text: &str) -> Vec<(&str, DiskCounters)> {
    text.lines().filter_map(device).take(MAX_DEVICES).collect()
}

fn device(line: &str) -> Option<(&str, DiskCounters)> {
    let mut words = line.split_ascii_whitespace().skip(2);
    let name = words.next()?;
    if name.starts_with("loop") || name.starts_with("ram") {
        return None;
    }
    // reads, merged, sectors, ms, writes, merged, sectors, ms, in progress, ms busy, weighted ms,
    // then discards (4.18) and flushes (5.5). Fewer than eleven: a partition before 2.6.25.
    let n: Vec<u64> = words.map_while(number).take(11).collect();
    let &[reads, _, read, read_ms, writes, _, written, write_ms, _, busy_ms, _] = n.as_slice()
    else {
        return None;
    };
    let requests = reads.saturating_add(writes);
    (requests > 0).then(|| {
        (
            name,
            DiskCounters {
                requests,
                read_bytes: read.saturating_mul(SECTOR),
                write_bytes: written.saturating_mul(SECTOR),
                wait_ms: read_ms.saturating_add(write_ms),
                busy_ms,
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn real_kernels_are_understood() {
        let old = diskstats(fixtures::DISKSTATS_OLD);
        let (_, sda) = old.iter().find(|(name, _)| *name == "sda").unwrap();
        assert_eq!((sda.requests, sda.busy_ms), (25_354_637 + 28_444_756, 9_653_880));
        assert_eq!(sda.write_bytes, 505_697_032 * 512);
        assert!(old.iter().all(|(name, _)| !name.starts_with("ram") && !name.starts_with("loop")));
        let new = diskstats(fixtures::DISKSTATS_6);
        assert_eq!(new.len(), 1);
        assert_eq!(new[0].0, "vda");
        assert!(new[0].1.read_bytes > 0 && new[0].1.read_bytes.is_multiple_of(512));
    }
}

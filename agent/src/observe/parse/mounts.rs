//! `/proc/self/mountinfo`.

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its device, `major:minor`: the same for every mount of one file system.
    pub device: String,
    /// Where it is mounted.
    pub point: String,
    /// `ext4`, `nfs4` …
    pub kind: String,
    /// Options of the file system (not of the mount).
    pub options: String,
}

/// File systems with a bound worth watching that lie on this machine's own devices. Left out:
/// remote and FUSE ones, which may never answer; images, which are always full; pseudo file systems.
const LOCAL: &[&str] = &[
    "ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "zfs", "f2fs", "jfs", "reiserfs", "nilfs2",
    "vfat", "exfat", "ntfs3", "apfs", "hfs", "hfsplus", "ufs",
];
/// More mounts than this are not looked at: a host with many containers repeats the same few.
const MAX_MOUNTS: usize = 4096;
/// File systems shown for one host.
const MAX_SHOWN: usize = 32;

impl Mount {
    /// Whether its use is worth watching and safe to ask for.
    #[must_use]
    pub fn is_local(&self) -> bool {
        LOCAL.contains(&self.kind.as_str())
            || (self.kind == "overlay" && self.point == "/")
            || (self.kind == "tmpfs" && matches!(self.point.as_str(), "/tmp" | "/dev/shm" | "/run"))
    }
}

/// Reads the whole table.
#[must_use]
pub fn mountinfo(text: &str) -> Vec<Mount> {
    text.lines().take(MAX_MOUNTS).filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    // id parent major:minor root point options [optional …] - kind source super-options
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let (device, _root, point) = (left.next()?, left.next()?, left.next()?);
    let mut right = right.split(' ');
    let (kind, _source, options) = (right.next()?, right.next()?, right.next().unwrap_or_default());
    Some(Mount {
        device: device.to_owned(),
        point: unescape(point),
        kind: kind.to_owned(),
        options: options.to_owned(),
    })
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape(word: &str) -> String {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = (byte == b'\\').then(|| tail.get(..3)).flatten();
        let code = code.and_then(|c| u8::from_str_radix(std::str::from_utf8(c).ok()?, 8).ok());
        match code {
            Some(code) => {
                out.push(code);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The mount points to watch: one for each local file system, its shortest; `/` is first.
#[must_use]
pub fn worth_watching(mounts: &[Mount]) -> Vec<String> {
    let mut chosen: Vec<&Mount> = Vec::new();
    for mount in mounts.iter().filter(|m| m.is_local()) {
        // A later mount on the same point hides an earlier one.
        chosen.retain(|m| m.point != mount.point);
        match chosen.iter_mut().find(|m| m.device == mount.device) {
            Some(known) if known.point.len() <= mount.point.len() => {}
            Some(known) => *known = mount,
            None => chosen.push(mount),
        }
    }
    let mut points: Vec<String> = chosen.into_iter().map(|m| m.point.clone()).collect();
    points.sort();
    points.truncate(MAX_SHOWN);
    points
}

/// The `hidepid` of `/proc`, when other users' processes are hidden from an ordinary user.
#[must_use]
pub fn hidden_processes(text: &str) -> Option<String> {
    let proc = mountinfo(text).into_iter().rfind(|m| m.point == "/proc" && m.kind == "proc")?;
    let value = proc.options.split(',').find_map(|o| o.strip_prefix("hidepid="))?;
    (!matches!(value, "0" | "off")).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn only_local_file_systems_are_watched_and_each_once() {
        assert_eq!(worth_watching(&mountinfo(fixtures::MOUNTINFO_6)), ["/", "/dev/shm"]);
        let text = "\
1 0 254:1 / / rw - ext4 /dev/vda1 rw
2 1 254:1 /var/lib /var/lib/docker rw - ext4 /dev/vda1 rw
3 1 0:50 / /mnt/nfs rw shared:1 - nfs4 server:/x rw
4 1 0:51 / /home/me rw - fuse.sshfs me@x: rw
5 1 254:2 / /mnt/with\\040space rw shared:7 master:2 - xfs /dev/vdb rw
6 1 7:1 / /snap/x ro - squashfs /dev/loop1 ro
";
        assert_eq!(worth_watching(&mountinfo(text)), ["/", "/mnt/with space"]);
    }

    #[test]
    fn escapes_at_the_end_are_kept_as_they_are() {
        assert_eq!(unescape("a\\040b\\"), "a b\\");
        assert_eq!(unescape("\\04"), "\\04");
        assert_eq!(unescape("\\777x"), "\\777x");
    }

    #[test]
    fn hidepid_is_recognised_by_number_and_by_name() {
        let line = |o: &str| format!("22 1 0:21 / /proc rw,relatime - proc proc rw{o}\n");
        assert_eq!(hidden_processes(&line(",hidepid=invisible")), Some("invisible".into()));
        assert_eq!(hidden_processes(&line(",hidepid=2,gid=5")), Some("2".into()));
        assert_eq!(hidden_processes(&line(",hidepid=0")), None);
        assert_eq!(hidden_processes(&line("")), None);
    }
}

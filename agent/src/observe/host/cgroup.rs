//! Throttling and OOM counters of the agent's own cgroup, v1 and v2.
//!
//! Both may be mounted at once (v2 at `/sys/fs/cgroup/unified`); a counter that both have is v2's.

use std::collections::BTreeMap;

use crate::observe::files::Files;
use crate::observe::parse::cgroup::{Membership, flat, memberships};
use crate::observe::parse::mounts::Mount;

/// What is kept, as the kernel names it: CPU bandwidth (v2 `throttled_usec`, v1 `throttled_time` in
/// ns), and `memory.events` or `memory.oom_control`.
const KEPT: &[&str] = &[
    "nr_periods",
    "nr_throttled",
    "throttled_usec",
    "throttled_time",
    "high",
    "max",
    "oom",
    "oom_kill",
    "oom_group_kill",
    "under_oom",
];
/// The files, v1 first.
const FILES: &[(&str, &str)] = &[
    ("cpu", "cpu.stat"),
    ("memory", "memory.oom_control"),
    ("", "cpu.stat"),
    ("", "memory.events"),
];

/// Where the counters of this process's cgroup are.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Cgroup {
    files: Vec<String>,
}

impl Cgroup {
    /// Finds them, given the mounts and this process's memberships.
    pub fn find(files: &mut Files, mounts: &[Mount]) -> Self {
        let Ok(text) = files.read("/proc/self/cgroup") else { return Self::default() };
        let memberships = memberships(&text);
        let path = |(controller, file): &(&str, &str)| {
            let dir = directory(controller, mounts, &memberships, |dir| files.exists(dir))?;
            Some(format!("{dir}/{file}"))
        };
        Self { files: FILES.iter().filter_map(path).filter(|path| files.exists(path)).collect() }
    }

    /// The counters now; empty in a root cgroup, which is never throttled.
    pub fn read(&self, files: &mut Files) -> BTreeMap<String, u64> {
        let mut out = BTreeMap::new();
        for path in &self.files {
            if let Ok(text) = files.read(path) {
                out.extend(
                    flat(&text).into_iter().filter(|(name, _)| KEPT.contains(&name.as_str())),
                );
            }
        }
        out
    }
}

fn directory(
    controller: &str,
    mounts: &[Mount],
    memberships: &[Membership],
    exists: impl Fn(&str) -> bool,
) -> Option<String> {
    let mount = mounts.iter().find(|m| match controller {
        "" => m.kind == "cgroup2",
        _ => m.kind == "cgroup" && m.options.split(',').any(|o| o == controller),
    })?;
    let own = memberships.iter().find(|m| match controller {
        "" => m.controllers.is_empty(),
        _ => m.controllers.iter().any(|c| c == controller),
    })?;
    // In a container without a cgroup namespace the path is the host's, and what is mounted is the
    // container's own part of it: then the mount point itself is the place.
    let inside = format!("{}{}", mount.point, own.path.trim_end_matches('/'));
    Some(if exists(&inside) { inside } else { mount.point.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::parse::{fixtures, mounts::mountinfo};

    fn write(dir: &std::path::Path, path: &str, text: &str) {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn counters_of_both_versions_are_found() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "proc/self/cgroup", fixtures::CGROUP_6);
        let oom = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        write(dir.path(), "sys/fs/cgroup/memory/run/job-1/memory.oom_control", oom);
        write(dir.path(), "sys/fs/cgroup/unified/cpu.stat", "usage_usec 5\nthrottled_usec 7\n");
        let mut files = Files::below(dir.path());
        let cgroup = Cgroup::find(&mut files, &mountinfo(fixtures::MOUNTINFO_6));
        let read = cgroup.read(&mut files);
        let expected = [("oom_kill", 3), ("throttled_usec", 7), ("under_oom", 0)];
        assert_eq!(read, expected.map(|(k, v)| (k.to_owned(), v)).into());
    }

    #[test]
    fn a_container_that_sees_the_hosts_path_reads_its_mount() {
        let mounts = mountinfo("1 0 0:30 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
        let own = memberships("0::/docker/abc\n");
        let at = |exists: bool| directory("", &mounts, &own, |_| exists);
        assert_eq!(at(false), Some("/sys/fs/cgroup".into()));
        assert_eq!(at(true), Some("/sys/fs/cgroup/docker/abc".into()));
        assert_eq!(directory("memory", &mounts, &own, |_| true), None);
    }
}

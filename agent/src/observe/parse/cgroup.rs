//! `/proc/self/cgroup` and the flat files of a cgroup.

use std::collections::BTreeMap;

use super::number;

/// The cgroup a process is in, for one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// v1 controllers (`cpu`, `memory` …); empty for the v2 hierarchy.
    pub controllers: Vec<String>,
    /// Path below the hierarchy's mount point.
    pub path: String,
}

/// Reads `/proc/<pid>/cgroup`.
#[must_use]
pub fn memberships(text: &str) -> Vec<Membership> {
    let one = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let controllers = controllers.split(',').filter(|c| !c.is_empty()).map(str::to_owned);
        Some(Membership { controllers: controllers.collect(), path: path.to_owned() })
    };
    text.lines().filter_map(one).take(64).collect()
}

/// A file of `name value` lines, as `cpu.stat`, `memory.events` and `memory.oom_control`.
#[must_use]
pub fn flat(text: &str) -> BTreeMap<String, u64> {
    let one = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), number(value.trim())?))
    };
    text.lines().filter_map(one).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn both_versions_can_be_there_at_once() {
        let all = memberships(fixtures::CGROUP_6);
        let memory = all.iter().find(|m| m.controllers == ["memory"]).unwrap();
        assert_eq!(memory.path, "/run/job-1");
        assert_eq!(all.iter().find(|m| m.controllers.is_empty()).unwrap().path, "/");
        let joint = memberships("4:cpu,cpuacct:/a:b\n");
        assert_eq!((joint[0].controllers.len(), joint[0].path.as_str()), (2, "/a:b"));
    }

    #[test]
    fn a_flat_file_is_a_map() {
        let v2 = flat("low 0\nhigh 3\nmax 0\noom 1\noom_kill 2\noom_group_kill 0\n");
        assert_eq!((v2["oom"], v2["oom_kill"], v2.len()), (1, 2, 6));
    }
}

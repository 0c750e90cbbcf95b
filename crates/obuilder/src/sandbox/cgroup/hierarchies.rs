//! Which control groups the machine has: one hierarchy (version 2), or one for each controller or a few (version 1, also beside an idle
//! one of version 2).

use std::fs;
use std::path::{Path, PathBuf};

use super::removal::remove;
use crate::sandbox::Limits;

/// The machine's control groups, and our place in them.
#[derive(Debug)]
pub(in crate::sandbox) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    /// Whether it is version 2.
    pub(super) unified: bool,
    /// The group in which steps get theirs, absolute in each hierarchy.
    base: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    controllers: Vec<String>,
}

/// The controllers of version 1 that can be found in a hierarchy's mount options.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

impl Cgroups {
    /// What this machine has. Steps' groups will be in `base`, which is absolute in the hierarchies and nobody else's.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(in crate::sandbox) fn of_this_machine(base: PathBuf) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|error| format!("cannot read /proc/self/mountinfo: {error}"))?;
        Ok(Self::from_mounts(&mounts, base, |mount| {
            fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default()
        }))
    }

    /// Reads `mountinfo`; `unified` says what controllers a hierarchy of version 2 has.
    fn from_mounts(mountinfo: &str, base: PathBuf, unified: impl Fn(&Path) -> String) -> Self {
        let mut hierarchies = Vec::new();
        let mut one = true;
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else {
                continue;
            };
            let Some(mount) = before.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let mut after = after.split(' ');
            let controllers = match after.next() {
                Some("cgroup") => {
                    one = false;
                    let options = after.nth(1).unwrap_or_default();
                    options
                        .split(',')
                        .filter(|option| CONTROLLERS.contains(option))
                        .map(str::to_owned)
                        .collect()
                }
                Some("cgroup2") => unified(&mount)
                    .split_whitespace()
                    .map(str::to_owned)
                    .collect(),
                _ => continue,
            };
            // The same hierarchy may be mounted twice, as in a container that sees the machine's.
            let hierarchy = Hierarchy { mount, controllers };
            if !hierarchies.contains(&hierarchy) {
                hierarchies.push(hierarchy);
            }
        }
        Self {
            unified: one && !hierarchies.is_empty(),
            hierarchies,
            base,
        }
    }

    /// What of `limits` this machine cannot enforce, if anything.
    pub(in crate::sandbox) fn cannot_enforce(&self, limits: &Limits) -> Option<String> {
        [
            ("memory", "memory", limits.memory.is_some()),
            ("cpu", "CPUs", limits.cpus.is_some()),
            ("pids", "processes", limits.pids.is_some()),
        ]
        .into_iter()
        .find(|(controller, _, wanted)| *wanted && self.with(controller).is_none())
        .map(|(controller, what, _)| {
            format!(
                "this machine cannot limit {what}: its control groups have no {controller} controller; enable it in the kernel, or do without the limit (0 processes means no limit)"
            )
        })
    }

    /// Where the group `name` of ours is in the hierarchy that has `controller`.
    pub(super) fn dir_of(&self, controller: &str, name: &str) -> Option<PathBuf> {
        Some(inside(&self.with(controller)?.mount, &self.base).join(name))
    }

    /// Where the group `name` of ours is, in every hierarchy.
    pub(super) fn dirs_of(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        self.hierarchies
            .iter()
            .map(move |hierarchy| inside(&hierarchy.mount, &self.base).join(name))
    }

    /// The group `name` of ours, as it is called in a hierarchy.
    pub(super) fn path_of(&self, name: &str) -> String {
        self.base.join(name).to_string_lossy().into_owned()
    }

    /// Kills and removes what earlier sandboxes left in our group, and the group.
    ///
    /// # Errors
    /// A sentence that says what is left, and why.
    pub(in crate::sandbox) fn clean(&self) -> Result<(), String> {
        for hierarchy in &self.hierarchies {
            let dir = inside(&hierarchy.mount, &self.base);
            remove(&dir).map_err(|error| {
                format!(
                    "cannot remove the control group {} of an earlier run: {error}",
                    dir.display()
                )
            })?;
        }
        Ok(())
    }

    fn with(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies
            .iter()
            .find(|hierarchy| hierarchy.controllers.iter().any(|c| c == controller))
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for hierarchy in &self.hierarchies {
            // Only if it is empty, and it may never have been made. What is left is removed when the directory is used next.
            let _ = fs::remove_dir(inside(&hierarchy.mount, &self.base));
        }
    }
}

fn inside(mount: &Path, group: &Path) -> PathBuf {
    mount.join(group.strip_prefix("/").unwrap_or(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
36 31 0:33 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    const UNIFIED: &str = "\
30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate
";

    fn limits(memory: bool, cpus: bool, pids: bool) -> Limits {
        Limits {
            memory: memory.then_some(1 << 30),
            cpus: cpus.then_some(1.0),
            pids: pids.then_some(100),
            ..Limits::default()
        }
    }

    #[test]
    fn hierarchies_of_version_1_are_found_by_their_controllers() {
        let cgroups = Cgroups::from_mounts(HYBRID, "/ours".into(), |_| String::new());
        assert!(!cgroups.unified);
        assert_eq!(
            cgroups.dir_of("memory", "x"),
            Some(PathBuf::from("/sys/fs/cgroup/memory/ours/x"))
        );
        assert_eq!(
            cgroups.dir_of("cpu", "x"),
            Some(PathBuf::from("/sys/fs/cgroup/cpu/ours/x"))
        );
        assert_eq!(cgroups.dirs_of("x").count(), 4);
        assert_eq!(cgroups.cannot_enforce(&limits(true, true, false)), None);
    }

    #[test]
    fn the_one_hierarchy_of_version_2_has_what_it_says() {
        let cgroups = Cgroups::from_mounts(UNIFIED, "/ours".into(), |mount| {
            assert_eq!(mount, Path::new("/sys/fs/cgroup"));
            "cpuset cpu io memory pids\n".to_owned()
        });
        assert!(cgroups.unified);
        assert_eq!(
            cgroups.dir_of("pids", "x"),
            Some(PathBuf::from("/sys/fs/cgroup/ours/x"))
        );
        assert_eq!(cgroups.cannot_enforce(&limits(true, true, true)), None);
    }

    #[test]
    fn a_limit_without_a_controller_is_named() {
        let cgroups = Cgroups::from_mounts(HYBRID, "/ours".into(), |_| String::new());
        let why = cgroups.cannot_enforce(&limits(true, true, true)).unwrap();
        assert!(
            why.starts_with("this machine cannot limit processes"),
            "{why}"
        );
        let none = Cgroups::from_mounts("", "/ours".into(), |_| String::new());
        assert!(none.cannot_enforce(&limits(true, false, false)).is_some());
        assert_eq!(none.cannot_enforce(&limits(false, false, false)), None);
    }
}

//! Ends what a killed Docker engine left behind: containerd, shims, what ran in containers, and mounts.
//!
//! Everything is best effort, as in any clean-up after a crash, and touches only processes that name the engine's own directory, and
//! their descendants.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::command::run;

/// Kills the family of the engine whose data is below `directory`, and unmounts what is mounted there.
pub(crate) fn sweep(directory: &Path) {
    let Some(directory) = directory.to_str() else {
        return;
    };
    for pid in family(directory) {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // One that is gone already is as good as killed.
        let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
    }
    for path in mounts_below(directory) {
        let _ = run(Command::new("umount").args(["-l", &path]));
    }
}

/// The engine's processes, and everything that descends from them.
fn family(directory: &str) -> Vec<u32> {
    let parents = parents();
    let mut family: Vec<u32> = parents
        .keys()
        .copied()
        .filter(|pid| is_of_engine(*pid, directory))
        .collect();
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        let children = parents
            .iter()
            .filter(|(_, its)| **its == parent)
            .map(|(pid, _)| *pid);
        let new: Vec<u32> = children.filter(|pid| !family.contains(pid)).collect();
        family.extend(new);
        next += 1;
    }
    family
}

/// The parent of every process.
fn parents() -> BTreeMap<u32, u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name, in brackets, may hold anything; the state and the parent follow the last bracket.
            let parent = stat
                .rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()?;
            Some((pid, parent))
        })
        .collect()
}

/// Whether this is a daemon of the engine: an editor that has its log open is not.
fn is_of_engine(pid: u32, directory: &str) -> bool {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&bytes);
    let program = words.split('\0').next().unwrap_or("");
    words.contains(directory)
        && ["containerd", "dockerd", "runc"]
            .iter()
            .any(|name| program.contains(name))
}

/// The mount points below `directory`, the deepest first.
fn mounts_below(directory: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut below: Vec<String> = points
        .filter(|path| path.starts_with(directory))
        .map(str::to_owned)
        .collect();
    below.sort_by_key(|path| std::cmp::Reverse(path.len()));
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_parent_and_is_no_engine() {
        let own = std::process::id();
        assert_eq!(
            parents().get(&own),
            Some(&std::os::unix::process::parent_id())
        );
        assert!(!is_of_engine(own, "/"));
    }
}

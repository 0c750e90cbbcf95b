//! The control group of one step, and whether the kernel had to kill in it for want of memory.
//!
//! The runtime makes a group and removes it when the step ends, and what was counted in it is lost. So where memory is limited, the
//! runtime's group is inside one of ours, which stays until we have looked: in version 2 its counter includes what is inside; in version
//! 1 counters are each group's own, but whoever watches a group whose limit was reached is told. There the limit is ours, then.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use super::hierarchies::Cgroups;
use super::removal::remove;
use crate::sandbox::{Limits, SandboxError};

/// The group of one step, removed with all that is in it when this is dropped.
#[derive(Debug)]
pub(in crate::sandbox) struct Group {
    cgroups: Arc<Cgroups>,
    name: String,
    path: String,
    watch: Watch,
}

/// Where it is told that memory was short.
#[derive(Debug)]
enum Watch {
    /// Nowhere: there is no limit.
    Nothing,
    /// Version 1: a counter of times.
    Event(File),
    /// Version 2: the group's `memory.events`.
    File(PathBuf),
}

/// The runtime's group in ours.
const INNER: &str = "step";

impl Group {
    /// Makes what has to be there before the runtime makes its group.
    pub(in crate::sandbox) fn new(
        cgroups: &Arc<Cgroups>,
        name: &str,
        limits: &Limits,
    ) -> Result<Self, SandboxError> {
        let mut group = Self {
            cgroups: Arc::clone(cgroups),
            name: name.to_owned(),
            path: cgroups.path_of(name),
            watch: Watch::Nothing,
        };
        if let Some(memory) = limits.memory {
            group.limit(memory).map_err(|error| SandboxError::Machine {
                message: format!("cannot limit a step's memory to {memory} bytes: {error}"),
                full_disk: false,
            })?;
        }
        Ok(group)
    }

    fn limit(&mut self, memory: u64) -> io::Result<()> {
        let Some(dir) = self.cgroups.dir_of("memory", &self.name) else {
            return Err(io::Error::other("there is no memory controller"));
        };
        self.path = self.cgroups.path_of(&format!("{}/{INNER}", self.name));
        fs::create_dir_all(&dir)?;
        if self.cgroups.unified {
            self.watch = Watch::File(dir.join("memory.events"));
            return Ok(());
        }
        fs::write(dir.join("memory.limit_in_bytes"), memory.to_string())?;
        // Kernels without swap accounting have no such file.
        match fs::write(dir.join("memory.memsw.limit_in_bytes"), memory.to_string()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        self.watch = Watch::Event(watch(&dir)?);
        Ok(())
    }

    /// The group for the runtime to make, absolute in the hierarchies.
    pub(in crate::sandbox) fn path(&self) -> &str {
        &self.path
    }

    /// Whether the runtime has to limit memory.
    pub(in crate::sandbox) fn runtime_limits_memory(&self) -> bool {
        self.cgroups.unified
    }

    /// Whether a process of the step was killed for want of memory.
    pub(in crate::sandbox) fn ran_out_of_memory(&self) -> bool {
        match &self.watch {
            Watch::Nothing => false,
            Watch::Event(counter) => {
                let mut count = [0; 8];
                // Nothing to read is an error: nothing happened.
                (&*counter).read_exact(&mut count).is_ok() && u64::from_ne_bytes(count) > 0
            }
            Watch::File(path) => fs::read_to_string(path).is_ok_and(|events| kills(&events) > 0),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for dir in self.cgroups.dirs_of(&self.name) {
            if let Err(error) = remove(&dir) {
                tracing::warn!(group = %dir.display(), %error, "a step's control group stays until the next start");
            }
        }
    }
}

/// Asks the kernel to count how often the limit of the version 1 group `dir` could not be kept without killing.
fn watch(dir: &Path) -> io::Result<File> {
    let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = File::open(dir.join("memory.oom_control"))?;
    fs::write(
        dir.join("cgroup.event_control"),
        format!("{} {}", counter.as_raw_fd(), control.as_raw_fd()),
    )?;
    Ok(File::from(counter))
}

/// `oom_kill` of a `memory.events`.
fn kills(events: &str) -> u64 {
    events
        .lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .find_map(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_read_from_memory_events() {
        assert_eq!(
            kills("low 0\nhigh 0\nmax 9\noom 2\noom_kill 3\noom_group_kill 0\n"),
            3
        );
        assert_eq!(kills("low 0\noom_group_kill 7\n"), 0);
    }
}

//! Removes control groups with what is in them. It must only ever be given groups of our own: it kills.

use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills the processes in the group `dir` and in all groups below it, and removes these. It may block for ten seconds. There need not
/// be such a group.
///
/// # Errors
/// The kernel's; `ResourceBusy` if a process does not end.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt(dir) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                if Instant::now() >= deadline {
                    return Err(error);
                }
                sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

fn attempt(dir: &Path) -> io::Result<()> {
    // Most have been removed by the runtime, and those that have not are empty.
    match fs::remove_dir(dir) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => (),
        Err(error) => return Err(error),
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            attempt(&entry.path())?;
        }
    }
    // One that was stopped by version 1's freezer cannot die.
    let _ = fs::write(dir.join("freezer.state"), "THAWED");
    for line in fs::read_to_string(dir.join("cgroup.procs"))?.lines() {
        // 0 stands for a process that this namespace does not see.
        let process = line
            .parse()
            .ok()
            .filter(|pid| *pid > 1)
            .and_then(Pid::from_raw);
        if let Some(process) = process {
            tracing::warn!(pid = %line, group = %dir.display(), "killing a process of a step that nobody waits for");
            let _ = kill_process(process, Signal::KILL);
        }
    }
    fs::remove_dir(dir)
}

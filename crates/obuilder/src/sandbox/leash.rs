//! Ends a step at any moment: before its runtime was started, while it runs, after it ended. It never touches a process that is not the
//! step's, because it holds the process and not its number.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Signal, pidfd_send_signal};

/// One step's leash. Pulling it kills the runtime, and with it everything in its process namespace.
#[derive(Debug, Default)]
pub(super) struct Leash {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
enum Held {
    /// No process was started yet.
    #[default]
    Nothing,
    /// This process.
    Runtime(OwnedFd),
    /// It is to be killed as soon as it is there.
    Pulled,
}

impl Leash {
    /// Kills the step now, or as soon as it starts. Pulling again does nothing.
    pub(super) fn pull(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Held::Runtime(process) = &*held {
            kill(process);
        }
        *held = Held::Pulled;
    }

    /// Whether it was pulled.
    pub(super) fn is_pulled(&self) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*held, Held::Pulled)
    }

    /// Puts `process` on the leash.
    pub(super) fn put_on(&self, process: OwnedFd) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*held, Held::Pulled) {
            kill(&process);
        } else {
            *held = Held::Runtime(process);
        }
    }
}

fn kill(process: &OwnedFd) {
    if let Err(error) = pidfd_send_signal(process, Signal::KILL) {
        // It has ended already, which is what is wanted.
        tracing::debug!(%error, "a step's runtime could not be killed");
    }
}

/// Pulls the leash when it is dropped: whoever stops waiting for a step ends it.
pub(super) struct PullOnDrop<'a>(pub(super) &'a Leash);

impl Drop for PullOnDrop<'_> {
    fn drop(&mut self) {
        self.0.pull();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command};

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    fn sleeper() -> (Child, OwnedFd) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        (child, process)
    }

    #[test]
    fn a_process_is_killed_whether_the_leash_is_pulled_before_or_after() {
        let before = Leash::default();
        before.pull();
        assert!(before.is_pulled());
        let (mut child, process) = sleeper();
        before.put_on(process);
        assert_eq!(child.wait().unwrap().signal(), Some(9));

        let after = Leash::default();
        let (mut child, process) = sleeper();
        after.put_on(process);
        assert!(!after.is_pulled());
        after.pull();
        after.pull();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_leash_that_is_let_go_is_pulled() {
        let leash = Leash::default();
        drop(PullOnDrop(&leash));
        assert!(leash.is_pulled());
    }
}

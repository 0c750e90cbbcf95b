//! The two things that a step's thread needs and that no safe function does: leaving the process namespace, and what happens in a child
//! between `fork` and `exec`. Nothing else may be unsafe in the sandbox.
#![expect(
    unsafe_code,
    reason = "leaving namespaces can be unsound with other flags, and a child between fork and exec is a special place"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread's next child a process namespace, in which that child is the first: when it ends the kernel kills all the
/// others, and they are gone before it can be waited for. The thread can start no threads afterwards.
pub(super) fn unshare_processes() -> io::Result<()> {
    // SAFETY: what the kernel can make unsound is the sharing of file descriptors, and that is left as it is.
    unsafe { unshare_unsafe(UnshareFlags::NEWPID) }?;
    Ok(())
}

/// Makes the child of `command` die with the thread that starts it, and see its own process namespace in `/proc`, which must be private
/// to the thread. `worker` is this process.
pub(super) fn tie(command: &mut Command, worker: OwnedFd) {
    let settle = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // Whoever died before that sends no signal.
        let mut fds = [PollFd::new(&worker, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if poll(&mut fds, Some(&now))? > 0 {
            return Err(io::Error::from(Errno::SRCH));
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount(c"proc", c"/proc", c"proc", flags, None)?;
        Ok(())
    };
    // SAFETY: the closure makes system calls on values that exist already. It takes no lock and no memory.
    unsafe { command.pre_exec(settle) };
}

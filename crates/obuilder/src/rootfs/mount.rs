//! Mounts that nobody else sees, made with nothing but system calls.
//!
//! What is in here may run in a child between `fork` and `exec`, where other threads may have been interrupted with any lock held: once
//! prepared, nothing allocates.

#![expect(
    unsafe_code,
    reason = "leaving a mount namespace is unsafe to rustix, since the same call could also part the threads' file descriptors"
)]

use std::ffi::CString;
use std::io;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

/// A mount that needs no more memory to be made: fit for a child between `fork` and `exec`.
#[derive(Debug)]
pub struct PreparedMount {
    /// Where relative paths in `data` and `stale` start.
    pub(super) start: CString,
    /// The mount point.
    pub(super) at: CString,
    /// The options.
    pub(super) data: CString,
    /// More of them.
    pub(super) flags: MountFlags,
    /// A file and directories, innermost first, by which a `volatile` mount marks its work directory as not to be trusted after a crash
    /// of the machine. Between two mounts of ours there was none, since a tree in the making does not outlive it.
    pub(super) stale: Vec<(CString, AtFlags)>,
}

/// Gives the calling thread a mount namespace of its own, where its mounts are seen by nobody else; what the machine mounts and unmounts
/// later still arrives. The thread's working directory becomes its own, too. Fit for a child between `fork` and `exec`.
///
/// # Errors
/// The kernel's; root may.
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: the table of file descriptors stays shared (no `UnshareFlags::FILES`), which is all that the call asks to be careful of.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
    rustix::mount::mount_change(
        c"/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?;
    Ok(())
}

impl PreparedMount {
    /// Makes the mount in the calling process, which must be in a mount namespace of its own already, with mounts private. Calls
    /// only what may be called between `fork` and `exec`. Changes the working directory back and forth.
    ///
    /// # Errors
    /// The kernel's.
    pub fn perform(&self) -> io::Result<()> {
        let here = rustix::fs::open(
            c".",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        rustix::process::chdir(self.start.as_c_str())?;
        let mounted = self.mount();
        let back = rustix::process::fchdir(&here);
        mounted?;
        Ok(back?)
    }

    fn mount(&self) -> rustix::io::Result<()> {
        for (path, flags) in &self.stale {
            match rustix::fs::unlinkat(CWD, path.as_c_str(), *flags) {
                Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => (),
                Err(error) => return Err(error),
            }
        }
        rustix::mount::mount(
            c"overlay",
            self.at.as_c_str(),
            c"overlay",
            self.flags,
            self.data.as_c_str(),
        )
    }

    /// Ends the mount, if it can be ended now; if somebody still has a file of it open, it ends when that is closed.
    pub(super) fn undo(&self) {
        if rustix::mount::unmount(self.at.as_c_str(), UnmountFlags::NOFOLLOW).is_err() {
            let _ = rustix::mount::unmount(
                self.at.as_c_str(),
                UnmountFlags::DETACH | UnmountFlags::NOFOLLOW,
            );
        }
    }
}

//! What one step's thread sees and nobody else does: the step's trees, mounted, and files in memory for its runtime.
//!
//! Secrets are in that memory. They are on no disk: the filesystem is one that the kernel never swaps out. All of it vanishes with the
//! namespace, however the thread or the worker ends.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{SandboxError, sys};
use crate::store::is_full_disk;
use crate::{MountError, Rootfs, unshare_mounts};

/// A mount namespace of the calling thread's own, until it is dropped (on the same thread).
pub(super) struct Enclosure {
    /// The namespace to go back to.
    outside: File,
    /// The directory in memory.
    memory: PathBuf,
}

impl Enclosure {
    /// Encloses the calling thread, with a filesystem in memory mounted on `memory`, an empty directory. After this the thread cannot
    /// start threads.
    pub(super) fn enter(memory: &Path) -> Result<Self, SandboxError> {
        let failed = |error: io::Error| SandboxError::Machine {
            message: format!(
                "cannot give a step its own view of the machine: {error}; the worker must run as root, and be allowed to mount"
            ),
            full_disk: false,
        };
        let outside = File::open("/proc/thread-self/ns/mnt").map_err(failed)?;
        unshare_mounts().map_err(failed)?;
        let enclosure = Self {
            outside,
            memory: memory.to_owned(),
        };
        sys::unshare_processes().map_err(failed)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("ramfs", memory, "ramfs", flags, c"mode=0700")
            .map_err(|error| failed(error.into()))?;
        Ok(enclosure)
    }

    /// Mounts what must be mounted to see `tree`.
    pub(super) fn show(&self, tree: &Rootfs) -> Result<(), SandboxError> {
        let Some(prepared) = tree.prepare().map_err(not_mounted)? else {
            return Ok(());
        };
        prepared.perform().map_err(|source| {
            not_mounted(MountError {
                at: tree.path().to_owned(),
                source,
            })
        })
    }

    /// Where `name` is in the directory in memory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.memory.join(name)
    }

    /// Writes a file of this `name` in memory, for its `owner` only.
    pub(super) fn write(
        &self,
        name: &str,
        bytes: &[u8],
        owner: (u32, u32),
        mode: u32,
    ) -> Result<(), SandboxError> {
        let write = || {
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(self.path(name))?;
            file.write_all(bytes)?;
            fchown(&file, Some(owner.0), Some(owner.1))?;
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
        };
        write().map_err(|error| SandboxError::Machine {
            message: format!("cannot write the file {name} of a step in memory: {error}"),
            full_disk: false,
        })
    }
}

fn not_mounted(error: MountError) -> SandboxError {
    SandboxError::Machine {
        full_disk: is_full_disk(&error.source),
        message: error.to_string(),
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        // The last one out: the kernel unmounts everything before this call returns.
        if let Err(error) =
            move_into_link_name_space(self.outside.as_fd(), Some(LinkNameSpaceType::Mount))
        {
            tracing::warn!(%error, "a step's mounts stay until its thread has ended");
        }
    }
}

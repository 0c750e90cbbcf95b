//! The store's operations on btrfs.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, fchmod, fstatfs, openat};
use rustix::io::Errno;
use tracing::warn;

use super::subvolume;
use crate::Rootfs;
use crate::store::location::BTRFS_MAGIC;
use crate::store::removal::remove_tree;
use crate::store::space::space_of;
use crate::store::whole_tree::{need_root, seal_by_rename};
use crate::store::{Backend, Space, StoreError};

/// How long the room of removed subvolumes is waited for, at most.
const CLEANER_PATIENCE: Duration = Duration::from_secs(60);

/// Subvolumes and their snapshots.
///
/// One request at a time: btrfs has deadlocked when a store made and removed subvolumes from many threads at once, and its requests
/// wait for the same transaction anyway.
#[derive(Debug, Default)]
pub struct Btrfs {
    requests: Mutex<()>,
}

impl Btrfs {
    fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, chain: &[PathBuf], work: &Path) -> io::Result<()> {
        let (parent, name) = parent_and_name(work)?;
        match chain.first() {
            Some(base) => {
                let source = directory(base)?;
                let _request = self.one_at_a_time();
                subvolume::snapshot(source.as_fd(), parent.as_fd(), &name)
            }
            None => {
                {
                    let _request = self.one_at_a_time();
                    subvolume::create(parent.as_fd(), &name)?;
                }
                // Whatever the umask made of it.
                Ok(fchmod(directory(work)?, Mode::from_raw_mode(0o755))?)
            }
        }
    }

    /// Removes the subvolume `name` of `parent`, if it is one. What is within may be subvolumes again, left by steps: then it is
    /// opened for whoever empties it.
    fn destroy(&self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        if !subvolume::is_top(parent, name)? {
            return Ok(false);
        }
        let _request = self.one_at_a_time();
        match subvolume::destroy(parent, name) {
            Ok(()) => Ok(true),
            // Somebody else removes the same.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.raw_os_error() == Some(Errno::NOTEMPTY.raw_os_error()) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                subvolume::set_read_only(openat(parent, name, flags, Mode::empty())?, false)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl Backend for Btrfs {
    fn probe(&self, root: &Path) -> Result<(), StoreError> {
        need_root(root)?;
        let dir = directory(root).map_err(StoreError::io("open", root))?;
        let found = fstatfs(&dir)
            .map_err(io::Error::from)
            .map_err(StoreError::io("look at the filesystem of", root))?;
        if found.f_type as u64 != BTRFS_MAGIC {
            return Err(StoreError::Refused(format!(
                "{} is not on a btrfs filesystem: mount one there, or use overlayfs:{0} instead",
                root.display()
            )));
        }
        let name = format!(".probe-{:016x}", rand::random::<u64>());
        let probe = root.join(name);
        let tried = self.make(&[], &probe);
        self.remove(&probe)?;
        tried.map_err(|error| {
            if error.kind() == io::ErrorKind::StorageFull {
                return StoreError::io("create", &probe)(error);
            }
            StoreError::Refused(format!(
                "cannot make btrfs subvolumes in {}: {error}: make sure that the filesystem can be written, and that the process is free to call what it needs",
                root.display()
            ))
        })
    }

    fn create(
        &self,
        chain: &[PathBuf],
        work: &Path,
        _mount_point: &Path,
    ) -> Result<Rootfs, StoreError> {
        self.make(chain, work)
            .map_err(StoreError::io("create the subvolume", work))?;
        Ok(Rootfs::Plain(work.into()))
    }

    fn seal(&self, work: &Path, _base: Option<&Path>, sealed: &Path) -> Result<(), StoreError> {
        // In this order: what is read-only cannot be moved to another directory.
        seal_by_rename(work, sealed)?;
        let dir = directory(sealed).map_err(StoreError::io("open", sealed))?;
        let _request = self.one_at_a_time();
        subvolume::set_read_only(dir, true).map_err(StoreError::io("make read-only", sealed))
    }

    fn view(&self, chain: &[PathBuf], mount_point: &Path) -> Rootfs {
        Rootfs::Plain(chain.first().map_or(mount_point, PathBuf::as_path).into())
    }

    fn remove(&self, tree: &Path) -> Result<(), StoreError> {
        remove_tree(tree, &|parent, name| self.destroy(parent, name))
    }

    /// Waits for btrfs's cleaner, which gives back the room of removed subvolumes some time after they are gone.
    fn settle(&self, root: &Path) -> Result<(), StoreError> {
        let wait = || {
            let dir = directory(root)?;
            let started = Instant::now();
            subvolume::sync(&dir)?;
            while subvolume::removals_pending(&dir)? {
                if started.elapsed() > CLEANER_PATIENCE {
                    warn!(store = %root.display(), "btrfs has not given back the room of removed layers yet");
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
                subvolume::sync(&dir)?;
            }
            // What was freed can be used again only after the transaction that freed it.
            subvolume::sync(&dir)
        };
        wait().map_err(StoreError::io("wait for the free space of", root))
    }

    fn space(&self, root: &Path) -> Result<Space, StoreError> {
        space_of(root)
    }
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

fn parent_and_name(path: &Path) -> io::Result<(File, CString)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((
            File::from(directory(parent)?),
            CString::new(name.as_bytes())?,
        )),
        _ => Err(Errno::INVAL.into()),
    }
}

//! What differs between kinds of stores: how a tree is cloned, sealed and removed. Everything else is [`super::Store`]'s.
//!
//! All of it blocks, and is called on threads that may. Paths are within one store, on one filesystem. Nothing here is called twice at
//! once for the same path.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Btrfs, Kind, Overlayfs, Rsync, StoreError, Xfs};
use crate::Rootfs;

/// A kind of store.
pub trait Backend: Send + Sync + std::fmt::Debug {
    /// Makes sure that `root`, which exists, can hold such a store: filesystem, kernel, programs. Makes nothing that lasts.
    ///
    /// # Errors
    /// What is missing, and what to do.
    fn probe(&self, root: &Path) -> Result<(), StoreError>;

    /// Makes the directory `work` (which does not exist; its parent does) a writable tree with the content of the layers `chain` (their
    /// `fs` directories, the newest first; empty for an empty tree), mode 0755 at its top if it is new. The answer tells how to see the
    /// tree: `mount_point`, an empty directory, is for those that must be mounted. Kinds without a [`Backend::longest_chain`] are given
    /// the newest layer alone; the others get short symbolic links beside each other.
    ///
    /// # Errors
    /// The disk's; `work` may then be half there.
    fn create(
        &self,
        chain: &[PathBuf],
        work: &Path,
        mount_point: &Path,
    ) -> Result<Rootfs, StoreError>;

    /// Makes what [`Backend::create`] and a step left in `work` the tree at `sealed` (which does not exist), never to be changed again.
    /// `base` is the newest of the chain it was created from. `work` is gone afterwards, or left for [`Backend::remove`].
    ///
    /// # Errors
    /// The disk's.
    fn seal(&self, work: &Path, base: Option<&Path>, sealed: &Path) -> Result<(), StoreError>;

    /// How to read the tree of a chain of sealed ones.
    fn view(&self, chain: &[PathBuf], mount_point: &Path) -> Rootfs;

    /// How many layers a chain may have before it has to be flattened to one; `None` if each sealed tree is whole by itself.
    fn longest_chain(&self) -> Option<usize> {
        None
    }

    /// Removes a tree of any kind, sealed or not, and everything below it (subvolumes within too). A missing one is no error.
    ///
    /// # Errors
    /// The disk's.
    fn remove(&self, tree: &Path) -> Result<(), StoreError>;

    /// Waits until what was removed takes no room any more, for filesystems that clean up later. To be called after pruning, and
    /// before whoever met a full disk tries again. May take a minute.
    ///
    /// # Errors
    /// The disk's.
    fn settle(&self, _root: &Path) -> Result<(), StoreError> {
        Ok(())
    }

    /// Space of the store's filesystem, in bytes.
    ///
    /// # Errors
    /// The disk's.
    fn space(&self, root: &Path) -> Result<super::Space, StoreError>;
}

/// The kind's way of keeping trees.
pub(super) fn backend_for(kind: Kind) -> Arc<dyn Backend> {
    match kind {
        Kind::Overlayfs => Arc::new(Overlayfs),
        Kind::Btrfs => Arc::new(Btrfs::default()),
        Kind::Rsync(mode) => Arc::new(Rsync::new(mode)),
        Kind::Xfs => Arc::new(Xfs::default()),
    }
}

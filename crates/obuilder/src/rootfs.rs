//! A tree of files as a step sees it, and how to reach it.
//!
//! An overlay has to be mounted to be seen. That happens only in mount namespaces of threads and processes of our own, so that nobody
//! else ever sees a mount, and the kernel removes it when we end, however we end.

use std::io;
use std::path::{Path, PathBuf};

/// A tree of files.
#[derive(Clone, Debug)]
pub enum Rootfs {
    /// A directory that can be used as it is.
    Plain(PathBuf),
    /// Layers that must be mounted above each other.
    Overlay(Overlay),
}

/// Layers above each other.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The directory that relative paths in here start from. It keeps the kernel's one page of mount options from overflowing.
    pub start: PathBuf,
    /// The layers that are read, the newest first. At least one.
    pub lower: Vec<PathBuf>,
    /// Where changes go. Without it the tree is read-only.
    pub upper: Option<Upper>,
    /// An empty directory to mount on, absolute.
    pub at: PathBuf,
}

/// Where an overlay's changes go.
#[derive(Clone, Debug)]
pub struct Upper {
    /// The changes.
    pub dir: PathBuf,
    /// A directory on the same filesystem for the kernel's use.
    pub work: PathBuf,
}

/// A mount that needs no more memory to be made: fit for a child between `fork` and `exec`.
#[derive(Debug)]
pub struct PreparedMount {}

/// A tree cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[error("cannot mount {at}: {source}")]
pub struct MountError {
    /// Where.
    pub at: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl Rootfs {
    /// Where the tree is seen, once it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Plain(path) => path,
            Self::Overlay(overlay) => &overlay.at,
        }
    }

    /// What to mount to see it; nothing for a plain one.
    ///
    /// # Errors
    /// Paths that cannot be handed to the kernel, or too many of them.
    pub fn prepare(&self) -> Result<Option<PreparedMount>, MountError> {
        todo!()
    }

    /// Calls `work` with the tree's path, on a thread of its own in whose mount namespace the tree is mounted. It may block.
    ///
    /// # Errors
    /// The tree cannot be mounted, or no thread can be had.
    pub async fn with<T: Send + 'static>(
        &self,
        _work: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Result<T, MountError> {
        todo!()
    }
}

impl PreparedMount {
    /// Makes the mount in the calling process, which must be in a mount namespace of its own already, with mounts private. Calls
    /// only what may be called between `fork` and `exec`. Changes the working directory back and forth.
    ///
    /// # Errors
    /// The kernel's.
    pub fn perform(&self) -> io::Result<()> {
        todo!()
    }
}

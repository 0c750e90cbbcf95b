//! What can go wrong with a store.

use std::io;
use std::path::{Path, PathBuf};

use crate::MountError;

/// A store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk's word.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as in "create".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something else, in a sentence that says what, why, and what to do.
    #[error("{0}")]
    Refused(String),
}

impl StoreError {
    /// Whether room on the disk would help.
    #[must_use]
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full_disk(source))
    }

    /// What the disk said when `action` was tried on `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.into(),
            source,
        }
    }

    /// A task of ours that blocks did not end: the runtime is shutting down, or it panicked.
    pub(super) fn interrupted(error: &tokio::task::JoinError) -> Self {
        Self::Refused(format!("the store was interrupted: {error}"))
    }
}

/// Whether `error` is that there is no room on a disk, or none left for us.
pub(crate) fn is_full_disk(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl From<MountError> for StoreError {
    fn from(error: MountError) -> Self {
        Self::Io {
            action: "mount",
            path: error.at,
            source: error.source,
        }
    }
}

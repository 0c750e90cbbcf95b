//! What is copied where.

use std::io;
use std::path::PathBuf;

use bstr::BString;
use ocluster_obuilder_spec::Manifest;

use crate::store::is_full_disk;

/// What one `copy` takes, found and hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    /// The items, one for each source.
    pub items: Vec<Manifest>,
    /// The destination, joined to the working directory and otherwise as written.
    pub dst: BString,
    /// Whether the destination is a directory to copy into.
    pub into_directory: bool,
}

/// Nothing can be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source or the destination cannot be copied: the user's to mend. The text is OBuilder's where it has one.
    #[error("{0}")]
    Request(String),
    /// The disk's.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as in "read".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl CopyError {
    /// Whether room on the disk would help.
    #[must_use]
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full_disk(source))
    }
}

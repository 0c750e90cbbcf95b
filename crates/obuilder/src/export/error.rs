//! Why something was not exported.

use std::io;
use std::path::PathBuf;

use bstr::{BStr, BString};

use crate::MountError;
use crate::image::UnpackError;
use crate::store::StoreError;

/// Something was not exported. What was written by then is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The result has no such file.
    #[error("the result has no \"{0}\"")]
    Missing(BString),
    /// The result has something that cannot be exported so.
    #[error("cannot export \"{path}\": {why}")]
    Refused {
        /// What it is about.
        path: BString,
        /// Why not.
        why: &'static str,
    },
    /// The result cannot be read.
    #[error("cannot read \"{path}\" of the result: {source}")]
    Read {
        /// What was being read.
        path: BString,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Where it goes cannot be written.
    #[error("cannot write {to}: {source}")]
    Write {
        /// Where.
        to: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The tar cannot be written.
    #[error("cannot write the tar: {0}")]
    Tar(#[source] io::Error),
    /// The files cannot be made.
    #[error(transparent)]
    Unpack(UnpackError),
    /// The result cannot be seen.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl ExportError {
    pub(super) fn read(path: &BStr, source: impl Into<io::Error>) -> Self {
        Self::Read {
            path: path.to_owned(),
            source: source.into(),
        }
    }

    pub(super) fn write(to: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Write {
            to: to.into(),
            source: source.into(),
        }
    }
}

//! Why a layer was not unpacked.

use std::io;

use bstr::{BStr, BString};

/// A layer was not unpacked; the tree is then half of something, and to be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The disk's word on the tree.
    #[error("cannot {action} \"{path}\": {source}")]
    Io {
        /// What was tried, as in "create".
        action: &'static str,
        /// On what, relative to the tree.
        path: BString,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The layer's bytes cannot be read.
    #[error("cannot read the layer: {0}")]
    Read(#[source] io::Error),
    /// It is not what it says it is.
    #[error("the layer's {what} is sha256:{found}, not sha256:{expected}", found = hex(found), expected = hex(expected))]
    Digest {
        /// Which of its digests.
        what: &'static str,
        /// What it should be.
        expected: [u8; 32],
        /// What it is.
        found: [u8; 32],
    },
    /// It is no tar, or a broken one.
    #[error("the layer is damaged: {0}")]
    Damaged(String),
    /// It asks for something that no layer may have.
    #[error("the layer is refused: {0}")]
    Refused(String),
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl UnpackError {
    pub(super) fn io(action: &'static str, path: &BStr, source: impl Into<io::Error>) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8; 32]) -> String {
    ocluster_obuilder_spec::StepId::from_bytes(*bytes).to_string()
}

//! What a build is given, and how it ends.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bstr::BString;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// Where a build tells what it does. Waiting here slows the build's log down, and nobody else's.
pub trait BuildLog: Send + Sync {
    /// A new step, without a line feed.
    fn heading<'a>(&'a self, text: Bytes) -> BoxFuture<'a, ()>;
    /// A remark of our own, without a line feed.
    fn note<'a>(&'a self, text: Bytes) -> BoxFuture<'a, ()>;
    /// What a step printed, as it is.
    fn output<'a>(&'a self, bytes: Bytes) -> BoxFuture<'a, ()>;
}

/// Values of secrets by name.
#[derive(Clone, Default)]
pub struct Secrets(pub BTreeMap<String, Zeroizing<Vec<u8>>>);

/// What one build works with.
pub struct BuildContext<'a> {
    /// Where `copy` finds files.
    pub source: PathBuf,
    /// The values of secrets.
    pub secrets: Secrets,
    /// The environment to start with; usually none.
    pub env: Vec<(BString, BString)>,
    /// Where to tell.
    pub log: &'a dyn BuildLog,
    /// Fires when the build is to stop.
    pub cancel: &'a CancellationToken,
}

/// A build did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A step failed, or asks for something that cannot be: the user's to mend.
    #[error("{0}")]
    Failed(String),
    /// The machine failed; elsewhere it may do well.
    #[error("{0}")]
    Machine(String),
    /// A registry failed; later it may do well.
    #[error("{0}")]
    Source(String),
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

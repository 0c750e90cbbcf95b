//! What is asked of those who fetch base images.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bstr::{BStr, BString};
use tokio_util::sync::CancellationToken;

use crate::StepLog;
use crate::store::{Layer, Store, StoreError};

/// A fetch under way.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<BaseImage, FetchError>> + Send + 'a>>;

/// Brings base images into a store.
pub trait Fetcher: Send + Sync + 'static {
    /// Fetches the image `name` (as written in the spec) into layers of `store`, and tells of its progress in lines of `log`. When
    /// `cancel` fires it returns soon; layers that are whole by then stay.
    fn fetch<'a>(
        &'a self,
        name: &'a BStr,
        store: &'a Store,
        log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> Fetching<'a>;

    /// What `name` stands for now: the digest of its manifest (`sha256:...`), or `None` if such a name never changes its meaning or has
    /// no digest. Fetches no layers.
    fn resolve<'a>(
        &'a self,
        name: &'a BStr,
        cancel: &'a CancellationToken,
    ) -> Pin<Box<dyn Future<Output = Result<Option<String>, FetchError>> + Send + 'a>>;
}

/// An image in the store.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// Its topmost layer; `None` for one without any files.
    pub top: Option<Layer>,
    /// Its environment, in order.
    pub env: Vec<(BString, BString)>,
    /// The digest of its manifest, if it has one.
    pub digest: Option<String>,
}

/// When to look again what a name stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Never: what is in the store is used.
    #[default]
    Missing,
    /// For each build.
    Always,
    /// When it was last looked up longer ago than this.
    After(Duration),
}

/// An image cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The name is wrong, or nothing has it.
    #[error("{0}")]
    Request(String),
    /// The registry, or whoever has it, is away, or answers with nonsense.
    #[error("{0}")]
    Source(String),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
}

//! The store as its users see it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bstr::{BStr, BString};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{CacheLease, Location, StoreError};
use crate::{Rootfs, StepId};

/// An open store. Clones are the same store; it is closed with the last of them.
#[derive(Clone, Debug)]
pub struct Store {
    _inner: Arc<()>,
}

/// How to open a store.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// The most bytes that caches may have in all; the least recently used go first. `None` for no limit.
    pub cache_quota: Option<u64>,
}

/// A kept result, pinned for as long as this (or a clone) exists.
#[derive(Clone, Debug)]
pub struct Layer {
    _inner: Arc<()>,
}

/// What is known of a layer besides its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMeta {
    /// Of a base image: its environment. Empty for others, which inherit it.
    pub env: Vec<(BString, BString)>,
    /// Of a base image: where it came from and what that resolved to, such as `name` and `digest`.
    pub origin: BTreeMap<String, String>,
}

/// A layer in the making. Dropping it throws it away.
#[derive(Debug)]
pub struct Draft {}

/// What to prune.
#[derive(Clone, Copy, Debug)]
pub struct PruneRequest {
    /// Only what was last used before this.
    pub before: Timestamp,
    /// At most so many layers.
    pub limit: usize,
}

/// What was pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Layers removed.
    pub layers: usize,
}

/// Room on the store's filesystem.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Space {
    /// In bytes.
    pub total: u64,
    /// In bytes, for us.
    pub free: u64,
    /// Free part of the filesystem's inodes, 0 to 100; 100 where it has no such limit.
    pub free_inodes_percent: f64,
}

impl Space {
    /// The free part, 0 to 100.
    #[must_use]
    pub fn free_percent(&self) -> f64 {
        todo!()
    }
}

impl Store {
    /// Opens the store, creating it if it is not there; cleans up what a killed process left.
    ///
    /// # Errors
    /// Not root; a wrong filesystem; a directory of something else; another process has it open.
    pub async fn open(_location: &Location, _options: StoreOptions) -> Result<Self, StoreError> {
        todo!()
    }

    /// The result `id`, if it is there; it counts as used now.
    pub async fn layer(&self, _id: StepId) -> Option<Layer> {
        todo!()
    }

    /// Starts the layer `id` above `base`, or an empty one. The caller sees to it that nobody else makes the same one.
    ///
    /// # Errors
    /// The disk's.
    pub async fn begin(&self, _id: StepId, _base: Option<&Layer>) -> Result<Draft, StoreError> {
        todo!()
    }

    /// A clone of the cache `name`, its top directory owned by `owner` (uid, gid), mode 0755...
    ///
    /// # Errors
    /// The disk's.
    pub async fn cache(&self, _name: &BStr, _owner: (u32, u32)) -> Result<CacheLease, StoreError> {
        todo!()
    }

    /// Removes the cache; those who use it now go on with theirs, which is thrown away at its release.
    ///
    /// # Errors
    /// The disk's.
    pub async fn remove_cache(&self, _name: &BStr) -> Result<(), StoreError> {
        todo!()
    }

    /// Removes the layer and all above it, children first; calls `each` before each. Refuses if one of them is in use.
    ///
    /// # Errors
    /// In use, or the disk's.
    pub async fn delete(
        &self,
        _id: StepId,
        _each: impl FnMut(StepId) + Send,
    ) -> Result<(), StoreError> {
        todo!()
    }

    /// Removes unpinned layers that nothing is built on, the least recently used first.
    ///
    /// # Errors
    /// The disk's.
    pub async fn prune(
        &self,
        _request: PruneRequest,
        _cancel: &CancellationToken,
    ) -> Result<Pruned, StoreError> {
        todo!()
    }

    /// Room on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub async fn space(&self) -> Result<Space, StoreError> {
        todo!()
    }

    /// `ROOT/state/NAME`, for others to keep things in; created on demand.
    ///
    /// # Errors
    /// The disk's.
    pub fn state_dir(&self, _name: &str) -> Result<std::path::PathBuf, StoreError> {
        todo!()
    }
}

impl Layer {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> StepId {
        todo!()
    }

    /// What is known of it.
    #[must_use]
    pub fn meta(&self) -> &LayerMeta {
        todo!()
    }

    /// The environment of the base image it is built on.
    #[must_use]
    pub fn base_env(&self) -> &[(BString, BString)] {
        todo!()
    }

    /// Its whole tree, to be read. What is given keeps the layer pinned through `self` only: keep the layer while it is used.
    ///
    /// # Errors
    /// The disk's.
    pub fn view(&self) -> Result<Rootfs, StoreError> {
        todo!()
    }

    /// Its log's file.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        todo!()
    }
}

impl Draft {
    /// The tree to be changed.
    #[must_use]
    pub fn rootfs(&self) -> &Rootfs {
        todo!()
    }

    /// Where the log's file is to be created.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        todo!()
    }

    /// Keeps it. From here on it is in the store, pinned by the answer.
    ///
    /// # Errors
    /// The disk's; it is thrown away.
    pub async fn commit(self, _meta: LayerMeta) -> Result<Layer, StoreError> {
        todo!()
    }
}

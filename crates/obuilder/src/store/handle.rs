//! The store as its users see it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use bstr::BStr;
use jiff::Timestamp;

use super::core::{Core, make_dir};
use super::housekeeper::Housekeeper;
use super::open::{Opened, open};
use super::{
    CacheInfo, CacheLease, CacheTable, Draft, Layer, LayerMeta, Location, Space, StoreError, layout,
};
use crate::StepId;

/// An open store. Clones are the same store; it is closed with the last of them, of its layers and of its drafts.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

/// What clones share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) core: Arc<Core>,
    pub(super) housekeeper: Housekeeper,
    thread: JoinHandle<()>,
    caches: CacheTable,
}

/// How to open a store.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// The most bytes that caches may have in all; the least recently used go first. `None` for no limit.
    pub cache_quota: Option<u64>,
}

/// One layer in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// Which.
    pub id: StepId,
    /// What it is built on.
    pub parent: Option<StepId>,
    /// When it was kept.
    pub created: Timestamp,
    /// When it was last asked for.
    pub used: Timestamp,
    /// How much its step printed, in bytes; 0 if it had no log.
    pub log_size: u64,
    /// What is known of it.
    pub meta: LayerMeta,
}

impl Store {
    /// Opens the store, creating it if it is not there; cleans up what a killed process left.
    ///
    /// # Errors
    /// Not root; a wrong filesystem; a directory of something else; another process has it open.
    pub async fn open(location: &Location, options: StoreOptions) -> Result<Self, StoreError> {
        let location = location.clone();
        blocking(move || {
            let Opened { core, synced } = open(&location)?;
            let root = core.layout.root().to_owned();
            let (housekeeper, thread) = Housekeeper::start(core.clone(), synced)
                .map_err(StoreError::io("start a thread for", &root))?;
            let caches = CacheTable::open(
                &root,
                core.backend.clone(),
                options.cache_quota,
                core.clone(),
            )?;
            Ok(Self {
                inner: Arc::new(Inner {
                    caches,
                    housekeeper,
                    thread,
                    core,
                }),
            })
        })
        .await
    }

    /// The result `id`, if it is there; it counts as used now.
    pub async fn layer(&self, id: StepId) -> Option<Layer> {
        let now = Timestamp::now();
        let facts = self.inner.core.index().pin(id, now)?;
        self.inner.housekeeper.used(id, now);
        Some(Layer::of_pinned(self.inner.clone(), facts))
    }

    /// Starts the layer `id` above `base`, or an empty one. The caller sees to it that nobody else makes the same one.
    ///
    /// Into an empty one that is not a [`crate::Rootfs::Overlay`], what is made is kept as it is, but for what overlayfs would take for
    /// its own marks.
    ///
    /// # Errors
    /// The disk's. Nothing is left then, and the layer can be started again at once.
    pub async fn begin(&self, id: StepId, base: Option<&Layer>) -> Result<Draft, StoreError> {
        let store = self.inner.clone();
        let base = base.cloned();
        blocking(move || Draft::begin(store, id, base)).await
    }

    /// A clone of the cache `name`, its top directory owned by `owner` (uid, gid), mode 0755...
    ///
    /// # Errors
    /// The disk's.
    pub async fn cache(&self, name: &BStr, owner: (u32, u32)) -> Result<CacheLease, StoreError> {
        self.inner.caches.acquire(name, owner).await
    }

    /// Removes the cache; those who use it now go on with theirs, which is thrown away at its release.
    ///
    /// # Errors
    /// The disk's.
    pub async fn remove_cache(&self, name: &BStr) -> Result<(), StoreError> {
        self.inner.caches.remove(name).await
    }

    /// All caches, in the order of their names.
    #[must_use]
    pub fn caches(&self) -> Vec<CacheInfo> {
        self.inner.caches.list()
    }

    /// Makes sure that what was kept until now survives a crash of the machine. This happens by itself within half a minute of each
    /// [`Draft::commit`], so that it never delays a step: a program that ends earlier calls this first. A crash of the process alone
    /// loses nothing.
    ///
    /// # Errors
    /// The disk's.
    pub async fn sync(&self) -> Result<(), StoreError> {
        self.inner.housekeeper.sync().await?;
        self.inner.caches.sync().await
    }

    /// Closes the store: brings everything to the disk, and, if nobody else has it or anything of it, waits until what was thrown away is
    /// removed and another process can open it. Dropping it does the same but for the first, and waits for nothing.
    ///
    /// # Errors
    /// The disk's. It is closed all the same.
    pub async fn close(self) -> Result<(), StoreError> {
        let synced = self.sync().await;
        self.inner.caches.settled().await;
        if let Some(inner) = Arc::into_inner(self.inner) {
            let Inner {
                core,
                housekeeper,
                thread,
                caches,
            } = inner;
            drop((core, housekeeper, caches));
            blocking(move || {
                thread
                    .join()
                    .map_err(|_| StoreError::Refused("the store's own thread panicked".to_owned()))
            })
            .await?;
        }
        synced
    }

    /// How many layers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.inner.core.index().len()
    }

    /// All layers, in the order in which they were made.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn list(&self) -> Result<Vec<LayerInfo>, StoreError> {
        let core = self.inner.core.clone();
        blocking(move || {
            let mut entries = core
                .index()
                .iter()
                .map(|entry| (entry.facts.clone(), entry.used))
                .collect::<Vec<_>>();
            entries.sort_by_key(|(facts, _)| facts.seq);
            Ok(entries
                .into_iter()
                .map(|(facts, used)| LayerInfo {
                    id: facts.id,
                    parent: facts.parent,
                    created: facts.created,
                    used,
                    log_size: std::fs::metadata(core.layout.layer(facts.id).join(layout::LOG))
                        .map_or(0, |about| about.len()),
                    meta: facts.meta.clone(),
                })
                .collect())
        })
        .await
    }

    /// Room on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub async fn space(&self) -> Result<Space, StoreError> {
        let core = self.inner.core.clone();
        blocking(move || core.backend.space(core.layout.root())).await
    }

    /// `ROOT/state/NAME`, for others to keep things in; created on demand. What is in there stays when the store is opened.
    ///
    /// # Errors
    /// The disk's; a name that is not that of one directory.
    pub fn state_dir(&self, name: &str) -> Result<PathBuf, StoreError> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(StoreError::Refused(format!(
                "{name:?} is no name for a directory of the store"
            )));
        }
        let path = self.inner.core.layout.state().join(name);
        make_dir(&path)?;
        Ok(path)
    }
}

/// Runs what blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(StoreError::interrupted(&error)))
}

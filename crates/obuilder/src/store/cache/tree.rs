//! The sealed trees of caches, and the work that is done on them behind everybody's back.

use std::fmt::Debug;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::store::Backend;

/// Work that nobody waits for: it goes on in the runtime that the store was opened in. What a shutdown leaves undone is found when the
/// store is opened again.
#[derive(Debug)]
pub(super) struct Chores {
    pub(super) backend: Arc<dyn Backend>,
    /// The store stays locked while there is something to do.
    _open: Arc<dyn Debug + Send + Sync>,
    runtime: Handle,
    under_way: TaskTracker,
}

impl Chores {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        open: Arc<dyn Debug + Send + Sync>,
        runtime: Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            backend,
            _open: open,
            runtime,
            under_way: TaskTracker::new(),
        })
    }

    /// Runs `work`, which may block.
    pub(super) fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.under_way.spawn_blocking_on(work, &self.runtime)
    }

    /// Runs `work`, which may not.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.under_way.spawn_on(work, &self.runtime);
    }

    /// Runs `work` after `delay`, if there still is a runtime then. Not among what [`Chores::done`] waits for.
    pub(super) fn later(&self, delay: Duration, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            work.await;
        });
    }

    /// Removes the tree.
    pub(super) fn remove(self: &Arc<Self>, tree: PathBuf) {
        let chores = Arc::clone(self);
        self.block(move || {
            if let Err(error) = chores.backend.remove(&tree) {
                warn!(%error, "part of a cache stays until the store is opened again");
            }
        });
    }

    /// Waits until there is nothing to do.
    pub(super) async fn done(&self) {
        self.under_way.close();
        self.under_way.wait().await;
        self.under_way.reopen();
    }
}

/// A sealed tree. It is removed when the last user lets go of it, unless it was kept.
#[derive(Debug)]
pub(super) struct Tree {
    path: PathBuf,
    kept: AtomicBool,
    bytes: OnceLock<u64>,
    chores: Arc<Chores>,
}

impl Tree {
    /// A tree at `path`, which need not be there yet; not kept.
    pub(super) fn new(path: PathBuf, chores: &Arc<Chores>) -> Arc<Self> {
        Arc::new(Self {
            path,
            kept: AtomicBool::new(false),
            bytes: OnceLock::new(),
            chores: Arc::clone(chores),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it is called within its cache's directory.
    pub(super) fn directory(&self) -> String {
        self.path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Whether it stays when nobody has it any more.
    pub(super) fn keep(&self, kept: bool) {
        self.kept.store(kept, Ordering::Release);
    }

    /// What it takes, in bytes, once measured.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.bytes.get().copied()
    }

    /// The first measurement counts: a sealed tree does not change.
    pub(super) fn measured(&self, bytes: u64) {
        let _ = self.bytes.set(bytes);
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !*self.kept.get_mut() {
            self.chores.remove(std::mem::take(&mut self.path));
        }
    }
}

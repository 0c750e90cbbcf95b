//! A layer in the making.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::core::make_dir;
use super::handle::{Inner, blocking};
use super::housekeeper::Housekeeper;
use super::meta::Facts;
use super::mount_points::MountPoint;
use super::{Layer, LayerMeta, StoreError, layout};
use crate::{Rootfs, StepId};

/// A layer in the making. Dropping it throws it away, in the background.
#[derive(Debug)]
pub struct Draft {
    store: Arc<Inner>,
    id: StepId,
    base: Option<Layer>,
    /// What the backend was told to build on, if anything.
    built_on: Option<PathBuf>,
    rootfs: Rootfs,
    log: PathBuf,
    /// The layer's directory to be.
    layer: Stage,
    /// Where the backend makes the tree.
    work: Stage,
    _mount_point: MountPoint,
}

/// A directory below `tmp/`, removed with this if it is still there.
#[derive(Debug)]
struct Stage {
    path: PathBuf,
    housekeeper: Housekeeper,
}

impl Draft {
    /// The tree to be changed.
    #[must_use]
    pub fn rootfs(&self) -> &Rootfs {
        &self.rootfs
    }

    /// Where the log's file is to be created.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Keeps it. From here on it is in the store, pinned by the answer. If the same layer came into the store meanwhile, that one stays,
    /// and this one is thrown away. Nobody may use the tree any more.
    ///
    /// # Errors
    /// The disk's; it is thrown away.
    pub async fn commit(self, meta: LayerMeta) -> Result<Layer, StoreError> {
        blocking(move || self.commit_blocking(meta)).await
    }

    /// Throws it away, as dropping it does, and waits until nothing is left of it.
    pub async fn discard(self) {
        let remove = |stage: &Stage| self.store.housekeeper.remove(stage.path.clone());
        for removed in [remove(&self.layer), remove(&self.work)] {
            // If there is nobody who removes, opening the store does.
            let _ = removed.await;
        }
    }

    /// Makes the room for a layer. Blocks.
    pub(super) fn begin(
        store: Arc<Inner>,
        id: StepId,
        base: Option<Layer>,
    ) -> Result<Self, StoreError> {
        let core = &store.core;
        let chain = match &base {
            Some(base) => core.chain_to_build_on(base.id())?,
            None => Vec::new(),
        };
        let mount_point = core.mount_points.take()?;
        let layer = Stage::new(&store, core.layout.stage(&id.to_string()));
        let work = Stage::new(&store, layer.path.with_extension("work"));
        make_dir(&layer.path)?;
        let rootfs = core
            .backend
            .create(&chain, &work.path, mount_point.path())?;
        Ok(Self {
            log: layer.path.join(layout::LOG),
            built_on: chain.into_iter().next(),
            id,
            base,
            rootfs,
            layer,
            work,
            _mount_point: mount_point,
            store,
        })
    }

    fn commit_blocking(self, meta: LayerMeta) -> Result<Layer, StoreError> {
        let core = &self.store.core;
        let layer = &self.layer.path;
        core.backend.seal(
            &self.work.path,
            self.built_on.as_deref(),
            &layer.join(layout::FS),
        )?;
        let base_env = match &self.base {
            Some(base) if meta.env.is_empty() => base.shared_base_env(),
            _ => meta.env.clone().into(),
        };
        let facts = core.keep(layer, |seq, created| Facts {
            id: self.id,
            parent: self.base.as_ref().map(Layer::id),
            seq,
            created,
            meta,
            base_env,
        })?;
        self.store.housekeeper.kept();
        Ok(Layer::of_pinned(self.store.clone(), facts))
    }
}

impl Stage {
    fn new(store: &Inner, path: PathBuf) -> Self {
        Self {
            path,
            housekeeper: store.housekeeper.clone(),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.housekeeper
            .remove_later(std::mem::take(&mut self.path));
    }
}

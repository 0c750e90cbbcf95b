//! What all parts of an open store share, and the few steps by which a layer comes and goes. All of it may block.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::index::{Entry, Index, Kept};
use super::layout::{self, Layout};
use super::lock::Lock;
use super::meta::Facts;
use super::mount_points::MountPoints;
use super::{Backend, StoreError};
use crate::{Rootfs, StepId};

/// One open store.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) layout: Layout,
    pub(super) backend: Arc<dyn Backend>,
    /// This run of the machine.
    pub(super) boot: String,
    /// For drafts.
    pub(super) mount_points: Arc<MountPoints>,
    /// Held for a moment only.
    index: Mutex<Index>,
    /// Held while a layer's directory and its place in the index change together. Only threads that may block take it.
    moving: Mutex<()>,
    /// Held while a whole tree is copied, which is rare.
    flattening: Mutex<()>,
    /// Let go when all else is.
    _lock: Lock,
}

impl Core {
    pub(super) fn new(
        layout: Layout,
        backend: Arc<dyn Backend>,
        boot: String,
        index: Index,
        lock: Lock,
    ) -> Self {
        Self {
            mount_points: MountPoints::new(layout.mounts()),
            layout,
            backend,
            boot,
            index: Mutex::new(index),
            moving: Mutex::new(()),
            flattening: Mutex::new(()),
            _lock: lock,
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }

    /// Keeps layers from coming and going until the answer is dropped. Blocks; for threads that may.
    pub(super) fn hold_still(&self) -> MutexGuard<'_, ()> {
        lock(&self.moving)
    }

    /// How to name the layers that `base`'s tree is made of, the newest first; a copy of the whole tree is made first if there are too
    /// many. `base` is pinned by the caller.
    pub(super) fn chain_to_build_on(&self, base: StepId) -> Result<Vec<PathBuf>, StoreError> {
        let Some(longest) = self.backend.longest_chain() else {
            return Ok(vec![self.layout.layer(base).join(layout::FS)]);
        };
        let chain = self.index().chain(base);
        if chain.len() < longest {
            return Ok(self.links(&chain));
        }
        let _one = lock(&self.flattening);
        // Somebody else may have made it meanwhile.
        let chain = self.index().chain(base);
        if chain.len() >= longest {
            self.flatten(base, &chain)?;
        }
        Ok(self.links(&self.index().chain(base)))
    }

    /// How to read the tree of `id`, which is pinned by the caller.
    pub(super) fn view(&self, id: StepId) -> Result<Rootfs, StoreError> {
        let chain = self.index().chain(id);
        let Some((facts, _)) = chain.first() else {
            return Err(StoreError::Refused(format!("there is no layer {id}")));
        };
        let paths = match self.backend.longest_chain() {
            Some(_) => self.links(&chain),
            None => vec![self.layout.layer(id).join(layout::FS)],
        };
        let mount_point = self.layout.mounts().join(layout::link_name(facts.seq));
        let view = self.backend.view(&paths, &mount_point);
        if matches!(&view, Rootfs::Overlay(overlay) if overlay.at == mount_point) {
            make_dir(&mount_point)?;
        }
        Ok(view)
    }

    fn links(&self, chain: &[(Arc<Facts>, bool)]) -> Vec<PathBuf> {
        let links = self.layout.links();
        chain
            .iter()
            .map(|(facts, flat)| {
                links.join(if *flat {
                    layout::flat_link_name(facts.seq)
                } else {
                    layout::link_name(facts.seq)
                })
            })
            .collect()
    }

    /// Copies the whole tree of a layer, so that a chain can start from it.
    fn flatten(&self, id: StepId, chain: &[(Arc<Facts>, bool)]) -> Result<(), StoreError> {
        let Some((facts, _)) = chain.first() else {
            return Ok(());
        };
        tracing::info!(layer = %id, layers = chain.len(), "copying a whole tree, since it has too many layers");
        let stage = self.layout.stage("flat");
        let copied = (|| {
            make_dir(&stage)?;
            let copy = stage.join(layout::FLAT);
            let view = self.view(id)?;
            view.with_blocking(|tree| super::copy_tree::copy_tree(tree, &copy))??;
            // What a layer's number tells about a crash of the machine must hold for this later part of it, too.
            super::tree::sync_filesystem(&stage).map_err(StoreError::io("sync", &stage))?;
            let flat = self.layout.layer(id).join(layout::FLAT);
            let _moving = self.hold_still();
            fs::rename(&copy, &flat).map_err(StoreError::io("rename", &copy))?;
            let link = self.layout.links().join(layout::flat_link_name(facts.seq));
            make_link(&layout::link_target(id, layout::FLAT), &link)?;
            self.index().flattened(id);
            Ok(())
        })();
        let removed = self.backend.remove(&stage);
        copied.and(removed)
    }

    /// Puts the layer that lies complete in `made` (but for its `meta.json`) into its place, and pins it. If it is there already, it
    /// stays as it was.
    pub(super) fn keep(
        &self,
        made: &Path,
        facts: impl FnOnce(u64, Timestamp) -> Facts,
    ) -> Result<Arc<Facts>, StoreError> {
        let seq = self.index().number();
        let kept = self.keep_numbered(made, facts(seq, Timestamp::now()));
        self.index().numbered(seq);
        kept
    }

    fn keep_numbered(&self, made: &Path, facts: Facts) -> Result<Arc<Facts>, StoreError> {
        let meta = made.join(layout::META);
        facts
            .write(&meta, &self.boot)
            .map_err(StoreError::io("write", &meta))?;
        let id = facts.id;
        let link = self.layout.links().join(layout::link_name(facts.seq));
        let _moving = self.hold_still();
        if let Some(there) = self.index().pin(id, facts.created) {
            return Ok(there);
        }
        if self.backend.longest_chain().is_some() {
            make_link(&layout::link_target(id, layout::FS), &link)?;
        }
        if let Err(error) = fs::rename(made, self.layout.layer(id)) {
            let _ = fs::remove_file(&link);
            return Err(StoreError::io("rename", made)(error));
        }
        let facts = Arc::new(facts);
        let mut index = self.index();
        index.insert(facts.clone(), facts.created, false);
        index.pin(id, facts.created);
        Ok(facts)
    }

    /// Takes a layer out of the store, if nobody needs it. What is answered is the directory that its files are in now, to be removed.
    pub(super) fn retire(&self, id: StepId) -> Result<Result<PathBuf, Kept>, StoreError> {
        let _moving = self.hold_still();
        let entry = match self.index().take(id) {
            Ok(entry) => entry,
            Err(kept) => return Ok(Err(kept)),
        };
        let gone = self.layout.stage("gone");
        let layer = self.layout.layer(id);
        match fs::rename(&layer, &gone) {
            Ok(()) => (),
            // Somebody else removed it already.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => {
                self.put_back(&entry);
                return Err(StoreError::io("rename", &layer)(error));
            }
        }
        let seq = entry.facts.seq;
        for name in [layout::link_name(seq), layout::flat_link_name(seq)] {
            // One that stays points nowhere, and goes when the store is opened.
            let _ = fs::remove_file(self.layout.links().join(name));
        }
        let _ = fs::remove_dir(self.layout.mounts().join(layout::link_name(seq)));
        Ok(Ok(gone))
    }

    fn put_back(&self, entry: &Entry) {
        self.index()
            .insert(entry.facts.clone(), entry.used, entry.flat);
    }
}

/// Makes a directory that may be there already.
pub(super) fn make_dir(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(StoreError::io("create", path))
}

/// Makes a symbolic link in the place of whatever link is there.
pub(super) fn make_link(target: &Path, link: &Path) -> Result<(), StoreError> {
    match symlink(target, link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(link).and_then(|()| symlink(target, link))
        }
        done => done,
    }
    .map_err(StoreError::io("create", link))
}

/// A panic elsewhere leaves nothing half done in what our locks guard.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

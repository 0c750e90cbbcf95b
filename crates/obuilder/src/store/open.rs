//! Opening a store: whatever state a killed process or a crashed machine left it in, afterwards it is whole.
//!
//! A layer is taken for whole if its directory, its `meta.json`, its tree and its parent are there, and if it was written in this run of
//! the machine or is known to have been brought to the disk. All else goes: it can be made again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::backend::backend_for;
use super::core::{Core, make_dir, make_link};
use super::format::{self, Found};
use super::index::Index;
use super::layout::{self, Layout};
use super::lock::Lock;
use super::meta::{Facts, Loaded, boot_id};
use super::removal::{nothing_special, remove_tree};
use super::{Backend, Location, StoreError, mounts};
use crate::StepId;

/// What an open store starts with.
pub(super) struct Opened {
    pub(super) core: Arc<Core>,
    /// All layers with smaller numbers are on the disk.
    pub(super) synced: u64,
}

/// Opens the store, creating it if it is not there. Blocks.
///
/// # Errors
/// Not root; a wrong filesystem; a directory of something else; another process has it open.
pub(super) fn open(location: &Location) -> Result<Opened, StoreError> {
    let Claimed {
        layout,
        backend,
        lock,
        found,
    } = claim(location)?;
    mounts::detach_below(layout.root())
        .map_err(StoreError::io("unmount what is in", layout.root()))?;
    remove_probes(&layout, &*backend)?;
    match backend.probe(layout.root()) {
        // What was a store is one still. With a full disk nothing can be tried, and it has to be open to be pruned.
        Err(error) if found == Found::Ours && error.is_full_disk() => {
            tracing::warn!(%error, "the disk of the store is full");
        }
        probed => probed?,
    }
    for dir in layout.directories() {
        make_own_dir(&dir)?;
    }
    if found == Found::Empty {
        format::mark(&layout, location.kind)?;
    }
    let boot = boot_id().map_err(StoreError::io(
        "read",
        Path::new("/proc/sys/kernel/random/boot_id"),
    ))?;
    let synced = read_synced(&layout)?;
    let index = read_layers(&layout, &boot, synced)?;
    if backend.longest_chain().is_some() {
        mend_links(&layout, &index)?;
    }
    empty(&layout.mounts(), &*backend)?;
    empty(&layout.tmp(), &*backend)?;
    Ok(Opened {
        core: Arc::new(Core::new(layout, backend, boot, index, lock)),
        synced,
    })
}

/// A directory that is, or may become, a store of the right kind, and that nobody else uses now.
pub(super) struct Claimed {
    pub(super) layout: Layout,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) lock: Lock,
    pub(super) found: Found,
}

/// Takes the directory for us, without changing a directory of somebody else.
pub(super) fn claim(location: &Location) -> Result<Claimed, StoreError> {
    if !rustix::process::geteuid().is_root() {
        return Err(StoreError::Refused(format!(
            "layers in {} keep owners and are mounted, which only root can do; run this as root",
            location.root.display()
        )));
    }
    let backend = backend_for(location.kind);
    make_dir(&location.root)?;
    let root = fs::canonicalize(&location.root).map_err(StoreError::io("find", &location.root))?;
    let layout = Layout::new(root);
    format::look(&layout, location.kind)?;
    let lock = Lock::take(&layout.lock(), layout.root())?;
    // Whoever had the lock may have made it a store.
    let found = format::look(&layout, location.kind)?;
    Ok(Claimed {
        layout,
        backend,
        lock,
        found,
    })
}

/// Makes a directory of the store, which must not be elsewhere.
fn make_own_dir(path: &Path) -> Result<(), StoreError> {
    make_dir(path)?;
    let about = fs::symlink_metadata(path).map_err(StoreError::io("look at", path))?;
    if about.is_dir() {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "{} is not a directory but leads elsewhere; a store is in one place: remove the link, or move the whole store and name its new place",
        path.display()
    )))
}

/// Removes what a killed process tried the filesystem with.
fn remove_probes(layout: &Layout, backend: &dyn Backend) -> Result<(), StoreError> {
    for (name, path) in list(layout.root())? {
        if format::is_probe(&name) {
            remove_leftover(backend, &path);
        }
    }
    Ok(())
}

/// All layers with smaller numbers are on the disk.
fn read_synced(layout: &Layout) -> Result<u64, StoreError> {
    let path = layout.synced();
    match fs::read_to_string(&path) {
        // What does not say that something is on the disk says nothing.
        Ok(text) => Ok(text.trim().parse().unwrap_or(0)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(StoreError::io("read", &path)(error)),
    }
}

/// Reads all layers, and moves those that are not whole to `tmp/`.
fn read_layers(layout: &Layout, boot: &str, synced: u64) -> Result<Index, StoreError> {
    let mut whole = BTreeMap::new();
    let mut broken = Vec::new();
    for (name, path) in list(&layout.layers())? {
        let Some(id) = layout::parse_id(&name) else {
            tracing::warn!(path = %path.display(), "there is something in the store that is not the store's");
            continue;
        };
        match read_layer(&path, id, boot, synced) {
            Ok(loaded) => {
                // A number is given once.
                if let Some(twin) = whole.insert(loaded.facts.seq, loaded) {
                    broken.push((twin.facts.id, "another has its number"));
                }
            }
            Err(why) => broken.push((id, why)),
        }
    }
    let mut index = Index::starting_at(synced);
    // Parents have smaller numbers.
    for mut loaded in whole.into_values() {
        if let Some(parent) = loaded.facts.parent {
            let Some(above) = index.get(parent) else {
                broken.push((loaded.facts.id, "the layer that it is built on is gone"));
                continue;
            };
            if above.facts.base_env == loaded.facts.base_env {
                loaded.facts.base_env = above.facts.base_env.clone();
            }
        }
        let flat = layout.layer(loaded.facts.id).join(layout::FLAT).is_dir();
        index.insert(Arc::new(loaded.facts), loaded.used, flat);
    }
    for (id, why) in broken {
        tracing::warn!(layer = %id, why, "a layer is not whole and is removed");
        let layer = layout.layer(id);
        fs::rename(&layer, layout.stage("gone")).map_err(StoreError::io("rename", &layer))?;
    }
    Ok(index)
}

fn read_layer(path: &Path, id: StepId, boot: &str, synced: u64) -> Result<Loaded, &'static str> {
    let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|about| about.is_dir());
    if !is_dir(path) || !is_dir(&path.join(layout::FS)) {
        return Err("it has no tree");
    }
    let loaded =
        Facts::read(&path.join(layout::META), id).map_err(|_| "its meta.json is broken")?;
    if loaded.boot != boot && loaded.facts.seq >= synced {
        return Err("the machine went down before it was on the disk");
    }
    Ok(loaded)
}

/// Makes the short names right.
fn mend_links(layout: &Layout, index: &Index) -> Result<(), StoreError> {
    let links = layout.links();
    let mut wanted = BTreeMap::new();
    for entry in index.iter() {
        let Facts { id, seq, .. } = *entry.facts;
        wanted.insert(layout::link_name(seq), layout::link_target(id, layout::FS));
        if entry.flat {
            wanted.insert(
                layout::flat_link_name(seq),
                layout::link_target(id, layout::FLAT),
            );
        }
    }
    let mut right = BTreeSet::new();
    for (name, path) in list(&links)? {
        let target = fs::read_link(&path).ok();
        if target.is_some() && target == wanted.get(&name).cloned() {
            right.insert(name);
        } else {
            remove_tree(&path, &nothing_special)?;
        }
    }
    for (name, target) in wanted {
        if !right.contains(&name) {
            make_link(&target, &links.join(name))?;
        }
    }
    Ok(())
}

/// Removes everything in a directory of ours.
fn empty(dir: &Path, backend: &dyn Backend) -> Result<(), StoreError> {
    for (_, path) in list(dir)? {
        remove_leftover(backend, &path);
    }
    Ok(())
}

/// Removes what nobody needs. If that fails it is in nobody's way, so that the store can be used all the same.
pub(super) fn remove_leftover(backend: &dyn Backend, path: &Path) {
    if let Err(error) = backend.remove(path) {
        tracing::warn!(%error, "something left over stays until the store is opened again");
    }
}

/// What is in a directory.
pub(super) fn list(dir: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    fs::read_dir(dir)
        .and_then(|entries| {
            entries
                .map(|entry| {
                    let entry = entry?;
                    // Names of ours are text; what is not is none of ours, and its path is right.
                    Ok((
                        entry.file_name().to_string_lossy().into_owned(),
                        entry.path(),
                    ))
                })
                .collect()
        })
        .map_err(StoreError::io("list", dir))
}

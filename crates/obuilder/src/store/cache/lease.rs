//! A cache in somebody's hands.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown, fstat, openat};
use tracing::warn;

use super::entry::Entry;
use super::place::{Place, nonce};
use super::table::Shared;
use super::tree::Tree;
use crate::Rootfs;
use crate::store::StoreError;

/// The most trees that a version has, if nothing comes of making them one: their names have to fit into a page of mount options.
const MOST_TREES: usize = 100;

/// A private, writable clone of a cache. Dropping it throws its changes away.
#[derive(Debug)]
pub struct CacheLease {
    rootfs: Rootfs,
    generation: u64,
    /// Of the tree's top when it was handed out.
    mode: u32,
    /// What the clone is mounted above; empty where it is a tree by itself.
    _below: Vec<Arc<Tree>>,
    place: Place,
    user: User,
}

/// Counts as one who uses the cache.
#[derive(Debug)]
struct User {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
}

impl Drop for User {
    fn drop(&mut self) {
        self.shared.leave(&self.entry);
    }
}

impl CacheLease {
    /// A clone of what the entry is now, for one who was counted already.
    pub(super) fn new(
        shared: &Arc<Shared>,
        entry: Arc<Entry>,
        owner: (u32, u32),
    ) -> Result<Self, StoreError> {
        let user = User {
            shared: Arc::clone(shared),
            entry,
        };
        let (generation, mut below) = user.entry.current();
        let place = Place::new(&shared.tmp, &shared.chores)?;
        let chain: Vec<PathBuf> = below.iter().map(|tree| tree.path().into()).collect();
        let backend = &shared.chores.backend;
        let rootfs = backend.create(&chain, &place.work(), &place.mount_point())?;
        if !shared.layered() {
            below.clear();
        }
        let top = writable_top(&rootfs);
        let mode = give(&top, owner).map_err(StoreError::io("change the owner of", &top))?;
        Ok(Self {
            rootfs,
            generation,
            mode,
            _below: below,
            place,
            user,
        })
    }

    /// What to mount at the cache's target.
    #[must_use]
    pub fn rootfs(&self) -> &Rootfs {
        &self.rootfs
    }

    /// Ends the use. The clone becomes the cache's version, unless another was released or the cache was removed since the clone was
    /// taken. Tells whether it did. Goes on if the caller withdraws.
    ///
    /// # Errors
    /// The disk's; the cache keeps its version.
    pub async fn release(self) -> Result<bool, StoreError> {
        let chores = Arc::clone(&self.user.shared.chores);
        let released = chores.block(move || self.release_now()).await;
        released.unwrap_or_else(|error| Err(StoreError::interrupted(&error)))
    }

    fn release_now(self) -> Result<bool, StoreError> {
        let (shared, entry) = (&self.user.shared, &self.user.entry);
        let _releasing = entry.one_at_a_time();
        let (generation, chain) = entry.current();
        if generation != self.generation {
            return Ok(false);
        }
        let layered = shared.layered();
        if shared
            .chores
            .backend
            .longest_chain()
            .is_some_and(|longest| chain.len() >= longest.min(MOST_TREES))
        {
            warn!(cache = %entry.name, "changes are thrown away: there are too many layers of them");
            return Ok(false);
        }
        entry.make_directory()?;
        let next = generation.saturating_add(1);
        let tree = Tree::new(
            entry.dir.join(format!("{next}-{}", nonce())),
            &shared.chores,
        );
        let base = chain.first().map(|tree| tree.path());
        shared
            .chores
            .backend
            .seal(&self.place.work(), base, tree.path())?;
        if layered && self.is_unchanged(tree.path()) {
            return Ok(true);
        }
        let mut trees = vec![tree];
        if layered {
            trees.extend(chain);
        }
        entry.publish(next, trees, &shared.boot)?;
        shared.sync_later();
        Ok(true)
    }

    /// Whether what a layered store sealed says nothing: no change of a file, nor of the top's mode.
    fn is_unchanged(&self, sealed: &Path) -> bool {
        let empty = std::fs::read_dir(sealed).is_ok_and(|mut entries| entries.next().is_none());
        empty
            && open(sealed)
                .and_then(|top| Ok(fstat(top)?))
                .is_ok_and(|found| found.st_mode == self.mode)
    }
}

/// The directory whose attributes are those of the tree's top.
fn writable_top(rootfs: &Rootfs) -> PathBuf {
    match rootfs {
        Rootfs::Plain(path) => path.clone(),
        Rootfs::Overlay(overlay) => overlay
            .upper
            .as_ref()
            .map_or(overlay.at.clone(), |upper| overlay.start.join(&upper.dir)),
    }
}

/// Makes the directory `top` the owner's, and answers its mode.
fn give(top: &Path, (uid, gid): (u32, u32)) -> io::Result<u32> {
    let top = open(top)?;
    let found = fstat(&top)?;
    if (found.st_uid, found.st_gid) != (uid, gid) {
        let none = u32::MAX;
        if uid == none || gid == none {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "that is nobody's number",
            ));
        }
        fchown(&top, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(fstat(&top)?.st_mode)
}

fn open(directory: &Path) -> io::Result<rustix::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, directory, flags, Mode::empty())?)
}

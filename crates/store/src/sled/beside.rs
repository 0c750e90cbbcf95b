//! A store that is made beside another one's place, and moved there when it is whole.
//!
//! ```text
//! DIR/store.import/    a store being imported, and
//! DIR/store.compact/   one being compacted: state directories of their own, until they are moved
//! DIR/store.before     the old data, where two directories cannot be exchanged at once
//! ```
//!
//! A kill at any moment leaves in place what was there before, or what is there afterwards. What else it leaves is removed
//! at the next start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::{SledOptions, SledStore, StoreError};

use super::place::{DATA, MARKER, Place};

const IMPORT: &str = "store.import";
const COMPACT: &str = "store.compact";
const BEFORE: &str = "store.before";

/// A store in the making, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Beside {
    /// Where it is to go. Holds the lock.
    place: Arc<Place>,
    /// The state directory in which it is made.
    at: PathBuf,
}

impl Beside {
    /// For a new store in `dir`.
    pub(crate) fn import(dir: &Path) -> Result<Self, StoreError> {
        Self::new(Arc::new(Place::take(dir)?), IMPORT)
    }

    /// For what will replace `old`.
    pub(crate) fn compaction(old: &SledStore) -> Result<Self, StoreError> {
        Self::new(Arc::clone(old.place()), COMPACT)
    }

    fn new(place: Arc<Place>, name: &str) -> Result<Self, StoreError> {
        let at = place.dir.join(name);
        remove(&at)?;
        Ok(Self { place, at })
    }

    /// Opens the store in the making.
    pub(crate) fn open(&self, options: SledOptions) -> Result<SledStore, StoreError> {
        SledStore::open(&self.at, options)
    }

    /// Bytes of the files in place, and of those that will replace them.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        (size(&self.place.data()), size(&self.at.join(DATA)))
    }

    /// Moves the store, which is closed, to where none is.
    pub(crate) fn settle(self) -> Result<(), StoreError> {
        // Data without a marker is a whole store; a marker without data would be a lost one.
        self.put(DATA)?;
        self.place.sync()?;
        self.put(MARKER)?;
        self.place.sync()
    }

    fn put(&self, name: &str) -> Result<(), StoreError> {
        let to = self.place.dir.join(name);
        std::fs::rename(self.at.join(name), &to)
            .map_err(|error| StoreError::io(format!("make {}", to.display()), &error))
    }

    /// Closes `old`, and puts the new store, which is closed, in its place.
    pub(crate) fn replace(self, old: SledStore) -> Result<(), StoreError> {
        drop(old);
        let (data, new) = (self.place.data(), self.at.join(DATA));
        match renameat_with(CWD, &data, CWD, &new, RenameFlags::EXCHANGE) {
            Ok(()) => self.place.sync(),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.replace_in_two_steps(),
            Err(errno) => Err(StoreError::io(
                format!("replace {}", data.display()),
                &errno.into(),
            )),
        }
    }

    fn replace_in_two_steps(&self) -> Result<(), StoreError> {
        let before = self.place.dir.join(BEFORE);
        remove(&before)?;
        // A kill behind this step is made good by `recover`.
        std::fs::rename(self.place.data(), &before)
            .map_err(|error| StoreError::io(format!("make {}", before.display()), &error))?;
        self.place.sync()?;
        self.put(DATA)?;
        self.place.sync()?;
        remove(&before)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.at) {
            tracing::warn!(%error, "a directory that nobody needs stays");
        }
    }
}

/// Puts the old data back if a kill came between taking it away and putting the new one in its place.
pub(super) fn recover(place: &Place) -> Result<(), StoreError> {
    let before = place.dir.join(BEFORE);
    if place.data().exists() || !before.exists() || !place.dir.join(MARKER).exists() {
        return Ok(());
    }
    std::fs::rename(&before, place.data())
        .map_err(|error| StoreError::io(format!("put {} back", before.display()), &error))?;
    place.sync()
}

/// Removes what a kill left behind. The store in place was found to be whole.
pub(super) fn tidy(place: &Place) {
    for name in [IMPORT, COMPACT, BEFORE] {
        if let Err(error) = remove(&place.dir.join(name)) {
            tracing::warn!(%error, "a directory that nobody needs stays");
        }
    }
}

fn remove(dir: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io(format!("remove {}", dir.display()), &error))
        }
        _ => Ok(()),
    }
}

/// Bytes of all files in a directory; what cannot be read counts as nothing.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => size(&entry.path()),
            Ok(about) => about.len(),
            Err(_) => 0,
        })
        .sum()
}

//! Room for a clone under way.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::tree::Chores;
use crate::store::StoreError;
use crate::store::whole_tree::make_directory;

/// A directory of the store's temporary ones, removed with all that is in it when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    chores: Arc<Chores>,
}

impl Place {
    /// A new one in `tmp`.
    pub(super) fn new(tmp: &Path, chores: &Arc<Chores>) -> Result<Self, StoreError> {
        let place = Self {
            path: tmp.join(format!("cache-{}", nonce())),
            chores: Arc::clone(chores),
        };
        make_directory(&place.path)?;
        make_directory(&place.mount_point())?;
        Ok(place)
    }

    /// Where the tree is made.
    pub(super) fn work(&self) -> PathBuf {
        self.path.join("tree")
    }

    /// Where it is mounted, if it has to be.
    pub(super) fn mount_point(&self) -> PathBuf {
        self.path.join("at")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.chores.remove(std::mem::take(&mut self.path));
    }
}

/// What no other name has in it.
pub(super) fn nonce() -> String {
    format!("{:016x}", rand::random::<u64>())
}

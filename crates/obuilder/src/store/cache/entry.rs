//! One cache: its current version, and how that is replaced.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bstr::BString;
use jiff::Timestamp;
use tracing::warn;

use super::CacheInfo;
use super::name::directory_name;
use super::record::{FILE, Record, RecordedTree};
use super::size::bytes_of;
use super::tree::{Chores, Tree};
use crate::store::StoreError;
use crate::store::open::remove_leftover;

/// One cache.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: BString,
    pub(super) dir: PathBuf,
    /// Held, on threads that may block, by whoever makes or removes a version.
    releasing: Mutex<()>,
    state: Mutex<State>,
    /// Held while its trees are made one.
    pub(super) flattening: tokio::sync::Mutex<()>,
}

/// What changes of a cache.
#[derive(Debug)]
pub(super) struct State {
    /// Of the version; grows with each, and with each removal.
    pub(super) generation: u64,
    /// The version's trees, the newest first.
    pub(super) trees: Vec<Arc<Tree>>,
    pub(super) used: Timestamp,
    pub(super) users: usize,
    /// Whether the version survives a crash of the machine.
    pub(super) on_disk: bool,
}

impl Entry {
    pub(super) fn new(name: BString, dir: PathBuf) -> Self {
        Self {
            name,
            dir,
            releasing: Mutex::new(()),
            state: Mutex::new(State {
                generation: 0,
                trees: Vec::new(),
                used: Timestamp::now(),
                users: 0,
                on_disk: false,
            }),
            flattening: tokio::sync::Mutex::new(()),
        }
    }

    /// The cache in `dir`, if there is a whole one; removes what does not belong to it.
    pub(super) fn load(
        dir: &Path,
        boot: &str,
        chores: &Arc<Chores>,
    ) -> Result<Option<Self>, StoreError> {
        let Some(record) = Record::read(dir, boot) else {
            return Ok(None);
        };
        let expected = directory_name(record.name.as_ref());
        if dir.file_name() != Some(expected.as_ref()) {
            return Ok(None);
        }
        for found in std::fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
            let found = found.map_err(StoreError::io("list", dir))?;
            let name = found.file_name();
            let wanted = name == FILE || record.trees.iter().any(|tree| *tree.directory == *name);
            if !wanted {
                remove_leftover(&*chores.backend, &found.path());
            }
        }
        let entry = Self::new(record.name, dir.into());
        let mut state = entry.state();
        state.generation = record.generation;
        state.on_disk = record.on_disk;
        state.used = Timestamp::from_millisecond(record.used_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        for recorded in record.trees {
            let tree = Tree::new(dir.join(recorded.directory), chores);
            tree.keep(true);
            if let Some(bytes) = recorded.bytes {
                tree.measured(bytes);
            }
            state.trees.push(tree);
        }
        drop(state);
        Ok(Some(entry))
    }

    /// To be held, on a thread that may block, while a version is made or removed.
    pub(super) fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.releasing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version's generation and trees.
    pub(super) fn current(&self) -> (u64, Vec<Arc<Tree>>) {
        let state = self.state();
        (state.generation, state.trees.clone())
    }

    /// Makes the directory that versions are kept in.
    pub(super) fn make_directory(&self) -> Result<(), StoreError> {
        std::fs::create_dir_all(&self.dir).map_err(StoreError::io("create", &self.dir))
    }

    /// Makes `trees` the version. Only for those who hold [`Entry::one_at_a_time`].
    pub(super) fn publish(
        &self,
        generation: u64,
        trees: Vec<Arc<Tree>>,
        boot: &str,
    ) -> Result<(), StoreError> {
        self.write(generation, &trees, boot, false)?;
        let mut state = self.state();
        state.generation = generation;
        state.on_disk = false;
        let old = std::mem::replace(&mut state.trees, trees);
        for tree in &old {
            tree.keep(false);
        }
        for tree in &state.trees {
            tree.keep(true);
        }
        drop(state);
        drop(old);
        Ok(())
    }

    /// The trees of a version that is not on the disk for certain.
    pub(super) fn unsaved(&self) -> Option<Vec<Arc<Tree>>> {
        let state = self.state();
        (!state.on_disk && !state.trees.is_empty()).then(|| state.trees.clone())
    }

    /// Remembers that the version of these trees is on the disk, if it still is the version.
    pub(super) fn saved(&self, trees: &[Arc<Tree>], boot: &str) -> Result<(), StoreError> {
        let _releasing = self.one_at_a_time();
        let (generation, now) = self.current();
        let same =
            now.len() == trees.len() && now.iter().zip(trees).all(|(a, b)| Arc::ptr_eq(a, b));
        if same {
            self.write(generation, &now, boot, true)?;
            self.state().on_disk = true;
        }
        Ok(())
    }

    fn write(
        &self,
        generation: u64,
        trees: &[Arc<Tree>],
        boot: &str,
        on_disk: bool,
    ) -> Result<(), StoreError> {
        let record = Record {
            name: self.name.clone(),
            generation,
            used_ms: self.state().used.as_millisecond(),
            boot: boot.into(),
            on_disk,
            trees: trees
                .iter()
                .map(|tree| RecordedTree {
                    directory: tree.directory(),
                    bytes: tree.bytes(),
                })
                .collect(),
        };
        record.write(&self.dir)
    }

    /// Measures what was not measured yet, and remembers that, and when the cache was used.
    pub(super) fn measure(&self, boot: &str) {
        for tree in self.current().1 {
            if tree.bytes().is_none() {
                tree.measured(bytes_of(tree.path()));
            }
        }
        let _releasing = self.one_at_a_time();
        let (generation, trees) = self.current();
        let on_disk = self.state().on_disk;
        if !trees.is_empty()
            && let Err(error) = self.write(generation, &trees, boot, on_disk)
        {
            warn!(cache = %self.name, %error, "the size of a cache could not be written down");
        }
    }

    pub(super) fn info(&self) -> CacheInfo {
        let state = self.state();
        CacheInfo {
            name: self.name.clone(),
            generation: state.generation,
            bytes: state
                .trees
                .iter()
                .map(|tree| tree.bytes())
                .sum::<Option<u64>>()
                .filter(|_| !state.trees.is_empty()),
            used: state.used,
            users: state.users,
        }
    }
}

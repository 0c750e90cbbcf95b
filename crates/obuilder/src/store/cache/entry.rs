//! One cache: its current version, and how that is replaced.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bstr::BString;
use jiff::Timestamp;
use tracing::warn;

use super::CacheInfo;
use super::name::directory_name;
use super::record::{Known, Record, RecordedTree, is_record};
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
    /// The trees of the last version that survives a crash of the machine, which stay until another does; empty if none does.
    pub(super) saved: Vec<Arc<Tree>>,
}

impl State {
    /// Has the trees of both versions kept, and those of `old` that are of neither removed when nobody has them.
    pub(super) fn keep_instead_of(&self, old: &[Arc<Tree>]) {
        for tree in old {
            tree.keep(false);
        }
        for tree in self.trees.iter().chain(&self.saved) {
            tree.keep(true);
        }
    }
}

fn same(a: &[Arc<Tree>], b: &[Arc<Tree>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
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
                saved: Vec::new(),
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
        let Some(Known { current, saved }) = Record::read(dir, boot) else {
            return Ok(None);
        };
        let saved = saved.filter(|saved| saved.name == current.name);
        let expected = directory_name(current.name.as_ref());
        if dir.file_name() != Some(expected.as_ref()) {
            return Ok(None);
        }
        let mut trees: HashMap<String, Arc<Tree>> = HashMap::new();
        let mut trees_of = |recorded: Vec<RecordedTree>| -> Vec<Arc<Tree>> {
            let tree_of = |RecordedTree { directory, bytes }| {
                let path = dir.join(&directory);
                // There is one of each, since the last to let go of it removes it.
                let tree = trees
                    .entry(directory)
                    .or_insert_with(|| Tree::new(path, chores));
                tree.keep(true);
                if let Some(bytes) = bytes {
                    tree.measured(bytes);
                }
                Arc::clone(tree)
            };
            recorded.into_iter().map(tree_of).collect()
        };
        let entry = Self::new(current.name, dir.into());
        let mut state = entry.state();
        state.generation = current.generation;
        state.used = Timestamp::from_millisecond(current.used_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        state.trees = trees_of(current.trees);
        state.saved = saved.map_or_else(Vec::new, |saved| trees_of(saved.trees));
        drop(state);
        for found in std::fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
            let found = found.map_err(StoreError::io("list", dir))?;
            let name = found.file_name();
            let wanted =
                is_record(&name) || name.to_str().is_some_and(|name| trees.contains_key(name));
            if !wanted {
                remove_leftover(&*chores.backend, &found.path());
            }
        }
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
        self.record(generation, &trees, boot).write(&self.dir)?;
        let mut state = self.state();
        state.generation = generation;
        let old = std::mem::replace(&mut state.trees, trees);
        state.keep_instead_of(&old);
        drop(state);
        drop(old);
        Ok(())
    }

    /// The trees of a version that is not on the disk for certain.
    pub(super) fn unsaved(&self) -> Option<Vec<Arc<Tree>>> {
        let state = self.state();
        (!state.trees.is_empty() && !same(&state.trees, &state.saved)).then(|| state.trees.clone())
    }

    /// Remembers that the version of these trees is on the disk, if it still is the version.
    pub(super) fn saved(&self, trees: &[Arc<Tree>], boot: &str) -> Result<(), StoreError> {
        let _releasing = self.one_at_a_time();
        let (generation, now) = self.current();
        if same(&now, trees) {
            self.record(generation, &now, boot).save(&self.dir)?;
            let mut state = self.state();
            let old = std::mem::replace(&mut state.saved, now);
            state.keep_instead_of(&old);
            drop(state);
            drop(old);
        }
        Ok(())
    }

    fn record(&self, generation: u64, trees: &[Arc<Tree>], boot: &str) -> Record {
        Record {
            name: self.name.clone(),
            generation,
            used_ms: self.state().used.as_millisecond(),
            boot: boot.into(),
            trees: trees
                .iter()
                .map(|tree| RecordedTree {
                    directory: tree.directory(),
                    bytes: tree.bytes(),
                })
                .collect(),
        }
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
        if !trees.is_empty()
            && let Err(error) = self.record(generation, &trees, boot).write(&self.dir)
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

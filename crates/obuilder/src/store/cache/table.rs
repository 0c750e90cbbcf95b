//! All caches of a store.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bstr::{BStr, BString};
use jiff::Timestamp;
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::CacheLease;
use super::entry::Entry;
use super::flatten::flatten;
use super::name::directory_name;
use super::record::Record;
use super::tree::Chores;
use crate::store::meta::boot_id;
use crate::store::open::remove_leftover;
use crate::store::tree::sync_filesystem;
use crate::store::{Backend, StoreError};

/// The caches of an open store. Clones are the same caches.
#[derive(Clone, Debug)]
pub struct CacheTable {
    shared: Arc<Shared>,
}

/// What is known of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheInfo {
    /// As specs have it.
    pub name: BString,
    /// How many versions there were, the current one included; 0 for one that nobody released yet.
    pub generation: u64,
    /// What it takes on the disk, in bytes; `None` until that was measured, soon after its release.
    pub bytes: Option<u64>,
    /// When somebody last began or ended to use it.
    pub used: Timestamp,
    /// How many use it now.
    pub users: usize,
}

/// What leases and chores share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Where clones in use are.
    pub(super) tmp: PathBuf,
    pub(super) chores: Arc<Chores>,
    caches: PathBuf,
    /// The run of the machine.
    pub(super) boot: String,
    quota: Option<u64>,
    /// Whether somebody is going to bring new versions to the disk.
    syncing: AtomicBool,
    /// Those which have a version or users. Locked before an entry's state, never after it.
    entries: Mutex<BTreeMap<BString, Arc<Entry>>>,
}

/// How long a new version may be lost to a crash of the machine.
const SYNC: Duration = Duration::from_secs(30);

impl CacheTable {
    /// The caches of the store at `root`; drops broken versions, and what killed processes left of others. Must be called in a tokio
    /// runtime, on a thread that may block. The caller clears `ROOT/tmp`, before.
    ///
    /// `open` is kept for as long as anything is done to the caches.
    ///
    /// Of all caches together, the least recently used are removed while they take more than `quota` bytes and nobody uses them.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(
        root: &Path,
        backend: Arc<dyn Backend>,
        quota: Option<u64>,
        open: Arc<dyn Debug + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let runtime = Handle::try_current().map_err(|error| {
            StoreError::Refused(format!(
                "cannot look after the caches of {}: {error}",
                root.display()
            ))
        })?;
        let caches = root.join("caches");
        let tmp = root.join("tmp");
        for dir in [&caches, &tmp] {
            std::fs::create_dir_all(dir).map_err(StoreError::io("create", dir))?;
        }
        let boot = boot_id().map_err(StoreError::io(
            "read",
            Path::new("/proc/sys/kernel/random/boot_id"),
        ))?;
        let chores = Chores::new(backend, open, runtime);
        let mut entries = BTreeMap::new();
        let listed = std::fs::read_dir(&caches).map_err(StoreError::io("list", &caches))?;
        for found in listed {
            let dir = found.map_err(StoreError::io("list", &caches))?.path();
            match Entry::load(&dir, &boot, &chores)? {
                Some(entry) => {
                    entries.insert(entry.name.clone(), Arc::new(entry));
                }
                None => remove_leftover(&*chores.backend, &dir),
            }
        }
        let table = Self {
            shared: Arc::new(Shared {
                tmp,
                chores,
                caches,
                boot,
                quota,
                syncing: AtomicBool::new(false),
                entries: Mutex::new(entries),
            }),
        };
        if table
            .shared
            .entries()
            .values()
            .any(|entry| entry.unsaved().is_some())
        {
            table.shared.sync_later();
        }
        table.shared.enforce_quota();
        Ok(table)
    }

    /// A clone of the cache `name`, its top directory owned by `owner` (uid, gid).
    ///
    /// # Errors
    /// The disk's.
    pub async fn acquire(&self, name: &BStr, owner: (u32, u32)) -> Result<CacheLease, StoreError> {
        let shared = Arc::clone(&self.shared);
        let name = name.to_owned();
        let cloned = self
            .shared
            .chores
            .block(move || {
                let entry = shared.enter(&name);
                CacheLease::new(&shared, entry, owner)
            })
            .await;
        cloned.unwrap_or_else(|error| Err(StoreError::interrupted(&error)))
    }

    /// Removes the cache; those who use it now go on with theirs, which is thrown away at its release. A missing one is no error.
    ///
    /// # Errors
    /// The disk's.
    pub async fn remove(&self, name: &BStr) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let name = name.to_owned();
        let removed = self
            .shared
            .chores
            .block(move || shared.remove(name.as_ref(), true).map(drop))
            .await;
        removed.unwrap_or_else(|error| Err(StoreError::interrupted(&error)))
    }

    /// All caches, in the order of their names.
    #[must_use]
    pub fn list(&self) -> Vec<CacheInfo> {
        let entries = self.shared.entries();
        entries.values().map(|entry| entry.info()).collect()
    }

    /// Makes sure that the versions of now survive a crash of the machine; otherwise that happens within half a minute.
    ///
    /// # Errors
    /// The disk's.
    pub async fn sync(&self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let synced = self.shared.chores.block(move || shared.sync()).await;
        synced.unwrap_or_else(|error| Err(StoreError::interrupted(&error)))
    }

    /// Waits until what goes on behind everybody's back is done: removals, measurements, the quota.
    pub async fn settled(&self) {
        self.shared.chores.done().await;
    }
}

impl Shared {
    /// Whether a version is a chain of changes, rather than one tree.
    pub(super) fn layered(&self) -> bool {
        self.chores.backend.longest_chain().is_some()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<BString, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one user more of the cache `name`, which is there from here on.
    fn enter(&self, name: &BString) -> Arc<Entry> {
        let mut entries = self.entries();
        let entry = entries.entry(name.clone()).or_insert_with(|| {
            Arc::new(Entry::new(
                name.clone(),
                self.caches.join(directory_name(name.as_ref())),
            ))
        });
        let mut state = entry.state();
        state.users += 1;
        state.used = Timestamp::now();
        drop(state);
        Arc::clone(entry)
    }

    /// Counts one user less, and sees what is to be done then.
    pub(super) fn leave(self: &Arc<Self>, entry: &Arc<Entry>) {
        let mut entries = self.entries();
        let mut state = entry.state();
        state.users = state.users.saturating_sub(1);
        state.used = Timestamp::now();
        let forget = state.users == 0 && state.trees.is_empty();
        drop(state);
        if forget {
            Self::forget(&mut entries, entry);
            return;
        }
        drop(entries);
        let (shared, entry) = (Arc::clone(self), Arc::clone(entry));
        self.chores.spawn(async move { shared.tend(entry).await });
    }

    /// Forgets a cache without a version and without users, and removes its directory if it is empty; otherwise that is left for
    /// when the store is opened.
    fn forget(entries: &mut BTreeMap<BString, Arc<Entry>>, entry: &Arc<Entry>) {
        if entries
            .get(&entry.name)
            .is_some_and(|known| Arc::ptr_eq(known, entry))
        {
            entries.remove(&entry.name);
            let _ = std::fs::remove_dir(&entry.dir);
        }
    }

    /// Brings to the disk what is not there yet.
    fn sync(&self) -> Result<(), StoreError> {
        let entries: Vec<_> = self.entries().values().map(Arc::clone).collect();
        let new: Vec<_> = entries
            .into_iter()
            .filter_map(|entry| Some((entry.unsaved()?, entry)))
            .collect();
        if !new.is_empty() {
            sync_filesystem(&self.caches)
                .map_err(StoreError::io("bring to the disk", &self.caches))?;
        }
        for (trees, entry) in new {
            entry.saved(&trees, &self.boot)?;
        }
        Ok(())
    }

    /// Sees to it that new versions get to the disk by and by: many at once, since that takes its time.
    pub(super) fn sync_later(self: &Arc<Self>) {
        if self.syncing.swap(true, Ordering::AcqRel) {
            return;
        }
        // A store that nobody else has is not kept open for this.
        let shared = Arc::downgrade(self);
        self.chores.later(SYNC, async move {
            if let Some(shared) = shared.upgrade() {
                shared.syncing.store(false, Ordering::Release);
                let syncing = Arc::clone(&shared);
                let synced = shared.chores.block(move || syncing.sync()).await;
                if let Ok(Err(error)) = synced {
                    warn!(%error, "caches may not survive a crash of the machine");
                    shared.sync_later();
                }
            }
        });
    }

    /// What nobody waits for after a use: measures, flattens, keeps to the quota.
    async fn tend(self: Arc<Self>, entry: Arc<Entry>) {
        let measured = Arc::clone(&entry);
        // A chore that fails to run leaves all as it is.
        let shared = Arc::clone(&self);
        let _ = self
            .chores
            .block(move || measured.measure(&shared.boot))
            .await;
        if self.layered()
            && let Err(error) = flatten(&self, &entry).await
        {
            warn!(cache = %entry.name, %error, "the layers of a cache could not be made one");
        }
        let shared = Arc::clone(&self);
        let _ = self.chores.block(move || shared.enforce_quota()).await;
    }

    /// Removes the cache `name`; unless somebody uses it and `though_used` is false. Answers whether it did.
    fn remove(&self, name: &BStr, though_used: bool) -> Result<bool, StoreError> {
        let Some(entry) = self.entries().get(name).map(Arc::clone) else {
            return Ok(false);
        };
        let _releasing = entry.one_at_a_time();
        if !though_used && entry.state().users > 0 {
            return Ok(false);
        }
        // The files first: a process that is killed from here on has removed the cache.
        Record::remove(&entry.dir)?;
        let mut entries = self.entries();
        let mut state = entry.state();
        state.generation = state.generation.saturating_add(1);
        let trees = std::mem::take(&mut state.trees);
        let saved = std::mem::take(&mut state.saved);
        let unused = state.users == 0;
        drop(state);
        if unused {
            Self::forget(&mut entries, &entry);
        }
        drop(entries);
        for tree in trees.iter().chain(&saved) {
            tree.keep(false);
        }
        Ok(true)
    }

    /// Removes caches until the others are within the quota: first those which break it alone, since the others' going would not
    /// help, then the least recently used.
    fn enforce_quota(&self) {
        let Some(quota) = self.quota else { return };
        loop {
            let infos: Vec<CacheInfo> = self
                .entries()
                .values()
                .map(|entry| entry.info())
                .filter(|info| info.bytes.is_some())
                .collect();
            let unused = |info: &&CacheInfo| info.users == 0;
            // These are going to be reset, now or when nobody uses them any more.
            let (alone, others): (Vec<_>, Vec<_>) =
                infos.iter().partition(|info| info.bytes > Some(quota));
            let total: u64 = others.iter().filter_map(|info| info.bytes).sum();
            let oldest = others
                .into_iter()
                .filter(unused)
                .min_by_key(|info| info.used)
                .filter(|_| total > quota);
            let Some(victim) = alone.into_iter().find(unused).or(oldest) else {
                return;
            };
            info!(cache = %victim.name, bytes = victim.bytes, quota, "removing a cache: the quota of caches is full");
            match self.remove(victim.name.as_ref(), false) {
                Ok(true) => {}
                // Somebody began to use it: whoever leaves it next looks again.
                Ok(false) => return,
                Err(error) => {
                    warn!(cache = %victim.name, %error, "a cache could not be removed");
                    return;
                }
            }
        }
    }
}

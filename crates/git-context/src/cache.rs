//! The directory of mirrors: where things lie in it, when each was used last, and dropping what nobody uses.
//!
//! For a URL whose [`RepositoryUrl::directory_name`] is N there is the bare mirror `N`, the lock `N.lock` of whoever
//! changes it, and `N.use`, locked (shared) by whoever reads it and touched at each use. `N.new` is a mirror being
//! made. Must never remove a mirror in use.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::RepositoryUrl;
use crate::directories::remove_dir_if_there;
use crate::lock::{FileLock, Mode};

/// The mirrors of one worker.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

/// What [`Cache::expire`] did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The mirrors that were removed.
    pub removed: Vec<PathBuf>,
    /// How many mirrors stay.
    pub kept: usize,
}

impl Cache {
    /// The cache in directory `dir`, which need not exist yet.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Cache {
        Cache { dir: dir.into() }
    }

    /// Where the mirror of `url` is, or will be.
    #[must_use]
    pub fn mirror_path(&self, url: &RepositoryUrl) -> PathBuf {
        self.dir.join(url.directory_name())
    }

    pub(crate) fn slot(&self, url: &RepositoryUrl) -> Slot {
        Slot::named(&self.dir, &url.directory_name())
    }

    /// Removes the mirrors that no job has used for `older_than`. One that a job uses right now stays. Blocks on the
    /// disk, not on locks.
    ///
    /// # Errors
    /// If the directory cannot be read or a mirror cannot be removed; a missing directory is an empty one.
    pub fn expire(&self, older_than: Duration) -> io::Result<Expired> {
        let mut expired = Expired::default();
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(expired),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let file_name = entry?.file_name();
            let Some(name) = file_name
                .to_str()
                .and_then(|name| name.strip_suffix(".use"))
            else {
                continue;
            };
            let slot = Slot::named(&self.dir, name);
            if slot.is_unused_since(older_than)? && slot.try_remove(older_than)? {
                expired.removed.push(slot.mirror);
            } else {
                expired.kept += 1;
            }
        }
        expired.removed.sort();
        Ok(expired)
    }
}

/// The paths that belong to one URL.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) mirror: PathBuf,
    pub(crate) unfinished: PathBuf,
    writer_lock: PathBuf,
    use_lock: PathBuf,
}

impl Slot {
    fn named(dir: &Path, name: &str) -> Slot {
        Slot {
            mirror: dir.join(name),
            unfinished: dir.join(format!("{name}.new")),
            writer_lock: dir.join(format!("{name}.lock")),
            use_lock: dir.join(format!("{name}.use")),
        }
    }

    /// The right to fetch into the mirror, or to make it anew.
    pub(crate) fn lock_for_writing(&self, on_wait: impl FnMut()) -> io::Result<FileLock> {
        FileLock::acquire(&self.writer_lock, Mode::Exclusive, on_wait)
    }

    /// The right to read the mirror; also marks it as used now.
    pub(crate) fn lock_for_reading(&self, on_wait: impl FnMut()) -> io::Result<FileLock> {
        let lock = FileLock::acquire(&self.use_lock, Mode::Shared, on_wait)?;
        lock.file().set_modified(SystemTime::now())?;
        Ok(lock)
    }

    /// The right to remove the mirror. Only for those who may write.
    pub(crate) fn lock_out_readers(&self, on_wait: impl FnMut()) -> io::Result<FileLock> {
        FileLock::acquire(&self.use_lock, Mode::Exclusive, on_wait)
    }

    fn is_unused_since(&self, age: Duration) -> io::Result<bool> {
        let used = match fs::metadata(&self.use_lock) {
            Ok(metadata) => metadata.modified()?,
            // Another process removes mirrors as well.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(SystemTime::now()
            .duration_since(used)
            .is_ok_and(|since| since >= age))
    }

    fn try_remove(&self, age: Duration) -> io::Result<bool> {
        let Some(_writer) = FileLock::try_acquire(&self.writer_lock, Mode::Exclusive)? else {
            return Ok(false);
        };
        let Some(_readers) = FileLock::try_acquire(&self.use_lock, Mode::Exclusive)? else {
            return Ok(false);
        };
        // A job may have come and gone since the first look.
        if !self.is_unused_since(age)? {
            return Ok(false);
        }
        remove_dir_if_there(&self.mirror)?;
        remove_dir_if_there(&self.unfinished)?;
        fs::remove_file(&self.use_lock)?;
        fs::remove_file(&self.writer_lock)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

    fn mirror(cache: &Cache, url: &str, age: Duration) -> PathBuf {
        let slot = cache.slot(&url.parse().unwrap());
        fs::create_dir_all(slot.mirror.join("objects")).unwrap();
        let lock = slot.lock_for_reading(|| ()).unwrap();
        lock.file().set_modified(SystemTime::now() - age).unwrap();
        slot.mirror
    }

    #[test]
    fn only_what_was_not_used_for_long_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        let old = mirror(&cache, "git://h/old", MONTH * 2);
        let new = mirror(&cache, "git://h/new", Duration::ZERO);
        let expired = cache.expire(MONTH).unwrap();
        assert_eq!(
            expired,
            Expired {
                removed: vec![old.clone()],
                kept: 1
            }
        );
        assert!(!old.exists() && new.exists());
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(
            left, 2,
            "the mirror in use and its stamp, no lock of the other"
        );
    }

    #[test]
    fn a_mirror_being_read_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        let old = mirror(&cache, "git://h/old", MONTH * 2);
        let slot = cache.slot(&"git://h/old".parse().unwrap());
        let reader = FileLock::try_acquire(&slot.use_lock, Mode::Shared).unwrap();
        assert_eq!(cache.expire(MONTH).unwrap().kept, 1);
        assert!(old.exists());
        drop(reader);
        assert_eq!(cache.expire(MONTH).unwrap().removed, [old]);
    }

    #[test]
    fn a_cache_that_was_never_used_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("missing"));
        assert_eq!(cache.expire(MONTH).unwrap(), Expired::default());
    }
}

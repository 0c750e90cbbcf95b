//! Locks between processes, on files which stay out of the mirrors they guard.
//!
//! A lock ends with the process that holds it, however that one ends. Must never block: whoever waits here polls, so
//! that it can say so and be killed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;

/// How often a waiter looks again.
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock if it is free now. The file is created if missing.
    ///
    /// # Errors
    /// What the file system says. A lock that somebody else holds is no error but `None`.
    pub(crate) fn try_acquire(path: &Path, mode: Mode) -> io::Result<Option<FileLock>> {
        let operation = match mode {
            Mode::Shared => FlockOperation::NonBlockingLockShared,
            Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            match rustix::fs::flock(&file, operation) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            // Between opening and locking, the file may have been removed together with its mirror. Then the lock is
            // on a file nobody else will ever find.
            if is_same_file(&file, path)? {
                return Ok(Some(FileLock { file }));
            }
        }
    }

    /// Takes the lock, calling `on_wait` before each pause of some milliseconds.
    pub(crate) fn acquire(
        path: &Path,
        mode: Mode,
        mut on_wait: impl FnMut(),
    ) -> io::Result<FileLock> {
        loop {
            if let Some(lock) = FileLock::try_acquire(path, mode)? {
                return Ok(lock);
            }
            on_wait();
            std::thread::sleep(POLL);
        }
    }

    /// The locked file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

fn is_same_file(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(found) => Ok(found.dev() == held.dev() && found.ino() == held.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn readers_share_and_a_writer_waits_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let one = FileLock::try_acquire(&path, Mode::Shared).unwrap().unwrap();
        let two = FileLock::try_acquire(&path, Mode::Shared).unwrap().unwrap();
        assert!(
            FileLock::try_acquire(&path, Mode::Exclusive)
                .unwrap()
                .is_none()
        );
        drop(one);
        let mut waits = 0;
        let mut two = Some(two);
        let writer = FileLock::acquire(&path, Mode::Exclusive, || {
            waits += 1;
            two = None;
        });
        assert!(writer.is_ok());
        assert_eq!(waits, 1);
        assert!(
            FileLock::try_acquire(&path, Mode::Shared)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_lock_on_a_removed_file_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let old = FileLock::try_acquire(&path, Mode::Exclusive)
            .unwrap()
            .unwrap();
        assert!(is_same_file(old.file(), &path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!is_same_file(old.file(), &path).unwrap());
        let new = FileLock::try_acquire(&path, Mode::Exclusive).unwrap();
        assert!(new.is_some(), "the next one makes its own file");
    }
}

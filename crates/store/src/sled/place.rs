//! The state directory around the sled files: the lock, and the marker that says what should be there.
//!
//! ```text
//! DIR/lock         held while a scheduler runs, with its process id
//! DIR/store.json   the marker: format, engine, and the last batch known at the last start or stop
//! DIR/store/       sled's own files
//! ```
//!
//! The marker is outside sled's directory on purpose: it survives what happens to the data, and is how an empty or
//! shortened store is told from a new one.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::StoreError;

use super::values::BadValue;

/// The newest form of the data that this program knows.
pub(super) const FORMAT: u32 = 2;
const ENGINE: &str = "sled";
pub(super) const MARKER: &str = "store.json";
pub(super) const DATA: &str = "store";

/// What must stay free on the disk, in bytes: sled writes half a mebibyte at a time, and a little later than it is told.
const SPARE: u64 = 4 << 20;

/// Whether there is, or was, a store in the directory. Looks without touching anything.
pub(super) fn exists(dir: &Path) -> bool {
    dir.join(MARKER).exists() || dir.join(DATA).exists()
}

/// A state directory this process holds the lock of.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    /// Dropping it frees the lock.
    _lock: File,
}

/// What should be in the store.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Marker {
    format: u32,
    engine: String,
    /// The number of the last batch known to be there.
    pub(super) batch: u64,
}

impl Place {
    /// Makes the directory if it is not there (its parent must be) and takes its lock.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        let shown = dir.display();
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                let what = format!("make the state directory {shown}");
                return Err(StoreError::io(what, &error));
            }
            _ => {}
        }
        let path = dir.join("lock");
        let lock_error = |error: std::io::Error| {
            StoreError::io(format!("lock the state directory {shown}"), &error)
        };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(lock_error)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Without the other's id the message is still true.
                let _unreadable = lock.read_to_string(&mut text);
                return Err(StoreError::InUse {
                    dir: dir.to_owned(),
                    pid: text.trim().parse().ok(),
                });
            }
            Err(errno) => return Err(lock_error(errno.into())),
        }
        lock.set_len(0).map_err(lock_error)?;
        writeln!(lock, "{}", std::process::id()).map_err(lock_error)?;
        Ok(Self {
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    /// Where sled's files are.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join(DATA)
    }

    fn marker_path(&self) -> PathBuf {
        self.dir.join(MARKER)
    }

    /// What should be there. `None`: this directory never held a store.
    pub(super) fn marker(&self) -> Result<Option<Marker>, StoreError> {
        let path = self.marker_path();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(StoreError::io(format!("read {}", path.display()), &error));
            }
        };
        let marker: Marker = serde_json::from_str(&text)
            .map_err(|error| self.damaged(format!("store.json cannot be read ({error})")))?;
        if marker.format > FORMAT {
            return Err(self.newer(marker.format));
        }
        if marker.engine != ENGINE {
            return Err(self.foreign(format!("its data is kept by {:?}", marker.engine)));
        }
        Ok(Some(marker))
    }

    /// Says what should be there from now on. Whole or not at all, and on disk when it returns.
    pub(super) fn mark(&self, batch: u64) -> Result<(), StoreError> {
        let marker = Marker {
            format: FORMAT,
            engine: ENGINE.to_owned(),
            batch,
        };
        let path = self.marker_path();
        let io_error =
            |error: std::io::Error| StoreError::io(format!("write {}", path.display()), &error);
        let mut text = serde_json::to_string(&marker).map_err(|error| io_error(error.into()))?;
        text.push('\n');
        let new = self.dir.join("store.json.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .map_err(io_error)?;
        file.write_all(text.as_bytes()).map_err(io_error)?;
        file.sync_all().map_err(io_error)?;
        std::fs::rename(&new, &path).map_err(io_error)?;
        let dir = File::open(&self.dir).map_err(io_error)?;
        dir.sync_all().map_err(io_error)
    }

    /// Sees to it that renames in the directory are on disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| StoreError::io(format!("write {}", self.dir.display()), &error))
    }

    /// Refuses to write so many bytes to a disk that has no room for them, before sled can run into it: sled may hang
    /// when a disk is full.
    pub(super) fn has_room(&self, bytes: usize) -> Result<(), StoreError> {
        let Ok(disk) = rustix::fs::statvfs(&self.dir) else {
            // A file system that does not say is asked by writing.
            return Ok(());
        };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed = SPARE.saturating_add(2 * bytes as u64);
        if free >= needed {
            return Ok(());
        }
        let what = format!("write to the store in {}", self.dir.display());
        let why = format!("the disk has {free} bytes left, and {needed} are needed");
        Err(StoreError::Io {
            what,
            why,
            full: true,
        })
    }

    /// Whether sled's files are there. Something else in their place is refused before sled touches it.
    pub(super) fn has_data(&self) -> Result<bool, StoreError> {
        let data = self.data();
        if data.join("db").exists() && data.join("conf").exists() {
            return Ok(true);
        }
        let mut names: Vec<String> = match std::fs::read_dir(&data) {
            Ok(entries) => entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => {
                return Err(StoreError::io(format!("read {}", data.display()), &error));
            }
        };
        // What sled leaves when it is stopped while it makes its files.
        names.retain(|name| !matches!(name.as_str(), "conf" | "db" | "blobs"));
        names.sort();
        match names.first() {
            None => Ok(false),
            Some(name) => {
                Err(self.foreign(format!("there is {name:?} in its \"store\" directory")))
            }
        }
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged {
            dir: self.dir.clone(),
            what: what.into(),
        }
    }

    pub(super) fn bad(&self, bad: BadValue, what: &str) -> StoreError {
        match bad {
            BadValue::Newer(found) => self.newer(found),
            BadValue::Damaged => self.damaged(format!("{what} cannot be read")),
        }
    }

    pub(super) fn newer(&self, found: u32) -> StoreError {
        StoreError::Newer {
            dir: self.dir.clone(),
            found,
            known: FORMAT,
        }
    }

    pub(super) fn foreign(&self, what: impl Into<String>) -> StoreError {
        StoreError::Foreign {
            dir: self.dir.clone(),
            what: what.into(),
        }
    }
}

//! `version.json` and `saved.json`: what the current version of a cache is, and the last one that a crash of the machine leaves alone.
//! Only these files make a version.

use std::io;
use std::path::Path;

use bstr::BString;
use serde::{Deserialize, Serialize};

use crate::store::{StoreError, format};

/// The current version, in the cache's directory.
const CURRENT: &str = "version.json";

/// The last version that was brought to the disk; this file was, too.
const SAVED: &str = "saved.json";

/// Whether a file of a cache's directory is one of these.
pub(super) fn is_record(name: &std::ffi::OsStr) -> bool {
    name == CURRENT || name == SAVED
}

/// The largest file that is read, in bytes: a chain of hundreds of trees is far below it.
const LARGEST: u64 = 1 << 20;

/// A version of a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The cache's name, as specs have it.
    pub(super) name: BString,
    /// How many versions there were, this one included.
    pub(super) generation: u64,
    /// When somebody last began or ended to use it, in milliseconds since 1970.
    pub(super) used_ms: i64,
    /// The run of the machine that wrote this.
    pub(super) boot: String,
    /// The newest first.
    pub(super) trees: Vec<RecordedTree>,
}

/// One of the trees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordedTree {
    /// Its directory within the cache's.
    pub(super) directory: String,
    /// What it takes, in bytes, once that was measured.
    pub(super) bytes: Option<u64>,
}

/// What is known of a cache.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) current: Record,
    /// The last version that is on the disk for certain.
    pub(super) saved: Option<Record>,
}

impl Record {
    /// Makes this the current version of the cache in `dir`. A crash of the machine may cut it.
    pub(super) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let written = dir.join("version.json.new");
        std::fs::write(&written, self.bytes(dir)?).map_err(StoreError::io("write", &written))?;
        std::fs::rename(&written, dir.join(CURRENT)).map_err(StoreError::io("replace", &written))
    }

    /// Makes this, whose trees are on the disk, the version of the cache in `dir` that a crash of the machine leaves alone.
    pub(super) fn save(&self, dir: &Path) -> Result<(), StoreError> {
        let saved = dir.join(SAVED);
        format::replace(&saved, &self.bytes(dir)?).map_err(StoreError::io("replace", &saved))
    }

    fn bytes(&self, dir: &Path) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self)
            .map_err(io::Error::from)
            .map_err(StoreError::io("describe the cache in", dir))
    }

    /// What is known of the cache in `dir`, in the run `boot` of the machine; nothing if there is none, or what is there cannot be
    /// understood. After a crash of the machine the current version may have been cut: then it is the last that was saved.
    pub(super) fn read(dir: &Path, boot: &str) -> Option<Known> {
        let saved = Self::read_file(dir, SAVED);
        let current = Self::read_file(dir, CURRENT).filter(|current| {
            current.boot == boot || saved.as_ref().is_some_and(|saved| saved.is_of(current))
        });
        Some(Known {
            current: current.or_else(|| saved.clone())?,
            saved,
        })
    }

    fn read_file(dir: &Path, name: &str) -> Option<Self> {
        let path = dir.join(name);
        let found = path.symlink_metadata().ok()?;
        if !found.is_file() || found.len() > LARGEST {
            return None;
        }
        let record: Self = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        let named = |tree: &RecordedTree| {
            !tree.directory.is_empty()
                && !tree.directory.contains(['/', '\0'])
                && dir
                    .join(&tree.directory)
                    .symlink_metadata()
                    .is_ok_and(|found| found.is_dir())
                && !matches!(tree.directory.as_str(), "." | "..")
        };
        (!record.trees.is_empty() && record.trees.iter().all(named)).then_some(record)
    }

    /// Whether both are of the same trees.
    fn is_of(&self, other: &Self) -> bool {
        let directories = |record: &Self| -> Vec<String> {
            let trees = record.trees.iter();
            trees.map(|tree| tree.directory.clone()).collect()
        };
        self.name == other.name && directories(self) == directories(other)
    }

    /// The cache in `dir` has no version.
    pub(super) fn remove(dir: &Path) -> Result<(), StoreError> {
        // In this order: half of it leaves the cache as it is, and brings no older version back.
        for path in [SAVED, CURRENT].map(|name| dir.join(name)) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

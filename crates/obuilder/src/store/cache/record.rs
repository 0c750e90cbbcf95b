//! `version.json`: what the current version of a cache is. Only this file makes it so.

use std::io;
use std::path::Path;

use bstr::BString;
use serde::{Deserialize, Serialize};

use crate::store::StoreError;

/// The file's name within the cache's directory.
pub(super) const FILE: &str = "version.json";

/// The largest file that is read, in bytes: a chain of hundreds of trees is far below it.
const LARGEST: u64 = 1 << 20;

/// The current version of a cache.
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
    /// Whether all of it is on the disk for certain, so that it survives the machine's crash.
    pub(super) on_disk: bool,
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

impl Record {
    /// Makes this the current version of the cache in `dir`.
    pub(super) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let written = dir.join("version.json.new");
        let bytes = serde_json::to_vec(self)
            .map_err(io::Error::from)
            .map_err(StoreError::io("describe the cache in", dir))?;
        std::fs::write(&written, bytes).map_err(StoreError::io("write", &written))?;
        std::fs::rename(&written, dir.join(FILE)).map_err(StoreError::io("replace", &written))
    }

    /// The current version of the cache in `dir`, in the run `boot` of the machine; none if there is none, or what is there cannot be
    /// understood, or may have been cut by a crash of the machine.
    pub(super) fn read(dir: &Path, boot: &str) -> Option<Self> {
        let path = dir.join(FILE);
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
        let survived = record.on_disk || record.boot == boot;
        (survived && !record.trees.is_empty() && record.trees.iter().all(named)).then_some(record)
    }

    /// The current version of the cache in `dir` is none.
    pub(super) fn remove(dir: &Path) -> Result<(), StoreError> {
        let path = dir.join(FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

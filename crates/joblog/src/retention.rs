//! Dropping old logs, by age and by the size of all of them together.
//!
//! Logs that are being written or read are never touched.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use crate::LogStore;
use crate::file;
use crate::store::Shared;

/// What pruning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Logs removed.
    pub logs: u64,
    /// Bytes their files held.
    pub bytes: u64,
    /// Bytes of files which remain.
    pub bytes_left: u64,
    /// Logs which should have been removed and could not be.
    pub failed: u64,
}

struct OldLog {
    written: SystemTime,
    id: u64,
    bytes: u64,
}

impl LogStore {
    /// Removes logs last written more than `max_age` before `now`, and then the oldest ones until all files together
    /// hold at most `max_total_bytes`. `None` means no bound.
    ///
    /// Walks the whole directory on a pool thread. Call it every some minutes: ext4 makes new files slowly for a while
    /// after very many were removed at once, so a little often is better than much seldom.
    pub async fn prune(
        &self,
        now: SystemTime,
        max_age: Option<Duration>,
        max_total_bytes: Option<u64>,
    ) -> Pruned {
        let shared = Arc::clone(&self.shared);
        let pruning = self
            .shared
            .blocking(move || prune(&shared, now, max_age, max_total_bytes));
        // The task fails only when the runtime is shutting down; the next run does what this one did not.
        pruning.await.unwrap_or_default()
    }

    /// Removes one log. Gives whether it was there and nobody had it open.
    pub async fn remove(&self, id: u64) -> bool {
        let shared = Arc::clone(&self.shared);
        let removing = self
            .shared
            .blocking(move || !in_use(&shared, id) && remove(&shared.dir, id));
        removing.await.unwrap_or(false)
    }
}

fn in_use(shared: &Shared, id: u64) -> bool {
    let table = shared.table();
    table.get(&id).map_or(0, Weak::strong_count) > 0
}

fn remove(dir: &Path, id: u64) -> bool {
    let path = file::path(dir, id);
    let removed = std::fs::remove_file(&path).is_ok();
    if let Some(group) = path.parent() {
        // Works only when it is empty, which is when it should.
        let _not_empty = std::fs::remove_dir(group);
    }
    removed
}

fn prune(
    shared: &Shared,
    now: SystemTime,
    max_age: Option<Duration>,
    max_total_bytes: Option<u64>,
) -> Pruned {
    let mut done = Pruned::default();
    let mut logs = Vec::new();
    for path in paths(&shared.dir) {
        let (Some(id), Ok(metadata)) = (file::id_of(&path), path.metadata()) else {
            continue;
        };
        done.bytes_left += metadata.len();
        if in_use(shared, id) {
            continue;
        }
        logs.push(OldLog {
            // A file system without times gives no age, so such logs go by size only.
            written: metadata.modified().unwrap_or(now),
            id,
            bytes: metadata.len(),
        });
    }
    logs.sort_by_key(|log| (log.written, log.id));
    for log in logs {
        let age = now.duration_since(log.written).unwrap_or_default();
        let too_old = max_age.is_some_and(|max| age > max);
        let too_much = max_total_bytes.is_some_and(|max| done.bytes_left > max);
        if !too_old && !too_much {
            break;
        }
        // It may have been opened since it was listed.
        if in_use(shared, log.id) {
            continue;
        }
        if remove(&shared.dir, log.id) {
            done.logs += 1;
            done.bytes += log.bytes;
            done.bytes_left -= log.bytes;
        } else {
            done.failed += 1;
        }
    }
    done
}

/// The ids of all logs on disk, in no order.
pub(crate) fn ids(dir: &Path) -> Vec<u64> {
    paths(dir).filter_map(|path| file::id_of(&path)).collect()
}

fn paths(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = |dir: &Path| {
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    entries(dir).flat_map(move |group| entries(&group))
}

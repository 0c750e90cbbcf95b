//! Dropping old logs, by age and by the size of all of them together.
//!
//! Logs that are being written or read are never touched. Small logs that lie in one pack go together, when the last written of them
//! is old enough and none of their range is in use.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use crate::LogStore;
use crate::layout::{self, Kind};
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
    /// Files which should have been removed and could not be.
    pub failed: u64,
}

struct OldFile {
    written: SystemTime,
    kind: Kind,
    bytes: u64,
}

impl LogStore {
    /// Removes logs last written more than `max_age` before `now`, and then the oldest ones until all files together
    /// hold at most `max_total_bytes`. `None` means no bound. Of a thousand small logs that were written together, none is removed
    /// before all are.
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
            .blocking(move || !in_use(&shared, id) && remove(&shared, id));
        removing.await.unwrap_or(false)
    }
}

fn in_use(shared: &Shared, id: u64) -> bool {
    let table = shared.table();
    table.get(&id).map_or(0, Weak::strong_count) > 0
}

fn range_in_use(shared: &Shared, range: u64) -> bool {
    let first = range * layout::PER_RANGE;
    let table = shared.table();
    let mut logs = (0..layout::PER_RANGE).filter_map(|number| table.get(&(first + number)));
    logs.any(|log| log.strong_count() > 0)
}

/// Removes a log in both forms: the older one first, so that it does not come back if a kill comes between.
fn remove(shared: &Shared, id: u64) -> bool {
    let Ok(packed) = shared.packs.remove(id) else {
        return false;
    };
    let own = std::fs::remove_file(layout::log(&shared.dir, id)).is_ok();
    remove_empty(shared, layout::range(id));
    packed || own
}

fn remove_empty(shared: &Shared, range: u64) {
    // Works only when it is empty, which is when it should.
    let _not_empty = std::fs::remove_dir(layout::group(&shared.dir, range));
}

/// Removes an old file. Gives how many logs went with it; `None`: it is in use.
fn remove_file(shared: &Shared, file: &OldFile) -> std::io::Result<Option<u64>> {
    match file.kind {
        Kind::Log(id) if in_use(shared, id) => Ok(None),
        Kind::Log(id) => {
            std::fs::remove_file(layout::log(&shared.dir, id))?;
            remove_empty(shared, layout::range(id));
            Ok(Some(1))
        }
        Kind::Pack(range) => {
            let in_use = || range_in_use(shared, range);
            let removed = shared.packs.remove_all(range, file.bytes, in_use)?;
            remove_empty(shared, range);
            Ok(removed)
        }
    }
}

fn prune(
    shared: &Shared,
    now: SystemTime,
    max_age: Option<Duration>,
    max_total_bytes: Option<u64>,
) -> Pruned {
    let mut done = Pruned::default();
    let mut files = Vec::new();
    for path in layout::files(&shared.dir) {
        let (Some(kind), Ok(metadata)) = (layout::kind(&path), path.metadata()) else {
            continue;
        };
        done.bytes_left += metadata.len();
        files.push(OldFile {
            // A file system without times gives no age, so such logs go by size only.
            written: metadata.modified().unwrap_or(now),
            kind,
            bytes: metadata.len(),
        });
    }
    files.sort_by_key(|file| (file.written, file.kind));
    for file in files {
        let age = now.duration_since(file.written).unwrap_or_default();
        let too_old = max_age.is_some_and(|max| age > max);
        let too_much = max_total_bytes.is_some_and(|max| done.bytes_left > max);
        if !too_old && !too_much {
            break;
        }
        match remove_file(shared, &file) {
            Ok(None) => {}
            Ok(Some(logs)) => {
                done.logs += logs;
                done.bytes += file.bytes;
                done.bytes_left -= file.bytes;
            }
            Err(_) => done.failed += 1,
        }
    }
    done
}

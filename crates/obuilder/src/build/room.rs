//! What to do about a full disk.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::BuildError;
use crate::StepLog;
use crate::store::{PruneRequest, Store};

/// The most results that one step may have removed to make room for itself.
const MOST: usize = 100;

/// The disk counts as full with less than this, in bytes.
const SMALL: u64 = 64 << 20;

/// The disk counts as full with less than this part of its space or of its inodes, 0 to 100.
const SMALL_PERCENT: f64 = 2.0;

/// How much of the end of a step's log is looked at.
const LAST_WORDS: u32 = 64 << 10;

/// What every program says of a full disk, in the language that builds speak.
const COMPLAINT: &[u8] = b"No space left on device";

/// Removes results that were last used before `before`, and tells how many.
pub(super) async fn make(
    store: &Store,
    before: Timestamp,
    cancel: &CancellationToken,
) -> Result<usize, BuildError> {
    let request = PruneRequest {
        before,
        limit: MOST,
    };
    match store.prune(request, cancel).await {
        Ok(pruned) => Ok(pruned.layers),
        Err(error) => Err(BuildError::Machine(format!(
            "the disk is full, and old results cannot be removed: {error}"
        ))),
    }
}

/// Whether there is next to no room on the store's disk.
pub(super) async fn is_full(store: &Store) -> bool {
    store.space().await.is_ok_and(|space| {
        space.free < SMALL
            || space.free_percent() < SMALL_PERCENT
            || space.free_inodes_percent < SMALL_PERCENT
    })
}

/// Whether a failed step failed for want of room: it says so, and it is so.
pub(super) async fn was_wanting(store: &Store, log: &StepLog) -> bool {
    let Ok(words) = log.last(LAST_WORDS).await else {
        return false;
    };
    words
        .windows(COMPLAINT.len())
        .any(|window| window == COMPLAINT)
        && is_full(store).await
}

/// The error when no room can be made.
pub(super) fn none(error: &BuildError, removed: usize) -> BuildError {
    BuildError::Machine(format!(
        "the disk of the store is full, and stayed so after {removed} old results were removed: {error}; \
         make room on it, or give the store a larger one"
    ))
}

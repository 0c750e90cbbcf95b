//! Taking layers out again: those that somebody names, and those that nobody used for long.
//!
//! A layer leaves the store by one rename, and its files go afterwards: a process that is killed meanwhile leaves only what opening the
//! store removes.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::core::Core;
use super::handle::blocking;
use super::index::Kept;
use super::space::space_of;
use super::{Store, StoreError};
use crate::StepId;

/// What to prune.
#[derive(Clone, Copy, Debug)]
pub struct PruneRequest {
    /// Only what was last used before this.
    pub before: Timestamp,
    /// At most so many layers.
    pub limit: usize,
}

/// What was pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Layers removed.
    pub layers: usize,
    /// By how many bytes the filesystem's free space grew meanwhile: what others wrote and removed is in there, too.
    pub bytes: u64,
}

impl Store {
    /// Removes the layer and all above it, children first; calls `each` before each. Refuses if one of them is in use. One that is not
    /// there is no error.
    ///
    /// # Errors
    /// In use, or the disk's.
    pub async fn delete(
        &self,
        id: StepId,
        mut each: impl FnMut(StepId) + Send,
    ) -> Result<(), StoreError> {
        let doomed = {
            let index = self.inner.core.index();
            if index.get(id).is_none() {
                return Ok(());
            }
            let doomed = index.subtree(id);
            if let Some(used) = doomed.iter().find(|id| index.is_pinned(**id)) {
                return Err(in_use(id, *used));
            }
            doomed
        };
        for layer in doomed {
            each(layer);
            match remove(&self.inner.core, layer).await? {
                Ok(()) | Err(Kept::Unknown) => (),
                // Somebody came meanwhile.
                Err(Kept::Pinned | Kept::HasChildren) => return Err(in_use(id, layer)),
            }
        }
        Ok(())
    }

    /// Removes unpinned layers that nothing is built on, the least recently used first. When `cancel` fires it stops after the layer that
    /// it is at, and tells of those until then.
    ///
    /// # Errors
    /// The disk's.
    pub async fn prune(
        &self,
        request: PruneRequest,
        cancel: &CancellationToken,
    ) -> Result<Pruned, StoreError> {
        let core = &self.inner.core;
        let before = free(core).await?;
        let mut layers = 0;
        let mut refused = None;
        while layers < request.limit && !cancel.is_cancelled() {
            let Some(id) = core.index().oldest(request.before) else {
                break;
            };
            match remove(core, id).await? {
                Ok(()) => layers += 1,
                // Somebody came and went between the two questions, twice: what is wanted so much is not to be pruned now.
                Err(_) if refused == Some(id) => break,
                Err(_) => refused = Some(id),
            }
        }
        if layers > 0 {
            let core = core.clone();
            blocking(move || core.backend.settle(core.layout.root())).await?;
        }
        Ok(Pruned {
            layers,
            bytes: free(core).await?.saturating_sub(before),
        })
    }
}

fn in_use(asked: StepId, used: StepId) -> StoreError {
    StoreError::Refused(if asked == used {
        format!("the result {asked} is in use; try again when what uses it has ended")
    } else {
        format!(
            "the result {asked} cannot be removed: {used}, which is built on it, is in use; try again when what uses it has ended"
        )
    })
}

async fn remove(core: &Arc<Core>, id: StepId) -> Result<Result<(), Kept>, StoreError> {
    let core = core.clone();
    blocking(move || match core.retire(id)? {
        Ok(gone) => core.backend.remove(&gone).map(Ok),
        Err(kept) => Ok(Err(kept)),
    })
    .await
}

async fn free(core: &Arc<Core>) -> Result<u64, StoreError> {
    let core = core.clone();
    blocking(move || Ok(space_of(core.layout.root())?.free)).await
}

//! `obuilder delete` and `obuilder clean`.

use jiff::Timestamp;
use ocluster_cli::{Failure, output};
use ocluster_obuilder::store::PruneRequest;
use tokio_util::sync::CancellationToken;

use super::{closed, failed, open};
use crate::args::{Clean, Delete};
use crate::progress::shown;

pub(super) async fn delete(args: &Delete, cancel: &CancellationToken) -> Result<(), Failure> {
    let store = open(&args.store).await?;
    let mut found = false;
    let deleting = store.delete(args.id, |id| {
        found = true;
        // A reader that went away does not keep anything from being removed.
        drop(output::line(format!("Removing {id}")));
    });
    // It can be left after any result.
    let deleted = cancel.run_until_cancelled(deleting).await;
    closed(store.close()).await?;
    deleted.unwrap_or(Ok(())).map_err(failed)?;
    if !found && !cancel.is_cancelled() {
        output::complain(format!("There is no result {}", args.id));
    }
    cancelled(cancel)
}

pub(super) async fn clean(args: &Clean, cancel: &CancellationToken) -> Result<(), Failure> {
    let store = open(&args.store).await?;
    let request = PruneRequest {
        before: Timestamp::now(),
        limit: usize::MAX,
    };
    let pruned = shown("removing results", store.prune(request, cancel)).await;
    let pruned = pruned.map_err(failed)?;
    output::line(format!("Removed {} items", pruned.layers))?;
    if args.caches && !cancel.is_cancelled() {
        let caches = store.caches();
        for cache in &caches {
            let removed = store.remove_cache(cache.name.as_ref());
            shown("removing caches", removed).await.map_err(failed)?;
        }
        let word = if caches.len() == 1 { "cache" } else { "caches" };
        output::line(format!("Removed {} {word}", caches.len()))?;
    }
    closed(store.close()).await?;
    cancelled(cancel)
}

/// The failure of what was cancelled.
fn cancelled(cancel: &CancellationToken) -> Result<(), Failure> {
    if cancel.is_cancelled() {
        return Err(Failure::failed(
            "Cancelled; what is left can be removed later",
        ));
    }
    Ok(())
}

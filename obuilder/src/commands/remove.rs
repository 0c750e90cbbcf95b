//! `obuilder delete` and `obuilder clean`.

use jiff::Timestamp;
use ocluster_cli::{Failure, output};
use ocluster_obuilder::store::PruneRequest;
use tokio_util::sync::CancellationToken;

use super::{failed, open};
use crate::args::{Clean, Delete};

pub(super) async fn delete(args: &Delete) -> Result<(), Failure> {
    let store = open(&args.store).await?;
    // A reader that went away does not keep anything from being removed.
    let say = |id| drop(output::line(format!("Removing {id}")));
    store.delete(args.id, say).await.map_err(failed)
}

pub(super) async fn clean(args: &Clean, cancel: &CancellationToken) -> Result<(), Failure> {
    let store = open(&args.store).await?;
    let request = PruneRequest {
        before: Timestamp::now(),
        limit: usize::MAX,
    };
    let pruned = store.prune(request, cancel).await.map_err(failed)?;
    output::line(format!("Removed {} items", pruned.layers))?;
    if args.caches {
        let caches = store.caches();
        for cache in &caches {
            store
                .remove_cache(cache.name.as_ref())
                .await
                .map_err(failed)?;
        }
        output::line(format!("Removed {} caches", caches.len()))?;
    }
    Ok(())
}

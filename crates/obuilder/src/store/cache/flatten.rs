//! Makes one tree of a cache's many layers, so that neither mounting nor finding files takes longer with each release.

use std::path::PathBuf;
use std::sync::Arc;

use super::entry::Entry;
use super::place::{Place, nonce};
use super::table::Shared;
use super::tree::Tree;
use crate::store::StoreError;
use crate::store::copy_tree::copy_tree;

/// The most layers that a cache has for long.
const FEW: usize = 16;

/// Makes the layers of the cache one tree, if they are many. Who uses them now keeps them; who releases meanwhile has theirs on top.
///
/// # Errors
/// The disk's; the cache stays as it is.
pub(super) async fn flatten(shared: &Arc<Shared>, entry: &Arc<Entry>) -> Result<(), StoreError> {
    // Whoever is at it already does what is needed.
    let Ok(_only) = entry.flattening.try_lock() else {
        return Ok(());
    };
    let (_, layers) = entry.current();
    if layers.len() <= FEW {
        return Ok(());
    }
    let place = Place::new(&shared.tmp, &shared.chores)?;
    let chain: Vec<PathBuf> = layers.iter().map(|tree| tree.path().into()).collect();
    let whole = shared.chores.backend.view(&chain, &place.mount_point());
    let copy = place.work();
    whole.with(move |from| copy_tree(from, &copy)).await??;
    let (shared, entry) = (Arc::clone(shared), Arc::clone(entry));
    let chores = Arc::clone(&shared.chores);
    let replaced = chores.block(move || {
        let _releasing = entry.one_at_a_time();
        let (generation, now) = entry.current();
        let released_since = now.len().saturating_sub(layers.len());
        let (newer, same) = now.split_at(released_since);
        let unchanged =
            same.len() == layers.len() && same.iter().zip(&layers).all(|(a, b)| Arc::ptr_eq(a, b));
        if !unchanged {
            return Ok(());
        }
        let flat = Tree::new(
            entry.dir.join(format!("{generation}-flat-{}", nonce())),
            &shared.chores,
        );
        let work = place.work();
        std::fs::rename(&work, flat.path()).map_err(StoreError::io("rename", &work))?;
        let trees = newer.iter().cloned().chain([flat]).collect();
        // The content is the same, so that it is no new version.
        entry.publish(generation, trees, &shared.boot)?;
        shared.sync_later();
        Ok(())
    });
    replaced
        .await
        .unwrap_or_else(|error| Err(StoreError::interrupted(&error)))
}

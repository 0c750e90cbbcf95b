//! Makes one tree of a cache's many layers, so that neither mounting nor finding files takes longer with each release.

use std::path::PathBuf;
use std::sync::Arc;

use super::lease::writable_top;
use super::place::{Place, nonce};
use super::table::{Entry, Shared};
use super::tree::Tree;
use crate::store::{StoreError, program};

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
    let backend = Arc::clone(&shared.chores.backend);
    let place = Place::new(&shared.tmp, &shared.chores)?;
    let chain: Vec<PathBuf> = layers.iter().map(|tree| tree.path().into()).collect();
    let whole = backend.view(&chain, &place.mount_point());
    let copy = backend.create(&[], &place.work(), &place.second_mount_point()?)?;
    let to = writable_top(&copy);
    whole
        .with(move |from| {
            let arguments = [
                "--archive".as_ref(),
                "--reflink=auto".as_ref(),
                "--no-target-directory".as_ref(),
                "--".as_ref(),
                from.as_os_str(),
                to.as_os_str(),
            ];
            program::run("cp", arguments, "copy a cache to", &to)
        })
        .await
        .map_err(|error| StoreError::Refused(error.to_string()))??;
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
        shared
            .chores
            .backend
            .seal(&place.work(), None, flat.path())?;
        let trees = newer.iter().cloned().chain([flat]).collect();
        // The content is the same, so that it is no new version.
        entry.publish(generation, trees)
    });
    replaced.await.unwrap_or_else(|error| {
        Err(StoreError::Refused(format!(
            "the layers were not replaced: {error}"
        )))
    })
}

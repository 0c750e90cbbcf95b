//! What is removed, in which order, and what is not.

use std::time::Duration;

use jiff::Timestamp;
use ocluster_obuilder::StepId;
use ocluster_obuilder::store::{PruneRequest, Pruned, Store};
use tokio_util::sync::CancellationToken;

use crate::support::*;

async fn prune(store: &Store, before: Timestamp, limit: usize) -> usize {
    let request = PruneRequest { before, limit };
    let Pruned { layers, .. } = store
        .prune(request, &CancellationToken::new())
        .await
        .unwrap();
    layers
}

async fn ids(store: &Store) -> Vec<StepId> {
    let listed = store.list().await.unwrap();
    listed.into_iter().map(|info| info.id).collect()
}

fn later() -> Timestamp {
    Timestamp::now() + Duration::from_secs(3600)
}

#[tokio::test]
async fn the_layers_used_longest_ago_go_first_and_parents_after_their_children() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |_| ()).await;
    let one = make(&store, 2, Some(&base), |_| ()).await;
    make(&store, 3, Some(&one), |_| ()).await;
    make(&store, 4, Some(&base), |_| ()).await;
    make(&store, 5, None, |_| ()).await;
    drop((base, one));
    // Used again, although it is old.
    store.layer(id(3)).await.unwrap();

    assert_eq!(prune(&store, later(), 1).await, 1);
    assert_eq!(ids(&store).await, [1, 2, 3, 5].map(id));
    assert_eq!(prune(&store, later(), 1).await, 1);
    assert_eq!(ids(&store).await, [1, 2, 3].map(id));
    assert_eq!(prune(&store, later(), 2).await, 2);
    assert_eq!(ids(&store).await, [id(1)]);
    assert_eq!(prune(&store, later(), 10).await, 1);
    assert_eq!(store.count(), 0);
    assert_eq!(home.names("layers"), [""; 0]);
    until("nothing is left", || home.names("tmp").is_empty()).await;
    assert_eq!(home.names("l"), [""; 0]);
    assert_eq!(store.check().await.unwrap(), []);
}

#[tokio::test]
async fn only_what_was_used_before_is_pruned_to_the_fraction_of_a_second() {
    let home = Home::new();
    let store = home.open().await;
    make(&store, 1, None, |_| ()).await;
    let between = Timestamp::now();
    make(&store, 2, None, |_| ()).await;
    assert_eq!(prune(&store, between, 10).await, 1);
    assert_eq!(ids(&store).await, [id(2)]);
    assert_eq!(prune(&store, between, 10).await, 0);
    assert_eq!(prune(&store, Timestamp::now(), 10).await, 1);
}

#[tokio::test]
async fn when_a_layer_was_used_is_known_after_a_restart() {
    let home = Home::new();
    let store = home.open().await;
    make(&store, 1, None, |_| ()).await;
    make(&store, 2, None, |_| ()).await;
    let between = Timestamp::now();
    store.layer(id(1)).await.unwrap();
    let used = store.list().await.unwrap();
    drop(store);
    let store = home.open().await;
    assert_eq!(store.list().await.unwrap(), used);
    assert_eq!(prune(&store, between, 10).await, 1);
    assert_eq!(ids(&store).await, [id(1)]);
}

#[tokio::test]
async fn nothing_that_a_running_build_needs_is_pruned() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |_| ()).await;
    let one = make(&store, 2, Some(&base), |_| ()).await;
    make(&store, 3, Some(&one), |_| ()).await;
    drop(base);
    // A result that is held keeps what it is built on; what is built on it goes.
    assert_eq!(prune(&store, later(), 10).await, 1);
    assert_eq!(ids(&store).await, [1, 2].map(id));
    // So does a step under way.
    let draft = begin(&store, 4, Some(&one)).await;
    let clone = one.clone();
    drop(one);
    assert_eq!(prune(&store, later(), 10).await, 0);
    drop(clone);
    assert_eq!(prune(&store, later(), 10).await, 0);
    draft
        .rootfs()
        .with(|tree| write(tree, "file", "x"))
        .await
        .unwrap();
    let layer = commit(draft).await;
    assert_eq!(prune(&store, later(), 10).await, 0);
    drop(layer);
    assert_eq!(prune(&store, later(), 10).await, 3);
}

#[tokio::test]
async fn pruning_stops_when_it_is_cancelled_and_tells_what_it_removed() {
    let home = Home::new();
    let store = home.open().await;
    for n in 1..=50 {
        make(&store, n, None, |tree| write(tree, "file", "x")).await;
    }
    let request = PruneRequest {
        before: later(),
        limit: 1000,
    };
    let cancel = CancellationToken::new();
    cancel.cancel();
    let pruned = store.prune(request, &cancel).await.unwrap();
    assert_eq!(pruned.layers, 0);

    let cancel = CancellationToken::new();
    let under_way = tokio::spawn({
        let (store, cancel) = (store.clone(), cancel.clone());
        async move { store.prune(request, &cancel).await.unwrap() }
    });
    until("some are removed", || store.count() < 45).await;
    cancel.cancel();
    let pruned = under_way.await.unwrap();
    assert_eq!(pruned.layers, 50 - store.count());
    assert!(store.count() > 0, "it stopped");
    assert_eq!(store.check().await.unwrap(), []);
    until("nothing is left", || home.names("tmp").is_empty()).await;
}

#[tokio::test]
async fn pruning_frees_the_space_and_says_how_much() {
    let home = Home::new();
    let store = home.open().await;
    make(&store, 1, None, |tree| {
        std::fs::write(tree.join("large"), vec![7; 32 << 20]).unwrap();
        std::fs::File::open(tree.join("large"))
            .unwrap()
            .sync_all()
            .unwrap();
    })
    .await;
    let request = PruneRequest {
        before: later(),
        limit: 1,
    };
    let pruned = store
        .prune(request, &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(pruned.layers, 1);
    assert!(!home.layer_dir(1).exists());
    // Others write to the same disk.
    println!("{} bytes more are free", pruned.bytes);
    until("nothing is left", || home.names("tmp").is_empty()).await;
}

#[tokio::test]
async fn a_layer_is_removed_with_all_that_is_built_on_it_children_first() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |_| ()).await;
    let one = make(&store, 2, Some(&base), |_| ()).await;
    make(&store, 3, Some(&one), |_| ()).await;
    make(&store, 4, Some(&one), |_| ()).await;
    make(&store, 5, Some(&base), |_| ()).await;
    drop((base, one));
    let mut removed = Vec::new();
    store.delete(id(2), |id| removed.push(id)).await.unwrap();
    assert_eq!(removed.len(), 3);
    assert_eq!(removed[2], id(2));
    assert_eq!(ids(&store).await, [1, 5].map(id));
    assert_eq!(store.check().await.unwrap(), []);
    // What is left knows about it: the base has one child still, and then none.
    assert_eq!(prune(&store, later(), 1).await, 1);
    assert_eq!(ids(&store).await, [id(1)]);
    assert_eq!(prune(&store, later(), 1).await, 1);

    let mut removed = Vec::new();
    store.delete(id(9), |id| removed.push(id)).await.unwrap();
    assert_eq!(removed, [], "there is no such layer");
}

#[tokio::test]
async fn a_layer_that_something_in_use_is_built_on_is_not_removed() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |_| ()).await;
    let one = make(&store, 2, Some(&base), |_| ()).await;
    make(&store, 3, Some(&base), |_| ()).await;
    drop(base);
    let error = store.delete(id(1), |_| panic!()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the result {} cannot be removed: {}, which is built on it, is in use; try again when what uses it has ended",
            id(1),
            id(2)
        )
    );
    let error = store.delete(id(2), |_| panic!()).await.unwrap_err();
    assert!(
        error.to_string().contains("is in use; try again"),
        "{error}"
    );
    assert_eq!(store.count(), 3);
    drop(one);
    store.delete(id(1), |_| ()).await.unwrap();
    assert_eq!(store.count(), 0);
}

#[tokio::test]
async fn a_layer_can_be_made_again_after_it_was_removed() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |_| ()).await;
    for text in ["once", "twice"] {
        let layer = make(&store, 2, Some(&base), move |tree| {
            write(tree, "file", text)
        })
        .await;
        assert_eq!(read(&layer, "file").await.as_deref(), Some(text));
        drop(layer);
        store.delete(id(2), |_| ()).await.unwrap();
    }
    assert_eq!(store.check().await.unwrap(), []);
}

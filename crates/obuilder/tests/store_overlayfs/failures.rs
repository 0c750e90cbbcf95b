//! What goes wrong leaves nothing, and is no hindrance to the next attempt.

use std::fs;

use ocluster_obuilder::store::LayerMeta;

use crate::support::*;

#[tokio::test]
async fn a_step_that_cannot_be_prepared_leaves_nothing_and_can_be_tried_at_once() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |tree| write(tree, "file", "x")).await;
    let layer = make(&store, 2, Some(&base), |_| ()).await;
    let (dir, away) = (home.layer_dir(2), home.root().join("state/away"));
    fs::rename(&dir, &away).unwrap();

    let error = store.begin(id(3), Some(&layer)).await.unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
    until("the room for it is gone", || home.names("tmp").is_empty()).await;
    assert_eq!(home.mounts(), [""; 0]);
    assert_eq!(store.count(), 2);

    fs::rename(&away, &dir).unwrap();
    let made = make(&store, 3, Some(&layer), |tree| write(tree, "more", "")).await;
    assert_eq!(look(&made, names).await, ["file", "more"]);
}

#[tokio::test]
async fn a_tree_that_cannot_be_mounted_leaves_nothing_and_can_be_tried_at_once() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |_| ()).await;
    let layer = make(&store, 2, Some(&base), |_| ()).await;
    let (dir, away) = (home.layer_dir(1), home.root().join("state/away"));
    let draft = begin(&store, 3, Some(&layer)).await;
    fs::rename(&dir, &away).unwrap();

    let error = draft.rootfs().with(|_| ()).await.unwrap_err();
    let at = draft.rootfs().path().display().to_string();
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot mount {at}: ")),
        "{error}"
    );
    assert!(layer.view().unwrap().with(|_| ()).await.is_err());
    draft.discard().await;
    assert_eq!(home.names("tmp"), [""; 0]);
    assert_eq!(home.mounts(), [""; 0]);

    fs::rename(&away, &dir).unwrap();
    make(&store, 3, Some(&layer), |_| ()).await;
    assert_eq!(store.check().await.unwrap(), []);
}

#[tokio::test]
async fn a_layer_that_cannot_be_kept_is_thrown_away() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |_| ()).await;
    let in_the_way = home.layer_dir(2);
    fs::create_dir_all(in_the_way.join("full")).unwrap();
    let draft = begin(&store, 2, Some(&base)).await;
    draft
        .rootfs()
        .with(|tree| write(tree, "file", "x"))
        .await
        .unwrap();
    let error = draft.commit(LayerMeta::default()).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot rename "), "{error}");
    assert!(store.layer(id(2)).await.is_none());
    until("it is thrown away", || home.names("tmp").is_empty()).await;
    assert_eq!(home.names("l").len(), 1);

    fs::remove_dir_all(in_the_way).unwrap();
    make(&store, 2, Some(&base), |_| ()).await;
    assert_eq!(store.check().await.unwrap(), []);
}

#[tokio::test]
async fn a_draft_that_is_dropped_is_thrown_away_whatever_is_in_it() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |tree| write(tree, "a/b", "x")).await;
    let draft = begin(&store, 2, Some(&base)).await;
    let fill = |tree: &std::path::Path| {
        fs::remove_dir_all(tree.join("a")).unwrap();
        write(tree, "a/new", "x");
        std::os::unix::fs::symlink("/etc", tree.join("etc")).unwrap();
        write(tree, "deep/er/file", "x");
    };
    draft.rootfs().with(fill).await.unwrap();
    drop(draft);
    until("it is thrown away", || home.names("tmp").is_empty()).await;
    assert!(fs::metadata("/etc").unwrap().is_dir());
    assert!(store.layer(id(2)).await.is_none());
    assert_eq!(read(&base, "a/b").await.as_deref(), Some("x"));
}

#[tokio::test]
async fn of_two_that_make_the_same_layer_the_first_stays() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |_| ()).await;
    let [first, second] = [
        begin(&store, 2, Some(&base)).await,
        begin(&store, 2, Some(&base)).await,
    ];
    for (draft, text) in [(&first, "first"), (&second, "second")] {
        draft
            .rootfs()
            .with(move |tree| write(tree, "who", text))
            .await
            .unwrap();
    }
    let kept = commit(first).await;
    let also = commit(second).await;
    assert_eq!(read(&kept, "who").await.as_deref(), Some("first"));
    assert_eq!(read(&also, "who").await.as_deref(), Some("first"));
    assert_eq!(store.count(), 2);
    until("the other is thrown away", || home.names("tmp").is_empty()).await;
    drop((kept, also));
    store.delete(id(2), |_| ()).await.unwrap();
    assert_eq!(store.check().await.unwrap(), []);
}

#[tokio::test]
async fn states_of_others_are_kept_in_directories_of_their_own() {
    let home = Home::new();
    let store = home.open().await;
    let dir = store.state_dir("blobs").unwrap();
    assert_eq!(dir, home.root().join("state/blobs"));
    fs::write(dir.join("file"), "x").unwrap();
    for name in ["", ".", "..", "a/b", "/etc"] {
        assert!(store.state_dir(name).is_err(), "{name:?}");
    }
    drop(store);
    let store = home.open().await;
    assert!(store.state_dir("blobs").unwrap().join("file").exists());
    let space = store.space().await.unwrap();
    assert!(space.total > 0 && space.free <= space.total);
}

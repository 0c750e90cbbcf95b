//! What every kind of store does as a store: layers that are found again, caches, deleting, pruning.

use std::fs;
use std::path::Path;

use bstr::BStr;
use jiff::{Timestamp, ToSpan};
use ocluster_obuilder::StepId;
use ocluster_obuilder::store::{
    Layer, LayerMeta, Location, PruneRequest, Store, StoreError, StoreOptions,
};
use tokio_util::sync::CancellationToken;

use crate::filesystem::{Mounted, where_nobody_sees};
use crate::lab::Lab;

/// Where the tests of a lab have a store.
pub(crate) fn location(lab: &Lab) -> Location {
    Location {
        kind: lab.case.kind,
        root: lab.root.join("store"),
    }
}

pub(crate) async fn open(location: &Location) -> Result<Store, StoreError> {
    Store::open(location, StoreOptions::default()).await
}

/// The id of the step with this number.
pub(crate) fn id(number: u64) -> StepId {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    StepId::from_bytes(bytes)
}

/// Makes the layer with this number, which has a file of that name.
pub(crate) async fn make(
    store: &Store,
    number: u64,
    base: Option<&Layer>,
) -> Result<Layer, StoreError> {
    let draft = store.begin(id(number), base).await?;
    let written = draft.rootfs().with(move |tree| {
        fs::write(tree.join("first"), number.to_string())?;
        fs::write(tree.join(format!("of {number}")), number.to_string())?;
        fs::write(tree.join("second"), number.to_string())
    });
    written.await.unwrap().unwrap();
    draft.commit(LayerMeta::default()).await
}

/// What the layer's tree says that its number is.
pub(crate) async fn number_of(layer: &Layer) -> (u64, usize) {
    let look = |tree: &Path| {
        let read = |name: &str| fs::read_to_string(tree.join(name)).unwrap().parse::<u64>();
        let first = read("first").unwrap();
        assert_eq!(first, read("second").unwrap());
        assert_eq!(first, read(&format!("of {first}")).unwrap());
        (first, fs::read_dir(tree).unwrap().count() - 2)
    };
    layer.view().unwrap().with(look).await.unwrap()
}

/// Removes all that can be removed.
pub(crate) async fn prune(store: &Store) -> usize {
    let request = PruneRequest {
        before: Timestamp::now() + 1.hour(),
        limit: 10_000,
    };
    let pruned = store.prune(request, &CancellationToken::new()).await;
    pruned.unwrap().layers
}

pub(crate) fn layers_are_found_as_they_were_kept(lab: &Lab) {
    lab.runtime.block_on(async {
        let store = open(&location(lab)).await.unwrap();
        assert!(store.layer(id(1)).await.is_none());
        let one = make(&store, 1, None).await.unwrap();
        let two = make(&store, 2, Some(&one)).await.unwrap();
        assert_eq!(number_of(&one).await, (1, 1));
        assert_eq!(number_of(&two).await, (2, 2));

        // A step that fails is not kept, and does not keep another from succeeding.
        let failing = store.begin(id(3), Some(&two)).await.unwrap();
        let write = |tree: &Path| fs::write(tree.join("of 7"), "7").unwrap();
        failing.rootfs().with(write).await.unwrap();
        drop(failing);
        assert!(store.layer(id(3)).await.is_none());
        let three = make(&store, 3, Some(&two)).await.unwrap();
        assert_eq!(number_of(&three).await, (3, 3));
        assert_eq!(store.count(), 3);
        drop((one, two, three, store));

        let store = open(&location(lab)).await.unwrap();
        for number in 1..=3 {
            let layer = store.layer(id(number)).await.unwrap();
            assert_eq!(number_of(&layer).await, (number, number as usize));
        }
        assert!(store.layer(id(4)).await.is_none());
        assert_eq!(prune(&store).await, 3);
    });
}

pub(crate) fn layers_are_deleted_and_pruned_until_nothing_is_left(lab: &Lab) {
    lab.runtime.block_on(async {
        let store = open(&location(lab)).await.unwrap();
        let base = make(&store, 0, None).await.unwrap();
        for branch in 1..=3 {
            let mut above = base.clone();
            for depth in 1..=3 {
                above = make(&store, branch * 10 + depth, Some(&above))
                    .await
                    .unwrap();
            }
        }
        assert_eq!(store.count(), 10);
        let mut removed = Vec::new();
        store
            .delete(id(12), |layer| removed.push(layer))
            .await
            .unwrap();
        assert_eq!(removed, [id(13), id(12)]);
        assert!(store.delete(id(0), |_| ()).await.is_err());
        let used = store.layer(id(22)).await.unwrap();
        // What is in use stays, and what that is built on.
        assert_eq!(prune(&store).await, 5);
        assert_eq!(number_of(&used).await, (22, 3));
        drop((used, base));
        assert_eq!(prune(&store).await, 3);
        assert_eq!(store.count(), 0);
        drop(store);
        let store = open(&location(lab)).await.unwrap();
        assert_eq!(store.count(), 0);
    });
    for dir in ["store/layers", "store/tmp", "store/caches"] {
        assert_eq!(lab.names(dir), [""; 0]);
    }
}

pub(crate) fn caches_outlive_their_store_and_keep_it_open(lab: &Lab) {
    lab.runtime.block_on(async {
        let store = open(&location(lab)).await.unwrap();
        let lease = store.cache(BStr::new("c"), (1, 2)).await.unwrap();
        let write = |tree: &Path| fs::write(tree.join("file"), "v1").unwrap();
        lease.rootfs().with(write).await.unwrap();
        drop(store);
        let reopening = tokio::spawn({
            let location = location(lab);
            async move { open(&location).await }
        });
        assert!(lease.release().await.unwrap());
        let store = reopening.await.unwrap().unwrap();
        let [info] = &store.caches()[..] else {
            panic!("there is one cache");
        };
        assert_eq!((info.name.to_string(), info.generation), ("c".into(), 1));
        let lease = store.cache(BStr::new("c"), (1, 2)).await.unwrap();
        let read = |tree: &Path| fs::read_to_string(tree.join("file")).unwrap();
        assert_eq!(lease.rootfs().with(read).await.unwrap(), "v1");
        store.remove_cache(BStr::new("c")).await.unwrap();
        assert!(!lease.release().await.unwrap());
        assert_eq!(store.caches(), []);
        store.sync().await.unwrap();
    });
}

pub(crate) fn a_store_on_the_wrong_filesystem_is_refused(lab: &Lab) {
    let Some((wrong, advice)) = lab.case.wrong else {
        return;
    };
    where_nobody_sees(|| {
        let (_mounted, dir) = Mounted::shared(wrong);
        let location = Location {
            kind: lab.case.kind,
            root: dir.path().into(),
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let said = runtime.block_on(open(&location)).unwrap_err().to_string();
        assert!(said.contains(advice), "{said}");
    });
}

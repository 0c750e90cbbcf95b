//! What the tests share: a store in a temporary directory, and layers made by a few lines.

use std::path::{Path, PathBuf};
use std::process::Command;

use ocluster_obuilder::store::{
    Draft, Kind, Layer, LayerMeta, Location, Store, StoreError, StoreOptions,
};
use ocluster_obuilder::{Rootfs, StepId};
use tempfile::TempDir;

/// A directory for a store, removed in the end.
pub(crate) struct Home {
    dir: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests mount layers and change owners: run them as root"
        );
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("store")
    }

    pub(crate) fn location(&self) -> Location {
        Location {
            kind: Kind::Overlayfs,
            root: self.root(),
        }
    }

    pub(crate) async fn try_open(&self) -> Result<Store, StoreError> {
        Store::open(&self.location(), StoreOptions::default()).await
    }

    pub(crate) async fn open(&self) -> Store {
        self.try_open().await.unwrap()
    }

    /// A store elsewhere in the same temporary directory.
    pub(crate) async fn open_at(&self, root: &Path) -> Store {
        let location = Location {
            kind: Kind::Overlayfs,
            root: root.to_owned(),
        };
        Store::open(&location, StoreOptions::default())
            .await
            .unwrap()
    }

    /// Names in a directory of the store.
    pub(crate) fn names(&self, dir: &str) -> Vec<String> {
        let mut names = std::fs::read_dir(self.root().join(dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>();
        names.sort();
        names
    }

    pub(crate) fn layer_dir(&self, n: u32) -> PathBuf {
        self.root().join("layers").join(id(n).to_string())
    }

    /// Lines of this process's mount table that are about the store.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let root = self.root().to_str().unwrap().to_owned();
        std::fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .filter(|line| line.contains(&root))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A test that failed may have left a mount of its own.
        for line in self.mounts() {
            let at = line.split(' ').nth(4).unwrap();
            let _ = Command::new("umount").args(["-l", at]).status();
        }
    }
}

/// The id of the step with this number.
pub(crate) fn id(n: u32) -> StepId {
    let mut bytes = [0; 32];
    bytes[28..].copy_from_slice(&n.to_be_bytes());
    StepId::from_bytes(bytes)
}

/// What changes a tree.
pub(crate) trait Change: FnOnce(&Path) + Send + 'static {}
impl<F: FnOnce(&Path) + Send + 'static> Change for F {}

pub(crate) async fn begin(store: &Store, n: u32, base: Option<&Layer>) -> Draft {
    store.begin(id(n), base).await.unwrap()
}

pub(crate) async fn commit(draft: Draft) -> Layer {
    draft.commit(LayerMeta::default()).await.unwrap()
}

/// Makes the layer `n` above `base`.
pub(crate) async fn make(
    store: &Store,
    n: u32,
    base: Option<&Layer>,
    change: impl Change,
) -> Layer {
    let draft = begin(store, n, base).await;
    draft.rootfs().with(change).await.unwrap();
    commit(draft).await
}

/// Looks into a layer's whole tree.
pub(crate) async fn look<T: Send + 'static>(
    layer: &Layer,
    with: impl FnOnce(&Path) -> T + Send + 'static,
) -> T {
    layer.view().unwrap().with(with).await.unwrap()
}

/// What the file holds, in a layer's whole tree; nothing if it is not there.
pub(crate) async fn read(layer: &Layer, path: &str) -> Option<String> {
    let path = path.to_owned();
    look(layer, move |tree| {
        std::fs::read_to_string(tree.join(path)).ok()
    })
    .await
}

pub(crate) fn write(tree: &Path, path: &str, content: &str) {
    let path = tree.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// Names in a tree's directory.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect::<Vec<_>>();
    names.sort();
    names
}

pub(crate) fn is_overlay(rootfs: &Rootfs) -> bool {
    matches!(rootfs, Rootfs::Overlay(_))
}

/// Waits until something holds, which it does soon.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{what}: not after half a minute");
}

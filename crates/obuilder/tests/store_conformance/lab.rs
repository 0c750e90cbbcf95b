//! A kind of store on a filesystem, and layers made in it without a sandbox.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocluster_obuilder::Rootfs;
use ocluster_obuilder::store::{
    Backend, Btrfs, CacheTable, Kind, Overlayfs, Rsync, RsyncMode, StoreError, Xfs,
};
use tokio::runtime::Runtime;

use crate::filesystem::{Filesystem, Mounted, where_nobody_sees};

/// A kind of store and the filesystem it is tested on.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) filesystem: Filesystem,
    /// One that cannot hold it, and what the advice then speaks of.
    pub(crate) wrong: Option<(Filesystem, &'static str)>,
    /// Whether files that differ in content only are taken for the same.
    pub(crate) trusts_times: bool,
    pub(crate) kind: Kind,
    pub(crate) backend: fn() -> Arc<dyn Backend>,
}

impl Case {
    pub(crate) const OVERLAYFS: Self = Self {
        filesystem: Filesystem::Ext4,
        wrong: Some((
            Filesystem::Ramfs,
            "or another kind of store, such as rsync:",
        )),
        trusts_times: false,
        kind: Kind::Overlayfs,
        backend: || Arc::new(Overlayfs),
    };
    pub(crate) const BTRFS: Self = Self {
        filesystem: Filesystem::Btrfs,
        wrong: Some((Filesystem::Ext4, "mount one there, or use overlayfs:")),
        trusts_times: false,
        kind: Kind::Btrfs,
        backend: || Arc::new(Btrfs::default()),
    };
    pub(crate) const RSYNC_COPY: Self = Self {
        filesystem: Filesystem::Ext4,
        wrong: None,
        trusts_times: false,
        kind: Kind::Rsync(RsyncMode::Copy),
        backend: || Arc::new(Rsync::new(RsyncMode::Copy)),
    };
    pub(crate) const RSYNC_HARDLINK: Self = Self {
        kind: Kind::Rsync(RsyncMode::Hardlink),
        backend: || Arc::new(Rsync::new(RsyncMode::Hardlink)),
        ..Self::RSYNC_COPY
    };
    pub(crate) const RSYNC_HARDLINK_UNSAFE: Self = Self {
        trusts_times: true,
        kind: Kind::Rsync(RsyncMode::HardlinkUnsafe),
        backend: || Arc::new(Rsync::new(RsyncMode::HardlinkUnsafe)),
        ..Self::RSYNC_COPY
    };
    pub(crate) const XFS: Self = Self {
        filesystem: Filesystem::Xfs,
        wrong: Some((Filesystem::Ext4, "mkfs.xfs -m reflink=1")),
        trusts_times: false,
        kind: Kind::Xfs,
        backend: || Arc::new(Xfs::default()),
    };

    /// Tests the property on the filesystem that tests of its kind share.
    pub(crate) fn run(self, property: impl FnOnce(&Lab) + Send) {
        where_nobody_sees(|| {
            let (_mounted, dir) = Mounted::shared(self.filesystem);
            let lab = Lab::new(self, dir.path());
            lab.backend.probe(dir.path()).unwrap();
            property(&lab);
            // A temporary directory cannot remove subvolumes.
            lab.backend.remove(dir.path()).unwrap();
        });
    }
}

/// Room for layers.
pub(crate) struct Lab {
    pub(crate) case: Case,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) root: PathBuf,
    pub(crate) runtime: Runtime,
}

/// Layers, the newest first.
pub(crate) type Chain = Vec<PathBuf>;

impl Lab {
    pub(crate) fn new(case: Case, root: &Path) -> Self {
        for dir in ["layers", "tmp"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        Self {
            case,
            backend: (case.backend)(),
            root: root.into(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    /// A path in the store's temporary directory, and an empty directory to mount on.
    pub(crate) fn work(&self, name: &str) -> (PathBuf, PathBuf) {
        let mount_point = self.root.join("tmp").join(format!("{name}-at"));
        std::fs::create_dir_all(&mount_point).unwrap();
        (self.root.join("tmp").join(name), mount_point)
    }

    /// Does `work` in the tree.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        rootfs: &Rootfs,
        work: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> T {
        self.runtime.block_on(rootfs.with(work)).unwrap()
    }

    /// Makes the layer `name` above `chain` by `step`; answers its chain.
    pub(crate) fn layer<F: FnOnce(&Path) + Send + 'static>(
        &self,
        name: &str,
        chain: &[PathBuf],
        step: F,
    ) -> Chain {
        let sealed = self.root.join("layers").join(name);
        self.try_layer(name, chain, &sealed, step).unwrap();
        [sealed].into_iter().chain(chain.iter().cloned()).collect()
    }

    pub(crate) fn try_layer<F: FnOnce(&Path) + Send + 'static>(
        &self,
        name: &str,
        chain: &[PathBuf],
        sealed: &Path,
        step: F,
    ) -> Result<(), StoreError> {
        let (work, mount_point) = self.work(name);
        let rootfs = self.backend.create(chain, &work, &mount_point)?;
        self.within(&rootfs, step);
        let base = chain.first().map(PathBuf::as_path);
        self.backend.seal(&work, base, sealed)?;
        self.backend.remove(&work)?;
        assert!(work.symlink_metadata().is_err());
        Ok(())
    }

    /// Looks at the tree of `chain`.
    pub(crate) fn view<T: Send + 'static>(
        &self,
        chain: &[PathBuf],
        look: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> T {
        let (_, mount_point) = self.work("view");
        self.within(&self.backend.view(chain, &mount_point), look)
    }

    /// What is in the tree of `chain`.
    pub(crate) fn describe(&self, chain: &[PathBuf]) -> Vec<String> {
        self.view(chain, crate::tree::describe)
    }

    /// The caches, as a store that was opened has them.
    pub(crate) fn caches(&self, quota: Option<u64>) -> CacheTable {
        for left in std::fs::read_dir(self.root.join("tmp")).unwrap() {
            self.backend.remove(&left.unwrap().path()).unwrap();
        }
        let _within = self.runtime.enter();
        let backend = Arc::clone(&self.backend);
        CacheTable::open(&self.root, backend, quota, Arc::new(())).unwrap()
    }

    /// The names in a directory of the store, sorted.
    pub(crate) fn names(&self, dir: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.root.join(dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

//! Trees to copy from and to, and a short way to copy. All of it is below temporary directories.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bstr::{BStr, BString};
use ocluster_obuilder::copy::{self, CopyError, CopyPlan};
use ocluster_obuilder::spec::{Copy, CopySource, Manifest};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// A directory with files, for one test.
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn at(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.0.path().join(OsStr::from_bytes(path.as_ref()))
    }

    /// A file with its directories.
    pub(crate) fn file(self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    pub(crate) fn dir(self, path: impl AsRef<[u8]>) -> Self {
        fs::create_dir_all(self.at(path)).unwrap();
        self
    }

    pub(crate) fn link(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(OsStr::from_bytes(target.as_ref()), path).unwrap();
        self
    }

    pub(crate) fn mode(self, path: impl AsRef<[u8]>, mode: u32) -> Self {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub(crate) fn owner(self, path: impl AsRef<[u8]>, uid: u32, gid: u32) -> Self {
        std::os::unix::fs::lchown(self.at(path), Some(uid), Some(gid))
            .expect("changing owners, for which this test needs to be root");
        self
    }

    /// Sets the time of the last change, in seconds.
    pub(crate) fn mtime(self, path: impl AsRef<[u8]>, seconds: u64) -> Self {
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(seconds, 123_456_789);
        fs::File::open(self.at(path))
            .unwrap()
            .set_modified(time)
            .unwrap();
        self
    }

    pub(crate) fn read(&self, path: impl AsRef<[u8]>) -> Vec<u8> {
        fs::read(self.at(path)).unwrap()
    }

    pub(crate) fn exists(&self, path: impl AsRef<[u8]>) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    /// uid, gid, and mode with the file's type.
    pub(crate) fn facts(&self, path: impl AsRef<[u8]>) -> (u32, u32, u32) {
        let meta = self.at(path).symlink_metadata().unwrap();
        (meta.uid(), meta.gid(), meta.mode())
    }

    pub(crate) fn seconds(&self, path: impl AsRef<[u8]>) -> (i64, i64) {
        let meta = self.at(path).symlink_metadata().unwrap();
        (meta.mtime(), meta.mtime_nsec())
    }

    /// Scans as root in `/`.
    pub(crate) fn scan(&self, copy: &Copy) -> Result<CopyPlan, CopyError> {
        self.scan_in("/", copy)
    }

    pub(crate) fn scan_in(
        &self,
        workdir: impl AsRef<[u8]>,
        copy: &Copy,
    ) -> Result<CopyPlan, CopyError> {
        let root = copy::open_root(self.root()).unwrap();
        let workdir = BStr::new(workdir.as_ref());
        copy::scan(root.as_fd(), copy, workdir, &CancellationToken::new())
    }

    /// What is found at one source.
    pub(crate) fn manifest(&self, src: impl AsRef<[u8]>) -> Result<Manifest, String> {
        match self.scan(&taking([src], "/dst")) {
            Ok(mut plan) => Ok(plan.items.remove(0)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes for root.
    pub(crate) fn write(&self, plan: &CopyPlan, target: &Tree) -> Result<(), CopyError> {
        self.write_for((0, 0), plan, target)
    }

    fn write_for(
        &self,
        owner: (u32, u32),
        plan: &CopyPlan,
        target: &Tree,
    ) -> Result<(), CopyError> {
        let source = copy::open_root(self.root()).unwrap();
        let target = copy::open_root(target.root()).unwrap();
        copy::write(
            source.as_fd(),
            target.as_fd(),
            plan,
            owner,
            &CancellationToken::new(),
        )
    }

    /// Scans and writes.
    pub(crate) fn copy(
        &self,
        copy: &Copy,
        owner: (u32, u32),
        target: &Tree,
    ) -> Result<(), CopyError> {
        let plan = self.scan(copy)?;
        self.write_for(owner, &plan, target)
    }
}

/// A `copy` from the context.
pub(crate) fn taking<S: AsRef<[u8]>>(
    src: impl IntoIterator<Item = S>,
    dst: impl AsRef<[u8]>,
) -> Copy {
    Copy {
        from: CopySource::Context,
        src: src.into_iter().map(|src| src.as_ref().into()).collect(),
        dst: dst.as_ref().into(),
        exclude: Vec::new(),
    }
}

pub(crate) fn without(mut copy: Copy, exclude: &[&str]) -> Copy {
    copy.exclude = exclude.iter().map(|name| (*name).into()).collect();
    copy
}

pub(crate) fn sha256(content: impl AsRef<[u8]>) -> [u8; 32] {
    Sha256::digest(content).into()
}

pub(crate) fn file(path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Manifest {
    Manifest::File {
        path: path.as_ref().into(),
        sha256: sha256(content),
        executable: false,
    }
}

pub(crate) fn link(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Manifest {
    Manifest::Symlink {
        path: path.as_ref().into(),
        target: BString::from(target.as_ref()),
    }
}

pub(crate) fn dir(path: impl AsRef<[u8]>, entries: impl IntoIterator<Item = Manifest>) -> Manifest {
    Manifest::Dir {
        path: path.as_ref().into(),
        entries: entries.into_iter().collect(),
    }
}

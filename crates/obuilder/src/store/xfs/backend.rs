//! The store's operations where files can share their blocks.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::unused_blocks;
use crate::Rootfs;
use crate::store::removal::{nothing_special, remove_tree};
use crate::store::space::space_of;
use crate::store::whole_tree::{make_directory, need_root, seal_by_rename};
use crate::store::{Backend, Space, StoreError, program};

/// Copies that share blocks.
#[derive(Debug, Default)]
pub struct Xfs {}

impl Backend for Xfs {
    fn probe(&self, root: &Path) -> Result<(), StoreError> {
        need_root(root)?;
        let probe = root.join(format!(".probe-{:016x}", rand::random::<u64>()));
        let tried = try_all(&probe);
        remove_tree(&probe, &nothing_special)?;
        tried.map_err(|error| {
            if error.is_full_disk() {
                return error;
            }
            StoreError::Refused(format!(
                "files in {} cannot share their blocks ({error}): make the filesystem by `mkfs.xfs -m reflink=1`, or use overlayfs:{0} \
                 or rsync:{0} instead",
                root.display()
            ))
        })
    }

    fn create(
        &self,
        chain: &[PathBuf],
        work: &Path,
        _mount_point: &Path,
    ) -> Result<Rootfs, StoreError> {
        // Never into something that is there: what a killed step left would become part of the next.
        make_directory(work)?;
        if let Some(base) = chain.first() {
            copy(base, work)?;
        }
        Ok(Rootfs::Plain(work.into()))
    }

    fn seal(&self, work: &Path, _base: Option<&Path>, sealed: &Path) -> Result<(), StoreError> {
        seal_by_rename(work, sealed)
    }

    fn view(&self, chain: &[PathBuf], mount_point: &Path) -> Rootfs {
        Rootfs::Plain(chain.first().map_or(mount_point, PathBuf::as_path).into())
    }

    fn remove(&self, tree: &Path) -> Result<(), StoreError> {
        remove_tree(tree, &nothing_special)
    }

    fn settle(&self, root: &Path) -> Result<(), StoreError> {
        File::open(root)
            .and_then(|dir| Ok(unused_blocks::give_back(dir)?))
            .map_err(StoreError::io("wait for the free space of", root))
    }

    fn space(&self, root: &Path) -> Result<Space, StoreError> {
        space_of(root)
    }
}

/// Does once what will be done. The file has to be longer than what a filesystem keeps beside its name, or nothing would be shared.
fn try_all(probe: &Path) -> Result<(), StoreError> {
    make_directory(probe)?;
    let first = probe.join("first");
    let second = probe.join("second");
    make_directory(&first)?;
    make_directory(&second)?;
    std::fs::write(first.join("file"), [b'x'; 16 * 1024])
        .map_err(StoreError::io("write to", &first))?;
    copy(&first, &second)
}

/// Makes the empty directory `to` what `from` is.
fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let arguments = [
        OsStr::new("--archive"),
        OsStr::new("--reflink=always"),
        OsStr::new("--no-target-directory"),
        OsStr::new("--"),
        from.as_os_str(),
        to.as_os_str(),
    ];
    program::run("cp", arguments, "copy a tree to", to)
}

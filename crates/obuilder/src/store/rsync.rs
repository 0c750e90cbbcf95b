//! Stores anywhere: each layer a whole copy, made by the program rsync. Slow, and it works on every filesystem.
//!
//! A step always changes a copy of its own. In the hard-linking modes it is only sealing that shares the files which did not change
//! with the layer below, so that nobody ever writes to a file that two layers have.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::program;
use super::removal::{nothing_special, remove_tree};
use super::space::space_of;
use super::whole_tree::{make_directory, need_root, seal_by_rename};
use super::{Backend, RsyncMode, Space, StoreError};
use crate::Rootfs;

/// Whole copies.
#[derive(Debug)]
pub struct Rsync {
    mode: RsyncMode,
}

impl Rsync {
    /// One that does this with files that did not change.
    #[must_use]
    pub fn new(mode: RsyncMode) -> Self {
        Self { mode }
    }
}

impl Backend for Rsync {
    fn probe(&self, root: &Path) -> Result<(), StoreError> {
        need_root(root)?;
        let probe = root.join(format!(".probe-{:016x}", rand::random::<u64>()));
        let tried = self.try_all(&probe);
        remove_tree(&probe, &nothing_special)?;
        tried
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
            copy(base, work, [])?;
        }
        Ok(Rootfs::Plain(work.into()))
    }

    fn seal(&self, work: &Path, base: Option<&Path>, sealed: &Path) -> Result<(), StoreError> {
        match (self.mode, base) {
            (RsyncMode::Copy, _) | (_, None) => seal_by_rename(work, sealed),
            (RsyncMode::Hardlink, Some(base)) => {
                make_directory(sealed)?;
                copy(work, sealed, ["--checksum".into(), link_to(base)])
            }
            (RsyncMode::HardlinkUnsafe, Some(base)) => {
                make_directory(sealed)?;
                copy(work, sealed, [link_to(base)])
            }
        }
    }

    fn view(&self, chain: &[PathBuf], mount_point: &Path) -> Rootfs {
        Rootfs::Plain(chain.first().map_or(mount_point, PathBuf::as_path).into())
    }

    fn remove(&self, tree: &Path) -> Result<(), StoreError> {
        remove_tree(tree, &nothing_special)
    }

    fn space(&self, root: &Path) -> Result<Space, StoreError> {
        space_of(root)
    }
}

impl Rsync {
    /// Does once what will be done, so that a program that is missing or too old is found out at once.
    fn try_all(&self, probe: &Path) -> Result<(), StoreError> {
        make_directory(probe)?;
        let first = probe.join("first");
        let work = probe.join("work");
        make_directory(&first)?;
        std::fs::write(first.join("file"), "x").map_err(StoreError::io("write to", &first))?;
        self.create(std::slice::from_ref(&first), &work, probe)?;
        self.seal(&work, Some(&first), &probe.join("sealed"))
    }
}

fn link_to(base: &Path) -> OsString {
    let mut option = OsString::from("--link-dest=");
    option.push(base);
    option
}

/// Copies what is in `from`, and the attributes of `from` itself, to the empty directory `to`, with all that rsync can keep: owners by
/// number, modes, times, links of both kinds, devices, access lists, attributes, holes.
fn copy<const N: usize>(from: &Path, to: &Path, more: [OsString; N]) -> Result<(), StoreError> {
    let contents = |path: &Path| path.join("").into_os_string();
    let fixed = [
        // Otherwise rsync takes times for the same that differ by less than a second: many a step takes no longer.
        "--modify-window=-1",
        "--archive",
        "--hard-links",
        "--acls",
        "--xattrs",
        "--sparse",
        "--numeric-ids",
        "--quiet",
    ];
    let arguments = fixed.into_iter().map(OsString::from).chain(more).chain([
        "--".into(),
        contents(from),
        contents(to),
    ]);
    program::run("rsync", arguments, "copy a tree to", to)
}

//! Layers above each other, merged by the kernel: a layer holds what its step changed, and nothing is ever copied.
//!
//! ```text
//! work/fs    what the step changed, which is what is kept
//! work/w     the kernel's
//! ```

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::core::make_dir;
use super::removal::{nothing_special, remove_tree};
use super::space::space_of;
use super::tree::{OVERLAY_XATTRS, purge_overlay_marks};
use super::whole_tree::make_directory;
use super::{Backend, Space, StoreError};
use crate::rootfs::{Overlay, Rootfs, Upper};

/// The kernel merges 500 layers at most; some room is left for caches and for kernels that count otherwise.
const LONGEST_CHAIN: usize = 480;

/// Stores on overlayfs.
#[derive(Clone, Copy, Debug)]
pub struct Overlayfs;

impl Backend for Overlayfs {
    fn probe(&self, root: &Path) -> Result<(), StoreError> {
        let dir = tempfile::Builder::new()
            .prefix(".probe-")
            .tempdir_in(root)
            .map_err(StoreError::io("create a directory in", root))?;
        try_everything(dir.path()).map_err(|error| match error {
            full if full.is_full_disk() => full,
            error => StoreError::Refused(format!(
                "the filesystem of {} cannot keep layers of overlayfs ({error}); use a directory on ext4, xfs, btrfs or tmpfs, on a kernel \
                 with overlayfs, or another kind of store, such as rsync:",
                root.display()
            )),
        })
    }

    fn create(
        &self,
        chain: &[PathBuf],
        work: &Path,
        mount_point: &Path,
    ) -> Result<Rootfs, StoreError> {
        let upper = work.join("fs");
        make_dir(work)?;
        make_directory(&upper)?;
        let Some(base) = chain.first() else {
            return Ok(Rootfs::Plain(upper));
        };
        // The top of the merged tree is the top of its newest layer.
        copy_attributes(base, &upper).map_err(StoreError::io("set the attributes of", &upper))?;
        let kernel = work.join("w");
        make_dir(&kernel)?;
        let (start, lower) = relative_to_first(chain);
        Ok(Rootfs::Overlay(Overlay {
            upper: Some(Upper {
                dir: relative(&start, &upper),
                work: relative(&start, &kernel),
            }),
            lower,
            start,
            at: mount_point.to_owned(),
        }))
    }

    fn seal(&self, work: &Path, base: Option<&Path>, sealed: &Path) -> Result<(), StoreError> {
        let upper = work.join("fs");
        if base.is_none() {
            // Nobody kept these out, since nothing was mounted: to layers above they would mean something.
            purge_overlay_marks(&upper)?;
        }
        fs::rename(&upper, sealed).map_err(StoreError::io("rename", &upper))
    }

    fn view(&self, chain: &[PathBuf], mount_point: &Path) -> Rootfs {
        match chain {
            // One layer alone has nothing to be merged with, and nothing in it that only merging would hide.
            [only] => Rootfs::Plain(fs::canonicalize(only).unwrap_or_else(|_| only.clone())),
            chain => {
                let (start, lower) = relative_to_first(chain);
                Rootfs::Overlay(Overlay {
                    start,
                    lower,
                    upper: None,
                    at: mount_point.to_owned(),
                })
            }
        }
    }

    fn longest_chain(&self) -> Option<usize> {
        Some(LONGEST_CHAIN)
    }

    fn remove(&self, tree: &Path) -> Result<(), StoreError> {
        remove_tree(tree, &nothing_special)
    }

    fn space(&self, root: &Path) -> Result<Space, StoreError> {
        space_of(root)
    }
}

/// Does what a store does with a filesystem, in an empty directory.
fn try_everything(dir: &Path) -> Result<(), StoreError> {
    let layers = [dir.join("1"), dir.join("2")];
    for layer in &layers {
        make_directory(layer)?;
    }
    let [base, newer] = &layers;
    let below = base.join("dir");
    make_directory(&below)?;
    for file in [base.join("file"), below.join("file")] {
        fs::write(&file, "").map_err(StoreError::io("write", &file))?;
    }
    let at = dir.join("at");
    make_dir(&at)?;
    let work = dir.join("work");
    let tree = Overlayfs.create(&[newer.clone(), base.clone()], &work, &at)?;
    let change = |top: &Path| -> io::Result<bool> {
        fs::remove_file(top.join("file"))?;
        fs::remove_dir_all(top.join("dir"))?;
        fs::create_dir(top.join("dir"))?;
        Ok(top.join("dir/file").exists() || top.join("file").exists())
    };
    let failed = tree
        .with_blocking(change)?
        .map_err(StoreError::io("change files of", &at))?;
    let sealed = dir.join("3");
    Overlayfs.seal(&work, Some(newer), &sealed)?;
    let chain = [sealed, newer.clone(), base.clone()];
    let seen = Overlayfs
        .view(&chain, &at)
        .with_blocking(|top| top.join("dir/file").exists() || top.join("file").exists())?;
    if failed || seen {
        return Err(StoreError::Refused("removed files stay".to_owned()));
    }
    Ok(())
}

/// Owner, mode, extended attributes and time of the directory `from`.
fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let about = fs::metadata(from)?;
    std::os::unix::fs::chown(to, Some(about.uid()), Some(about.gid()))?;
    fs::set_permissions(to, Permissions::from_mode(about.mode() & 0o7777))?;
    for name in xattr::list_deref(from)? {
        if name.as_encoded_bytes().starts_with(OVERLAY_XATTRS) {
            continue;
        }
        if let Some(value) = xattr::get_deref(from, &name)? {
            xattr::set(to, &name, &value)?;
        }
    }
    fs::File::open(to)?.set_modified(about.modified()?)
}

/// A directory that all of the chain's paths can be named from, by short names if they are beside each other.
fn relative_to_first(chain: &[PathBuf]) -> (PathBuf, Vec<PathBuf>) {
    let start = chain
        .first()
        .and_then(|path| path.parent())
        .unwrap_or(Path::new("/"));
    let names = chain.iter().map(|path| relative(start, path)).collect();
    (start.to_owned(), names)
}

/// How to get from the directory `start` to `to`; both are absolute, and without symbolic links down to where they part.
fn relative(start: &Path, to: &Path) -> PathBuf {
    let common = start
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = start
        .components()
        .skip(common)
        .map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_named_from_where_the_newest_layer_is() {
        let chain = ["/s/l/a", "/s/l/b"].map(PathBuf::from);
        let (start, names) = relative_to_first(&chain);
        assert_eq!(start, Path::new("/s/l"));
        assert_eq!(names, ["a", "b"].map(PathBuf::from));
        assert_eq!(
            relative(&start, Path::new("/s/tmp/x/work/fs")),
            Path::new("../tmp/x/work/fs")
        );
        assert_eq!(relative(Path::new("/"), Path::new("/a")), Path::new("a"));
    }
}

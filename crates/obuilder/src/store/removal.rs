//! Removes trees that strangers filled: any depth, any names, never following a link out of the tree.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::StoreError;

/// Directories that are open at once, at most. What is deeper is moved up first, since a step may nest directories deeper than any
/// path, stack or number of descriptors reaches.
const DEPTH: usize = 48;

/// Directories within each other that cannot be moved up (each on a filesystem of its own), at most.
const HARD_DEPTH: usize = 4 * DEPTH;

/// Removes directories that the usual call does not remove, given by their parent and name. Answers whether it is gone.
pub(super) type Special<'a> = &'a dyn Fn(BorrowedFd<'_>, &CStr) -> io::Result<bool>;

/// Removes `tree`, whatever it is, and everything below it. A missing one is no error.
///
/// # Errors
/// The disk's; part of the tree may then be gone.
pub(super) fn remove_tree(tree: &Path, special: Special<'_>) -> Result<(), StoreError> {
    remove(tree, special).map_err(StoreError::io("remove", tree))
}

/// For trees whose directories are ordinary ones.
pub(super) fn nothing_special(_: BorrowedFd<'_>, _: &CStr) -> io::Result<bool> {
    Ok(false)
}

fn remove(tree: &Path, special: Special<'_>) -> io::Result<()> {
    let (Some(parent), Some(name)) = (tree.parent(), tree.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no file within a directory",
        ));
    };
    let parent = match openat(
        CWD,
        parent,
        DIRECTORY.difference(OFlags::NOFOLLOW),
        Mode::empty(),
    ) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let name = CString::new(name.as_bytes())?;
    Walk { special, moved: 0 }.remove(parent.as_fd(), &name, None, 0)
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

struct Walk<'a> {
    special: Special<'a>,
    /// How many directories were moved up: gives each a name of its own.
    moved: u64,
}

impl Walk<'_> {
    /// Removes what `parent` calls `name`. `top` is an open directory of the tree where there is room for what is too deep.
    fn remove(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        top: Option<BorrowedFd<'_>>,
        depth: usize,
    ) -> io::Result<()> {
        match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Some filesystems say EPERM of a directory.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        if (self.special)(parent, name)? {
            return Ok(());
        }
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if depth >= DEPTH
            && let Some(top) = top
        {
            self.moved += 1;
            let above = format!("obuilder-removal-{}", self.moved);
            match renameat(parent, name, top, above.as_str()) {
                Ok(()) => return Ok(()),
                Err(Errno::XDEV) if depth < HARD_DEPTH => {}
                // Somebody's file may have that very name: the next number will do.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => {
                    return self.remove(parent, name, Some(top), depth);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let dir = match openat(parent, name, DIRECTORY, Mode::empty()) {
            Ok(dir) => dir,
            // Somebody else removes the same.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        loop {
            let removed = self.empty(dir.as_fd(), top.unwrap_or(dir.as_fd()), depth)?;
            match unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // Others were moved here meanwhile, or were not seen while the directory changed below the reader.
                Err(Errno::NOTEMPTY | Errno::EXIST) if removed => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Removes what is in `dir`; answers whether there was anything.
    fn empty(
        &mut self,
        dir: BorrowedFd<'_>,
        top: BorrowedFd<'_>,
        depth: usize,
    ) -> io::Result<bool> {
        let mut any = false;
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                any = true;
                self.remove(dir, name, Some(top), depth + 1)?;
            }
        }
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::mkdirat;

    use super::*;

    fn gone(tree: &Path) {
        remove_tree(tree, &nothing_special).unwrap();
        assert!(tree.symlink_metadata().is_err());
    }

    #[test]
    fn what_is_missing_is_removed_already() {
        let at = tempfile::tempdir().unwrap();
        gone(&at.path().join("nothing"));
        gone(&at.path().join("no/parent"));
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let at = tempfile::tempdir().unwrap();
        let kept = at.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        let tree = at.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        symlink(&kept, tree.join("link")).unwrap();
        symlink("/nowhere", tree.join("dangling")).unwrap();
        gone(&tree);
        symlink(&kept, &tree).unwrap();
        gone(&tree);
        assert!(kept.join("file").exists());
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let at = tempfile::tempdir().unwrap();
        let tree = at.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        // A name that the removal would choose itself is in the way.
        std::fs::write(tree.join("obuilder-removal-1"), "x").unwrap();
        let name = "d".repeat(200);
        let mut dir = openat(CWD, &tree, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..2000 {
            mkdirat(&dir, name.as_str(), Mode::RWXU).unwrap();
            dir = openat(&dir, name.as_str(), DIRECTORY, Mode::empty()).unwrap();
        }
        rustix::fs::openat(
            &dir,
            "leaf",
            OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::RUSR,
        )
        .unwrap();
        gone(&tree);
    }

    #[test]
    fn a_wide_tree_is_removed() {
        let at = tempfile::tempdir().unwrap();
        let tree = at.path().join("tree");
        for n in 0..300 {
            let dir = tree.join(format!("{}", n % 7)).join(format!("{n}"));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("file \n"), "x").unwrap();
        }
        gone(&tree);
    }
}

//! Removes trees that strangers filled: any depth, any names, never following a link out of the tree.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use super::StoreError;
use super::tree::{Visit, walk_into};

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
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match openat(CWD, parent, flags, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let name = CString::new(name.as_bytes())?;
    let mut removal = Removal { special };
    if removal.meet(parent.as_fd(), &name)? {
        walk_into(parent.as_fd(), &name, &mut removal)?;
    }
    Ok(())
}

struct Removal<'a> {
    special: Special<'a>,
}

impl Visit for Removal<'_> {
    /// Removes what can be removed at once, which is all but directories with something in them.
    fn meet(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        let refused = match unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(false),
            // Some filesystems say EPERM of a directory.
            Err(error @ (Errno::ISDIR | Errno::PERM)) => error,
            Err(error) => return Err(error.into()),
        };
        if (self.special)(dir, name)? {
            return Ok(false);
        }
        match remove_empty(dir, name) {
            Err(Errno::NOTDIR) => Err(refused.into()),
            removed => Ok(!removed?),
        }
    }

    fn leave(&mut self, dir: BorrowedFd<'_>, name: &CStr, found: bool) -> io::Result<bool> {
        if remove_empty(dir, name)? {
            return Ok(true);
        }
        if found {
            // Not all was seen, since the directory changed below the reader.
            return Ok(false);
        }
        Err(Errno::NOTEMPTY.into())
    }
}

/// Removes the directory `name` of `dir` unless something is in it. Answers whether it is gone.
fn remove_empty(dir: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::mkdirat;

    use super::*;
    use crate::store::tree::open_dir;

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
        let name = "d".repeat(200);
        let mut dir = open_dir(CWD, &tree).unwrap();
        for _ in 0..2000 {
            mkdirat(&dir, name.as_str(), Mode::RWXU).unwrap();
            dir = open_dir(dir.as_fd(), name.as_str()).unwrap();
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

    /// What is too deep was moved up once, under names that a step could take, and each name taken cost a piece of the stack.
    #[test]
    fn no_names_of_files_exhaust_the_stack() {
        let at = tempfile::tempdir().unwrap();
        let tree = at.path().join("tree");
        std::fs::create_dir_all(tree.join("d/".repeat(200))).unwrap();
        for n in 0..20_000 {
            std::fs::write(tree.join(format!("obuilder-removal-{n}")), "").unwrap();
        }
        gone(&tree);
    }
}

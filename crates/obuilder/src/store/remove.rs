//! Removing a tree that a step made: whatever is in it, however deep. Never follows a symbolic link, and never leaves the tree.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// How many directories are open at once. What is deeper is moved up first: a step can nest directories deeper than a process may have
/// files open, and than a thread's stack.
const DEEPEST: usize = 64;
/// How often a directory that somebody still writes into is emptied again.
const ATTEMPTS: usize = 1000;

/// Removes the tree at `path`. A missing one is no error.
///
/// # Errors
/// The disk's.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    remove_tree_with(path, &|_, _| Ok(false))
}

/// Removes a directory, given by its parent and name, that the usual call does not remove. Tells whether it is gone; it need not be.
pub(super) type Special<'a> = &'a dyn Fn(BorrowedFd<'_>, &CStr) -> io::Result<bool>;

/// As [`remove_tree`], where `special` is asked to remove each directory first.
///
/// # Errors
/// The disk's, and those of `special`.
pub(super) fn remove_tree_with(path: &Path, special: Special<'_>) -> io::Result<()> {
    let about = match rustix::fs::lstat(path) {
        Ok(about) => about,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(about.st_mode) != FileType::Directory {
        return forgive(rustix::fs::unlinkat(CWD, path, AtFlags::empty()));
    }
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::openat(CWD, parent, flags, Mode::empty())?;
        if special(parent.as_fd(), &CString::new(name.as_bytes())?)? {
            return Ok(());
        }
    }
    empty_and_then(&open_dir(CWD, path)?, special, || {
        rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)
    })
}

/// Removes what is in a directory until `done` finds nothing left.
///
/// # Errors
/// The disk's, and those of `special`; there is always something new in it.
pub(super) fn empty_and_then(
    top: &OwnedFd,
    special: Special<'_>,
    done: impl Fn() -> rustix::io::Result<()>,
) -> io::Result<()> {
    let mut attempts = 0;
    while attempts < ATTEMPTS {
        if empty(top, special)? == 0 {
            attempts += 1;
        }
        match done() {
            Err(Errno::NOTEMPTY | Errno::EXIST) => (),
            done => return forgive(done),
        }
    }
    Err(io::ErrorKind::DirectoryNotEmpty.into())
}

/// Removes what is in a directory; some may be left, at its top. Tells how many directories were moved there.
fn empty(top: &OwnedFd, special: Special<'_>) -> io::Result<u64> {
    let mut moved = 0_u64;
    let mut stack = vec![Level::open(top.as_fd(), c".")?];
    loop {
        let depth = stack.len();
        let Some(level) = stack.last_mut() else {
            break;
        };
        let Some(entry) = level.dir.next() else {
            let Some(done) = stack.pop() else { break };
            if let Some(above) = stack.last() {
                // Something may be in there again; the caller looks once more.
                match rustix::fs::unlinkat(above.dir.fd()?, &*done.name, AtFlags::REMOVEDIR) {
                    Err(Errno::NOTEMPTY | Errno::EXIST) => (),
                    result => forgive(result)?,
                }
            }
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let fd = level.dir.fd()?;
        match rustix::fs::unlinkat(fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR) => (),
            Err(error) => return Err(error.into()),
        }
        if special(fd, name)? {
            continue;
        }
        if depth < DEEPEST {
            let below = Level::open(fd, name)?;
            stack.push(below);
        } else {
            move_up(fd, name, top, &mut moved)?;
        }
    }
    Ok(moved)
}

/// Moves a directory to the top, under a name that is free there.
fn move_up(from: BorrowedFd<'_>, name: &CStr, top: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    loop {
        let free = format!(".deep-{moved}");
        *moved += 1;
        match rustix::fs::renameat(from, name, top, &*free) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => (),
            result => return Ok(result?),
        }
    }
}

/// A directory that is being emptied.
struct Level {
    dir: Dir,
    name: CString,
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<Self> {
        Ok(Self {
            dir: Dir::new(open_dir(parent, name)?)?,
            name: name.to_owned(),
        })
    }
}

fn open_dir<P: rustix::path::Arg>(parent: BorrowedFd<'_>, name: P) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// What is gone already need not be removed.
fn forgive(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_tree_is_removed_and_nothing_that_it_points_to() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "kept").unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(tree.join("a/file"), "x").unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        symlink("missing", tree.join("dangling")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.join("kept").exists());
        symlink(&outside, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(rustix::fs::lstat(&tree).is_err());
        assert!(outside.join("kept").exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn directories_nested_deeper_than_any_path_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        // In the way of what is moved up.
        std::fs::create_dir_all(tree.join(".deep-0/full")).unwrap();
        std::fs::write(tree.join(".deep-1"), "").unwrap();
        let mut fd = open_dir(CWD, &tree).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&fd, "d", Mode::from_raw_mode(0o700)).unwrap();
            rustix::fs::openat(&fd, "f", OFlags::CREATE, Mode::from_raw_mode(0o600)).unwrap();
            fd = open_dir(fd.as_fd(), "d").unwrap();
        }
        drop(fd);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}

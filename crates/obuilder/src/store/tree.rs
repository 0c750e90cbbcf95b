//! Going through the whole tree of a layer, however deep and whatever is in it, without following a symbolic link.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::StoreError;

/// How overlayfs marks what it merges. Within a tree that is not merged they mean nothing, and a layer above it would believe them.
pub(super) const OVERLAY_XATTRS: &[u8] = b"trusted.overlay.";

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What is done with a tree that is gone through.
pub(super) trait Visit {
    /// There is something called `name` in `dir`, which may be removed now. Answers whether it is a directory to go into, which is done
    /// when all of `dir` was met.
    fn meet(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool>;

    /// Goes into the directory `dir`, whose name is `name`. What is in it is met next.
    fn enter(&mut self, _dir: BorrowedFd<'_>, _name: &CStr) -> io::Result<()> {
        Ok(())
    }

    /// Comes back to `dir` from its directory `name`, in which something was `found` or not. Answers whether all is done there;
    /// otherwise it is gone through again.
    fn leave(&mut self, _dir: BorrowedFd<'_>, _name: &CStr, _found: bool) -> io::Result<bool> {
        Ok(true)
    }
}

/// Goes through everything below the directory `top`.
///
/// # Errors
/// Those of `visit`, and the disk's; somebody moves directories of the tree.
pub(super) fn walk(top: BorrowedFd<'_>, visit: &mut impl Visit) -> io::Result<()> {
    let here = open_dir(top, c".")?;
    let first = Level::read(here.as_fd(), visit)?;
    go(here, first, visit)
}

/// Enters the directory `name` of `parent`, goes through everything below, and leaves it.
///
/// # Errors
/// As [`walk`]'s.
pub(super) fn walk_into(
    parent: BorrowedFd<'_>,
    name: &CStr,
    visit: &mut impl Visit,
) -> io::Result<()> {
    let here = open_dir(parent, c".")?;
    let first = Level {
        identity: identity(here.as_fd())?,
        waiting: vec![name.to_owned()],
        found: true,
    };
    go(here, first, visit)
}

/// A directory on the way down.
struct Level {
    identity: (u64, u64),
    /// Directories in it that are to be gone into; the last one is where the way down goes on.
    waiting: Vec<CString>,
    /// Whether there was anything in it.
    found: bool,
}

impl Level {
    /// Meets all that is in `dir`.
    fn read(dir: BorrowedFd<'_>, visit: &mut impl Visit) -> io::Result<Self> {
        let mut level = Self {
            identity: identity(dir)?,
            waiting: Vec::new(),
            found: false,
        };
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            level.found = true;
            if visit.meet(dir, name)? {
                level.waiting.push(name.to_owned());
            }
        }
        Ok(level)
    }
}

/// Goes down and up again with one open directory at a time, and keeps the names of one way down only: a step may nest directories
/// deeper than any path, stack or number of descriptors reaches.
fn go(mut here: OwnedFd, first: Level, visit: &mut impl Visit) -> io::Result<()> {
    let mut levels = vec![first];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.waiting.last() {
            let dir = match open_dir(here.as_fd(), name) {
                // Somebody else removes the same.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    level.waiting.pop();
                    continue;
                }
                opened => opened?,
            };
            visit.enter(dir.as_fd(), name)?;
            levels.push(Level::read(dir.as_fd(), visit)?);
            here = dir;
            continue;
        }
        let found = level.found;
        levels.pop();
        let Some(above) = levels.last_mut() else {
            break;
        };
        here = open_dir(here.as_fd(), c"..")?;
        // What is above a directory that was moved may be none of ours.
        if identity(here.as_fd())? != above.identity {
            return Err(io::Error::other("somebody moves its directories"));
        }
        if let Some(name) = above.waiting.last()
            && visit.leave(here.as_fd(), name, found)?
        {
            above.waiting.pop();
        }
    }
    Ok(())
}

/// By which a directory is told from all others: device and number.
fn identity(dir: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let about = rustix::fs::fstat(dir)?;
    Ok((about.st_dev, about.st_ino))
}

/// Opens a directory that is no symbolic link.
pub(super) fn open_dir<P: rustix::path::Arg>(
    parent: BorrowedFd<'_>,
    name: P,
) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?)
}

/// A path by which calls that take nothing else reach an entry of an open directory.
pub(super) fn proc_path(dir: BorrowedFd<'_>, name: &CStr) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
        .join(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

/// Removes from a tree what overlayfs would take for its own marks: character devices 0:0, which stand for removed files, and
/// `trusted.overlay.*` attributes.
///
/// # Errors
/// The disk's.
pub(super) fn purge_overlay_marks(tree: &Path) -> Result<(), StoreError> {
    let purge = || -> io::Result<()> {
        let top = open_dir(CWD, tree)?;
        purge_xattrs(tree)?;
        walk(top.as_fd(), &mut Purge)
    };
    purge().map_err(StoreError::io("look through", tree))
}

struct Purge;

impl Visit for Purge {
    fn meet(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        let about = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(about.st_mode);
        if kind == FileType::CharacterDevice && about.st_rdev == 0 {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            return Ok(false);
        }
        purge_xattrs(&proc_path(dir, name))?;
        Ok(kind == FileType::Directory)
    }
}

fn purge_xattrs(path: &Path) -> io::Result<()> {
    let names = match xattr::list(path) {
        Ok(names) => names,
        // A filesystem without them.
        Err(error) if error.raw_os_error() == Some(Errno::NOTSUP.raw_os_error()) => return Ok(()),
        Err(error) => return Err(error),
    };
    for name in names {
        if name.as_encoded_bytes().starts_with(OVERLAY_XATTRS) {
            xattr::remove(path, &name)?;
        }
    }
    Ok(())
}

/// Brings everything of the filesystem that `path` is on to the disk.
///
/// # Errors
/// The disk's.
pub(super) fn sync_filesystem(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moves the directory that it finds elsewhere, as a process that is left of a step may.
    struct Mover {
        from: PathBuf,
        to: PathBuf,
        met: Vec<String>,
    }

    impl Visit for Mover {
        fn meet(&mut self, _: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
            self.met.push(name.to_str().unwrap().to_owned());
            if name == c"file" {
                std::fs::rename(&self.from, &self.to)?;
            }
            Ok(name != c"file")
        }
    }

    #[test]
    fn nothing_is_met_where_a_directory_was_moved_to() {
        let at = tempfile::tempdir().unwrap();
        let [tree, kept] = ["tree", "kept"].map(|name| at.path().join(name));
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(tree.join("a/b/file"), "").unwrap();
        std::fs::create_dir_all(kept.join("c")).unwrap();
        let mut mover = Mover {
            from: tree.join("a/b"),
            to: kept.join("b"),
            met: Vec::new(),
        };
        let top = open_dir(CWD, &tree).unwrap();
        assert!(walk(top.as_fd(), &mut mover).is_err());
        assert_eq!(mover.met, ["a", "b", "file"]);
    }
}

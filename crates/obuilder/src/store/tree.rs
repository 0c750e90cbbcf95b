//! Going through the whole tree of a layer, however deep and whatever is in it, without following a symbolic link.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::StoreError;

/// How overlayfs marks what it merges. Within a tree that is not merged they mean nothing, and a layer above it would believe them.
pub(super) const OVERLAY_XATTRS: &[u8] = b"trusted.overlay.";

/// The longest path within a tree, in bytes: deeper trees are no image's, and going down to each directory takes ever longer.
const LONGEST: usize = 64 << 10;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory of a tree, from which its entries can be reached.
pub(super) struct Place<'a> {
    pub(super) dir: BorrowedFd<'a>,
    /// From the tree's top; empty for the top.
    pub(super) path: &'a [u8],
}

/// Calls `each` for everything below `top`, a directory before what is in it. It may remove what it is called for.
///
/// # Errors
/// Those of `each`, and the disk's; a tree that is too deep.
pub(super) fn walk(
    top: &OwnedFd,
    mut each: impl FnMut(&Place<'_>, &CString, &Stat) -> io::Result<()>,
) -> io::Result<()> {
    let mut waiting = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        let dir = open_beneath(top.as_fd(), &path)?;
        let place = Place {
            dir: dir.as_fd(),
            path: &path,
        };
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_owned();
            if name.as_c_str() == c"." || name.as_c_str() == c".." {
                continue;
            }
            let about = rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            each(&place, &name, &about)?;
            if FileType::from_raw_mode(about.st_mode) == FileType::Directory {
                waiting.push(join(&path, &name)?);
            }
        }
    }
    Ok(())
}

/// The path of `name` in the directory `path`.
pub(super) fn join(path: &[u8], name: &CString) -> io::Result<Vec<u8>> {
    let mut joined = path.to_vec();
    if !joined.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name.as_bytes());
    if joined.len() > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidFilename,
            "its directories are nested too deeply",
        ));
    }
    Ok(joined)
}

/// Opens a directory below `top`, through real directories only. The path may be longer than the kernel takes at once.
pub(super) fn open_beneath(top: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    if path.is_empty() {
        return open_dir(top, c".");
    }
    let real = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(top, path, DIRECTORY, Mode::empty(), real) {
        Ok(dir) => return Ok(dir),
        // An old kernel, or a long path: one step after the other.
        Err(Errno::NOSYS | Errno::NAMETOOLONG) => (),
        Err(error) => return Err(error.into()),
    }
    let mut dir = open_dir(top, c".")?;
    for name in path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
    {
        dir = open_dir(dir.as_fd(), name)?;
    }
    Ok(dir)
}

/// Opens a directory that is no symbolic link.
pub(super) fn open_dir<P: rustix::path::Arg>(
    parent: BorrowedFd<'_>,
    name: P,
) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?)
}

/// A path by which calls that take nothing else reach an entry of an open directory.
pub(super) fn proc_path(dir: BorrowedFd<'_>, name: &CString) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
        .join(std::ffi::OsStr::from_bytes(name.as_bytes()))
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
        walk(&top, |place, name, about| {
            let kind = FileType::from_raw_mode(about.st_mode);
            if kind == FileType::CharacterDevice && about.st_rdev == 0 {
                return Ok(rustix::fs::unlinkat(place.dir, name, AtFlags::empty())?);
            }
            purge_xattrs(&proc_path(place.dir, name))
        })
    };
    purge().map_err(StoreError::io("look through", tree))
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

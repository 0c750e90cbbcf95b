//! Opens directories below a root, such that nothing below it can lead elsewhere.

use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ocluster_obuilder_spec::quoted;
use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::CopyError;

/// How often a look-up is tried again that the kernel gave up because something was renamed meanwhile.
const ATTEMPTS: usize = 16;

/// Opens the directory `path`, to scan it or to write into it. What is opened stays usable in other threads, whatever they have mounted.
///
/// # Errors
/// There is no such directory.
pub fn open_root(path: &Path) -> Result<OwnedFd, CopyError> {
    fs::open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| CopyError::Io {
        action: "open",
        path: path.to_path_buf(),
        source: errno.into(),
    })
}

/// Opens the directory `path` below `root` (`root` itself if it is empty) without following any link.
pub(super) fn open_dir(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let mut attempts = 0;
    loop {
        attempts += 1;
        match fs::openat2(
            root,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        ) {
            Err(Errno::AGAIN) if attempts < ATTEMPTS => {}
            answer => return answer,
        }
    }
}

/// `dir/name`; just `name` in a root.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    path.extend_from_slice(dir);
    if !dir.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// A path's directory (empty if it has none) and its last name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => {
            let (dir, name) = path.split_at(slash);
            (dir, name.get(1..).unwrap_or_default())
        }
        None => (b"", path),
    }
}

/// What became of `path`, which is relative to a root. A name that no disk takes is the user's to mend.
pub(super) fn failed(action: &'static str, path: &[u8], errno: Errno) -> CopyError {
    if errno == Errno::NAMETOOLONG {
        return CopyError::Request(format!("{} is too long for a file's name", shortened(path)));
    }
    CopyError::Io {
        action,
        path: PathBuf::from(OsStr::from_bytes(path)),
        source: errno.into(),
    }
}

/// A long path as a message shows it.
pub(super) fn shortened(path: &[u8]) -> String {
    const SHOWN: usize = 80;
    match path.get(..SHOWN) {
        Some(start) if path.len() > SHOWN => format!("{}...", quoted(start)),
        _ => quoted(path).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_where_they_were_joined() {
        assert_eq!(join(b"", b"a"), b"a");
        assert_eq!(join(b"a/b", b"c"), b"a/b/c");
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"c"), (&b""[..], &b"c"[..]));
    }

    #[test]
    fn a_link_on_the_way_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("real/below")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let root = open_root(dir.path()).unwrap();
        let root = std::os::fd::AsFd::as_fd(&root);
        assert!(open_dir(root, b"").is_ok());
        assert!(open_dir(root, b"real/below").is_ok());
        assert_eq!(open_dir(root, b"link/below").unwrap_err(), Errno::LOOP);
        assert_eq!(open_dir(root, b"..").unwrap_err(), Errno::XDEV);
    }
}

//! Goes through a tree, directories before what is in them, names in the order of their bytes.
//!
//! Links are told of and never followed, so nothing outside of the tree is ever read. Sockets are left out: without the program behind them
//! they mean nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bstr::{BStr, BString, ByteSlice};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::ExportError;
use crate::image::unpack::{IN_TREE, Tree, by_descriptor, travels};

/// One file of any kind.
pub(super) struct Found<'a> {
    /// Where it is, relative to where the walk started.
    pub(super) path: &'a BStr,
    pub(super) stat: &'a Stat,
    pub(super) kind: FileType,
    /// The directory it is in, and its name there.
    pub(super) directory: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
}

/// A place in a tree, found.
pub(super) struct Start {
    directory: OwnedFd,
    /// Its last component; `.` for the top.
    pub(super) name: BString,
}

/// Finds `path` in the tree. Links on the way lead where they lead in the tree; one at the end is what is meant, unless a slash follows.
pub(super) fn find(tree: &Tree, path: &BStr) -> Result<Start, ExportError> {
    let missing = |error: Errno| match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => ExportError::Missing(path.to_owned()),
        error => ExportError::read(path, error),
    };
    let open = |path: &[u8]| {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(tree.root(), path, flags, Mode::empty(), IN_TREE).map_err(missing)
    };
    if path.contains(&0) {
        return Err(ExportError::Missing(path.to_owned()));
    }
    let end = path.trim_end_with(|c| c == '/');
    let (above, name) = match end.rfind_byte(b'/') {
        Some(slash) => (end.get(..slash), end.get(slash + 1..)),
        None => (None, Some(end)),
    };
    let name = name.unwrap_or_default();
    if matches!(name, b"" | b"." | b"..") || path.ends_with(b"/") {
        let name = if matches!(name, b"" | b"." | b"..") {
            &b"."[..]
        } else {
            name
        };
        let directory = open(path)?;
        return Ok(Start {
            directory,
            name: if path.ends_with(b"/") {
                b".".into()
            } else {
                name.into()
            },
        });
    }
    let directory = open(above.unwrap_or_default())?;
    rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(missing)?;
    Ok(Start {
        directory,
        name: name.into(),
    })
}

/// A directory on the way down.
struct Level {
    directory: OwnedFd,
    /// Its entries that are still to come, the last one first.
    pending: Vec<BString>,
    /// How long the path is without it.
    above: usize,
}

/// Calls `each` for what is at `start` and everything below it.
pub(super) fn walk(
    start: &Start,
    cancel: &CancellationToken,
    mut each: impl FnMut(&Found<'_>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let mut path = BString::default();
    let mut levels: Vec<Level> = Vec::new();
    let mut next = Some(start.name.clone());
    loop {
        if cancel.is_cancelled() {
            return Err(ExportError::Cancelled);
        }
        let Some(name) = next.take() else {
            let Some(level) = levels.last_mut() else {
                return Ok(());
            };
            next = level.pending.pop();
            if next.is_none() {
                path.truncate(level.above);
                levels.pop();
            }
            continue;
        };
        let above = path.len();
        if above > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let directory = levels
            .last()
            .map_or(start.directory.as_fd(), |level| level.directory.as_fd());
        let failed = |error: Errno| ExportError::read(path.as_bstr(), error);
        let bytes = name.as_bytes();
        let stat =
            rustix::fs::statat(directory, bytes, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Socket {
            each(&Found {
                path: path.as_bstr(),
                stat: &stat,
                kind,
                directory,
                name: bytes,
            })?;
        }
        if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened =
                rustix::fs::openat(directory, bytes, flags, Mode::empty()).map_err(failed)?;
            let pending = list(&opened).map_err(failed)?;
            levels.push(Level {
                directory: opened,
                pending,
                above,
            });
        } else {
            path.truncate(above);
        }
    }
}

fn list(directory: &OwnedFd) -> Result<Vec<BString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(BString::from(name));
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

impl Found<'_> {
    /// What a link holds.
    pub(super) fn target(&self) -> Result<Vec<u8>, ExportError> {
        rustix::fs::readlinkat(self.directory, self.name, Vec::new())
            .map(|target| target.into_bytes())
            .map_err(|error| ExportError::read(self.path, error))
    }

    /// A regular file, to be read.
    pub(super) fn open(&self) -> Result<std::fs::File, ExportError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(self.directory, self.name, flags, Mode::empty())
            .map(std::fs::File::from)
            .map_err(|error| ExportError::read(self.path, error))
    }

    /// Its extended attributes, in order of their names.
    pub(super) fn xattrs(&self) -> Result<Vec<(BString, Vec<u8>)>, ExportError> {
        let failed = |error: Errno| ExportError::read(self.path, error);
        let path = by_descriptor(self.directory, self.name);
        let length = match rustix::fs::llistxattr_query(&path) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Ok(length) => length,
            Err(error) => return Err(failed(error)),
        };
        let mut names = vec![0; length];
        let length = rustix::fs::llistxattr(&path, &mut names).map_err(failed)?;
        names.truncate(length);
        let mut found = Vec::new();
        for name in names.split_str("\0") {
            if name.is_empty() || !travels(name) {
                continue;
            }
            let length = rustix::fs::lgetxattr_query(&path, name).map_err(failed)?;
            let mut value = vec![0; length];
            let length = rustix::fs::lgetxattr(&path, name, &mut value).map_err(failed)?;
            value.truncate(length);
            found.push((name.into(), value));
        }
        found.sort();
        Ok(found)
    }
}

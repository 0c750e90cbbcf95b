//! Finds and removes what is below a directory, and never anything else.
//!
//! Every path is resolved by the kernel with that directory as its root: links lead where they would lead a process in the tree, and
//! never out of it. What is made or removed is then named by one component in an open directory, without following a link.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bstr::{BStr, BString, ByteSlice};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::UnpackError;
use super::name::Place;

/// How paths in a tree are resolved.
pub(crate) const IN_TREE: ResolveFlags = ResolveFlags::IN_ROOT
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Links on the way to one directory, as many as the kernel follows.
const LINKS: usize = 40;

/// A tree that nobody else changes meanwhile.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    /// The directory that was asked for last, since entries come in bunches.
    last: Option<(BString, OwnedFd)>,
}

/// How a directory is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Directories that are missing are made: mode 0755, owned by root.
    Make,
    /// They are missing then.
    Leave,
}

impl Tree {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: rustix::fs::openat(CWD, root, flags, Mode::empty())?,
            last: None,
        })
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory `path`, if it is one, for use as the start of a name. It must have been parsed by [`Place`].
    pub(super) fn directory(
        &mut self,
        path: &BStr,
        missing: Missing,
    ) -> Result<Option<BorrowedFd<'_>>, UnpackError> {
        if path.is_empty() {
            return Ok(Some(self.root.as_fd()));
        }
        if self.last.as_ref().is_none_or(|(known, _)| known != path) {
            self.last = None;
            let Some(found) = self.find(path, missing)? else {
                return Ok(None);
            };
            self.last = Some((path.to_owned(), found));
        }
        Ok(self.last.as_ref().map(|(_, directory)| directory.as_fd()))
    }

    /// Must be called when something that is not a regular file was removed or replaced: paths may lead elsewhere now.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    fn open_directory(&self, path: &BStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, path.as_bytes(), flags, Mode::empty(), IN_TREE)
    }

    fn find(&self, path: &BStr, missing: Missing) -> Result<Option<OwnedFd>, UnpackError> {
        match (self.open_directory(path), missing) {
            (Ok(found), _) => Ok(Some(found)),
            (Err(Errno::NOENT | Errno::NOTDIR), Missing::Leave) => Ok(None),
            (Err(Errno::NOENT), Missing::Make) => self.make(path).map(Some),
            (Err(error), _) => Err(self.unreachable(path, error)),
        }
    }

    fn unreachable(&self, path: &BStr, error: Errno) -> UnpackError {
        match error {
            Errno::NOTDIR => UnpackError::Refused(format!(
                "an entry lies below \"{path}\", which is not a directory"
            )),
            Errno::LOOP => {
                UnpackError::Refused(format!("the links of \"{path}\" lead round and round"))
            }
            error => UnpackError::io("open", path, error),
        }
    }

    /// Makes what is missing on the way to `path`, also at the far end of links that lead nowhere yet.
    fn make(&self, path: &BStr) -> Result<OwnedFd, UnpackError> {
        let mut wanted = path.to_owned();
        let mut links = 0;
        'again: loop {
            let mut here = self
                .open_directory(b".".as_bstr())
                .map_err(|error| self.unreachable(path, error))?;
            let mut end = 0;
            while let Some((name, next)) = component(&wanted, end) {
                let prefix = wanted.get(..next).unwrap_or_default().as_bstr();
                match self.step(&here, name, prefix) {
                    Ok(found) => here = found,
                    Err(Errno::NOENT) => match rustix::fs::readlinkat(&here, name, Vec::new()) {
                        Ok(target) => {
                            links += 1;
                            if links > LINKS {
                                return Err(self.unreachable(path, Errno::LOOP));
                            }
                            let target = target.to_bytes();
                            let start = match target.first() {
                                Some(b'/') => &b""[..],
                                _ => wanted.get(..end).unwrap_or_default(),
                            };
                            let rest = wanted.get(next..).unwrap_or_default();
                            wanted = bstr::join("/", [start, target, rest]).into();
                            continue 'again;
                        }
                        Err(Errno::NOENT) => {
                            here = new_directory(&here, name)
                                .map_err(|error| UnpackError::io("create", prefix, error))?;
                        }
                        Err(error) => return Err(self.unreachable(prefix, error)),
                    },
                    Err(error) => return Err(self.unreachable(prefix, error)),
                }
                end = next;
            }
            return Ok(here);
        }
    }

    /// One component further. A directory is entered at once; only what may be a link is resolved from the top.
    fn step(&self, here: &OwnedFd, name: &[u8], prefix: &BStr) -> Result<OwnedFd, Errno> {
        if name == b".." {
            return self.open_directory(prefix);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(here, name, flags, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) => self.open_directory(prefix),
            found => found,
        }
    }

    /// Removes what is at `place`, with everything in it, except what `keep` (told the path) says. A missing one is no error.
    pub(super) fn remove(
        &mut self,
        place: &Place,
        keep: &dyn Fn(&BStr) -> bool,
    ) -> Result<(), UnpackError> {
        let Some(parent) = self.directory(place.parent(), Missing::Leave)? else {
            return Ok(());
        };
        let failed = |error: Errno| UnpackError::io("remove", place.path(), error);
        let kind =
            match rustix::fs::statat(parent, place.name().as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(failed(error)),
            };
        if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory =
                rustix::fs::openat(parent, place.name().as_bytes(), flags, Mode::empty())
                    .map_err(failed)?;
            let left = empty(directory, place.path(), keep).map_err(failed)?;
            if left || keep(place.path()) {
                return Ok(());
            }
            rustix::fs::unlinkat(parent, place.name().as_bytes(), AtFlags::REMOVEDIR)
                .map_err(failed)?;
        } else if !keep(place.path()) {
            rustix::fs::unlinkat(parent, place.name().as_bytes(), AtFlags::empty())
                .map_err(failed)?;
        }
        self.forget();
        Ok(())
    }

    /// Removes what is in the directory `path`, likewise. A missing one is no error.
    pub(super) fn clear(
        &mut self,
        path: &BStr,
        keep: &dyn Fn(&BStr) -> bool,
    ) -> Result<(), UnpackError> {
        let failed = |error: Errno| UnpackError::io("empty", path, error);
        let directory = match self.directory(path, Missing::Leave)? {
            Some(directory) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::openat(directory, ".", flags, Mode::empty()).map_err(failed)?
            }
            None => return Ok(()),
        };
        empty(directory, path, keep).map_err(failed)?;
        self.forget();
        Ok(())
    }
}

/// The component of `path` that starts at or after `start`, and where it ends.
fn component(path: &[u8], start: usize) -> Option<(&[u8], usize)> {
    let rest = path.get(start..)?;
    let skipped = rest.find_not_byteset(b"/")?;
    let rest = rest.get(skipped..)?;
    let length = rest.find_byte(b'/').unwrap_or(rest.len());
    Some((rest.get(..length)?, start + skipped + length))
}

/// Neither the process's mask nor a set-group-id directory above is the image's business.
fn new_directory(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(directory, name, mode)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    rustix::fs::fchown(&made, Some(Uid::ROOT), Some(Gid::ROOT))?;
    rustix::fs::fchmod(&made, mode)?;
    Ok(made)
}

/// A directory on the way down, and what of it is still to be looked at.
struct Level {
    pending: Vec<(BString, FileType)>,
    /// How long the path above it is.
    above: usize,
    kept: bool,
}

/// Removes everything in `directory` but what is kept, and tells whether anything was. It goes down and up again with one open directory
/// at a time: a tree may be deeper than a process may have files open, or a stack deep.
fn empty(directory: OwnedFd, path: &BStr, keep: &dyn Fn(&BStr) -> bool) -> Result<bool, Errno> {
    let down = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut path = path.to_owned();
    let mut levels = vec![Level {
        pending: list(&directory)?,
        above: 0,
        kept: false,
    }];
    let mut here = directory;
    while let Some(level) = levels.last_mut() {
        let length = path.len();
        let Some((name, kind)) = level.pending.pop() else {
            let (kept, above) = (level.kept, level.above);
            levels.pop();
            let Some(parent) = levels.last_mut() else {
                return Ok(kept);
            };
            here = rustix::fs::openat(&here, "..", down, Mode::empty())?;
            if kept || keep(path.as_bstr()) {
                parent.kept = true;
            } else {
                let name = path.rsplit_str("/").next().unwrap_or_default();
                rustix::fs::unlinkat(&here, name, AtFlags::REMOVEDIR)?;
            }
            path.truncate(above);
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        if kind == FileType::Directory {
            here = rustix::fs::openat(&here, name.as_bytes(), down, Mode::empty())?;
            levels.push(Level {
                pending: list(&here)?,
                above: length,
                kept: false,
            });
        } else {
            if keep(path.as_bstr()) {
                level.kept = true;
            } else {
                rustix::fs::unlinkat(&here, name.as_bytes(), AtFlags::empty())?;
            }
            path.truncate(length);
        }
    }
    Ok(false)
}

fn list(directory: &OwnedFd) -> Result<Vec<(BString, FileType)>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            kind => kind,
        };
        found.push((BString::from(name), kind));
    }
    Ok(found)
}

//! Makes a tree what a layer says.
//!
//! Entries are made without following a link at their end; what is in their way is removed first, unless both are directories. Whiteouts
//! remove only what layers below have put there. Devices are made as the layer says, as Docker does: what a step may do with them is the
//! sandbox's affair. One of them is refused, the character device 0:0, with which overlay filesystems mark what is removed.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bstr::{BStr, BString, ByteSlice};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::archive::{Archive, Entry, Kind};
use super::attributes::{set_by_name, set_on_open, timestamps};
use super::name::{Meaning, Place, meaning};
use super::numbers::Time;
use super::stream::stream;
use super::tree::{Missing, Tree};
use super::{Unpack, UnpackError, UnpackLimits};

/// What a layer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The SHA-256 of the tar within.
    pub diff_id: [u8; 32],
    /// Its length in bytes.
    pub bytes: u64,
    /// How many entries it has.
    pub entries: u64,
    /// How many extended attributes the filesystem did not take.
    pub refused_xattrs: u64,
}

/// Unpacks the layer that `source` gives (a tar, perhaps compressed with gzip or zstd) onto the tree at `root`, which nobody else may
/// change meanwhile. Nothing outside of it is touched, whatever the layer holds. It blocks, and needs root.
///
/// # Errors
/// The layer or the disk is not as it should be, or it was cancelled; the tree is then to be thrown away.
pub fn unpack_layer(
    root: &Path,
    source: impl Read + Send,
    how: &Unpack,
    cancel: &CancellationToken,
) -> Result<Unpacked, UnpackError> {
    let tree = Tree::open(root).map_err(|error| UnpackError::io("open", b"/".as_bstr(), error))?;
    let (done, diff_id, bytes) = stream(source, how.expected, how.limits.bytes, cancel, |tar| {
        let mut apply = Apply {
            tree,
            limits: how.limits,
            made: Made::default(),
            touched: Made::default(),
            directories: Vec::new(),
            names: 0,
            refused_xattrs: 0,
            cancel,
        };
        let entries = apply.all(Archive::new(tar), how.whiteouts)?;
        Ok((entries, apply.refused_xattrs))
    })?;
    Ok(Unpacked {
        diff_id,
        bytes,
        entries: done.0,
        refused_xattrs: done.1,
    })
}

/// The paths that the layer itself has made, as keyed hashes: a million of them should cost little.
#[derive(Default)]
struct Made {
    hasher: RandomState,
    paths: HashSet<u64>,
}

impl Made {
    /// Tells whether it is new.
    fn insert(&mut self, path: &BStr) -> bool {
        self.paths.insert(self.hasher.hash_one(path.as_bytes()))
    }

    fn contains(&self, path: &BStr) -> bool {
        self.paths.contains(&self.hasher.hash_one(path.as_bytes()))
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

struct Apply<'a> {
    tree: Tree,
    limits: UnpackLimits,
    made: Made,
    /// Directories that it changes without speaking of them.
    touched: Made,
    /// Times that directories get at the end, when nothing is made in them any more.
    directories: Vec<(BString, Time)>,
    names: u64,
    refused_xattrs: u64,
    cancel: &'a CancellationToken,
}

impl Apply<'_> {
    fn all<R: BufRead>(
        &mut self,
        mut archive: Archive<R>,
        whiteouts: bool,
    ) -> Result<u64, UnpackError> {
        let mut entries = 0;
        while let Some(entry) = archive.next()? {
            if self.cancel.is_cancelled() {
                return Err(UnpackError::Cancelled);
            }
            entries += 1;
            if entries > self.limits.entries {
                return Err(UnpackError::Refused(format!(
                    "it has more than {} entries",
                    self.limits.entries
                )));
            }
            match meaning(entry.path.as_bstr(), whiteouts)? {
                Meaning::Nothing => {}
                Meaning::Root => self.root(&entry)?,
                Meaning::Remove(place) => {
                    self.touch(place.parent())?;
                    let made = &self.made;
                    self.tree.remove(&place, &|path| made.contains(path))?;
                }
                Meaning::RemoveAll(path) => {
                    self.touch(path.as_bstr())?;
                    let made = &self.made;
                    self.tree
                        .clear(path.as_bstr(), &|path| made.contains(path))?;
                }
                Meaning::Make(place) => {
                    self.touch(place.parent())?;
                    self.make(&place, &entry, &mut archive)?;
                    self.made.insert(place.path());
                }
            }
        }
        self.set_times()?;
        Ok(entries)
    }

    fn root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != Kind::Directory {
            return Err(UnpackError::Refused(
                "its top is to be something else than a directory".to_owned(),
            ));
        }
        self.refused_xattrs += set_on_open(self.tree.root(), entry)
            .map_err(|error| UnpackError::io("change", b"/".as_bstr(), error))?;
        self.made.insert(BStr::new(b""));
        self.remember(BStr::new(b""), entry.modified)
    }

    fn make<R: BufRead>(
        &mut self,
        place: &Place,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), UnpackError> {
        match &entry.kind {
            Kind::File => self.file(place, entry, archive),
            Kind::Directory => self.directory(place, entry),
            Kind::HardLink(target) => self.hard_link(place, target.as_bstr()),
            Kind::Symlink(target) => {
                if target.is_empty() {
                    return Err(UnpackError::Refused(format!(
                        "the link \"{}\" leads nowhere",
                        place.path()
                    )));
                }
                self.node(place, entry, true, |parent, name| {
                    rustix::fs::symlinkat(target.as_bytes(), parent, name)
                })
            }
            Kind::Fifo => self.device(place, entry, FileType::Fifo, 0, 0),
            Kind::CharDevice(0, 0) => Err(UnpackError::Refused(format!(
                "\"{}\" is the device 0:0, which marks removed files on overlay filesystems",
                place.path()
            ))),
            Kind::CharDevice(major, minor) => {
                self.device(place, entry, FileType::CharacterDevice, *major, *minor)
            }
            Kind::BlockDevice(major, minor) => {
                self.device(place, entry, FileType::BlockDevice, *major, *minor)
            }
        }
    }

    fn device(
        &mut self,
        place: &Place,
        entry: &Entry,
        kind: FileType,
        major: u32,
        minor: u32,
    ) -> Result<(), UnpackError> {
        self.node(place, entry, false, |parent, name| {
            let number = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), number)
        })
    }

    fn file<R: BufRead>(
        &mut self,
        place: &Place,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<(), UnpackError> {
        let failed = |error: io::Error| UnpackError::io("write", place.path(), error);
        let file = self.create(place, |parent, name| {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
        })?;
        let mut file = File::from(file);
        loop {
            let piece = archive.fill()?;
            if piece.is_empty() {
                break;
            }
            file.write_all(piece).map_err(failed)?;
            let used = piece.len();
            archive.consume(used);
            if self.cancel.is_cancelled() {
                return Err(UnpackError::Cancelled);
            }
        }
        self.refused_xattrs +=
            set_on_open(file.as_fd(), entry).map_err(|error| failed(error.into()))?;
        rustix::fs::futimens(&file, &timestamps(entry.modified))
            .map_err(|error| failed(error.into()))
    }

    fn directory(&mut self, place: &Place, entry: &Entry) -> Result<(), UnpackError> {
        let failed = |error: Errno| UnpackError::io("create", place.path(), error);
        let parent = self.parent(place)?;
        let name = place.name().as_bytes();
        let directory = match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => open_directory(parent, name).map_err(failed)?,
            Err(Errno::EXIST) => match open_directory(parent, name) {
                Ok(directory) => directory,
                // Something else, or a link to a directory.
                Err(Errno::NOTDIR | Errno::LOOP) => self.create(place, |parent, name| {
                    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
                    open_directory(parent, name)
                })?,
                Err(error) => return Err(failed(error)),
            },
            Err(error) => return Err(failed(error)),
        };
        self.refused_xattrs += set_on_open(directory.as_fd(), entry).map_err(failed)?;
        self.remember(place.path(), entry.modified)
    }

    /// Links to what is in the tree already. The target's last component is not followed: a link to a link is a link.
    fn hard_link(&mut self, place: &Place, target: &BStr) -> Result<(), UnpackError> {
        let refused = |why: &str| {
            UnpackError::Refused(format!(
                "the hard link \"{}\" to \"{target}\" {why}",
                place.path()
            ))
        };
        let Some(target) = Place::parse(target)? else {
            return Err(refused("leads to a directory"));
        };
        let itself = AtFlags::SYMLINK_NOFOLLOW;
        let from = match self.tree.directory(target.parent(), Missing::Leave)? {
            Some(from) => from
                .try_clone_to_owned()
                .map_err(|error| UnpackError::io("open", target.parent(), error))?,
            None => return Err(refused("leads nowhere")),
        };
        let name = target.name().as_bytes();
        let old = match rustix::fs::statat(&from, name, itself) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Err(refused("leads nowhere")),
            Err(error) => return Err(UnpackError::io("link", target.path(), error)),
        };
        if FileType::from_raw_mode(old.st_mode) == FileType::Directory {
            return Err(refused("leads to a directory"));
        }
        let parent = self.parent(place)?;
        if let Ok(there) = rustix::fs::statat(parent, place.name().as_bytes(), itself)
            && (there.st_dev, there.st_ino) == (old.st_dev, old.st_ino)
        {
            return Ok(());
        }
        self.create(place, |parent, new| {
            rustix::fs::linkat(&from, name, parent, new, AtFlags::empty())
        })
    }

    fn node(
        &mut self,
        place: &Place,
        entry: &Entry,
        is_link: bool,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<(), Errno>,
    ) -> Result<(), UnpackError> {
        self.create(place, make)?;
        let parent = self.parent(place)?;
        self.refused_xattrs += set_by_name(parent, place.name(), entry, is_link)
            .map_err(|error| UnpackError::io("change", place.path(), error))?;
        Ok(())
    }

    fn parent(&mut self, place: &Place) -> Result<BorrowedFd<'_>, UnpackError> {
        self.tree
            .directory(place.parent(), Missing::Make)?
            .ok_or_else(|| UnpackError::io("open", place.parent(), Errno::NOENT))
    }

    /// Calls `make`, and if something is in its way, removes that and calls it again.
    fn create<T>(
        &mut self,
        place: &Place,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        let name = place.name().as_bytes();
        let first = make(self.parent(place)?, name);
        let made = if matches!(first, Err(Errno::EXIST)) {
            self.tree.remove(place, &|_| false)?;
            make(self.parent(place)?, name)
        } else {
            first
        };
        made.map_err(|error| UnpackError::io("create", place.path(), error))
    }

    /// A directory that is there keeps its time when something in it changes, unless the layer gives it another: that something was
    /// unpacked is no change of the image.
    fn touch(&mut self, path: &BStr) -> Result<(), UnpackError> {
        if self.made.contains(path) || !self.touched.insert(path) {
            return Ok(());
        }
        let Some(directory) = self.tree.directory(path, Missing::Leave)? else {
            return Ok(());
        };
        let stat =
            rustix::fs::fstat(directory).map_err(|error| UnpackError::io("read", path, error))?;
        let modified = Time {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        };
        self.remember(path, modified)
    }

    fn remember(&mut self, path: &BStr, modified: Time) -> Result<(), UnpackError> {
        self.names += path.len() as u64 + 64;
        if self.names > self.limits.directory_names {
            return Err(UnpackError::Refused(format!(
                "the names of its directories take more than {} bytes",
                self.limits.directory_names
            )));
        }
        self.directories.push((path.to_owned(), modified));
        Ok(())
    }

    fn set_times(&mut self) -> Result<(), UnpackError> {
        for (path, modified) in std::mem::take(&mut self.directories) {
            let times = timestamps(modified);
            let itself = AtFlags::SYMLINK_NOFOLLOW;
            let failed = |error: Errno| UnpackError::io("change", path.as_bstr(), error);
            let Some(place) = Place::parse(path.as_bstr())? else {
                rustix::fs::futimens(self.tree.root(), &times).map_err(failed)?;
                continue;
            };
            // It may have been replaced meanwhile.
            let Some(parent) = self.tree.directory(place.parent(), Missing::Leave)? else {
                continue;
            };
            let name = place.name().as_bytes();
            match rustix::fs::statat(parent, name, itself) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    rustix::fs::utimensat(parent, name, &times, itself).map_err(failed)?;
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }
}

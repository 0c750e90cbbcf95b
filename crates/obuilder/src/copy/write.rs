//! Writes what a `copy` takes into a layer's tree.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use bstr::ByteSlice as _;
use ocluster_obuilder_spec::{Manifest, quoted};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use tokio_util::sync::CancellationToken;

use super::destination::{self, create_directory};
use super::digest::{Reader, changed};
use super::manifest::{open_file, path_of};
use super::tree::{failed, join, open_dir, split};
use super::{CopyError, CopyPlan};

/// From this size on, in bytes, it is tried to share a file's blocks with its source.
const WORTH_SHARING: i64 = 64 * 1024;

/// Writes `plan`, scanned in `source`, into the tree `target`, to be owned by `owner` (uid and gid). It blocks; when `cancel` fires it ends soon, at the latest with the next
/// piece of a file. What is there after an error is of no use: throw the tree away.
///
/// Files get mode 0755 if anybody may execute them, else 0644, directories 0755; all get the owner and their source's time in
/// whole seconds, and nothing else: no set-user-id bits, extended attributes or hard links. A file or link replaces a file, a link or an
/// empty directory, as `tar` does. A directory is merged into one that is there, or to which a link leads that is there; any existing
/// directory keeps owner, mode and time. Directories that are missing on the way are created: for the owner if the destination is
/// a directory to copy into, else for root.
///
/// Content is hashed again while it is written, so that a layer never holds anything but what its id says.
///
/// # Errors
/// Something is in the way, a source changed since it was scanned, the disk's, or cancelled.
pub fn write(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    plan: &CopyPlan,
    owner: (u32, u32),
    cancel: &CancellationToken,
) -> Result<(), CopyError> {
    // The kernel takes this number for "leave the owner as it is".
    if owner.0 == u32::MAX || owner.1 == u32::MAX {
        return Err(CopyError::Request(
            "user and group 4294967295 cannot own files; use smaller numbers".to_owned(),
        ));
    }
    let mut writer = Writer {
        source,
        target,
        owner,
        reader: Reader::new(cancel),
        sharing: true,
    };
    if plan.into_directory {
        let place = destination::directory(target, plan.dst.as_bstr(), owner)?;
        for item in &plan.items {
            let (_, name) = split(path_of(item));
            if name.is_empty() {
                writer.tree(item, place.path.clone(), place.created)?;
            } else {
                writer.place(item, &place.path, name)?;
            }
        }
        return Ok(());
    }
    let (dir, name) = destination::last_name(plan.dst.as_bstr());
    let place = destination::directory(target, dir, (0, 0))?;
    for item in &plan.items {
        match (name, item) {
            (Some(name), _) => writer.place(item, &place.path, name)?,
            (None, Manifest::Dir { .. }) => writer.tree(item, place.path.clone(), false)?,
            (None, _) => {
                return Err(in_the_way(path_of(item), &place.path));
            }
        }
    }
    Ok(())
}

struct Writer<'a> {
    source: BorrowedFd<'a>,
    target: BorrowedFd<'a>,
    owner: (u32, u32),
    reader: Reader<'a>,
    /// Whether the filesystems may be able to share blocks.
    sharing: bool,
}

/// What is left to do with a directory, `target` below the target's root.
enum Task<'m> {
    /// Write its entries.
    Fill {
        item: &'m Manifest,
        target: Vec<u8>,
        created: bool,
    },
    /// Set its time, once nothing in it changes any more.
    Stamp { target: Vec<u8>, mtime: i64 },
}

impl Writer<'_> {
    /// Writes `item` as `name` in the directory `dir` of the target.
    fn place(&mut self, item: &Manifest, dir: &[u8], name: &[u8]) -> Result<(), CopyError> {
        let target = open_dir(self.target, dir).map_err(|errno| failed("open", dir, errno))?;
        if matches!(item, Manifest::Dir { .. }) {
            let (path, created) = self.enter(&target, dir, name)?;
            return self.tree(item, path, created);
        }
        let (from, _) = split(path_of(item));
        let source = open_dir(self.source, from).map_err(|errno| gone_or(errno, from))?;
        self.leaf(item, &source, &target, dir, name)
    }

    /// Writes all that is in the directory `item` into the directory `target`, which exists. A list of what is left takes the place of
    /// recursion: no tree is too deep for the stack.
    fn tree(&mut self, item: &Manifest, target: Vec<u8>, created: bool) -> Result<(), CopyError> {
        let mut tasks = vec![Task::Fill {
            item,
            target,
            created,
        }];
        while let Some(task) = tasks.pop() {
            self.reader.check()?;
            match task {
                Task::Fill {
                    item,
                    target,
                    created,
                } => self.fill(item, target, created, &mut tasks)?,
                Task::Stamp { target, mtime } => {
                    open_dir(self.target, &target)
                        .and_then(|dir| fs::futimens(dir, &times(mtime)))
                        .map_err(|errno| failed("set the time of", &target, errno))?;
                }
            }
        }
        Ok(())
    }

    fn fill<'m>(
        &mut self,
        item: &'m Manifest,
        target: Vec<u8>,
        created: bool,
        tasks: &mut Vec<Task<'m>>,
    ) -> Result<(), CopyError> {
        let Manifest::Dir { path, entries } = item else {
            return Ok(());
        };
        let from = open_dir(self.source, path).map_err(|errno| gone_or(errno, path))?;
        let to = open_dir(self.target, &target).map_err(|errno| failed("open", &target, errno))?;
        let mtime = fs::fstat(&from)
            .map_err(|errno| failed("look at", path, errno))?
            .st_mtime;
        let mut below = Vec::new();
        for entry in entries {
            let (_, name) = split(path_of(entry));
            if matches!(entry, Manifest::Dir { .. }) {
                let (path, created) = self.enter(&to, &target, name)?;
                below.push(Task::Fill {
                    item: entry,
                    target: path,
                    created,
                });
            } else {
                self.reader.check()?;
                self.leaf(entry, &from, &to, &target, name)?;
            }
        }
        if created {
            tasks.push(Task::Stamp { target, mtime });
        }
        tasks.extend(below.into_iter().rev());
        Ok(())
    }

    /// The directory `name` in `to`, which is `dir` below the target's root, and whether it had to be created.
    fn enter(&self, to: &OwnedFd, dir: &[u8], name: &[u8]) -> Result<(Vec<u8>, bool), CopyError> {
        let path = join(dir, name);
        let creating = |errno| failed("create", &path, errno);
        match create_directory(to, name, self.owner) {
            Ok(()) => return Ok((path, true)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(creating(errno)),
        }
        let stat = fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed("look at", &path, errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Ok((path, false)),
            // Such as `/bin` in an image where all programs are in `/usr/bin`: nobody means to lose them.
            FileType::Symlink => {
                if let Some(behind) = destination::behind_link(self.target, &path)? {
                    return Ok((behind, false));
                }
            }
            _ => {}
        }
        fs::unlinkat(to, name, AtFlags::empty())
            .map_err(|errno| failed("replace", &path, errno))?;
        create_directory(to, name, self.owner).map_err(creating)?;
        Ok((path, true))
    }

    /// Writes the file or link `item`, which is in the directory `from`, as `name` into the directory `to`, which is `dir` below the
    /// target's root.
    fn leaf(
        &mut self,
        item: &Manifest,
        from: &OwnedFd,
        to: &OwnedFd,
        dir: &[u8],
        name: &[u8],
    ) -> Result<(), CopyError> {
        match item {
            Manifest::File {
                path,
                sha256,
                executable,
            } => {
                let (_, source_name) = split(path);
                let source =
                    open_file(from.as_fd(), source_name).map_err(|errno| gone_or(errno, path))?;
                let file = replacing(to, path, dir, name, || {
                    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                    fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)
                })?;
                let (content, mtime) = self.content(&source, &file, path)?;
                if content != *sha256 {
                    return Err(changed(path));
                }
                let mode = if *executable { 0o755 } else { 0o644 };
                let (uid, gid) = self.owner();
                fs::fchown(&file, uid, gid)
                    .and_then(|()| fs::fchmod(&file, Mode::from_raw_mode(mode)))
                    .and_then(|()| fs::futimens(&file, &times(mtime)))
                    .map_err(|errno| failed("set owner, mode and time of", &join(dir, name), errno))
            }
            Manifest::Symlink { path, target } => {
                let (_, source_name) = split(path);
                let stat = fs::statat(from, source_name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| gone_or(errno, path))?;
                let now = fs::readlinkat(from, source_name, Vec::new())
                    .map_err(|errno| gone_or(errno, path))?;
                if now.as_bytes() != target.as_bytes() {
                    return Err(changed(path));
                }
                replacing(to, path, dir, name, || {
                    fs::symlinkat(target.as_bytes(), to, name)
                })?;
                let (uid, gid) = self.owner();
                fs::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                    .and_then(|()| {
                        fs::utimensat(to, name, &times(stat.st_mtime), AtFlags::SYMLINK_NOFOLLOW)
                    })
                    .map_err(|errno| failed("set owner and time of", &join(dir, name), errno))
            }
            Manifest::Dir { .. } => Ok(()),
        }
    }

    /// Gives the empty `file` the content of `source`; the answer is the hash of what it holds then, and the source's time.
    fn content(
        &mut self,
        source: &OwnedFd,
        file: &OwnedFd,
        path: &[u8],
    ) -> Result<([u8; 32], i64), CopyError> {
        if self.sharing {
            let stat = fs::fstat(source).map_err(|errno| failed("look at", path, errno))?;
            if stat.st_size >= WORTH_SHARING {
                if fs::ioctl_ficlone(file, source).is_ok() {
                    let read = self.reader.read(file, path, None)?;
                    return Ok((read.sha256, stat.st_mtime));
                }
                self.sharing = false;
            }
        }
        let read = self.reader.read(source, path, Some(file.as_fd()))?;
        Ok((read.sha256, read.stat.st_mtime))
    }

    fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (
            Some(Uid::from_raw(self.owner.0)),
            Some(Gid::from_raw(self.owner.1)),
        )
    }
}

/// Calls `create`, and once more if something is in its way which can go. A file that is there is removed, never written to: other layers
/// may have it, too.
fn replacing<T>(
    to: &OwnedFd,
    source: &[u8],
    dir: &[u8],
    name: &[u8],
    create: impl Fn() -> Result<T, Errno>,
) -> Result<T, CopyError> {
    let target = || join(dir, name);
    match create() {
        Err(Errno::EXIST) => {}
        answer => return answer.map_err(|errno| failed("create", &target(), errno)),
    }
    let removed = match fs::unlinkat(to, name, AtFlags::empty()) {
        // The second is other systems' word for the first.
        Err(Errno::ISDIR | Errno::PERM) => fs::unlinkat(to, name, AtFlags::REMOVEDIR),
        answer => answer,
    };
    match removed {
        Ok(()) => create().map_err(|errno| failed("create", &target(), errno)),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Err(in_the_way(source, &target())),
        Err(errno) => Err(failed("replace", &target(), errno)),
    }
}

/// The error of a file or link where a directory is.
fn in_the_way(source: &[u8], target: &[u8]) -> CopyError {
    let target = quoted(&[b"/", target].concat());
    CopyError::Request(format!(
        "cannot copy {} to {target}: that is a directory; to copy into it, end the destination with a slash",
        quoted(source)
    ))
}

/// The error for something that was there when it was scanned.
fn gone_or(errno: Errno, path: &[u8]) -> CopyError {
    match errno {
        Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::INVAL | Errno::NXIO => changed(path),
        _ => failed("read", path, errno),
    }
}

/// Sets the time of the last change, in seconds, and leaves that of the last look alone.
const fn times(mtime: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime,
            tv_nsec: 0,
        },
    }
}

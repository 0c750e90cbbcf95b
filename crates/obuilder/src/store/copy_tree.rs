//! Copies a whole tree as it is seen: owners, modes, times, extended attributes, devices, and files with several names.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use super::StoreError;
use super::tree::{OVERLAY_XATTRS, join, open_beneath, open_dir, proc_path, walk};

/// Copies the tree at `from` to `to`, which does not exist. Blocks.
///
/// # Errors
/// The disk's; `to` may then be half there.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<(), StoreError> {
    copy(from, to).map_err(StoreError::io("copy a whole tree to", to))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    rustix::fs::mkdir(to, Mode::RWXU)?;
    let top = open_dir(CWD, from)?;
    let new_top = open_dir(CWD, to)?;
    let here = CString::from(c".");
    let mut copying = Copying {
        new_top,
        current: None,
        names: HashMap::new(),
        directories: vec![(Vec::new(), here.clone(), rustix::fs::fstat(&top)?)],
    };
    copy_xattrs(top.as_fd(), copying.new_top.as_fd(), &here)?;
    walk(&top, |place, name, about| {
        copying.entry(place.dir, place.path, name, about)
    })?;
    copying.finish()
}

struct Copying {
    new_top: OwnedFd,
    /// The new directory that was last worked in.
    current: Option<(Vec<u8>, OwnedFd)>,
    /// Where files are that have several names, by device and number.
    names: HashMap<(u64, u64), (Vec<u8>, CString)>,
    /// What directories are to look like in the end, with the directory that each is in.
    directories: Vec<(Vec<u8>, CString, Stat)>,
}

impl Copying {
    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &[u8],
        name: &CString,
        about: &Stat,
    ) -> io::Result<()> {
        if self.current.as_ref().is_none_or(|(at, _)| at != path) {
            self.current = Some((path.to_vec(), open_beneath(self.new_top.as_fd(), path)?));
        }
        let Some((_, new)) = &self.current else {
            return Ok(());
        };
        let kind = FileType::from_raw_mode(about.st_mode);
        if kind != FileType::Directory && about.st_nlink > 1 {
            let twin = self.names.get(&(about.st_dev, about.st_ino));
            if let Some((twin_path, twin_name)) = twin {
                let twin_dir = open_beneath(self.new_top.as_fd(), twin_path)?;
                return Ok(rustix::fs::linkat(
                    &twin_dir,
                    twin_name,
                    new,
                    name,
                    AtFlags::empty(),
                )?);
            }
            self.names
                .insert((about.st_dev, about.st_ino), (path.to_vec(), name.clone()));
        }
        match kind {
            FileType::Directory => {
                rustix::fs::mkdirat(new, name, Mode::RWXU)?;
                copy_xattrs(dir, new.as_fd(), name)?;
                // What is made in it changes its time, and its mode may forbid it.
                self.directories.push((path.to_vec(), name.clone(), *about));
                // A path that is too long is noticed before it is needed.
                return join(path, name).map(drop);
            }
            FileType::RegularFile => copy_file(dir, new.as_fd(), name, about)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
                rustix::fs::symlinkat(target, new, name)?;
            }
            kind => rustix::fs::mknodat(new, name, kind, Mode::RUSR, about.st_rdev)?,
        }
        set_owner_and_mode(new.as_fd(), name, about)?;
        copy_xattrs(dir, new.as_fd(), name)?;
        set_times(new.as_fd(), name, about)
    }

    /// Gives the directories their looks, those farthest down first.
    fn finish(self) -> io::Result<()> {
        for (path, name, about) in self.directories.iter().rev() {
            let dir = open_beneath(self.new_top.as_fd(), path)?;
            set_owner_and_mode(dir.as_fd(), name, about)?;
            set_times(dir.as_fd(), name, about)?;
        }
        Ok(())
    }
}

fn set_owner_and_mode(dir: BorrowedFd<'_>, name: &CString, about: &Stat) -> io::Result<()> {
    rustix::fs::chownat(
        dir,
        name,
        Some(Uid::from_raw(about.st_uid)),
        Some(Gid::from_raw(about.st_gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    // After the owner, whose change takes set-user-id bits away.
    if FileType::from_raw_mode(about.st_mode) != FileType::Symlink {
        rustix::fs::chmodat(
            dir,
            name,
            Mode::from_raw_mode(about.st_mode & 0o7777),
            AtFlags::empty(),
        )?;
    }
    Ok(())
}

fn set_times(dir: BorrowedFd<'_>, name: &CString, about: &Stat) -> io::Result<()> {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(about.st_atime, about.st_atime_nsec),
        last_modification: time(about.st_mtime, about.st_mtime_nsec),
    };
    Ok(rustix::fs::utimensat(
        dir,
        name,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
    let (old, new) = (proc_path(from, name), proc_path(to, name));
    let names = match xattr::list(&old) {
        Ok(names) => names,
        Err(error) if error.raw_os_error() == Some(Errno::NOTSUP.raw_os_error()) => return Ok(()),
        Err(error) => return Err(error),
    };
    for attribute in names {
        if attribute.as_encoded_bytes().starts_with(OVERLAY_XATTRS) {
            continue;
        }
        if let Some(value) = xattr::get(&old, &attribute)? {
            xattr::set(&new, &attribute, &value)?;
        }
    }
    Ok(())
}

/// Copies what a file holds; holes stay holes.
fn copy_file(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CString,
    about: &Stat,
) -> io::Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let old = File::from(rustix::fs::openat(from, name, read, Mode::empty())?);
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let new = File::from(rustix::fs::openat(to, name, write, Mode::RUSR)?);
    let size = u64::try_from(about.st_size).unwrap_or(0);
    new.set_len(size)?;
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&old, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(&old, SeekFrom::Hole(start))?.min(size);
        rustix::fs::seek(&old, SeekFrom::Start(start))?;
        rustix::fs::seek(&new, SeekFrom::Start(start))?;
        // The kernel copies, or shares, if it can.
        let length = end.saturating_sub(start);
        let copied = io::copy(&mut io::Read::take(&old, length), &mut &new)?;
        if copied < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at = end;
    }
    Ok(())
}

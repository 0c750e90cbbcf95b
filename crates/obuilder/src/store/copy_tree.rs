//! Copies a whole tree as it is seen: owners, modes, times, extended attributes, devices, and files with several names.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use super::StoreError;
use super::removal::{nothing_special, remove_tree};
use super::tree::{OVERLAY_XATTRS, Visit, open_dir, proc_path, walk};

/// Copies the tree at `from` to `to`, which does not exist. Meanwhile there is a directory beside it, called as `to` is and `.twins`.
/// Blocks.
///
/// # Errors
/// The disk's; `to` may then be half there.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<(), StoreError> {
    let twins = to.with_extension("twins");
    let copied = copy(from, to, &twins).map_err(StoreError::io("copy a whole tree to", to));
    let removed = remove_tree(&twins, &nothing_special);
    copied.and(removed)
}

fn copy(from: &Path, to: &Path, twins: &Path) -> io::Result<()> {
    for dir in [to, twins] {
        rustix::fs::mkdir(dir, Mode::RWXU)?;
    }
    let top = open_dir(CWD, from)?;
    let about = rustix::fs::fstat(&top)?;
    let mut copying = Copying {
        new: open_dir(CWD, to)?,
        twins: open_dir(CWD, twins)?,
        names: HashMap::new(),
        above: Vec::new(),
    };
    walk(top.as_fd(), &mut copying)?;
    finish(top.as_fd(), copying.new.as_fd(), c".", &about)
}

struct Copying {
    /// The new directory for what is met.
    new: OwnedFd,
    /// Where files that have several names can be found by a number, however deep their names are.
    twins: OwnedFd,
    /// Their numbers, by device and inode of what is copied.
    names: HashMap<(u64, u64), usize>,
    /// What the directories on the way down are to look like in the end.
    above: Vec<Stat>,
}

impl Visit for Copying {
    fn meet(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        let about = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(about.st_mode);
        let twin = (about.st_dev, about.st_ino);
        let new = self.new.as_fd();
        match kind {
            FileType::Directory => {
                rustix::fs::mkdirat(new, name, Mode::RWXU)?;
                return Ok(true);
            }
            _ if about.st_nlink > 1 && self.link(twin, name)? => return Ok(false),
            FileType::RegularFile => copy_file(dir, new, name, &about)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
                rustix::fs::symlinkat(target, new, name)?;
            }
            kind => rustix::fs::mknodat(new, name, kind, Mode::RUSR, about.st_rdev)?,
        }
        finish(dir, new, name, &about)?;
        if about.st_nlink > 1 {
            let number = self.names.len();
            let none = AtFlags::empty();
            rustix::fs::linkat(new, name, &self.twins, number.to_string(), none)?;
            self.names.insert(twin, number);
        }
        Ok(false)
    }

    fn enter(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        self.above.push(rustix::fs::fstat(dir)?);
        self.new = open_dir(self.new.as_fd(), name)?;
        Ok(())
    }

    fn leave(&mut self, dir: BorrowedFd<'_>, name: &CStr, _found: bool) -> io::Result<bool> {
        self.new = open_dir(self.new.as_fd(), c"..")?;
        // What is made in a directory changes its time, and its mode or attributes may change what is made.
        if let Some(about) = self.above.pop() {
            finish(dir, self.new.as_fd(), name, &about)?;
        }
        Ok(true)
    }
}

impl Copying {
    /// Makes `name` another name of the file that was copied already, if it was.
    fn link(&self, twin: (u64, u64), name: &CStr) -> io::Result<bool> {
        let Some(number) = self.names.get(&twin).map(usize::to_string) else {
            return Ok(false);
        };
        let (twins, new) = (&self.twins, &self.new);
        match rustix::fs::linkat(twins, number.as_str(), new, name, AtFlags::empty()) {
            // As many as the filesystem allows, with ours: this is the last.
            Err(Errno::MLINK) => rustix::fs::renameat(twins, number.as_str(), new, name)?,
            linked => linked?,
        }
        Ok(true)
    }
}

/// Makes the new `name` look like the old one.
fn finish(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, about: &Stat) -> io::Result<()> {
    set_owner_and_mode(to, name, about)?;
    copy_xattrs(from, to, name)?;
    set_times(to, name, about)
}

fn set_owner_and_mode(dir: BorrowedFd<'_>, name: &CStr, about: &Stat) -> io::Result<()> {
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

fn set_times(dir: BorrowedFd<'_>, name: &CStr, about: &Stat) -> io::Result<()> {
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

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
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
    name: &CStr,
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

#[cfg(test)]
mod tests {
    use rustix::fs::{mkdirat, statat};

    use super::*;

    const NAME: &str =
        "a directory whose name is rather long, so that few of them make a path that no call takes";

    #[test]
    fn a_tree_deeper_than_any_path_is_copied_with_its_links() {
        let at = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| at.path().join(name));
        std::fs::create_dir(&old).unwrap();
        std::fs::write(old.join("first"), "x").unwrap();
        let top = open_dir(CWD, &old).unwrap();
        let mut dir = open_dir(CWD, &old).unwrap();
        for _ in 0..1500 {
            mkdirat(&dir, NAME, Mode::RWXU).unwrap();
            dir = open_dir(dir.as_fd(), NAME).unwrap();
        }
        for name in ["second", "third"] {
            rustix::fs::linkat(&top, "first", &dir, name, AtFlags::empty()).unwrap();
        }
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o1570)).unwrap();

        copy_tree(&old, &new).unwrap();
        let mut dir = open_dir(CWD, &new).unwrap();
        let first = statat(&dir, "first", AtFlags::SYMLINK_NOFOLLOW).unwrap();
        for _ in 0..1500 {
            dir = open_dir(dir.as_fd(), NAME).unwrap();
        }
        assert_eq!(first.st_nlink, 3, "no other name is left");
        for name in ["second", "third"] {
            let found = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            assert_eq!(found.st_ino, first.st_ino);
        }
        let about = rustix::fs::fstat(&dir).unwrap();
        assert_eq!(about.st_mode & 0o7777, 0o1570);
        for tree in [old, new] {
            remove_tree(&tree, &nothing_special).unwrap();
        }
        assert_eq!(std::fs::read_dir(at.path()).unwrap().count(), 0);
    }
}

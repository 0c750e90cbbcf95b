//! Owners, modes, times and extended attributes of what was unpacked.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use bstr::{BStr, ByteSlice};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::archive::Entry;
use super::numbers::Time;

/// Whether an extended attribute belongs to the file and may go from machine to machine. What overlay filesystems write for themselves
/// does not: in a layer it would make the kernel hide or redirect files. Nor do labels of a machine's own security modules; capabilities
/// of programs do.
pub(crate) fn travels(name: &[u8]) -> bool {
    if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
        return false;
    }
    !name.starts_with(b"security.") || name == b"security.capability"
}

pub(super) fn timestamps(time: Time) -> Timestamps {
    let at = Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    Timestamps {
        last_access: at,
        last_modification: at,
    }
}

/// Sets everything on an open file or directory, but a directory's times. Tells how many attributes the filesystem does not take.
///
/// Owners come before modes, and capabilities last: changing the owner takes set-id bits and capabilities away.
pub(super) fn set_on_open(file: BorrowedFd<'_>, entry: &Entry) -> Result<u64, Errno> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))?;
    set_xattrs(entry, |name, value| {
        rustix::fs::fsetxattr(file, name.as_bytes(), value.as_bytes(), XattrFlags::empty())
    })
}

/// Sets everything on what was just made in `directory` and cannot be opened: links, pipes, devices.
pub(super) fn set_by_name(
    directory: BorrowedFd<'_>,
    name: &BStr,
    entry: &Entry,
    is_link: bool,
) -> Result<u64, Errno> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    let itself = AtFlags::SYMLINK_NOFOLLOW;
    let bytes = name.as_bytes();
    rustix::fs::chownat(directory, bytes, Some(uid), Some(gid), itself)?;
    if !is_link {
        // This call would follow a link, and it is none.
        rustix::fs::chmodat(
            directory,
            bytes,
            Mode::from_raw_mode(entry.mode),
            AtFlags::empty(),
        )?;
    }
    let mut refused = 0;
    if !entry.xattrs.is_empty() {
        let path = by_descriptor(directory, bytes);
        refused = set_xattrs(entry, |name, value| {
            rustix::fs::lsetxattr(
                &path,
                name.as_bytes(),
                value.as_bytes(),
                XattrFlags::empty(),
            )
        })?;
    }
    rustix::fs::utimensat(directory, bytes, &timestamps(entry.modified), itself)?;
    Ok(refused)
}

/// A path for calls that know no open directories. Its last component is the only one that could be a link.
pub(crate) fn by_descriptor(directory: impl AsFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

fn set_xattrs(
    entry: &Entry,
    set: impl Fn(&BStr, &BStr) -> Result<(), Errno>,
) -> Result<u64, Errno> {
    let mut refused = 0;
    for (name, value) in &entry.xattrs {
        if !travels(name) {
            continue;
        }
        match set(name.as_bstr(), value.as_bstr()) {
            Ok(()) => {}
            // As elsewhere: an image is not worth less for an attribute that this filesystem, or this kind of file, cannot have.
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL | Errno::RANGE) => refused += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    #[test]
    fn attributes_of_the_machine_stay_where_they_are() {
        for stays in [
            "trusted.overlay.opaque",
            "user.overlay.redirect",
            "security.selinux",
            "security.ima",
        ] {
            assert!(!super::travels(stays.as_bytes()), "{stays}");
        }
        for goes in [
            "user.a",
            "security.capability",
            "system.posix_acl_access",
            "trusted.a",
        ] {
            assert!(super::travels(goes.as_bytes()), "{goes}");
        }
    }
}

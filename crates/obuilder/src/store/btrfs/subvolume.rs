//! What btrfs is asked that no ordinary call asks. The numbers and layouts are those of the kernel's `linux/btrfs.h`, which never
//! change.

#![expect(
    unsafe_code,
    reason = "these requests have no safe form; each is one structure of fixed layout"
)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;
use rustix::ioctl::{Getter, NoArg, Opcode, Setter, Updater, ioctl, opcode};

/// What the kernel calls `BTRFS_IOCTL_MAGIC`.
const GROUP: u8 = 0x94;
/// `BTRFS_FIRST_FREE_OBJECTID`: the inode number of the top of every subvolume.
const TOP_INODE: u64 = 256;
/// `BTRFS_SUBVOL_RDONLY`.
const READ_ONLY: u64 = 1 << 1;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Name {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`, of whose union nothing is used.
#[repr(C)]
struct Named {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_search_args`: its key, and room for what is found.
#[repr(C)]
struct Search {
    tree: u64,
    min_object: u64,
    max_object: u64,
    min_offset: u64,
    max_offset: u64,
    min_transaction: u64,
    max_transaction: u64,
    min_type: u32,
    max_type: u32,
    items: u32,
    unused: u32,
    unused_too: [u64; 4],
    found: [u8; 3992],
}

const SYNC: Opcode = opcode::none(GROUP, 8);
const CREATE: Opcode = opcode::write::<Name>(GROUP, 14);
const DESTROY: Opcode = opcode::write::<Name>(GROUP, 15);
const SEARCH: Opcode = opcode::read_write::<Search>(GROUP, 17);
const SNAPSHOT: Opcode = opcode::write::<Named>(GROUP, 23);
const GET_FLAGS: Opcode = opcode::read::<u64>(GROUP, 25);
const SET_FLAGS: Opcode = opcode::write::<u64>(GROUP, 26);

/// Makes an empty subvolume `name` in the directory `parent`.
pub(super) fn create(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let request = Name {
        fd: 0,
        name: padded(name)?,
    };
    // SAFETY: CREATE reads one `Name`, whose name ends with a zero byte.
    Ok(unsafe { ioctl(parent, Setter::<CREATE, Name>::new(request)) }?)
}

/// Makes a writable snapshot of the subvolume `source` as `name` in the directory `parent`.
pub(super) fn snapshot(
    source: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &CStr,
) -> io::Result<()> {
    let request = Named {
        fd: rustix::fd::AsRawFd::as_raw_fd(&source).into(),
        transaction: 0,
        flags: 0,
        unused: [0; 4],
        name: padded(name)?,
    };
    // SAFETY: SNAPSHOT reads one `Named`, whose name ends with a zero byte and whose descriptor is open until the call is over.
    Ok(unsafe { ioctl(parent, Setter::<SNAPSHOT, Named>::new(request)) }?)
}

/// Removes the subvolume `name` from the directory `parent`, with what is in it. Fails with `ENOTEMPTY` if another is within. Its room
/// is given back later: see [`removals_pending`].
pub(super) fn destroy(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let request = Name {
        fd: 0,
        name: padded(name)?,
    };
    // SAFETY: DESTROY reads one `Name`, whose name ends with a zero byte.
    Ok(unsafe { ioctl(parent, Setter::<DESTROY, Name>::new(request)) }?)
}

/// Lets nobody change the subvolume any more, or somebody again. On disk when this is over.
pub(super) fn set_read_only(subvolume: impl AsFd, read_only: bool) -> io::Result<()> {
    // SAFETY: GET_FLAGS writes one `u64`.
    let was = unsafe { ioctl(&subvolume, Getter::<GET_FLAGS, u64>::new()) }?;
    let flags = if read_only {
        was | READ_ONLY
    } else {
        was & !READ_ONLY
    };
    if was != flags {
        // SAFETY: SET_FLAGS reads one `u64`.
        unsafe { ioctl(&subvolume, Setter::<SET_FLAGS, u64>::new(flags)) }?;
    }
    Ok(())
}

/// Whether `name` in `parent`, a directory on btrfs, is the top of a subvolume.
pub(super) fn is_top(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(found.st_ino == TOP_INODE
            && FileType::from_raw_mode(found.st_mode) == FileType::Directory),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes out what the filesystem has in memory, and wakes its cleaner, which gives back the room of removed subvolumes.
pub(super) fn sync(anywhere: impl AsFd) -> io::Result<()> {
    // SAFETY: SYNC has no argument.
    Ok(unsafe { ioctl(anywhere, NoArg::<SYNC>::new()) }?)
}

/// Whether the filesystem has removed subvolumes whose room its cleaner has yet to give back. The kernel remembers those in its tree
/// of roots (1), under `BTRFS_ORPHAN_OBJECTID` (-5), as `BTRFS_ORPHAN_ITEM_KEY` (48).
pub(super) fn removals_pending(anywhere: impl AsFd) -> io::Result<bool> {
    let mut search = Search {
        tree: 1,
        min_object: 5_u64.wrapping_neg(),
        max_object: 5_u64.wrapping_neg(),
        min_offset: 0,
        max_offset: u64::MAX,
        min_transaction: 0,
        max_transaction: u64::MAX,
        min_type: 48,
        max_type: 48,
        items: 1,
        unused: 0,
        unused_too: [0; 4],
        found: [0; 3992],
    };
    // SAFETY: SEARCH reads the key of one `Search`, and writes into it and into the bytes behind it.
    unsafe { ioctl(anywhere, Updater::<SEARCH, Search>::new(&mut search)) }?;
    Ok(search.items > 0)
}

/// `name`, and zero bytes after it, at least one.
fn padded<const SIZE: usize>(name: &CStr) -> io::Result<[u8; SIZE]> {
    let bytes = name.to_bytes();
    let mut padded = [0; SIZE];
    match padded.split_last_mut() {
        Some((_, room)) if bytes.len() <= room.len() => {
            for (to, from) in room.iter_mut().zip(bytes) {
                *to = *from;
            }
            Ok(padded)
        }
        _ => Err(Errno::NAMETOOLONG.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_reads_has_the_kernels_size() {
        assert_eq!(size_of::<Name>(), 4096);
        assert_eq!(size_of::<Named>(), 4096);
        assert_eq!(size_of::<Search>(), 4096);
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        assert_eq!(padded::<4>(c"abc").unwrap(), *b"abc\0");
        assert!(padded::<4>(c"abcd").is_err());
    }
}

//! xfs gives back the blocks of removed files some time after they are gone. This waits until it did. The number and the layout are
//! those of xfs's `xfs_fs.h`, which never change.

#![expect(
    unsafe_code,
    reason = "this request has no safe form; it is one structure of fixed layout"
)]

use std::os::fd::AsFd;

use rustix::io::{Errno, Result};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// `struct xfs_fs_eofblocks`, of which only the first two are used here.
#[repr(C)]
struct Request {
    version: u32,
    flags: u32,
    unused: [u32; 4],
    least_file_size: u64,
    unused_too: [u64; 12],
}

/// `XFS_IOC_FREE_EOFBLOCKS`, which reads its argument in spite of how its number is made.
const FREE_UNUSED: Opcode = opcode::read::<Request>(b'X', 58);
/// `XFS_EOFBLOCKS_VERSION`.
const VERSION: u32 = 1;
/// `XFS_EOF_FLAGS_SYNC`.
const WAIT: u32 = 1;

/// Waits until the blocks of removed files, and those that growing files were given ahead of time, are free. Other filesystems than xfs
/// are left alone.
pub(super) fn give_back(anywhere: impl AsFd) -> Result<()> {
    let mut request = Request {
        version: VERSION,
        flags: WAIT,
        unused: [0; 4],
        least_file_size: 0,
        unused_too: [0; 12],
    };
    // SAFETY: FREE_UNUSED reads one `Request`, and writes nothing.
    match unsafe { ioctl(anywhere, Updater::<FREE_UNUSED, Request>::new(&mut request)) } {
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_reads_has_the_kernels_size() {
        assert_eq!(size_of::<Request>(), 128);
    }

    #[test]
    fn other_filesystems_are_left_alone() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert_eq!(give_back(proc), Ok(()));
    }
}

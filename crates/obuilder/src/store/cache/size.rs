//! How much room a tree takes.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Stat};
use tracing::warn;

use crate::store::tree::{Visit, open_dir, walk};

/// The bytes that the files of `tree` take on the disk, each counted once however many names it has. Blocks shared with other trees
/// count in full. What is counted when the disk fails is the answer then.
pub(super) fn bytes_of(tree: &Path) -> u64 {
    let mut count = Count {
        seen: HashSet::new(),
        bytes: 0,
    };
    if let Err(error) = count.everything(tree) {
        warn!(tree = %tree.display(), %error, "the size of a cache could not be measured: it takes more than is known");
    }
    count.bytes
}

struct Count {
    /// Files with several names, by device and number.
    seen: HashSet<(u64, u64)>,
    bytes: u64,
}

impl Count {
    fn everything(&mut self, tree: &Path) -> io::Result<()> {
        let top = open_dir(CWD, tree)?;
        self.add(&rustix::fs::fstat(&top)?);
        walk(top.as_fd(), self)
    }

    fn add(&mut self, about: &Stat) {
        let blocks = u64::try_from(about.st_blocks).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(blocks.saturating_mul(512));
    }
}

impl Visit for Count {
    fn meet(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        let about = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_dir = FileType::from_raw_mode(about.st_mode) == FileType::Directory;
        if is_dir || about.st_nlink == 1 || self.seen.insert((about.st_dev, about.st_ino)) {
            self.add(&about);
        }
        Ok(is_dir)
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};

    use super::*;
    use crate::store::removal::{nothing_special, remove_tree};

    #[test]
    fn a_file_deeper_than_any_path_counts() {
        let at = tempfile::tempdir().unwrap();
        let tree = at.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("a"), "x".repeat(100_000)).unwrap();
        std::fs::hard_link(tree.join("a"), tree.join("b")).unwrap();
        let name = "d".repeat(200);
        let mut dir = open_dir(CWD, &tree).unwrap();
        for _ in 0..50 {
            mkdirat(&dir, name.as_str(), Mode::RWXU).unwrap();
            dir = open_dir(dir.as_fd(), name.as_str()).unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let deep = openat(&dir, "deep", flags, Mode::RUSR).unwrap();
        rustix::io::write(&deep, &vec![1; 1 << 20]).unwrap();
        rustix::fs::fsync(&deep).unwrap();
        let bytes = bytes_of(&tree);
        assert!((1_100_000..1_600_000).contains(&bytes), "{bytes}");
        remove_tree(&tree, &nothing_special).unwrap();
    }
}

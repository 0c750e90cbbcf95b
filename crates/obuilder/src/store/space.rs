//! Room on the store's filesystem.

use std::io;
use std::path::Path;

use super::StoreError;

/// Room on the store's filesystem.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Space {
    /// In bytes, without what is reserved for others.
    pub total: u64,
    /// In bytes, for us.
    pub free: u64,
    /// Free part of the filesystem's inodes, 0 to 100; 100 where it has no such limit.
    pub free_inodes_percent: f64,
}

impl Space {
    /// The free part, 0 to 100. A filesystem that does not tell its size counts as free.
    #[must_use]
    pub fn free_percent(&self) -> f64 {
        percent(self.free, self.total)
    }
}

/// What the filesystem of `path` tells.
///
/// # Errors
/// The disk's.
pub(super) fn space_of(path: &Path) -> Result<Space, StoreError> {
    let about = rustix::fs::statvfs(path)
        .map_err(io::Error::from)
        .map_err(StoreError::io("ask for the free space of", path))?;
    let used = about.f_blocks.saturating_sub(about.f_bfree);
    let bytes = |blocks: u64| blocks.saturating_mul(about.f_frsize);
    Ok(Space {
        total: bytes(used.saturating_add(about.f_bavail)),
        free: bytes(about.f_bavail),
        free_inodes_percent: percent(about.f_favail, about.f_files),
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "what is lost is far below a percent"
)]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 100.0;
    }
    (part as f64 / whole as f64 * 100.0).clamp(0.0, 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_between_nothing_and_all() {
        assert_eq!(percent(1, 4), 25.0);
        assert_eq!(percent(5, 4), 100.0);
        assert_eq!(percent(0, 0), 100.0);
    }

    #[test]
    fn a_filesystem_tells_its_space() {
        let space = space_of(Path::new("/")).unwrap();
        assert!(space.total > 0 && space.free <= space.total);
        assert!((0.0..=100.0).contains(&space.free_percent()));
        assert!(space_of(Path::new("/no/such")).is_err());
    }
}

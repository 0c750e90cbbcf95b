//! How much room a filesystem has.

use std::path::Path;

use rustix::fs::statvfs;

use super::{Space, StoreError};

/// What the filesystem of `root` says of itself.
///
/// # Errors
/// The disk's.
pub(super) fn space_of(root: &Path) -> Result<Space, StoreError> {
    let found = statvfs(root)
        .map_err(std::io::Error::from)
        .map_err(StoreError::io("ask for the free space of", root))?;
    let free_inodes_percent = if found.f_files == 0 {
        100.0
    } else {
        100.0 * found.f_favail as f64 / found.f_files as f64
    };
    Ok(Space {
        total: found.f_blocks.saturating_mul(found.f_frsize),
        free: found.f_bavail.saturating_mul(found.f_frsize),
        free_inodes_percent: free_inodes_percent.clamp(0.0, 100.0),
    })
}

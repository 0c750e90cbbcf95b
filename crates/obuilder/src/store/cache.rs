//! Caches: directories that steps change and that outlive them.
//!
//! Each user gets a private clone of the current version. Whoever releases first makes theirs the next version; the others' changes are
//! thrown away, since nobody could merge them.

use crate::Rootfs;

/// A private, writable clone of a cache. Dropping it throws its changes away.
#[derive(Debug)]
pub struct CacheLease {}

impl CacheLease {
    /// What to mount at the cache's target.
    #[must_use]
    pub fn rootfs(&self) -> &Rootfs {
        todo!()
    }

    /// Ends the use. The clone becomes the cache's version, unless another was released or the cache was removed since the clone was
    /// taken. Tells whether it did.
    ///
    /// # Errors
    /// The disk's; the cache keeps its version.
    pub async fn release(self) -> Result<bool, super::StoreError> {
        todo!()
    }
}

//! What the stores whose layers are whole trees in ordinary directories have in common.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::StoreError;

/// Makes a directory that is not there yet, mode 0755 whatever the umask is.
///
/// # Errors
/// The disk's; it is there already.
pub(super) fn make_directory(at: &Path) -> Result<(), StoreError> {
    std::fs::create_dir(at)
        .and_then(|()| std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)))
        .map_err(StoreError::io("create", at))
}

/// Makes a finished tree a layer: nobody writes to it from here on.
///
/// # Errors
/// The disk's; there is something already.
pub(super) fn seal_by_rename(work: &Path, sealed: &Path) -> Result<(), StoreError> {
    // An empty directory would be replaced.
    if sealed.symlink_metadata().is_ok() {
        return Err(StoreError::io("create", sealed)(io::Error::from(
            io::ErrorKind::AlreadyExists,
        )));
    }
    std::fs::rename(work, sealed).map_err(StoreError::io("move a finished tree to", sealed))
}

/// Layers have files of many owners, which only root can make.
///
/// # Errors
/// Not root.
pub(super) fn need_root(root: &Path) -> Result<(), StoreError> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(StoreError::Refused(format!(
            "cannot keep a store in {}: only root can make files of many owners: run as root",
            root.display()
        )))
    }
}

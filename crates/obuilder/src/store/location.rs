//! Which store, where: `--store` and `--obuilder-store`.

use std::path::PathBuf;

/// How a store keeps its trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Layers above each other, mounted by the kernel.
    Overlayfs,
    /// Subvolumes and snapshots.
    Btrfs,
    /// Whole copies made by rsync.
    Rsync(RsyncMode),
    /// Whole copies whose files share their blocks (reflinks).
    Xfs,
}

/// What rsync does with files that did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsyncMode {
    /// Copies them.
    Copy,
    /// Links them, after comparing their content.
    Hardlink,
    /// Links them, after comparing size and time only.
    HardlinkUnsafe,
}

/// A kind of store and its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// How.
    pub kind: Kind,
    /// Where; absolute.
    pub root: PathBuf,
}

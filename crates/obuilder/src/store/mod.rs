//! Keeps what steps produced: immutable layers, mutable caches, and the room for steps under way.
//!
//! ```text
//! ROOT/lock                    held while the store is open: one process at a time
//! ROOT/format                  which kind of store this is
//! ROOT/synced                  up to which number layers are certainly on the disk
//! ROOT/layers/ID/fs/           what the step's tree is (a whole tree, or on overlayfs what the step changed)
//! ROOT/layers/ID/flat/         on overlayfs, of some: the whole tree, from which the many layers above start
//! ROOT/layers/ID/meta.json     parent, number, environment, times: the truth about the layer
//! ROOT/layers/ID/log           what the step printed
//! ROOT/l/NUMBER                on overlayfs: short names of the layers' trees
//! ROOT/mnt/...                 empty directories that trees are mounted on, where nobody else sees it
//! ROOT/caches/c-NAME/...       versions of a cache
//! ROOT/tmp/...                 steps, clones and removals under way: emptied when the store is opened
//! ROOT/state/                  room for others: the sandbox's containers, image blobs being downloaded
//! ```
//!
//! A layer appears and goes by one rename, so it is there or not. There is no other database: the index is read from the layers at start.
//! Nothing waits for the disk: after a crash of the process all is there, and after one of the machine the layers of the last half
//! minute are not.
//!
//! A [`Layer`] in somebody's hands is *pinned*: neither it nor what it is built on can be removed meanwhile.

mod backend;
mod btrfs;
mod cache;
mod check;
mod copy_tree;
mod core;
mod draft;
mod error;
mod format;
mod handle;
mod housekeeper;
mod index;
mod layer;
mod layout;
mod location;
mod lock;
mod meta;
mod mount_points;
mod mounts;
mod open;
mod overlayfs;
mod program;
mod prune;
mod removal;
mod rsync;
mod space;
mod tree;
mod whole_tree;
mod xfs;

pub use backend::Backend;
pub use btrfs::Btrfs;
pub use cache::{CacheInfo, CacheLease, CacheTable};
pub use check::{Problem, check_closed};
pub use draft::Draft;
pub use error::StoreError;
pub(crate) use error::is_full_disk;
pub use handle::{LayerInfo, Store, StoreOptions};
pub use layer::Layer;
pub use location::{Kind, Location, LocationError, RsyncMode};
pub use meta::LayerMeta;
pub use overlayfs::Overlayfs;
pub use prune::{PruneRequest, Pruned};
pub use rsync::Rsync;
pub use space::Space;
pub use xfs::Xfs;

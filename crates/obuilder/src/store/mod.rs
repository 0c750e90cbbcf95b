//! Keeps what steps produced: immutable layers, mutable caches, and the room for steps under way.
//!
//! ```text
//! ROOT/lock                    held while the store is open: one process at a time
//! ROOT/format                  which kind of store this is
//! ROOT/layers/ID/fs/           what the step's tree is (a whole tree, or on overlayfs what the step changed)
//! ROOT/layers/ID/meta.json     parent, chain, environment, times, sizes: the truth about the layer
//! ROOT/layers/ID/log           what the step printed
//! ROOT/caches/c-NAME/...       versions of a cache
//! ROOT/tmp/...                 steps, clones and removals under way: emptied when the store is opened
//! ROOT/state/                  room for others: the sandbox's containers, image blobs being downloaded
//! ```
//!
//! A layer appears by one rename, so it is there or not. There is no other database: the index is read from the layers at start.
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
pub use handle::{LayerInfo, Store, StoreOptions};
pub use layer::Layer;
pub use location::{Kind, Location, LocationError, RsyncMode};
pub use meta::LayerMeta;
pub use overlayfs::Overlayfs;
pub use prune::{PruneRequest, Pruned};
pub use rsync::Rsync;
pub use space::Space;
pub use xfs::Xfs;

//! Caches: directories that steps change and that outlive them.
//!
//! Each user gets a private clone of the current version. Whoever releases first makes theirs the next version; the others' changes are
//! thrown away, since nobody could merge them.
//!
//! ```text
//! ROOT/caches/c-NAME/version.json     the current version: its trees, the newest first, and when it was used
//! ROOT/caches/c-NAME/saved.json       likewise the last version that survives a crash of the machine, if there is one
//! ROOT/caches/c-NAME/GENERATION-*     the trees: one, or on overlayfs what each release changed
//! ROOT/tmp/cache-*                    clones in use
//! ```
//!
//! `version.json` is replaced by one rename, so a version is there or not. A release does not wait for the disk: the trees of
//! the last version that is there for certain stay until a newer one is. Whatever the files do not name is removed when the store is
//! opened.

mod entry;
mod flatten;
mod lease;
mod name;
mod place;
mod record;
mod size;
mod table;
mod tree;

pub use lease::CacheLease;
pub use table::{CacheInfo, CacheTable};

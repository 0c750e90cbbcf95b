//! Stores on btrfs: each layer a read-only subvolume of its own, made as a snapshot of the one below, in no time and next to no space.

mod backend;
mod subvolume;

pub use backend::Btrfs;

//! Stores on filesystems whose files can share their blocks (reflinks), such as xfs: each layer a whole tree, whose copies cost time
//! per file, and no space until they are changed. The program cp makes the copies.

mod backend;
mod unused_blocks;

pub use backend::Xfs;

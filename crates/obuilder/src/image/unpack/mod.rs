//! Unpacks one layer of an image into a tree, whoever made the layer.
//!
//! ```text
//! stream      decompresses on a thread of its own, and compares digests on the way
//! archive     reads a tar: headers, long names, PAX records; everything it holds in memory is bounded
//! numbers     fields and records of headers
//! name        where an entry belongs: relative, without `..`; whiteouts
//! tree        finds and removes below the root, never outside of it
//! attributes  owners, modes, times, extended attributes
//! apply       makes the tree what the layer says
//! ```

mod apply;
mod archive;
mod attributes;
mod error;
mod limits;
mod name;
mod numbers;
mod stream;
mod tree;

pub use apply::{Unpacked, unpack_layer};
pub use error::UnpackError;
pub use limits::{Expected, Unpack, UnpackLimits};

pub(crate) use archive::{Archive, Kind};
pub(crate) use attributes::{by_descriptor, travels};
pub(crate) use error::hex;
pub(crate) use stream::{Compression, decompress, detect};
pub(crate) use tree::{IN_TREE, Tree};

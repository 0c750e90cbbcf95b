//! Base images: where their layers come from, and how they get into the store.
//!
//! An image's layers are layers of the store, each above the one before, with an id made of the digests of the layers so far: images
//! share what they have in common, an interrupted fetch goes on where it was, and pruning needs no rule of its own for them.

mod contract;
mod source;
mod unpack;

pub use contract::{BaseImage, FetchError, Fetcher, Fetching, PullPolicy};
pub use source::{Blob, ImageManifest, ImageSource, LayerDescriptor};
pub use unpack::{Expected, Unpack, UnpackError, UnpackLimits, Unpacked, unpack_layer};

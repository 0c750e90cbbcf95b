//! The embedded default: sled 0.34, with the rules that keep it safe.
//!
//! One tree, so that every batch is atomic; big-endian keys; a version byte and postcard in every value; flushed before
//! it is acknowledged, and never by a timer; a lock file; a marker that knows whether there should be data, so that a
//! lost or shortened store is never taken for an empty one; a running digest of the small index that is verified at
//! every start.

mod batch;
mod beside;
mod index;
mod inspect;
mod opening;
mod place;
mod rows;
mod search;
mod store;
mod values;

pub(crate) use beside::Beside;
pub(crate) use inspect::{Finding, inspect};
pub use store::{SledOptions, SledStore};

//! `copy`: what it takes, and how it gets into a layer.
//!
//! Sources are looked at without ever following a link out of (or within) them; files are written straight into the layer's tree, so that
//! the image needs no programs for it. What exists on the way to the destination is never changed.

mod contract;

pub use contract::{CopyError, CopyPlan};

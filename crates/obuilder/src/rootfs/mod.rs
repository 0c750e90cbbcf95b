//! A tree of files as a step sees it, and how to reach it.
//!
//! An overlay has to be mounted to be seen. That happens only in mount namespaces of threads and processes of our own, so that nobody
//! else ever sees a mount, and the kernel removes it when we end, however we end.
//!
//! ```text
//! tree       what a tree is, and looking into it from a thread of our own
//! mount      making a mount, and the namespace for it: fit for a child between `fork` and `exec`
//! options    what this kernel's overlayfs understands
//! ```

mod mount;
mod options;
mod tree;

pub use mount::{PreparedMount, unshare_mounts};
pub use tree::{MountError, Overlay, Rootfs, Upper};

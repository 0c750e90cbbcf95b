//! `copy`: what it takes, and how it gets into a layer.
//!
//! Sources are looked at without ever following a link out of (or within) them; files are written straight into the layer's tree, so that
//! the image needs no programs for it. What exists on the way to the destination is never changed.
//!
//! ```text
//! scan         one `copy` of a spec -> what there is to copy, hashed
//!   manifest     one source's files
//!   budget       how many there may be
//! write        what there is to copy -> the layer's tree
//! destination    where in the layer's tree that is, seen as a program in the image would
//! digest         hashes a file, and copies it meanwhile
//! tree           opens directories below a root
//! ```
//!
//! Both halves work on open directories rather than on paths: one opened in a thread which alone sees a mount can be used in any
//! other thread, also when the source and the target are mounted in different ones. Whoever opens a directory of a mounted tree has to
//! close it before the tree is sealed or removed.

mod budget;
mod contract;
mod destination;
mod digest;
mod manifest;
mod scan;
mod tree;
mod write;

pub use budget::{MAX_COPY_ITEMS, MAX_COPY_PATH_BYTES};
pub use contract::{CopyError, CopyPlan};
pub use scan::scan;
pub use tree::open_root;
pub use write::write;

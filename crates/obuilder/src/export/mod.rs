//! Takes results out of the store: files of a layer, or a layer as an OCI image.
//!
//! ```text
//! walk      goes through a tree in order, never out of it
//! tar       writes what was found as a tar, the same bytes for the same tree
//! files     `export --path`: into a directory, or as a tar
//! oci       `export --oci`: an image that others accept
//! ```

mod error;
mod files;
mod oci;
mod tar;
mod walk;

pub use error::ExportError;
pub use files::{Destination, export_path, write_path};
pub use oci::{ImageConfig, LayerCompression, OciExport, export_oci, write_oci};

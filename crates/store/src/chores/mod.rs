//! What is done to a store beside running a scheduler on it: checking, exporting, importing, compacting.
//!
//! Nothing here prints. Everything here waits for disks and computes for long: it belongs on a thread of its own.

mod check;
mod compact;
mod export;
mod import;
mod line;

pub use check::{Counts, Problem, Report, check};
pub use compact::{Compacted, compact};
pub use export::{Exported, Source, export, export_dir};
pub use import::{ImportError, Imported, import, import_into};

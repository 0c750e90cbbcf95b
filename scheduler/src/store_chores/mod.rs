//! What can be done to our own store while no scheduler runs: checking, exporting, importing, compacting.
//!
//! Layout: `args` is what can be said on the command line, `run` does it, `report` says what came of it. The work itself is
//! `ocluster_store::chores`; nothing here knows what a store looks like.

mod args;
mod report;
mod run;

pub use args::{CheckArgs, CompactArgs, ExportArgs, ImportArgs, StoreChore};
pub use run::run;

//! Runs OBuilder builds, in this process and without a daemon: `crates/obuilder` builds; this decides who may build when, and tells
//! the job's log.

mod executor;
mod log;
mod space;

pub use executor::{OBuilderConfig, OBuilderExecutor};
pub use space::PruneRules;

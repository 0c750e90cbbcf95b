//! Evaluates specs.

mod contract;

pub use contract::{BuildContext, BuildError, BuildLog, Secrets};

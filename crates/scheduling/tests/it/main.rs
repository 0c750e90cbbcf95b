//! Stories about the scheduling core, told through its public face only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod env;
mod explained;

mod balanced;
mod defects;
mod model;
mod pauses;
mod properties;
mod quotas;
mod records;
mod requeued;
mod upstream_scenarios;
mod upstream_vectors;

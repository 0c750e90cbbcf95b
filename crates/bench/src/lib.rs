//! Measures an OCluster scheduler through its public protocol, given nothing but `.cap` files; so ours and upstream's are measured
//! alike.
//!
//! [`idle`] says what a connected worker costs when nothing happens, [`latency`] how long a job takes that does nothing, [`stress`]
//! what happens when a day's work is submitted at once, [`overhead`] what a Docker build costs more through the cluster than without,
//! [`mod@git`] what a build context from git costs more than git itself, [`obuilder`] what OBuilder builds cost more than the containers
//! they are made of. What else is to be measured gets a file of its own here. Nothing here knows a scheduler from the inside.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

pub mod args;
pub mod broker;
mod durable_client;
pub mod git;
pub mod idle;
pub mod latency;
mod leased;
pub mod load;
pub mod memory;
mod meter;
pub mod obuilder;
pub mod overhead;
pub mod pairs;
pub mod scenario;
pub mod served;
pub mod stress;

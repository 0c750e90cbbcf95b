//! Measures an OCluster scheduler through its public protocol, given nothing but `.cap` files; so ours and upstream's are measured
//! alike.
//!
//! [`idle`] says what a connected worker costs when nothing happens, [`latency`] how long a job takes that does nothing, [`stress`]
//! what happens when a day's work is submitted at once. What else is to be measured gets a file of its own here. Nothing here starts
//! a program or knows a scheduler from the inside.

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
pub mod idle;
pub mod latency;
pub mod memory;
pub mod stress;

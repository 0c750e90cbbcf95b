//! Jobs that are kept: accepted means that they end, once, whoever goes away and comes back meanwhile.
//!
//! Layout: `submission` is what is accepted and what is refused; `asking` is finding, listing, watching and explaining; `restarts` is
//! a scheduler that stops, or loses its power; `readoption` is workers that come back with jobs, or say so; `attempts` is what is tried
//! again and how often; `limits` is about time; `operators` is what administrators do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod asking;
mod attempts;
mod limits;
mod operators;
mod readoption;
mod restarts;
mod submission;
#[path = "../support/mod.rs"]
mod support;

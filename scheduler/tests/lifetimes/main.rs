//! What becomes of jobs, whoever lets go of what and whenever: the scheduler as its workers, clients and admins see it.
//!
//! Layout: `upstream_suite` has OCluster's own integration tests, one for one; `cancellation` is the table of what cancels a job;
//! `operations` is what an admin does; `access` is who may submit; `logs` is about following them; `pages` is what HTTP shows; `bounds` is what is refused; `restarts` and `liveness` are
//! about schedulers that stop and workers that hang.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod access;
mod bounds;
mod cancellation;
mod liveness;
mod logs;
mod operations;
mod pages;
mod pauses;
mod restarts;
#[path = "../support/mod.rs"]
mod support;
mod upstream_suite;

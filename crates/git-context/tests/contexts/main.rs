//! Build contexts made from real git servers, compared with what the `git` program makes of the same repositories.
//!
//! Everything goes through the public interface and a real child process. No test may reach a host other than this one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

mod bad_input;
mod caching;
mod damage;
mod endings;
mod fetching;
mod merging;
mod servers;
mod sources;
mod speed;
mod standalone;
mod submodules;
mod workshop;

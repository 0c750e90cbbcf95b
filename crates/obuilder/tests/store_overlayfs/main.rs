//! The store on overlayfs, on the filesystem of the temporary directory, as root. What holds for all kinds of stores alike is tested
//! elsewhere on each of them; here is what overlayfs makes hard, and what the store does whatever its kind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod chains;
mod failures;
mod layers;
mod processes;
mod prune;
mod refusals;
mod reopen;
mod support;

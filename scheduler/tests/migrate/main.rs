//! The chores `import` and `export`, as whoever moves a cluster sees them: the real program, and databases of the form that OCluster's
//! scheduler makes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bad_input;
mod moving;
mod upstream;

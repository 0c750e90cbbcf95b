//! The child half of the crate as a program of its own, for the tests.
//!
//! The worker runs its own executable again instead. This program must do nothing but hand over to the crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    ocluster_git_context::child::main()
}

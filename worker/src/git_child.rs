//! The child process that reads git repositories, which is the worker's own program started anew.

use std::process::ExitCode;

/// The hidden first argument with which the program runs as the child that reads git repositories.
pub(crate) const GIT_CHILD: &str = "git-context-child";

/// Does the work of the child, if this process was started as one, and gives the code to exit with.
///
/// A program that runs a worker must call this before anything else in `main`, and do as it says: build contexts come from a process
/// that can be killed, and that process is the program itself with a hidden argument.
#[must_use = "the process must exit with this code"]
pub fn as_git_child() -> Option<ExitCode> {
    let first = std::env::args_os().nth(1)?;
    (first == GIT_CHILD).then(ocluster_git_context::child::main)
}

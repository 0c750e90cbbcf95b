//! The `obuilder` program: builds specs on this machine, without a cluster, in the same way as a worker does; and looks after a store.
//!
//! Everything is done by `crates/obuilder`. Here are only the command line and what people read.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

mod amount;
mod args;
mod commands;
mod log;
mod progress;

pub use args::CommandLine;
use ocluster_cli::ExitCode;

/// Runs the program. A signal cancels what it does, waits until nothing of that is left, and ends it with 130 or 143.
#[must_use]
pub fn main(command_line: CommandLine) -> ExitCode {
    command_line.log.start();
    ocluster_cli::run(async |interrupt| {
        match commands::run(command_line.command, interrupt.token()).await {
            Ok(()) => ExitCode::Success,
            Err(failure) if interrupt.token().is_cancelled() => {
                failure.report();
                interrupt.wait().await.exit_code()
            }
            Err(failure) => failure.report(),
        }
    })
}

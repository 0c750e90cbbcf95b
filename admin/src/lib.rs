//! The `ocluster-admin` program: who may use the cluster, what its pools are doing, and which workers take jobs, and what
//! becomes of jobs.
//!
//! Each command is one or a few calls to the scheduler; [`cluster`] makes them and `commands` says what they gave. Nothing is
//! decided here that the scheduler should decide.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

mod args;
pub mod cluster;
mod commands;
mod progress;
mod who;

pub use args::CommandLine;
use ocluster_cli::{ExitCode, Failure};

/// Runs the program. A signal ends it with 130 or 143; what the scheduler was asked to do before still happens.
pub fn main(command_line: CommandLine) -> ExitCode {
    command_line.log.start();
    ocluster_cli::run(async |interrupt| {
        tokio::select! {
            result = commands::run(&command_line.command) => result.unwrap_or_else(|failure: Failure| failure.report()),
            signal = interrupt.wait() => signal.exit_code(),
        }
    })
}

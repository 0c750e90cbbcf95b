//! The `ocluster-client` program.
//!
//! A submitted job lives as long as the program: whatever ends it early, a signal or the reader of its output going away, cancels
//! the job. On a signal the program asks the scheduler to cancel, waits a moment for the answer, and exits with 130 or 143.

mod args;
mod job_spec;
mod submit;

pub use args::{CommandLine, NAME};
use ocluster_cli::{ExitCode, Failure};

/// Runs the program.
pub fn main(command_line: CommandLine) -> ExitCode {
    command_line.log.start();
    ocluster_cli::run(async |interrupt| {
        let result = submit::run(&command_line.command, &interrupt).await;
        result.unwrap_or_else(|failure: Failure| failure.report())
    })
}

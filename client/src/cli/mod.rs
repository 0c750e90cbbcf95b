//! The `ocluster-client` program.
//!
//! A durable job outlives the program, which finds it again whatever happens to the connection; an attached one lives as long as the
//! program. What was submitted before can be listed, followed, cancelled, waited for and explained.

mod access;
mod args;
mod attached;
mod durable;
mod job_args;
mod job_commands;
mod job_spec;
mod kept_job;
mod result;
mod submit;

use args::Command;
pub use args::{CommandLine, NAME};
use ocluster_cli::{ExitCode, Failure, Interrupt};

/// Runs the program.
pub fn main(command_line: CommandLine) -> ExitCode {
    command_line.log.start();
    ocluster_cli::run(async |interrupt| {
        let result = run(&command_line.command, &interrupt).await;
        result.unwrap_or_else(|failure: Failure| failure.report())
    })
}

async fn run(command: &Command, interrupt: &Interrupt) -> Result<ExitCode, Failure> {
    match command {
        Command::SubmitDocker(docker) => {
            submit::run(&docker.job, job_spec::docker_spec(docker)?, interrupt).await
        }
        Command::SubmitOBuilder(obuilder) => {
            let spec = job_spec::obuilder_spec(obuilder)?;
            submit::run(&obuilder.job, spec, interrupt).await
        }
        Command::Jobs(jobs) => job_commands::list(jobs, interrupt).await,
        Command::Status(job) => job_commands::status(job, interrupt).await,
        Command::Log(log) => job_commands::log(log, interrupt).await,
        Command::Cancel(cancel) => job_commands::cancel(cancel, interrupt).await,
        Command::Wait(wait) => job_commands::wait(wait, interrupt).await,
        Command::Explain(job) => job_commands::explain(job, interrupt).await,
    }
}

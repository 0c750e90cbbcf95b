//! The end of a chore that was done on behalf of a person: what was done goes to standard output, why not to standard error.

use ocluster_cli::{ExitCode, Failure, OutputMode, output};

use super::{MigrateError, Report};

/// Prints what came of a chore, and gives the exit code: 0 if it was done, 1 if not.
pub fn finish(done: Result<Report, MigrateError>, mode: OutputMode) -> ExitCode {
    match done {
        Ok(report) => match report.print(mode) {
            Ok(()) => ExitCode::Success,
            Err(error) => Failure::from(error).report(),
        },
        Err(error) => {
            output::complain(format!("ocluster-scheduler: {error}"));
            ExitCode::Failed
        }
    }
}

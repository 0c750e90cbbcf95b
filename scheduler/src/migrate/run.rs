//! Doing a chore on behalf of a person: what was done goes to standard output, why not to standard error.

use ocluster_cli::{ExitCode, Failure, output};

use super::{export, import};
use crate::command_line::Chore;

/// Does the chore, prints what came of it, and gives the exit code: 0 if it was done, 1 if not.
pub fn run(chore: &Chore) -> ExitCode {
    let (done, mode) = match chore {
        Chore::Import(args) => (import(args), args.output),
        Chore::Export(args) => (export(args), args.output),
    };
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

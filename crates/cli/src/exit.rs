//! The exit codes of all four programs. Scripts depend on them: a number, once given a meaning, keeps it.

use std::process::{self, Termination};

/// How a program ended. The numbers 1, 124 and 125 are those of OCluster's own programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// 0: everything asked for was done.
    Success,
    /// 1: the job failed, or the cluster refused or could not be reached. The program's output says which.
    Failed,
    /// 124: the command line makes no sense. Nothing was sent to anybody.
    Usage,
    /// 125: options which are each well-formed do not go together, or the program itself failed.
    Internal,
    /// 130: ended by an interrupt (`SIGINT`, control-C), as shells report it.
    Interrupted,
    /// 143: ended by `SIGTERM`, as shells report it.
    Terminated,
}

impl ExitCode {
    /// The number the operating system sees.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 124,
            Self::Internal => 125,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

impl Termination for ExitCode {
    fn report(self) -> process::ExitCode {
        process::ExitCode::from(self.number())
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.report()
    }
}

//! Why a program ends early: a message for standard error and an exit code.
//!
//! Libraries below return errors of their own; this is where a program turns them into its last words.

use std::io;

use ocluster_vat::{ConnectError, SturdyRefError};

use crate::exit::ExitCode;
use crate::output;

/// The end of a program that did not do all it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: ExitCode,
    message: Option<String>,
}

impl Failure {
    /// The cluster refused, could not be reached, or said that something failed. Exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            code: ExitCode::Failed,
            message: Some(message.into()),
        }
    }

    /// The command line makes no sense, in a way that only shows once it is read whole. Exit code 124.
    pub fn usage(program: &str, message: impl AsRef<str>) -> Self {
        Self {
            code: ExitCode::Usage,
            message: Some(format!("{program}: {}", message.as_ref())),
        }
    }

    /// Options which do not go together (OCluster's programs treat this as an internal error, so the exit code is 125).
    pub fn inconsistent(program: &str, message: impl AsRef<str>) -> Self {
        Self {
            code: ExitCode::Internal,
            message: Some(format!("{program}: {}", message.as_ref())),
        }
    }

    /// Everything has been said already, or there is nobody to say it to.
    #[must_use]
    pub fn silent(code: ExitCode) -> Self {
        Self {
            code,
            message: None,
        }
    }

    /// Prints the message, if any, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        if let Some(message) = &self.message {
            output::complain(message);
        }
        self.code
    }
}

impl From<SturdyRefError> for Failure {
    fn from(error: SturdyRefError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        // The exception type OCluster's programs show for a connection that cannot be made.
        Self::failed(format!("Failed: {error}"))
    }
}

impl From<io::Error> for Failure {
    /// Takes it that the error came from writing to standard output. A reader that went away, as `head` does, is no reason for
    /// words.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(ExitCode::Failed),
            _ => Self::failed(format!("cannot write to standard output: {error}")),
        }
    }
}

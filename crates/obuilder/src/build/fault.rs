//! Why an attempt at a step failed, and whether room on the disk would have helped.

use super::BuildError;
use crate::MountError;
use crate::copy::CopyError;
use crate::image::FetchError;
use crate::sandbox::{SandboxError, UserError};
use crate::store::{StoreError, is_full_disk};

/// An attempt at a step failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: BuildError,
    pub(super) full_disk: bool,
}

impl Fault {
    /// The user's to mend.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        BuildError::Failed(text.into()).into()
    }

    /// The disk's word about something of our own.
    pub(super) fn io(what: &str, error: &std::io::Error) -> Self {
        Self {
            error: BuildError::Machine(format!("cannot {what}: {error}")),
            full_disk: is_full_disk(error),
        }
    }
}

impl From<BuildError> for Fault {
    fn from(error: BuildError) -> Self {
        Self {
            error,
            full_disk: false,
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self {
            full_disk: error.is_full_disk(),
            error: BuildError::Machine(error.to_string()),
        }
    }
}

impl From<MountError> for Fault {
    fn from(error: MountError) -> Self {
        Self {
            full_disk: is_full_disk(&error.source),
            error: BuildError::Machine(error.to_string()),
        }
    }
}

impl From<SandboxError> for Fault {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::Request(text) => Self::failed(text),
            SandboxError::Machine { message, full_disk } => Self {
                error: BuildError::Machine(message),
                full_disk,
            },
        }
    }
}

impl From<FetchError> for Fault {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Request(text) => Self::failed(text),
            FetchError::Source(text) => BuildError::Source(text).into(),
            FetchError::Store(error) => error.into(),
            FetchError::Cancelled => BuildError::Cancelled.into(),
        }
    }
}

impl From<CopyError> for Fault {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Request(text) => Self::failed(text),
            CopyError::Cancelled => BuildError::Cancelled.into(),
            CopyError::Io { .. } => Self {
                full_disk: error.is_full_disk(),
                error: BuildError::Machine(error.to_string()),
            },
        }
    }
}

impl From<UserError> for Fault {
    fn from(error: UserError) -> Self {
        match error {
            UserError::Mount(error) => error.into(),
            error => Self::failed(error.to_string()),
        }
    }
}

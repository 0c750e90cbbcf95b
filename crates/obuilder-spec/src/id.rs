//! Ids of steps: what makes two steps the same. Byte for byte OBuilder's, so that they agree between workers of both kinds.

use std::fmt;

use bstr::BString;

use crate::User;

/// What identifies a step and its result: a SHA-256 over everything that the step depends on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId([u8; 32]);

/// What a `run` depends on. Caches are not among it; values of secrets are.
#[derive(Clone)]
pub struct RunKey<'a> {
    /// The step before.
    pub base: StepId,
    /// The working directory.
    pub workdir: &'a BString,
    /// Who runs it.
    pub user: &'a User,
    /// The environment, newest entry first.
    pub env: &'a [(BString, BString)],
    /// The command.
    pub command: &'a BString,
    /// The shell.
    pub shell: &'a [BString],
    /// The networks.
    pub network: &'a [BString],
    /// Value and target of each secret, in reverse order of the spec's.
    pub secrets: &'a [(BString, BString)],
}

/// What a `copy` depends on.
#[derive(Clone, Debug)]
pub struct CopyKey<'a> {
    /// The step before.
    pub base: StepId,
    /// Who will own the files.
    pub user: &'a User,
    /// What is copied.
    pub items: &'a [Manifest],
    /// The destination, joined to the working directory and otherwise as written.
    pub dst: &'a BString,
    /// Whether the destination is a directory to copy into (it ends with a slash), or the one item itself.
    pub into_directory: bool,
}

/// What there is to copy, by content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// A regular file.
    File {
        /// Relative to the source's root.
        path: BString,
        /// Of its content.
        sha256: [u8; 32],
        /// Whether anybody may execute it. An extension to OBuilder's ids: a file without this has the same id there.
        executable: bool,
    },
    /// A symbolic link, never followed.
    Symlink {
        /// Relative to the source's root.
        path: BString,
        /// What it holds.
        target: BString,
    },
    /// A directory.
    Dir {
        /// Relative to the source's root; empty for the root itself.
        path: BString,
        /// Sorted by the bytes of their paths.
        entries: Vec<Manifest>,
    },
}

impl StepId {
    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Of `from`: the SHA-256 of the base image's name as written.
    #[must_use]
    pub fn of_base(_name: &[u8]) -> Self {
        todo!()
    }
}

impl RunKey<'_> {
    /// The step's id.
    #[must_use]
    pub fn id(&self) -> StepId {
        todo!()
    }
}

impl CopyKey<'_> {
    /// The step's id.
    #[must_use]
    pub fn id(&self) -> StepId {
        todo!()
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

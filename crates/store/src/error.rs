//! What can go wrong with a store, in words that end with what to do next.
//!
//! Errors can be cloned, because one failed flush is reported to everybody who waited for it.

use std::path::PathBuf;

/// Why a store refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has the state directory open.
    #[error(
        "state directory {dir} is in use by another scheduler ({}); stop it first, or give this one a directory of its own",
        pid.map_or_else(|| "pid unknown".to_owned(), |pid| format!("pid {pid}"))
    )]
    InUse {
        /// The state directory.
        dir: PathBuf,
        /// The other process, when its lock file says so.
        pid: Option<u32>,
    },
    /// The store was written by a newer version of this program.
    #[error(
        "the store in {dir} was made by a newer version of this program (format {found}, and this one knows up to {known}); use that version, or start with an empty state directory"
    )]
    Newer {
        /// The state directory.
        dir: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format this program knows.
        known: u32,
    },
    /// The directory holds something that this program did not write.
    #[error("{dir} does not hold a store of this program: {what}; give another state directory")]
    Foreign {
        /// The state directory.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
    /// The store's files are there, but what they hold is wrong or incomplete.
    #[error("the store in {dir} is damaged: {what}; {}", repair(dir))]
    Damaged {
        /// The state directory.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The directory held a store once, and the data is gone.
    #[error(
        "the store in {dir} is gone: {dir}/store.json says that there was one; {}",
        repair(dir)
    )]
    Missing {
        /// The state directory.
        dir: PathBuf,
    },
    /// The disk or the operating system said no.
    #[error("failed to {what}: {why}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// What the system said.
        why: String,
        /// Whether it said that the disk, or this user's share of it, is full.
        full: bool,
    },
    /// An earlier error stopped the store. Nothing was written since.
    #[error(
        "the store takes no more changes since an earlier error: {why}; restart the scheduler once the cause is gone"
    )]
    Stopped {
        /// The earlier error.
        why: String,
        /// Whether that was a full disk.
        full: bool,
    },
    /// Too many changes wait for the disk.
    #[error(
        "the store is too far behind: {waiting} bytes of changes wait for the disk, and {limit} are allowed; try again later"
    )]
    Busy {
        /// Bytes waiting.
        waiting: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The writer was closed.
    #[error("the store is closed")]
    Closed,
}

/// The exact steps out of a damaged or lost store.
fn repair(dir: &std::path::Path) -> String {
    let dir = dir.display();
    format!(
        "see what is wrong with `ocluster-scheduler store check --state-dir {dir}`; to go on from the last export, move \
         what is left away (mv {dir}/store.json {dir}/store.json.old; mv {dir}/store {dir}/store.old) and run \
         `ocluster-scheduler store import --state-dir {dir} --from EXPORT`; without an export, restore {dir}/store and \
         {dir}/store.json from a backup, or start empty on purpose after the same moves (clients must then be added again)"
    )
}

impl StoreError {
    /// A short code for machines: `in-use`, `newer`, `foreign`, `damaged`, `missing`, `io`, `stopped`, `busy`, `closed`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "in-use",
            Self::Newer { .. } => "newer",
            Self::Foreign { .. } => "foreign",
            Self::Damaged { .. } => "damaged",
            Self::Missing { .. } => "missing",
            Self::Io { .. } => "io",
            Self::Stopped { .. } => "stopped",
            Self::Busy { .. } => "busy",
            Self::Closed => "closed",
        }
    }

    /// Whether the cause is a full disk, so that room is what helps.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self,
            Self::Io { full: true, .. } | Self::Stopped { full: true, .. }
        )
    }

    /// What everybody is told after this error stopped the store.
    pub(crate) fn stopped(&self) -> Self {
        match self {
            Self::Stopped { .. } => self.clone(),
            first => Self::Stopped {
                why: first.to_string(),
                full: first.is_disk_full(),
            },
        }
    }

    /// An operating system's error while doing `what`.
    pub(crate) fn io(what: impl Into<String>, why: &std::io::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        Self::Io {
            what: what.into(),
            why: why.to_string(),
            full: matches!(why.kind(), StorageFull | QuotaExceeded | FileTooLarge),
        }
    }

    /// There is no store in a directory that should hold one.
    pub(crate) fn none(dir: &std::path::Path) -> Self {
        Self::Io {
            what: format!("find a store in {}", dir.display()),
            why: "there is none; give the --state-dir of a scheduler".to_owned(),
            full: false,
        }
    }

    /// Something else that went wrong while doing `what`.
    pub(crate) fn other(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Io {
            what: what.into(),
            why: why.to_string(),
            full: false,
        }
    }
}

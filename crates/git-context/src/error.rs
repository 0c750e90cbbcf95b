//! Why a build context could not be made, as a sentence for the job's log and a cause for the worker.
//!
//! No text here may hold a user name or a password of a URL: whoever makes an error passes the redacted form.

use serde::{Deserialize, Serialize};

/// Whose fault a failure is, and so whether trying again elsewhere can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The job asked for something that cannot be: it fails the same way everywhere.
    Request,
    /// The git server, or the way to it, failed: a later attempt may pass.
    Server,
    /// This worker failed (disk, process, cache): another worker may do better.
    Worker,
    /// The job was cancelled.
    Cancelled,
}

/// A failure to make a build context. Its text is meant for the person who submitted the job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum GitError {
    /// The URL has a scheme other than `git`, `http` and `https`. The words are OCluster's.
    #[error("Unsupported scheme {scheme:?} in URL {url}")]
    UnsupportedScheme {
        /// What stood before the colon.
        scheme: String,
        /// The URL, without user information.
        url: String,
    },
    /// The URL has no scheme. The words are OCluster's.
    #[error("Missing scheme in URL {url}")]
    MissingScheme {
        /// The URL, without user information.
        url: String,
    },
    /// The URL cannot be used for another reason.
    #[error("Invalid URL {url}: {reason}")]
    InvalidUrl {
        /// The URL, without user information.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A commit is not named by forty hexadecimal digits.
    #[error("Bad commit hash {hash:?}: expected 40 hexadecimal digits")]
    BadCommitHash {
        /// What was given.
        hash: String,
    },
    /// The server has no such repository.
    #[error("Repository {repository} not found: {reason}")]
    RepositoryNotFound {
        /// The URL, without user information.
        repository: String,
        /// What the server said.
        reason: String,
    },
    /// The server wants a login, which a worker never has.
    #[error(
        "Repository {repository} asks for a login or does not exist; workers read public repositories only"
    )]
    LoginRequired {
        /// The URL, without user information.
        repository: String,
    },
    /// The fetch failed otherwise.
    #[error("Failed to fetch from {repository}: {reason}")]
    Fetch {
        /// The URL, without user information.
        repository: String,
        /// What the server or the network said.
        reason: String,
    },
    /// The server stopped talking.
    #[error("git server {host} sent nothing for {seconds} s")]
    ServerSilent {
        /// Host name (and port, if given) of the server.
        host: String,
        /// The limit which was reached, in seconds.
        seconds: u64,
    },
    /// The fetch went well and the commit is still unknown.
    #[error(
        "Commit {commit} not found in {repository}: it is on no branch and no pull or merge request there"
    )]
    CommitNotFound {
        /// The commit asked for.
        commit: String,
        /// The URL, without user information.
        repository: String,
    },
    /// The hash names an object which is no commit.
    #[error("{commit} in {repository} is a {kind}, not a commit")]
    NotACommit {
        /// The hash asked for.
        commit: String,
        /// The URL, without user information.
        repository: String,
        /// What it is: tree, blob.
        kind: String,
    },
    /// Two commits change the same lines.
    #[error("Cannot merge {theirs} into {ours}: conflict in {}", files.join(", "))]
    MergeConflict {
        /// The commit merged into, which may be a merge made before.
        ours: String,
        /// The commit being merged.
        theirs: String,
        /// Paths in conflict, in tree order; many are cut short, and the last entry says how many more there are.
        files: Vec<String>,
    },
    /// Two commits have no ancestor in common.
    #[error("Cannot merge {theirs} into {ours}: they have no common history")]
    UnrelatedHistories {
        /// The commit merged into.
        ours: String,
        /// The commit being merged.
        theirs: String,
    },
    /// A submodule cannot be had; the inner error says why.
    #[error("Submodule {path:?}: {error}")]
    Submodule {
        /// Where the submodule sits in the tree.
        path: String,
        /// What failed.
        error: Box<GitError>,
    },
    /// `.gitmodules` or the tree says something about a submodule that is refused.
    #[error("{reason}")]
    BadSubmodule {
        /// What is wrong.
        reason: String,
    },
    /// The tree of a commit is one that no decent program makes, and would be written to the wrong places.
    #[error("Refused to check out: {path:?} {reason}")]
    HostileTree {
        /// The path in the tree.
        path: String,
        /// What is wrong with it, as a verb phrase.
        reason: String,
    },
    /// The repository holds something that cannot be worked with.
    #[error("The repository cannot be used: {reason}")]
    Unusable {
        /// What libgit2 says.
        reason: String,
    },
    /// The files could not be written, or the tree holds what must not be written.
    #[error("Failed to check out {commit}: {reason}")]
    Checkout {
        /// The commit being checked out.
        commit: String,
        /// What failed.
        reason: String,
    },
    /// A mirror stayed unreadable, even once fetched anew.
    #[error("The cached copy of {repository} is damaged: {reason}")]
    DamagedMirror {
        /// The URL, without user information.
        repository: String,
        /// What cannot be read.
        reason: String,
    },
    /// A file or directory of this worker failed.
    #[error("{action} failed on this worker: {reason}")]
    Worker {
        /// What was being done, on what.
        action: String,
        /// What the system said.
        reason: String,
    },
    /// No progress in a step which needs no server.
    #[error("Preparing the git context made no progress for {seconds} s ({step})")]
    Stalled {
        /// What was being done.
        step: String,
        /// The limit which was reached, in seconds.
        seconds: u64,
    },
    /// The child process ended without a result.
    #[error("The git process of this worker ended early ({status}) while {step}")]
    ChildDied {
        /// Exit code or signal, in words.
        status: String,
        /// The last step it reported.
        step: String,
    },
    /// The job was cancelled.
    #[error("Cancelled")]
    Cancelled,
}

impl GitError {
    /// Whose fault this is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            GitError::UnsupportedScheme { .. }
            | GitError::MissingScheme { .. }
            | GitError::InvalidUrl { .. }
            | GitError::BadCommitHash { .. }
            | GitError::RepositoryNotFound { .. }
            | GitError::LoginRequired { .. }
            | GitError::CommitNotFound { .. }
            | GitError::NotACommit { .. }
            | GitError::MergeConflict { .. }
            | GitError::UnrelatedHistories { .. }
            | GitError::BadSubmodule { .. }
            | GitError::Unusable { .. }
            | GitError::HostileTree { .. } => Cause::Request,
            GitError::Fetch { .. } | GitError::ServerSilent { .. } => Cause::Server,
            GitError::Checkout { .. }
            | GitError::DamagedMirror { .. }
            | GitError::Worker { .. }
            | GitError::Stalled { .. }
            | GitError::ChildDied { .. } => Cause::Worker,
            GitError::Submodule { error, .. } => error.cause(),
            GitError::Cancelled => Cause::Cancelled,
        }
    }

    /// A failure of this machine: `action` says what was being done, on what.
    pub(crate) fn worker(action: impl Into<String>, reason: impl ToString) -> GitError {
        GitError::Worker {
            action: action.into(),
            reason: reason.to_string(),
        }
    }
}

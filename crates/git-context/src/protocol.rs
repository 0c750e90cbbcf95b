//! What passes between the worker and its git child: one order on the child's input, reports on its output.
//!
//! Both sides are the same executable, so the form is private and has no versions: JSON, one value a line.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{CommitId, GitError, RepositoryUrl};

/// A checked request, as the child gets it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) repository: RepositoryUrl,
    /// At least one.
    pub(crate) commits: Vec<CommitId>,
    pub(crate) include_git: bool,
    pub(crate) cache_dir: PathBuf,
    pub(crate) destination: PathBuf,
    pub(crate) silence_limit: Duration,
    /// Process id of the worker: a child whose parent is another one has outlived it.
    pub(crate) parent: u32,
}

/// One line of the child's output. Every line shows that the child makes progress.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// A line for the job's log, without its newline.
    Log(String),
    /// What the child does from now on, in words that follow "while", and the server it depends on, if any.
    Step {
        doing: String,
        server: Option<String>,
    },
    /// Nothing to tell but that there is progress.
    Alive,
    /// The end: the context is ready.
    Done { commit: CommitId, fetched: bool },
    /// The end: it failed.
    Failed(GitError),
}

//! What the worker asks for, what it gets, and which program does the work. Plain data, no behaviour.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::CommitId;

/// How long a git server may send nothing before the job fails, unless the worker says otherwise.
pub const DEFAULT_SILENCE_LIMIT: Duration = Duration::from_secs(300);

/// One build context to make.
#[derive(Debug, Clone)]
pub struct Request {
    /// URL of the repository: `git`, `http` or `https`. Not looked at when there are no commits.
    pub repository: String,
    /// The commits, as forty hexadecimal digits each. The first is checked out, the others are merged into it in
    /// order. None gives an empty directory.
    pub commits: Vec<String>,
    /// Whether the context holds a `.git` directory which works by itself.
    pub include_git: bool,
    /// The directory of mirrors, shared by all jobs of the worker. Created if missing.
    pub cache_dir: PathBuf,
    /// Where the context goes. Created if missing; what it holds is removed, also when the request fails.
    pub destination: PathBuf,
    /// How long a server may send nothing, and how long any other step may show no progress.
    pub silence_limit: Duration,
}

/// A build context which is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The commit whose tree was written: the first one asked for, or the merge of all of them, which then exists in
    /// the context's own `.git` only. `None` when no commits were asked for.
    pub commit: Option<CommitId>,
    /// Whether a git server was asked for anything.
    pub fetched: bool,
}

/// The program which runs [`crate::child::main`], and the arguments that make it do so.
#[derive(Debug, Clone)]
pub struct ChildCommand {
    /// The executable, usually the worker's own (`std::env::current_exe`).
    pub program: PathBuf,
    /// Its arguments, for example a hidden subcommand.
    pub args: Vec<OsString>,
}

impl ChildCommand {
    /// `program` run with `args`.
    #[must_use]
    pub fn new(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> ChildCommand {
        ChildCommand {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
        }
    }
}

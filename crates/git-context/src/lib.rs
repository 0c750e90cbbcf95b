//! Build contexts from git: commits of a repository become a directory which a builder can send to an engine.
//!
//! - [`prepare`] is what the worker calls. It starts a child process which does the work, passes on its log, and
//!   kills it when the job is cancelled or when a git server goes silent.
//! - [`child::main`] is that child: libgit2 runs there and nowhere else, since a call into it cannot be interrupted.
//! - [`Cache`] is the directory of mirrors, one for each repository URL, which outlives the jobs.
//!
//! No part of this crate runs the `git` program, prints to the worker's own log output, or hands out credentials.

pub mod child;

mod cache;
mod commit;
mod directories;
mod error;
mod lock;
mod prepare;
mod protocol;
mod repository_url;
mod request;

pub use cache::{Cache, Expired};
pub use commit::CommitId;
pub use error::{Cause, GitError};
pub use prepare::prepare;
pub use repository_url::RepositoryUrl;
pub use request::{ChildCommand, DEFAULT_SILENCE_LIMIT, Prepared, Request};

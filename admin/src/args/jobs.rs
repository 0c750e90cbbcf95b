//! The arguments of the commands about jobs.

use clap::Args;
use ocluster_cli::CapArgs;
use ocluster_cli::jobs::JobState;

use super::{Output, Reason};

#[derive(Debug, Args)]
pub(crate) struct Jobs {
    #[command(flatten)]
    pub(crate) cap: CapArgs,
    /// Only jobs of this pool.
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// Only jobs of this client.
    #[arg(long, value_name = "ID")]
    pub(crate) client: Option<String>,
    /// Only jobs in these states, separated by commas: queued, running, passed, failed, cancelled, timed-out or lost.
    #[arg(
        long = "state",
        value_enum,
        value_name = "STATES",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub(crate) states: Vec<JobState>,
    /// At most so many, the newest.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// All, however many there are.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// A job, and how to print.
#[derive(Debug, Args)]
pub(crate) struct AboutJob {
    #[command(flatten)]
    pub(crate) cap: CapArgs,
    /// Id of the job, or enough of its beginning.
    #[arg(value_name = "JOB")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// A job that something is done to.
#[derive(Debug, Args)]
pub(crate) struct ChangeJob {
    #[command(flatten)]
    pub(crate) job: AboutJob,
    #[command(flatten)]
    pub(crate) reason: Reason,
}

#[derive(Debug, Args)]
pub(crate) struct JobLog {
    #[command(flatten)]
    pub(crate) job: AboutJob,
    /// Go on until the job has ended, through all its attempts. The exit code is then 0 if it passed, and 1 otherwise.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last N lines of what there is at first.
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<usize>,
}

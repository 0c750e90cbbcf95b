//! Flags about git repositories.

use std::time::Duration;

use clap::Args;
use ocluster_cli::parse_duration;

/// What is kept of repositories.
#[derive(Debug, Args)]
pub(super) struct GitArgs {
    /// Remove mirrors of repositories that no job has used for this time; 0s for never.
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = parse_duration)]
    git_keep: Duration,
}

impl GitArgs {
    /// How long unused mirrors are kept, if not for ever.
    pub(super) fn keep(&self) -> Option<Duration> {
        Some(self.git_keep).filter(|keep| !keep.is_zero())
    }
}

//! Flags about a scheduler that is away.

use std::time::Duration;

use clap::Args;
use ocluster_cli::parse_duration;

/// What becomes of jobs without a scheduler.
#[derive(Debug, Args)]
pub(super) struct ReconnectArgs {
    /// Go on with durable jobs for this time when the connection to the scheduler is lost; 0s to cancel them at once.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_duration)]
    reconnect_grace: Duration,
}

impl ReconnectArgs {
    /// How long durable jobs go on without a scheduler.
    pub(super) fn grace(&self) -> Duration {
        self.reconnect_grace
    }
}

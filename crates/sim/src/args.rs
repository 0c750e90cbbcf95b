//! The command line.

use std::time::Duration;

use clap::Parser;

/// Runs whole clusters under simulated time and network, breaks what can break, and checks that all promises are kept. Each seed is a
/// cluster and its fate; the same seed always gives the same history.
#[derive(Clone, Debug, Parser)]
#[command(name = "ocluster-sim")]
pub struct Args {
    /// How many seeds to run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seeds: u64,
    /// The first of them.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub first: u64,
    /// For how many simulated hours each cluster is in trouble. After that it is given the time that it needs.
    #[arg(long, value_name = "HOURS", default_value_t = 1.0)]
    pub hours: f64,
    /// How many clusters to run at once.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub jobs: usize,
    /// Print every event of the history, and what the programs log as RUST_LOG says.
    #[arg(long)]
    pub trace: bool,
    /// Run the first seed in this process, and print its outcome as JSON.
    #[arg(long, hide = true)]
    pub one: bool,
}

impl Args {
    /// For how long each cluster is in trouble.
    #[must_use]
    pub fn troubled(&self) -> Duration {
        Duration::try_from_secs_f64(self.hours * 3600.0).unwrap_or_default()
    }
}

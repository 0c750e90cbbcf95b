//! `cargo xtask sim`: whole clusters under simulated time and network, seed by seed, with everything going wrong that can.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::test::timed;

#[derive(Args)]
pub(crate) struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them. A seed that failed is looked at with `--first SEED --seeds 1 --trace`.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// For how many simulated hours each cluster is in trouble.
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// Print all that happens.
    #[arg(long)]
    trace: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut sim = Command::new("cargo");
    sim.args(["run", "--release", "--package", "ocluster-sim", "--"]);
    sim.args(["--seeds", &options.seeds.to_string()]);
    sim.args(["--first", &options.first.to_string()]);
    sim.args(["--hours", &options.hours.to_string()]);
    if options.trace {
        sim.arg("--trace");
    }
    timed(&format!("simulating {} clusters", options.seeds), sim)
}

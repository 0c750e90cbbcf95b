//! The command line of `day`.

use std::io::Write;
use std::process::ExitCode;

use crate::decisions::{Format, Policies};

use super::farm;
use super::load::Load;
use super::report::DayReport;

/// Simulates a day of a large farm, and reports what its policy makes of it.
///
/// Clients of very different sizes submit in bursts, more by day than by night; jobs share hints, some of which are popular; how long
/// a job takes depends on its hint, on whether its worker has that cached, and on chance. Everything but the cost of decisions
/// follows from the arguments alone.
#[derive(Debug, Clone, clap::Args)]
pub struct DayArgs {
    /// Workers.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub workers: u32,
    /// Slots of each worker.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub slots: u32,
    /// Clients.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub clients: u32,
    /// Jobs that arrive within the day.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub jobs: u32,
    /// Different hints.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub hints: u32,
    /// How many hints a worker has cached at once; it drops the one not used for longest.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub cache: u32,
    /// The work that arrives if nothing is ever cached, in percent of what all slots can do in a day. Durations are scaled to
    /// this.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub load: u32,
    /// What chance starts from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How the pool decides.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) policy: Policies,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

impl DayArgs {
    /// Simulates, and prints.
    ///
    /// # Errors
    ///
    /// If the report cannot be written.
    pub fn run(&self, out: &mut impl Write) -> std::io::Result<ExitCode> {
        let report = self.report();
        if self.output == Format::Json {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            writeln!(out)?;
        } else {
            report.write(out)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Simulates.
    pub fn report(&self) -> DayReport {
        let load = Load::draw(self);
        let policies = self.policy.list().iter();
        let outcomes = policies.map(|policy| farm::live(self, &load, *policy));
        DayReport::new(self, &load, outcomes.collect())
    }
}

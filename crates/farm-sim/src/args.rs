//! The command line.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::day::DayArgs;
use crate::decisions::DecisionsArgs;
use crate::run::{Report, run};

/// Simulates clusters under faults, and checks what is promised about jobs.
///
/// Each seed stands for one cluster and one history. Ends with 0 if all promises were kept, and with 1 at the first that was
/// broken.
#[derive(Debug, Parser)]
#[command(
    name = "ocluster-farm-sim",
    version,
    args_conflicts_with_subcommands = true
)]
pub struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    histories: Histories,
}

/// What else can be done.
#[derive(Debug, Subcommand)]
enum Other {
    Decisions(DecisionsArgs),
    Day(DayArgs),
}

/// Which histories to live.
#[derive(Debug, clap::Args)]
struct Histories {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Simulated hours with jobs and faults, for each seed; all accepted jobs are given the time to end afterwards.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760))]
    hours: u64,
}

impl Args {
    /// Runs, and prints a report.
    ///
    /// # Errors
    ///
    /// If the report cannot be written.
    pub fn run(&self, out: &mut impl Write) -> std::io::Result<ExitCode> {
        match &self.other {
            Some(Other::Decisions(args)) => args.run(out),
            Some(Other::Day(args)) => args.run(out),
            None => self.histories.run(out),
        }
    }
}

impl Histories {
    fn run(&self, out: &mut impl Write) -> std::io::Result<ExitCode> {
        let mut report = Report::default();
        for seed in (self.first..).take(usize::try_from(self.seeds).unwrap_or(usize::MAX)) {
            let history = run(seed, self.hours);
            report.add(&history);
            let Some(violation) = history.violation else {
                continue;
            };
            for line in &violation.tail {
                writeln!(out, "{line}")?;
            }
            writeln!(out, "\n{report}")?;
            writeln!(
                out,
                "broken in the history of seed {seed}: {}",
                violation.what
            )?;
            return Ok(ExitCode::FAILURE);
        }
        write!(out, "{report}")?;
        writeln!(out, "no promise was broken")?;
        Ok(ExitCode::SUCCESS)
    }
}

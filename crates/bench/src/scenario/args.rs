//! The command lines about scenarios: measuring them, and comparing two measurements.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use ocluster_cli::{ExitCode, OutputMode, output};
use ocluster_vat::SturdyRef;

use super::{Comparison, Form, Given, Lab, Outcome, Report, Scenarios};

/// What to measure.
#[derive(Debug, Args)]
pub struct ScenariosArgs {
    /// Only these scenarios, in the order of the file [default: all].
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Take seconds: see that everything works, and judge only what does not depend on optimised programs.
    #[arg(long)]
    short: bool,

    /// Read the scenarios from this file instead of those of the project.
    #[arg(long, value_name = "FILE")]
    scenarios: Option<PathBuf>,

    /// Also write the results to this file, as `--output json` prints them.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Say which scenarios there are, and measure nothing.
    #[arg(long)]
    list: bool,

    /// The scheduler's program. It is started anew for each measurement.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/release/ocluster-scheduler"
    )]
    scheduler: PathBuf,

    /// Directory for files, on the disk that is to be measured [default: the system's directory for temporary files].
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,

    /// Measure a scheduler that runs, whoever made it: its process id, for /proc. The pool will know the workers' names afterwards.
    #[arg(
        long,
        requires = "pool",
        requires = "registration",
        requires = "submission",
        conflicts_with = "scheduler"
    )]
    pid: Option<u32>,

    /// The pool of that scheduler to use. Nobody else should.
    #[arg(long, value_name = "ID", requires = "pid")]
    pool: Option<String>,

    /// The capability of the pool's registration.
    #[arg(long, value_name = "CAP", requires = "pid")]
    registration: Option<PathBuf>,

    /// A client's capability. Give it again for more clients.
    #[arg(long, value_name = "CAP", requires = "pid")]
    submission: Vec<PathBuf>,
}

/// Which measurements to compare.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// What `scenarios --output json` printed before.
    #[arg(value_name = "OLD")]
    old: PathBuf,

    /// The same, afterwards.
    #[arg(value_name = "NEW")]
    new: PathBuf,
}

impl ScenariosArgs {
    /// Measures, and prints a table or JSON.
    ///
    /// # Errors
    /// If the scenarios or capabilities cannot be read. What goes wrong in a scenario is part of the results.
    pub async fn run(self, mode: OutputMode) -> anyhow::Result<ExitCode> {
        let form = if self.short { Form::Short } else { Form::Long };
        let scenarios = match &self.scenarios {
            None => Scenarios::ours(form)?,
            Some(path) => {
                let read = || Scenarios::parse(&std::fs::read_to_string(path)?, form);
                read().with_context(|| format!("cannot read {}", path.display()))?
            }
        };
        let scenarios = scenarios.only(&self.names)?;
        if self.list {
            let mut table = ocluster_cli::Table::default();
            for scenario in scenarios.iter() {
                table.row([&scenario.name, &scenario.what]);
            }
            output::line(table.to_string().trim_end())?;
            return Ok(ExitCode::Success);
        }
        ocluster_cli::raise_file_limit();
        let json = self.json.clone();
        let lab = self.lab()?;
        let mut report = Report::new(form);
        for scenario in scenarios.iter() {
            output::complain(format!("{}: {}", scenario.name, scenario.what));
            let started = Instant::now();
            let result = scenario.measure(&lab).await;
            let seconds = started.elapsed().as_secs_f64();
            report
                .scenarios
                .push(Outcome::new(scenario, seconds, result));
        }
        if let Some(path) = json {
            let text = format!("{}\n", output::to_json(&report)?);
            let written = std::fs::write(&path, text);
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        let good = report.is_good();
        match mode {
            OutputMode::Human => output::line(report.to_string()),
            OutputMode::Json => output::json(report),
        }
        .context("cannot print the figures")?;
        Ok(if good {
            ExitCode::Success
        } else {
            ExitCode::Failed
        })
    }

    fn lab(self) -> anyhow::Result<Lab> {
        let Some(pid) = self.pid else {
            return Ok(Lab::of_program(self.scheduler, self.directory));
        };
        let (Some(pool), Some(registration)) = (self.pool, self.registration) else {
            bail!("--pid needs --pool, --registration and --submission");
        };
        let caps = self.submission.iter();
        let given = Given {
            pid,
            pool,
            registration: SturdyRef::load(&registration)?,
            submissions: caps
                .map(|path| SturdyRef::load(path))
                .collect::<Result<_, _>>()?,
        };
        Ok(Lab::of_given(given, self.directory))
    }
}

impl CompareArgs {
    /// Prints the figures of both, beside each other.
    ///
    /// # Errors
    /// If one of the files cannot be read.
    pub fn run(&self, mode: OutputMode) -> anyhow::Result<ExitCode> {
        let comparison = Comparison::load(&self.old, &self.new)?;
        match mode {
            OutputMode::Human => output::line(comparison.to_string()),
            OutputMode::Json => output::json(comparison),
        }
        .context("cannot print the comparison")?;
        Ok(ExitCode::Success)
    }
}

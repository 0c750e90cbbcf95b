//! The command line of `ocluster-bench`, and the printing of what was measured.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use ocluster_cli::{CapArgs, ExitCode, LogArgs, OutputMode, output, parse_duration};
use ocluster_vat::SturdyRef;
use serde::Serialize;

use crate::broker::BrokerArgs;
use crate::git::{Git, GitArgs};
use crate::latency::{self, Latency};
use crate::obuilder::{Obuilder, ObuilderArgs};
use crate::overhead::{Overhead, OverheadArgs};
use crate::scenario::args::{CompareArgs, ScenariosArgs};
use crate::scenario::kinds::relay::RelayArgs;
use crate::stress::{self, Plan, Stress};

/// Measure an OCluster scheduler through its public protocol.
#[derive(Debug, Parser)]
#[command(name = "ocluster-bench", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,

    /// How to print the figures.
    #[arg(long, global = true, value_name = "MODE", default_value = "human")]
    output: OutputMode,

    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Time of a job that does nothing, from its submission to its result and the end of its log. CAP is a client's; a worker of
    /// the pool must allow test jobs.
    Latency {
        #[command(flatten)]
        cap: CapArgs,

        /// The pool to submit to.
        #[arg(long, value_name = "ID")]
        pool: String,

        /// Number of jobs, one after the other.
        #[arg(long, value_name = "N", default_value_t = 1000)]
        jobs: u32,

        /// Fail if the median is this or more.
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        threshold: Option<Duration>,
    },
    /// What a scheduler reaches in each of the project's scenarios, compared with thresholds.
    Scenarios(ScenariosArgs),
    /// Two measurements of scenarios beside each other.
    Compare(CompareArgs),
    /// The bare broker: a scheduler that does the least that it can, to compare others with. Serves until it is stopped.
    Broker(BrokerArgs),
    /// A plain relay over TLS, to compare the streaming of logs with.
    #[command(hide = true)]
    Relay(RelayArgs),
    /// Time of a build context from git, compared with git's own clone and checkout. Needs git; no cluster takes part.
    Git(GitArgs),
    /// Time and memory of OBuilder builds, compared with a bare container runtime, skopeo and umoci. Needs root; no cluster takes part.
    Obuilder(ObuilderArgs),
    /// Time of Docker builds through the cluster, compared with the same builds through the engine's API. CAP is a client's. Needs
    /// git and the worker's engine.
    Overhead(OverheadArgs),
    /// OCluster's stress shape: workers with 352 slots, one client that submits all its jobs at once, another with urgent jobs.
    /// CAP is the first client's. The pool will know the workers' names afterwards, so use a scheduler made for the purpose.
    Stress {
        #[command(flatten)]
        cap: CapArgs,

        /// Capability of the client with urgent jobs. Give it a high rate first.
        #[arg(long, value_name = "FILE")]
        urgent: PathBuf,

        /// Capability of the pool's registration, for the workers.
        #[arg(long, value_name = "FILE")]
        workers: PathBuf,

        /// The pool to submit to.
        #[arg(long, value_name = "ID")]
        pool: String,

        /// Process id of the scheduler, whose memory and processor time are read from /proc.
        #[arg(long)]
        pid: u32,

        /// Number of jobs to submit at once.
        #[arg(long, value_name = "N", default_value_t = 21_000)]
        jobs: u32,

        /// How long a job takes where its cache hint is not known; elsewhere it takes a sixtieth of that.
        #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1s")]
        build_time: Duration,

        /// Ask for the log and the result of every job while it is queued.
        #[arg(long)]
        ask_ahead: bool,

        /// Fail if accepting all jobs takes this long or longer.
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        accept_threshold: Option<Duration>,

        /// Fail if an urgent job waits this long or longer for a worker.
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        urgent_threshold: Option<Duration>,

        /// Fail if a queued job costs this many KiB or more.
        #[arg(long, value_name = "KIB")]
        memory_threshold: Option<f64>,
    },
}

/// What the figures of [`Command::Stress`] must stay below, in their units.
#[derive(Clone, Copy, Serialize)]
struct StressThresholds {
    accept_seconds: Option<f64>,
    urgent_max_ms: Option<f64>,
    kib_per_queued_job: Option<f64>,
}

impl StressThresholds {
    fn are_kept(&self, stress: &Stress) -> bool {
        let below = |figure: f64, most: Option<f64>| most.is_none_or(|most| figure < most);
        below(stress.accept_seconds, self.accept_seconds)
            && below(stress.urgent_max_ms, self.urgent_max_ms)
            && below(stress.kib_per_queued_job, self.kib_per_queued_job)
    }
}

/// A figure and whether it is good enough.
#[derive(Serialize)]
struct Report<T, L = Option<f64>> {
    #[serde(flatten)]
    figures: T,
    threshold: L,
    passed: bool,
}

impl Args {
    /// The logging options, to be put in force first.
    #[must_use]
    pub fn log(&self) -> &LogArgs {
        &self.log
    }

    /// Measures and prints.
    ///
    /// # Errors
    /// Whatever kept it from measuring.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Latency {
                cap,
                pool,
                jobs,
                threshold,
            } => {
                let figures = latency::measure(&cap.load()?, &pool, jobs).await?;
                let threshold = threshold.map(|most| most.as_secs_f64() * 1000.0);
                let passed = threshold.is_none_or(|most| figures.median_ms < most);
                print(
                    self.output,
                    Report {
                        figures,
                        threshold,
                        passed,
                    },
                    describe_latency,
                )
            }
            Command::Scenarios(args) => args.run(self.output).await,
            Command::Compare(args) => args.run(self.output),
            Command::Broker(args) => args.run().await.map(|()| ExitCode::Success),
            Command::Relay(args) => args.run().await.map(|()| ExitCode::Success),
            Command::Git(args) => {
                let (figures, threshold) = (args.measure().await?, args.threshold());
                let passed = threshold.is_none_or(|most| figures.times.ratio <= most);
                print(
                    self.output,
                    Report {
                        figures,
                        threshold,
                        passed,
                    },
                    describe_git,
                )
            }
            Command::Obuilder(args) => {
                let figures = args.measure().await?;
                let passed = figures.is_good();
                let report = Report {
                    figures,
                    threshold: None,
                    passed,
                };
                print(self.output, report, |figures: &Obuilder, _: Option<f64>| {
                    figures.to_string()
                })
            }
            Command::Overhead(args) => {
                let (figures, threshold) = (args.measure().await?, args.threshold());
                let is_good = |percent| {
                    let mut builds = figures.builds.iter();
                    builds.all(|build| build.is_within(percent, figures.grace_ms))
                };
                let passed = threshold.is_none_or(is_good);
                print(
                    self.output,
                    Report {
                        figures,
                        threshold,
                        passed,
                    },
                    describe_overhead,
                )
            }
            Command::Stress {
                cap,
                urgent,
                workers,
                pool,
                pid,
                jobs,
                build_time,
                ask_ahead,
                accept_threshold,
                urgent_threshold,
                memory_threshold,
            } => {
                let figures = stress::measure(&Plan {
                    workers: SturdyRef::load(&workers)?,
                    health: cap.load()?,
                    urgent: SturdyRef::load(&urgent)?,
                    pool,
                    pid,
                    jobs,
                    build_time,
                    ask_ahead,
                })
                .await?;
                let threshold = StressThresholds {
                    accept_seconds: accept_threshold.map(|most| most.as_secs_f64()),
                    urgent_max_ms: urgent_threshold.map(|most| most.as_secs_f64() * 1000.0),
                    kib_per_queued_job: memory_threshold,
                };
                let passed = threshold.are_kept(&figures);
                print(
                    self.output,
                    Report {
                        figures,
                        threshold,
                        passed,
                    },
                    describe_stress,
                )
            }
        }
    }
}

fn print<T: Serialize, L: Serialize + Copy>(
    mode: OutputMode,
    report: Report<T, L>,
    describe: impl FnOnce(&T, L) -> String,
) -> anyhow::Result<ExitCode> {
    let passed = report.passed;
    match mode {
        OutputMode::Human => output::line(describe(&report.figures, report.threshold)),
        OutputMode::Json => output::json(report),
    }
    .context("cannot print the figures")?;
    Ok(if passed {
        ExitCode::Success
    } else {
        ExitCode::Failed
    })
}

fn describe_latency(latency: &Latency, threshold: Option<f64>) -> String {
    format!(
        "{} no-op jobs, one at a time: median {:.3} ms{}, p90 {:.3} ms, p99 {:.3} ms, longest {:.3} ms",
        latency.jobs,
        latency.median_ms,
        below(threshold, "ms"),
        latency.p90_ms,
        latency.p99_ms,
        latency.max_ms,
    )
}

fn describe_git(git: &Git, threshold: Option<f64>) -> String {
    let times = &git.times;
    let limit = threshold.map_or_else(String::new, |most| format!(" (must not be above {most})"));
    format!(
        "context of {} files: {:.1} ms, git {:.1} ms, ratio {:.2}{limit} (medians of {} pairs)",
        git.files, times.ours_ms, times.theirs_ms, times.ratio, times.pairs,
    )
}

fn describe_overhead(overhead: &Overhead, threshold: Option<f64>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for build in &overhead.builds {
        let times = &build.times;
        let git = build.git_ms.map_or_else(String::new, |ms| {
            format!("; before that {ms:.1} ms for git")
        });
        lines.push(format!(
            "{}: {:.1} ms through the cluster, {:.1} ms direct, difference {:.1} ms{git} (medians of {} pairs)",
            build.name, times.ours_ms, times.theirs_ms, times.difference_ms, times.pairs,
        ));
    }
    if let Some(most) = threshold {
        lines.push(format!(
            "(no difference may be above {most} % of the direct time or {} ms, whichever is more)",
            overhead.grace_ms
        ));
    }
    lines.join("\n")
}

fn describe_stress(stress: &Stress, threshold: StressThresholds) -> String {
    format!(
        "{} jobs at once for {} slots: all accepted in {:.2} s{}; {:.2} KiB of scheduler memory for each of {} queued{} ({} KiB before, {} \
         KiB with them)\n{} urgent jobs meanwhile waited: median {:.1} ms, p99 {:.1} ms, longest {:.1} ms{}\nall done in {:.1} s: {:.0} \
         jobs/s, {:.3} ms of scheduler processor time each",
        stress.jobs,
        stress.slots,
        stress.accept_seconds,
        below(threshold.accept_seconds, "s"),
        stress.kib_per_queued_job,
        stress.queued,
        below(threshold.kib_per_queued_job, "KiB"),
        stress.rss_before_kib,
        stress.rss_queued_kib,
        stress.urgent_jobs,
        stress.urgent_median_ms,
        stress.urgent_p99_ms,
        stress.urgent_max_ms,
        below(threshold.urgent_max_ms, "ms"),
        stress.total_seconds,
        stress.jobs_per_second,
        stress.scheduler_ms_per_job,
    )
}

fn below(threshold: Option<f64>, unit: &str) -> String {
    threshold.map_or_else(String::new, |most| {
        format!(" (must be below {most} {unit})")
    })
}

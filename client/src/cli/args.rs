//! The command line of `ocluster-client`: the commands, and the options of those that submit. What the options mean together is
//! checked in [`super::job_spec`] and [`super::submit`].

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ocluster_api::ImageTarget;
use ocluster_cli::jobs::JobLimits;
use ocluster_cli::{CapArgs, CapSourceError, LogArgs, OutputMode, existing_file, parse_duration};
use thiserror::Error;

use super::job_args::{Cancel, Jobs, Log, OneJob, Wait};

/// The program's name, in its messages.
pub const NAME: &str = "ocluster-client";

/// Submit jobs to a cluster and follow their logs.
///
/// The exit code is 0 if the job succeeded, 1 if it failed or could not be run, 124 for a mistake on the command line, 125 for
/// options that do not go together, and 130 or 143 if the program was interrupted or terminated.
///
/// Jobs are durable if the scheduler offers that: they have an id, and go on whatever happens to this program or to the
/// scheduler. Ids may be shortened as long as they stay unambiguous.
#[derive(Debug, Parser)]
#[command(name = NAME, version)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// How to log.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build a Docker image on the cluster.
    ///
    /// The build context is the given commit of a git repository, with the further ones merged into it; without any, it is empty.
    SubmitDocker(SubmitDocker),
    /// Run an OBuilder specification on the cluster.
    ///
    /// The build context is the given commit of a git repository, with the further ones merged into it; without any, it is empty.
    #[command(name = "submit-obuilder")]
    SubmitOBuilder(SubmitOBuilder),
    /// List your jobs, newest first.
    Jobs(Jobs),
    /// Show all that is known of a job.
    Status(OneJob),
    /// Print the log of a job.
    ///
    /// Without -f, prints what there is by now, and exits with 0. With -f, goes on until the job has ended; the exit code is then 0 if
    /// it passed, and 1 otherwise. Interrupting this does nothing to the job.
    Log(Log),
    /// Cancel a job, be it queued or running.
    ///
    /// The exit code is 0 once the cancellation is on the scheduler's disk, and 1 if the job had ended otherwise.
    Cancel(Cancel),
    /// Wait until jobs have ended, and print a line for each as it does.
    ///
    /// The exit code is 0 if all passed, and 1 otherwise. Interrupting this does nothing to the jobs.
    Wait(Wait),
    /// Say why a job stands where it stands: what it waits for, or how it ended.
    Explain(OneJob),
}

#[derive(Debug, Args)]
pub(crate) struct SubmitDocker {
    #[command(flatten)]
    pub(crate) job: JobArgs,

    /// Dockerfile on this machine, sent along with the job.
    #[arg(long, value_name = "FILE", value_parser = existing_file)]
    pub(crate) local_dockerfile: Option<PathBuf>,

    /// Dockerfile in the build context [default: Dockerfile].
    #[arg(long, value_name = "PATH")]
    pub(crate) context_dockerfile: Option<String>,

    /// Push the image there, and print the name under which it can be pulled. The worker must allow it.
    #[arg(long, value_name = "REPO:TAG")]
    pub(crate) push_to: Option<ImageTarget>,

    /// User of the registry to push to.
    #[arg(long, value_name = "USER")]
    pub(crate) push_user: Option<String>,

    /// File whose first line is that user's password.
    #[arg(long, value_name = "FILE", value_parser = existing_file)]
    pub(crate) push_password: Option<PathBuf>,

    /// Build argument: NAME=value, or NAME alone for the worker's value. May be repeated.
    #[arg(long = "build-arg", value_name = "ARG")]
    pub(crate) build_args: Vec<String>,

    /// Merge the new layers into one.
    #[arg(long)]
    pub(crate) squash: bool,

    /// Build with BuildKit instead of the classic builder.
    #[arg(long)]
    pub(crate) buildkit: bool,

    /// Keep the repository's .git directory in the build context.
    #[arg(long)]
    pub(crate) include_git: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitOBuilder {
    #[command(flatten)]
    pub(crate) job: JobArgs,

    /// The specification, a file on this machine.
    #[arg(long, value_name = "FILE", value_parser = existing_file)]
    pub(crate) local_file: PathBuf,
}

/// What every kind of job has.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    #[command(flatten)]
    pub(crate) cap: CapArgs,

    /// URL of the git repository to take the build context from.
    #[arg(value_name = "URL")]
    pub(crate) repository: Option<String>,

    /// Commits to check out (the first) and to merge into it (the others).
    #[arg(value_name = "HASH")]
    pub(crate) commits: Vec<String>,

    /// Pool to run the job in.
    #[arg(long, value_name = "ID")]
    pub(crate) pool: String,

    /// Jobs with the same hint like to run on the same worker.
    #[arg(
        long,
        value_name = "HINT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) cache_hint: String,

    /// Run the job before all that are not urgent.
    #[arg(long)]
    pub(crate) urgent: bool,

    /// Secret that build steps may ask for by its id: the content of a file. May be repeated.
    #[arg(long = "secret", value_name = "ID:FILE")]
    pub(crate) secrets: Vec<SecretArg>,

    #[command(flatten)]
    pub(crate) lifetime: LifetimeArgs,

    /// Print for a human, or json: then the log goes to standard error and the result, as a line of JSON, to standard output.
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        default_value = "human",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) output: OutputMode,
}

/// How long a job lives, and who decides.
#[derive(Debug, Args)]
pub(crate) struct LifetimeArgs {
    /// Let the job live as long as this program only, as with OCluster's own scheduler.
    #[arg(long, conflicts_with_all = ["detach", "key", "time_limit", "queue_limit", "silence_limit"])]
    pub(crate) attached: bool,

    /// Print the job's id once it is accepted, and leave.
    #[arg(long)]
    pub(crate) detach: bool,

    /// Submitting the same job again under the same key gives the same job [default: a random key].
    #[arg(long, value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) key: Option<String>,

    /// What an interrupt does to a durable job [default: ask on a terminal, cancel otherwise].
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) on_interrupt: Option<OnInterrupt>,

    /// Stop the job if an attempt runs for longer than this, such as 90s or 1h30m [default: the pool's].
    #[arg(long, value_name = "TIME", value_parser = time_limit)]
    pub(crate) time_limit: Option<Duration>,

    /// Give the job up if it waits for a worker for longer than this [default: the pool's].
    #[arg(long, value_name = "TIME", value_parser = time_limit)]
    pub(crate) queue_limit: Option<Duration>,

    /// Stop the job if it runs without printing anything for longer than this [default: the pool's].
    #[arg(long, value_name = "TIME", value_parser = time_limit)]
    pub(crate) silence_limit: Option<Duration>,
}

/// What becomes of a durable job when the program that follows it is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnInterrupt {
    /// Ask, at control-C on a terminal; otherwise as cancel.
    Ask,
    /// Cancel the job.
    Cancel,
    /// Leave the job running.
    Detach,
}

impl LifetimeArgs {
    /// The limits that were asked for.
    pub(crate) fn limits(&self) -> JobLimits {
        JobLimits {
            running: self.time_limit,
            queued: self.queue_limit,
            silent: self.silence_limit,
        }
    }
}

/// Why a text is no time limit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum TimeLimitError {
    #[error(transparent)]
    Form(#[from] ocluster_cli::DurationError),
    #[error(
        "a limit of no time at all would let no job pass: leave the option out for the pool's limit"
    )]
    Zero,
}

fn time_limit(text: &str) -> Result<Duration, TimeLimitError> {
    match parse_duration(text)? {
        Duration::ZERO => Err(TimeLimitError::Zero),
        limit => Ok(limit),
    }
}

/// `ID:FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretArg {
    pub(crate) id: String,
    pub(crate) file: PathBuf,
}

/// Why a text is not a [`SecretArg`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SecretArgError {
    #[error("invalid value '{0}', expected ID:FILE")]
    NoColon(String),
    #[error(transparent)]
    File(#[from] CapSourceError),
}

impl FromStr for SecretArg {
    type Err = SecretArgError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((id, file)) if !id.is_empty() => Ok(Self {
                id: id.to_owned(),
                file: existing_file(file)?,
            }),
            _ => Err(SecretArgError::NoColon(text.to_owned())),
        }
    }
}

//! The command line of `ocluster-client`. What the options mean together is checked in [`super::job_spec`].

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use ocluster_api::ImageTarget;
use ocluster_cli::{CapArgs, CapSourceError, LogArgs, OutputMode, existing_file};
use thiserror::Error;

/// The program's name, in its messages.
pub const NAME: &str = "ocluster-client";

/// Submit jobs to a cluster and follow their logs.
///
/// The exit code is 0 if the job succeeded, 1 if it failed or could not be run, 124 for a mistake on the command line, 125 for
/// options that do not go together, and 130 or 143 if the program was interrupted or terminated, in which case the job is
/// cancelled.
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

impl Command {
    /// What every kind of job has.
    pub(crate) fn job(&self) -> &JobArgs {
        match self {
            Self::SubmitDocker(docker) => &docker.job,
            Self::SubmitOBuilder(obuilder) => &obuilder.job,
        }
    }
}

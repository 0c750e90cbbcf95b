//! The command line of `obuilder`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ocluster_cli::{LogArgs, OutputMode};
use ocluster_obuilder::StepId;

mod building;
mod limits;
mod store;

pub(crate) use building::BuildingArgs;
pub(crate) use limits::LimitArgs;
pub(crate) use store::StoreArgs;

/// The program's name, for messages.
pub(crate) const PROGRAM: &str = "obuilder";

/// Build OBuilder specs on this machine, step by step, keeping each step's result for the next build that needs the same.
///
/// Needs root, and runc for steps. The exit code is 0 on success, 1 if the build failed, 124 for a mistake on the command line, and 130
/// or 143 if the program was interrupted or terminated.
#[derive(Debug, Parser)]
#[command(name = "obuilder", version)]
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
    /// Build a spec, and print the id of its result.
    Build(Box<Build>),
    /// Build something small, to see whether building works.
    Healthcheck(Box<Healthcheck>),
    /// Convert a spec to a Dockerfile.
    Dockerfile(Dockerfile),
    /// List the results in a store, or its caches.
    Ls(Ls),
    /// Take files out of a result, or the result as an OCI image.
    Export(Export),
    /// Remove a result and all that is built on it.
    Delete(Delete),
    /// Remove all results.
    Clean(Clean),
    /// Look whether a store is in order.
    Check(Check),
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The spec's file.
    #[arg(short, long, value_name = "SPEC")]
    pub(crate) file: PathBuf,
    /// Give steps that ask for the secret ID the content of FILE. May be repeated.
    #[arg(long, value_name = "ID:FILE", value_parser = secret)]
    pub(crate) secret: Vec<(String, PathBuf)>,
    /// How many stages run at once.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN.saturating_add(1))]
    pub(crate) parallel_stages: NonZeroUsize,
    /// Where "copy" finds files.
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) building: BuildingArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Healthcheck {
    /// The image to build on. A local one (oci:, docker-archive:, rootfs:) needs no network.
    #[arg(long, value_name = "IMAGE", default_value = "busybox")]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) building: BuildingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Dockerfile {
    /// The spec's file.
    #[arg(short, long, value_name = "SPEC")]
    pub(crate) file: PathBuf,
    /// Use what only BuildKit knows: secrets and caches.
    #[arg(long)]
    pub(crate) buildkit: bool,
    /// Whose escape character to use.
    #[arg(long, value_enum, value_name = "SYSTEM", default_value = "unix")]
    pub(crate) escape: Escape,
}

/// Whose escape character a Dockerfile has.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Escape {
    /// The backslash.
    Unix,
    /// The backtick.
    Windows,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// List caches instead of results.
    #[arg(long)]
    pub(crate) caches: bool,
    /// Print for a human, or json: one line of JSON.
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        default_value = "human",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) output: OutputMode,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The result's id, as printed by the build.
    #[arg(value_name = "ID")]
    pub(crate) id: StepId,
    /// Take this file or directory out of the result; of a directory written with a slash at its end, only what is in it.
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,
    /// The directory to put it into, which is made if it is missing. Without it, a tar is written to standard output.
    #[arg(long, value_name = "DIR", requires = "path")]
    pub(crate) to: Option<PathBuf>,
    /// Write the whole result as an OCI image to this directory, which is made if it is missing.
    #[arg(long, value_name = "DIR", conflicts_with = "path")]
    pub(crate) oci: Option<PathBuf>,
    /// The image's name in that directory.
    #[arg(long, value_name = "TAG", default_value = "latest")]
    pub(crate) tag: String,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The result's id.
    #[arg(value_name = "ID")]
    pub(crate) id: StepId,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Clean {
    /// Also remove all caches.
    #[arg(long)]
    pub(crate) caches: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

fn secret(text: &str) -> Result<(String, PathBuf), &'static str> {
    match text.split_once(':') {
        Some((id, file)) if !id.is_empty() && !file.is_empty() => Ok((id.into(), file.into())),
        _ => Err("expected the secret's name, a colon and a file, as in token:/path/to/file"),
    }
}
